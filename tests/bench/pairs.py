"""Ratios of two that were timed in turns, on a machine whose own speed wanders. Pure."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from math import comb
from statistics import median


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the ratios of neighbours in time, and where the true median lies with a probability of `sure`."""

    median: float
    low: float
    high: float
    sure: float


def ratio(ones: Row[float], others: Row[float], sure: float = 0.95) -> Ratio:
    """Of pairs that stand at the same place. The interval is that of the sign test: between the k-th smallest and the k-th
    greatest ratio, with the greatest k that is sure enough (Thompson 1936); with few pairs from the least to the greatest.

    Raises ValueError for rows of different lengths and for none at all.
    """
    ratios = sorted(one / other for one, other in zip(ones, others, strict=True))
    if not ratios:
        raise ValueError("a ratio needs a pair")
    count = len(ratios)

    def coverage(k: int) -> float:
        return 1.0 - 2.0 * sum(comb(count, below) for below in range(k)) / 2.0**count

    k = max((k for k in range(1, count // 2 + 1) if coverage(k) >= sure), default=1)
    return Ratio(median(ratios), ratios[k - 1], ratios[-k], coverage(k))
