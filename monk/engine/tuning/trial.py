"""What is tried, and what came of it. Plain values: no model, no clock."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Literal

Phase = Literal["prompt", "step", "shared", "copy"]


@dataclass(frozen=True, slots=True)
class Setting:
    """All that can be chosen, with every choice made."""

    flash: bool
    threads_prompt: int
    threads_step: int  # for steps of several thoughts
    threads_single: int  # for steps of one
    width: int  # thoughts decoded at once, if memory has room for them
    chunk: int  # prompt tokens of one call
    type_k: str = "f16"
    type_v: str = "f16"

    def but(self, **changes: Any) -> Setting:
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that is measured, in seconds a call.

    prompt   `rows` tokens of one prompt, behind `depth` others
    step     a token of each of `rows` thoughts, each behind `depth` tokens of its own
    shared   the same, behind one and the same `depth` tokens
    copy     `rows` streams copied into others, beside a step of one

    Each question has trials of its own: a time of an earlier one tells of an earlier minute, and of who worked then.
    """

    phase: Phase
    rows: int
    depth: int
    flash: bool
    threads: int
    type_k: str = "f16"
    type_v: str = "f16"
    question: str = ""


@dataclass(slots=True)
class Notebook:
    """Measurements and refusals by trial."""

    taken: dict[Trial, list[float]] = field(default_factory=dict)
    skipped: dict[Trial, str] = field(default_factory=dict)

    def take(self, trial: Trial, seconds: float) -> None:
        self.taken.setdefault(trial, []).append(seconds)

    def skip(self, trial: Trial, reason: str) -> None:
        self.skipped[trial] = reason

    def count(self, trial: Trial) -> int:
        return len(self.taken.get(trial, ()))

    def best(self, trial: Trial) -> float | None:
        """Seconds of a call, the fastest seen: noise only ever makes slower."""
        seconds = self.taken.get(trial)
        return min(seconds) if seconds else None

    def middle(self, trial: Trial) -> float | None:
        """Seconds of a call as they will be, with the noise that there is."""
        seconds = self.taken.get(trial)
        return median(seconds) if seconds else None

    def spread(self, trial: Trial) -> float:
        """How far the middle of the repeats is above the fastest, in seconds; one repeat tells nothing."""
        seconds = self.taken.get(trial, [])
        return median(seconds) - min(seconds) if len(seconds) > 1 else float("inf")

    def to_json(self) -> dict[str, Any]:
        return {
            "taken": [{**asdict(trial), "seconds": seconds} for trial, seconds in self.taken.items()],
            "skipped": [{**asdict(trial), "reason": reason} for trial, reason in self.skipped.items()],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Notebook:
        """The inverse. Raises KeyError or TypeError for anything else."""
        taken = {_trial(row, "seconds"): [float(one) for one in row["seconds"]] for row in values["taken"]}
        return cls(taken, {_trial(row, "reason"): str(row["reason"]) for row in values["skipped"]})


def _trial(row: dict[str, Any], beside: str) -> Trial:
    return Trial(**{name: value for name, value in row.items() if name != beside})


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be found out. `now` is how the model would run without; candidates that the owner fixed are not there."""

    now: Setting
    flash: tuple[bool, ...] = ()  # others than now
    threads: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    chunks: tuple[int, ...] = ()
    kv_types: tuple[tuple[str, str, bool], ...] = ()  # K, V, and whether flash attention goes with them
    takes_kv_types: bool = False  # else they are measured, and what they would bring is told
    keeps_kv: bool = False  # what shapes KV is measured, but not changed: there is KV on the disk
    forks: bool = True  # the engine would let thoughts share a beginning
    depth: int = 0  # the last two are found out by the first calls
    piece: int = 0  # prompt tokens of one measurement
    rounds: tuple[int, ...] = (2, 3)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Situation:
        """The inverse, of what JSON made of it. Raises KeyError or TypeError for anything else."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        known["kv_types"] = tuple((k, v, flash) for k, v, flash in values["kv_types"])
        return cls(**{**known, "now": Setting(**values["now"])})
