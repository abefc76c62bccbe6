"""What was measured and decided, as rows for people and programs. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monk.engine.tuning.choice import Choice
from monk.engine.tuning.course import CHUNK, LEAST_DEPTH, SILENT, Verdict
from monk.engine.tuning.trial import Notebook, Setting, Situation

HEADERS = ("question", "with", "prompts", "answers", "gain", "needed", "verdict")
VALUES: dict[str, Callable[[Setting], str]] = {
    "flash attention": lambda one: "on" if one.flash else "off",
    "threads, prompts": lambda one: str(one.threads_prompt),
    "threads, batches": lambda one: str(one.threads_step),
    "threads, one thought": lambda one: str(one.threads_single),
    "width of the batch": lambda one: str(one.width),
    CHUNK: lambda one: str(one.chunk),
    "KV types": lambda one: f"{one.type_k}, {one.type_v}",
}


def rows(choice: Choice, notebook: Notebook) -> list[dict[str, Any]]:
    """One for each alternative that was considered. Rates are tokens per second; None: not measured."""
    return [_row(verdict, notebook) for verdict in choice.verdicts if verdict.question not in SILENT]


def _row(verdict: Verdict, notebook: Notebook) -> dict[str, Any]:
    return {
        "question": verdict.question,
        "with": VALUES[verdict.question](verdict.alternative.setting),
        "prompts": _rate(verdict, notebook, "prompt"),
        "answers": _rate(verdict, notebook, "step"),
        "gain": None if verdict.gain is None else round(verdict.gain, 3),
        "needed": None if verdict.margin is None or verdict.margin > 10 else round(1.0 + verdict.margin, 3),
        "verdict": verdict.says,
    }


def _rate(verdict: Verdict, notebook: Notebook, phase: str) -> float | None:
    """Behind the most tokens that were tried."""
    trials = [trial for _, trial in verdict.alternative.trials if trial.phase == phase]
    if not trials:
        return None
    trial = max(trials, key=lambda one: one.depth)
    best = notebook.best(trial)
    return None if best is None else round(trial.rows / best, 1)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as texts, under HEADERS."""
    return (
        row["question"],
        row["with"],
        "" if row["prompts"] is None else f"{row['prompts']:.1f} tok/s",
        "" if row["answers"] is None else f"{row['answers']:.1f} tok/s",
        "" if row["gain"] is None else f"x{row['gain']:.2f}",
        "" if row["needed"] is None else f"x{row['needed']:.2f}",
        row["verdict"],
    )


def notes(situation: Situation, choice: Choice, kv_bytes: int) -> list[str]:
    """What a person should know beside the table, a line each."""
    told = [f"measured behind {situation.depth} tokens of context"]
    if situation.depth < LEAST_DEPTH and (situation.flash or situation.kv_types):
        told.append(f"there was no time for a context of {LEAST_DEPTH}: flash attention and KV types stay undecided")
    held = f"{kv_bytes / (1 << 30):.2f} GiB of KV on the disk"
    if kv_bytes and choice.reshapes_kv(situation.now):
        told.append(f"with this choice {held} would be of no use: prompts of earlier nights are computed again")
    if any(verdict.says == "kept" for verdict in choice.verdicts):
        told.append(f"what would make {held} useless was left as it is; `monk tune` without --keep-kv changes it")
    if any(verdict.says == "advised" for verdict in choice.verdicts):
        told.append(
            "other KV types change answers a little, so they are only taken when kv_type_k and kv_type_v are auto"
        )
    return told


def gains(prompts: float | None, answers: float | None) -> str:
    """What the choice brings, in words."""
    if prompts is None or answers is None:
        return "what it brings was not measured to the end"
    if abs(prompts - 1.0) < 0.005 and abs(answers - 1.0) < 0.005:
        return "no faster than the settings now"
    return f"prompts x{prompts:.2f}, answers x{answers:.2f} against the settings now"


def summary(values: dict[str, Any]) -> str:
    """Values by field of EngineConfig in a line; those that are there."""
    parts = []
    if "flash_attention" in values:
        parts.append(f"flash attention {values['flash_attention']}")
    threads = [str(values[name]) for name in ("threads_batch", "threads", "threads_single") if name in values]
    if threads:
        parts.append(f"{'/'.join(threads)} threads")
    if "most_slots" in values:
        parts.append(f"at most {values['most_slots']} thoughts at once")
    if "most_ubatch" in values:
        parts.append(f"chunks of {values['most_ubatch']}")
    if "kv_type_k" in values:
        parts.append(f"KV {values['kv_type_k']}, {values['kv_type_v']}")
    return ", ".join(parts)


def setting_line(setting: Setting) -> str:
    return summary(
        {
            "flash_attention": "on" if setting.flash else "off",
            "threads_batch": setting.threads_prompt,
            "threads": setting.threads_step,
            "threads_single": setting.threads_single,
            "most_slots": setting.width,
            "most_ubatch": setting.chunk,
        }
    )
