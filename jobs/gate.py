"""Whether a trained adapter may be worn: better where it was taught, and not worse elsewhere by more than a margin. Pure.

Judged on examples that were held back: the loss on their answers, and what base and adapter really say, compared with the
answer that was wanted, by exact match and by the words they share (F1, as in Rajpurkar et al. 2016, arXiv:1606.05250).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

LEAST_GAIN = 0.01  # by which the loss on what was held back must fall, as a share
GENERAL_MARGIN = 0.2  # nats a token by which the loss on the general set may rise
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Trial:
    """One held-back question, answered by both. Passed by a rubric or not: None where there is none."""

    question: str
    expected: str
    base: str
    adapter: str
    base_passes: bool | None = None
    adapter_passes: bool | None = None

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "question": self.question,
            "expected": self.expected,
            "base": self.base,
            "adapter": self.adapter,
            "base_overlap": round(overlap(self.base, self.expected), 3),
            "adapter_overlap": round(overlap(self.adapter, self.expected), 3),
        }
        if self.adapter_passes is not None:
            told |= {"base_passes": self.base_passes, "adapter_passes": self.adapter_passes}
        return told


def verdict(held: dict[str, float], general: dict[str, float], trials: Row[Trial]) -> dict[str, Any]:
    """{"passed", "reasons", "held", "general", "answers", "exact", "overlap", "rubric"}. Losses: {"base", "adapter"}."""
    exact = _both(trials, lambda answer, trial: words(answer) == words(trial.expected))
    shared = _both(trials, lambda answer, trial: overlap(answer, trial.expected))
    rubric = None
    if any(trial.adapter_passes is not None for trial in trials):
        rubric = {
            "base": sum(bool(trial.base_passes) for trial in trials),
            "adapter": sum(bool(trial.adapter_passes) for trial in trials),
        }
    reasons = _reasons(held, general, exact, shared, rubric, len(trials))
    return {
        "passed": not reasons,
        "reasons": reasons,
        "held": held,
        "general": general,
        "general_margin": GENERAL_MARGIN,
        "answers": len(trials),
        "exact": {side: int(total) for side, total in exact.items()},
        "overlap": {side: round(total / len(trials), 3) if trials else 0.0 for side, total in shared.items()},
        "rubric": rubric,
    }


def _reasons(
    held: dict[str, float],
    general: dict[str, float],
    exact: dict[str, float],
    shared: dict[str, float],
    rubric: dict[str, int] | None,
    count: int,
) -> list[str]:
    told = []
    if held["adapter"] > held["base"] * (1.0 - LEAST_GAIN):
        told.append(f"its loss on what was held back is {held['adapter']:.3f}, the base's {held['base']:.3f}")
    if general["adapter"] > general["base"] + GENERAL_MARGIN:
        told.append(
            f"its loss on general questions is {general['adapter']:.3f}, more than {GENERAL_MARGIN:g} above the base's "
            f"{general['base']:.3f}: it forgot other things"
        )
    if exact["adapter"] < exact["base"]:
        told.append(
            f"it answers {exact['adapter']:.0f} of {count} held-back questions exactly, the base {exact['base']:.0f}"
        )
    if shared["adapter"] < shared["base"]:
        told.append(
            f"its answers share {shared['adapter'] / count:.2f} of their words with those wanted, the base's "
            f"{shared['base'] / count:.2f}"
        )
    if rubric is not None and rubric["adapter"] < rubric["base"]:
        told.append(f"{rubric['adapter']} of {count} answers meet the rubric, {rubric['base']} of the base's")
    return told


def _both(trials: Row[Trial], measure: Any) -> dict[str, float]:
    return {
        "base": float(sum(measure(trial.base, trial) for trial in trials)),
        "adapter": float(sum(measure(trial.adapter, trial) for trial in trials)),
    }


def words(text: str) -> list[str]:
    """Lower case, without punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def overlap(answer: str, expected: str) -> float:
    """F1 of the words, 0 to 1."""
    said, wanted = Counter(words(answer)), Counter(words(expected))
    shared = (said & wanted).total()
    if not shared:
        return float(said == wanted)
    precision, recall = shared / said.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)
