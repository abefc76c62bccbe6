"""A measuring from its beginning to its record: what `monk tune` and the first start with a model do."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from monk.engine import memory
from monk.engine.bound import bound
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import kv_bytes_per_token
from monk.engine.memory import Plan
from monk.engine.tuning import record, session, size, table
from monk.engine.tuning.choice import Choice, choose, facts
from monk.engine.tuning.record import Record
from monk.engine.tuning.session import Outcome
from monk.engine.tuning.trial import Situation
from monk.errors import HomeUnusable, MonkError
from monk.pressure import read_pressure

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tuned:
    """A measuring that has ended. `changes_kv`: its choice makes KV on the disk useless."""

    record: Record
    choice: Choice
    outcome: Outcome
    notes: list[str]
    changes_kv: bool


def tune(
    config: EngineConfig,
    file: GgufFile,
    sha256: str,
    seconds: float,
    *,
    short: bool = False,
    keeps_kv: bool = False,
    told: session.Told = lambda _frame: None,
) -> Tuned:
    """Measure, and choose; nothing is written. `config` must be without any tuning. Raises ModelUnusable, MemoryTooSmall."""
    plan = memory.fit(file, config)
    config = bound(config, plan)
    situation = session.situation_of(file, config, plan, short=short, keeps_kv=keeps_kv)
    outcome = session.measure(config, situation, seconds, told)
    choice = choose(outcome.situation, outcome.notebook)
    kv_bytes = session.stored_kv_bytes(config)
    notes = table.notes(outcome.situation, choice, kv_bytes)
    if outcome.problem:
        notes.append(f"a measuring process died: {outcome.problem}")
    if not outcome.complete:
        notes.append(f"the {seconds:g} s were used up before all questions had their answers")
    measured = Record(
        key=record.key_of(config, sha256),
        values=choice.values() if outcome.notebook.taken else {},
        measured_at=record.now_text(),
        seconds=round(outcome.seconds, 1),
        by_itself=short,
        gain={"prompts": _round(choice.prompt_gain), "answers": _round(choice.answer_gain)},
        facts=_facts(config, file, outcome, choice, plan),
        report=table.rows(choice, outcome.notebook),
        problem="" if outcome.notebook.taken else (outcome.problem or "nothing could be measured"),
    )
    return Tuned(measured, choice, outcome, notes, bool(kv_bytes) and choice.reshapes_kv(situation.now))


def _facts(config: EngineConfig, file: GgufFile, outcome: Outcome, choice: Choice, plan: Plan) -> dict[str, Any]:
    situation: Situation = outcome.situation
    types = replace(config, kv_type_k=choice.setting.type_k, kv_type_v=choice.setting.type_v)  # type: ignore[arg-type]
    stream_bytes = size.padded(situation.depth) * kv_bytes_per_token(file, types)
    return facts(situation, outcome.notebook, choice.setting, stream_bytes)


def _round(gain: float | None) -> float | None:
    return None if gain is None else round(gain, 3)


def known_or_measured(config: EngineConfig, file: GgufFile, sha256: str, told: session.Told) -> Record | None:
    """The record of this model here; without one, and if the config asks for it, a short measuring first.

    None when nothing is known. Never raises for what goes wrong in the measuring: the model runs without it.
    """
    if config.tune_folder is None:
        return None
    found = record.find(config, sha256)
    if found is not None or not config.tune_seconds:
        return found
    waiting = read_pressure().get("cpu", 0.0)
    if config.tune_busy_percent and waiting > config.tune_busy_percent:
        log.warning(
            "an unknown model, and the machine is busy: how it runs best is measured at another start",
            extra={"cpu_pressure_percent": waiting},
        )
        return None
    return _measured_at_first_start(config, file, sha256, told)


def _measured_at_first_start(config: EngineConfig, file: GgufFile, sha256: str, told: session.Told) -> Record | None:
    log.info("an unknown model: measuring how it runs best here", extra={"at_most_seconds": config.tune_seconds})
    try:
        keeps_kv = session.stored_kv_bytes(config) > 0
        done = tune(config, file, sha256, config.tune_seconds, short=True, keeps_kv=keeps_kv, told=told)
        record.keep(config, done.record)
    except HomeUnusable as error:
        log.warning("what was measured is not kept", extra={"reason": error.message})
        return done.record
    except (MonkError, OSError) as error:
        log.warning("how the model runs best could not be measured", extra={"reason": str(error)})
        return None
    log.info(
        "measured how the model runs best here",
        extra={
            "chosen": table.summary(done.record.values) or "nothing",
            "gain": table.gains(done.choice.prompt_gain, done.choice.answer_gain),
            "seconds": done.record.seconds,
            "problem": done.record.problem,
        },
    )
    return done.record
