"""One measuring, as its caller sees it: processes that measure are started, listened to, and replaced when they die."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monk.engine import wire
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.layers import keys_hold_values
from monk.engine.machine import allowed_cpus, physical_cores
from monk.engine.memory import Plan
from monk.engine.pages import TUNABLES, huge_environment
from monk.engine.spawned import Spawned
from monk.engine.tuning import host
from monk.engine.tuning.trial import Notebook, Setting, Situation, Trial
from monk.errors import MonkError, Unavailable

log = logging.getLogger(__name__)

MODULE = "monk.engine.tuning.child"
LIVES = 4  # processes that may die of trials before the rest is given up
SILENT_SECONDS = 60.0  # a process without a beat for this long hangs
LATE_SECONDS = 30.0  # and so does one that goes on so long after its time; an abort takes a millisecond
WIDTHS = (1, 2, 4, 8, 16, 32, 64)
CHUNKS = (64, 128, 256, 512, 1024)
KV_TYPES = (("q8_0", "f16", False), ("q8_0", "q8_0", True))
SHORT_WIDTHS, SHORT_CHUNKS = (8, 16), (128, 256, 512)
ROUNDS, SHORT_ROUNDS = (2, 3, 5), (2, 3)

Told = Callable[[wire.Frame], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `problem`: why it did not come to its end, if it is not the time; `seconds` without loading."""

    situation: Situation
    notebook: Notebook
    complete: bool
    seconds: float
    problem: str = ""


def situation_of(file: GgufFile, config: EngineConfig, plan: Plan, *, short: bool, keeps_kv: bool) -> Situation:
    """What is to be asked. `config` and `plan` are those without any tuning; what the owner fixed is not asked."""
    now = Setting(
        flash=plan.flash_attention,
        threads_prompt=plan.threads_batch,
        threads_step=plan.threads,
        threads_single=config.threads_single or plan.threads,
        width=plan.slots,
        chunk=plan.ubatch,
        type_k=config.kv_type_k,
        type_v=config.kv_type_v,
    )
    cpus = allowed_cpus() if config.binding is None else frozenset(config.binding.cpus) or allowed_cpus()
    free_flash = config.flash_attention == "auto" and config.kv_type_v in ("f16", "bf16", "f32")
    free_types = (config.kv_type_k, config.kv_type_v) == ("f16", "f16")
    chunks, widths = (SHORT_CHUNKS, SHORT_WIDTHS) if short else (CHUNKS, WIDTHS)
    return Situation(
        now=now,
        flash=(not now.flash,) if free_flash else (),
        threads=() if config.threads else host.thread_choices(physical_cores(cpus), len(cpus), host.cpu_quota()),
        widths=() if config.slots else widths,
        chunks=() if config.ubatch else chunks,
        kv_types=_kv_types(file) if free_types and not short else (),
        takes_kv_types=config.kv_types_free,
        keeps_kv=keeps_kv,
        forks="fork" in plan.lanes,
        rounds=SHORT_ROUNDS if short else ROUNDS,
    )


def _kv_types(file: GgufFile) -> tuple[tuple[str, str, bool], ...]:
    """Those that the model can have."""
    if any(file.number(key) for key in ("ssm.conv_kernel", "ssm.state_size", "wkv.head_size")):
        return ()
    return tuple(one for one in KV_TYPES if one[0] == one[1] or not keys_hold_values(file))


def stored_kv_bytes(config: EngineConfig) -> int:
    """Of KV on the disk, of whatever model."""
    if config.kv_folder is None:
        return 0
    total = 0
    for file in config.kv_folder.glob("**/*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def measure(
    config: EngineConfig,
    situation: Situation,
    seconds: float,
    told: Told = lambda _frame: None,
    notebook: Notebook | None = None,
) -> Outcome:
    """Ask all questions, for so many seconds beside the loading. `told` hears every frame; what it raises ends it all.
    A `notebook` with earlier measurements is gone on with.

    Raises ModelUnusable or MemoryTooSmall when the model cannot be loaded. A process that dies costs its trial only.
    """
    notebook, used, problem = notebook or Notebook(), 0.0, ""
    for _ in range(LIVES):
        run = _Run(situation, notebook, told)
        run.follow(config, max(1.0, seconds - used))
        used, situation = used + run.seconds, run.situation
        if run.error is not None:
            raise run.error
        if run.is_done:
            return Outcome(situation, notebook, run.is_complete, used)
        problem = run.last_words
        if run.trying is None:
            break  # it died of the model, not of a trial
        notebook.skip(run.trying, f"the process died of it ({problem})")
        log.warning("a measuring process died", extra={"reason": problem, "trial": str(run.trying)})
        if used >= seconds:
            break
    return Outcome(situation, notebook, False, used, problem)


class _Run:
    """One process, from its start to its end."""

    def __init__(self, situation: Situation, notebook: Notebook, told: Told) -> None:
        self.situation = situation
        self._notebook = notebook
        self._told = told
        self.trying: Trial | None = None
        self.is_done = self.is_complete = False
        self.error: MonkError | None = None
        self.last_words = ""
        self._loaded_at: float | None = None
        self.seconds = 0.0

    def follow(self, config: EngineConfig, seconds: float) -> None:
        frame = {
            "do": "measure",
            "config": config.to_json(),
            "situation": self.situation.to_json(),
            "notebook": self._notebook.to_json(),
            "seconds": seconds,
        }
        self.last_words = follow(frame, self._take, lambda: self._late(seconds))
        if self._loaded_at is not None:
            self.seconds = time.monotonic() - self._loaded_at

    def _late(self, seconds: float) -> bool:
        return self._loaded_at is not None and time.monotonic() - self._loaded_at > seconds + LATE_SECONDS

    def _take(self, frame: wire.Frame) -> None:
        match frame["event"]:
            case "loaded":
                self._loaded_at = time.monotonic()
            case "sized":
                self.situation = Situation.from_json(frame["situation"])
            case "trying":
                self.trying = _trial_of(frame)
            case "took":
                self._notebook.take(_trial_of(frame), frame["seconds"])
                self.trying = None
            case "skipped":
                self._notebook.skip(_trial_of(frame), frame["reason"])
                self.trying = None
            case "done":
                self.is_done, self.is_complete = True, frame["all"]
            case "failed":
                self.error = wire.error_from_json(frame["error"])
        self._told(frame)


def _trial_of(frame: wire.Frame) -> Trial:
    return next(iter(Notebook.from_json({"taken": [frame["trial"]], "skipped": []}).taken))


def follow(frame: wire.Frame, take: Told, is_late: Callable[[], bool] = lambda: False) -> str:
    """Have a process do what the frame says, and hear it to its end; how it ended, in its last words."""
    wanted = frame.get("config", {}).get("huge_pages", "auto")
    child = Spawned.spawn(MODULE, huge_environment(wanted, os.environ.get(TUNABLES, "")))
    try:
        child.channel.send(frame)
        while (frames := child.channel.receive()) is not None:
            for one in frames:
                child.heard_at = time.monotonic()
                if one["event"] == "log":
                    log.log(one["level"], one["text"], extra=one["facts"])
                elif one["event"] != "beat":
                    take(one)
            if is_late() or time.monotonic() - child.heard_at > SILENT_SECONDS:
                child.condemn("it hung")
    except OSError:
        pass  # it is gone: its last words say why
    finally:
        last_words = child.bury()
    return child.verdict or last_words


def requantise(source: Path, target: Path, weights: str) -> None:
    """A copy of a model with other weights, whole or not at all. Raises ModelUnusable, or Unavailable when the process died."""
    fresh = target.with_name(f".{target.name}.new")
    ends: list[wire.Frame] = []
    frame: dict[str, Any] = {"do": "requantise", "source": str(source), "target": str(fresh), "weights": weights}
    try:
        last_words = follow({**frame, "threads": physical_cores()}, ends.append)
        end = ends[-1] if ends else {}
        if "error" in end:
            raise wire.error_from_json(end["error"])
        if end.get("event") != "done":
            raise Unavailable(f"the process that wrote {target.name} died ({last_words})")
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
