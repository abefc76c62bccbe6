"""Puts this process in its place before llama.cpp loads anything: pages, locks, CPUs and memory nodes as the settings say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monk.engine import pages
from monk.engine.binding import THREADS, apply, choose
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.machine import allowed_cpus
from monk.engine.memory import Plan
from monk.engine.topology import this_machine


def bound(config: EngineConfig, plan: Plan) -> EngineConfig:
    """With the binding chosen, if it is not yet: by whom the plan was made for. Raises SettingsInvalid."""
    if config.binding is not None:
        return config
    most = max(getattr(config, name) for name in THREADS)
    topology, allowed = this_machine(), allowed_cpus()
    binding = choose(topology, plan.total_bytes, numa=config.numa, cpus=config.cpus, threads=most, allowed=allowed)
    return replace(config, binding=binding)


def take_place(config: EngineConfig, file: GgufFile, plan: Plan) -> None:
    """By the thread that will load the model. Raises SettingsInvalid for what cannot be had, with figures and the way out."""
    pages.check_huge_pages(config.huge_pages)
    if config.huge_pages == "off":
        pages.forbid_huge_pages()
    if config.mlock:
        pages.check_lock(sum(part.stat().st_size for part in file.parts) + plan.repack_bytes, pages.lock_limit())
    if config.binding is not None:
        apply(config.binding)
        if config.mmap:
            pages.settle(file.parts, config.binding)


def within(config: EngineConfig) -> EngineConfig:
    """Thread counts that were measured on more CPUs than the binding leaves are cut to it."""
    binding = config.binding
    if binding is None or not binding.cpus:
        return config
    too_many: dict[str, Any] = {name: binding.threads for name in THREADS if getattr(config, name) > len(binding.cpus)}
    return replace(config, **too_many) if too_many else config
