"""The model file and the memory it will take. Reads its header; the hash needs all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from monk.doctor.finding import Finding, gib
from monk.settings import Settings

if TYPE_CHECKING:
    from monk.engine.config import EngineConfig
    from monk.engine.tuning.record import Record


def model_file(settings: Settings) -> Iterator[Finding]:
    """It is a whole GGUF language model that can run with these settings, and what it says of itself."""
    from monk.engine.gguf_file import read
    from monk.engine.model_use import check, said, told

    config = _config(settings)
    model = read(config.model_path)
    check(config.model_use, config.own_settings(model))
    yield Finding(
        "model",
        "ok",
        f"{config.name or config.model_path}: {model.architecture}, {model.num_parameters / 1e9:.2f} billion parameters, "
        f"{gib(model.weight_bytes)}, trained for {model.train_context} tokens"
        + (f", {said(config.model_use)}" if told(config.model_use) else ""),
    )
    if model.chat_template is None:
        yield Finding("model", "warn", "the file has no chat template; a plain one is used", "prefer an instruct model")


def model_hash(settings: Settings) -> Iterator[Finding]:
    """It is the pinned file, or, unpinned, what its hash is."""
    from monk.engine.fingerprint import check_pin, sha256_of
    from monk.engine.gguf_file import read

    config = _config(settings)
    parts = read(config.model_path).parts
    if config.model_sha256 is not None:
        check_pin(parts, config.model_sha256)
        yield Finding("model hash", "ok", f"SHA-256 {config.model_sha256[:16]}… as pinned")
        return
    found = sha256_of(parts)
    yield Finding("model hash", "ok", f"SHA-256 {found}; not pinned, MONK_MODEL_SHA256={found[:8]}… would pin it")


def memory(settings: Settings) -> Iterator[Finding]:
    """Weights, KV and buffers fit into what is free now."""
    from monk.doctor.net import answers
    from monk.engine.gguf_file import read
    from monk.engine.machine import measured_available_bytes
    from monk.engine.memory import fit
    from monk.engine.tuning.record import fill
    from monk.report.words import count

    config = _config(settings)
    if answers(settings):
        yield Finding(
            "memory",
            "ok",
            f"{gib(measured_available_bytes())} free beside the running daemon; `monk status` tells its share",
        )
        return
    known = _record(settings)
    if known is not None:
        config = fill(config, known.values)
    plan = fit(read(config.model_path), config)
    yield Finding(
        "memory",
        "ok",
        f"{gib(plan.total_bytes)} needed of {gib(measured_available_bytes())} free: {plan.slots} slots of {plan.context} tokens, "
        f"weights {gib(plan.weight_bytes + plan.repack_bytes)}, KV {gib(plan.kv_bytes)}; {count(plan.threads, 'thread')}",
    )


def tuning(settings: Settings) -> Iterator[Finding]:
    """How it runs best here was measured, and what of that is in force."""
    from monk.engine.tuning.record import gaps
    from monk.engine.tuning.table import summary

    known = _record(settings)
    if known is None and settings.tune_seconds:
        yield Finding("tuning", "ok", f"not measured yet; the first start measures for {settings.tune_seconds:g} s")
    elif known is None:
        yield Finding("tuning", "warn", "how the model runs best here was never measured", "run `monk tune`")
    elif known.problem:
        yield Finding("tuning", "warn", f"measuring failed on {known.measured_at}: {known.problem}", "run `monk tune`")
    else:
        applied = summary(gaps(_config(settings), known.values)) or "nothing: the settings leave nothing open"
        how = "in short, by the first start" if known.by_itself else "by `monk tune`"
        yield Finding("tuning", "ok", f"measured on {known.measured_at} {how}; in force: {applied}")


def _record(settings: Settings) -> Record | None:
    """What was measured for this model here; None also where its hash is not known yet and would have to be computed."""
    from monk.engine.fingerprint import remembered
    from monk.engine.gguf_file import read
    from monk.engine.tuning.record import find

    config = _config(settings)
    sha256 = config.model_sha256 or remembered(read(config.model_path).parts, config.hash_cache)
    return None if sha256 is None else find(config, sha256)


def _config(settings: Settings) -> EngineConfig:
    from monk.daemon import engine_config

    return engine_config(settings)
