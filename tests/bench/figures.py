"""What a bench prints: a figure beside its target and whether it was met, as lines or as JSON. Works on numbers only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `at_most`: the target; None: told for its own sake. `how`: what was done to get it."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    how: str = ""

    @property
    def met(self) -> bool | None:
        """None without a target."""
        return None if self.at_most is None else self.value <= self.at_most

    def line(self) -> str:
        """For people."""
        told = f"{self.name:<58}{self.value:>10.3f} {self.unit:<8}"
        if self.at_most is None:
            return told.rstrip()
        return f"{told}  target {self.at_most:g}: {'met' if self.met else 'MISSED'}"


def tell(figures: Iterable[Figure], as_json: bool) -> int:
    """Print them; as they come, or as one JSON list at the end. Returns 0 when every target was met, else 1."""
    seen = []
    for figure in figures:
        seen.append(figure)
        if not as_json:
            print(figure.line(), flush=True)
    if as_json:
        print(json.dumps([{**asdict(figure), "met": figure.met} for figure in seen], indent=2))
    return 0 if all(figure.met is not False for figure in seen) else 1


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of all values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]
