"""What one decode call costs, by its number of rows: measured from the steps themselves, smoothed, interpolated.

Numbers only. Nothing is assumed of the host: whether four rows cost as much as one (a large dense model, bound by the
weights it reads) or nearly four times as much (a mixture of experts, a small model on few cores) is what the steps tell.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence as Row

# Weight of a new measurement against the one before of the same number of rows; more against older ones. Noise only ever
# makes a step slower (somebody else wanted the core), so faster ones are believed sooner.
FASTER_WEIGHT, SLOWER_WEIGHT = 0.4, 0.15
DRIFT = 0.5  # how far all others follow it, as a power of its change: contexts grow, neighbours come and go
MOST_SURPRISE = 2.0  # a step that waited for somebody else's core is no news about rows
STALE_AFTER = (
    2000  # measurements: what has not been seen for so long is forgotten, lest one bad moment decides for ever
)
FIXED_SHARE = 0.5  # of a call, while only one number of rows was ever seen: the other half grows with the rows


class RowCost:
    """Seconds of a call by its rows."""

    def __init__(self) -> None:
        self._rows: list[int] = []  # measured, rising
        self._seconds: dict[int, float] = {}
        self._told_at: dict[int, int] = {}  # in measurements
        self._num_told = 0

    def tell(self, rows: int, seconds: float) -> None:
        self._num_told += 1
        self._forget_stale()
        age = self._num_told - self._told_at.get(rows, 0)
        self._told_at[rows] = self._num_told
        known = self._seconds.get(rows)
        if known is None:
            insort(self._rows, rows)
            self._seconds[rows] = seconds
            return
        surprise = min(max(seconds / known, 1.0 / MOST_SURPRISE), MOST_SURPRISE)
        weight = FASTER_WEIGHT if surprise < 1.0 else SLOWER_WEIGHT
        change = 1.0 + (1.0 - (1.0 - weight) ** age) * (surprise - 1.0)
        for other in self._rows:
            self._seconds[other] *= change if other == rows else change**DRIFT

    def _forget_stale(self) -> None:
        limit = self._num_told - STALE_AFTER
        for rows in [rows for rows, told_at in self._told_at.items() if told_at < limit]:
            del self._told_at[rows], self._seconds[rows]
            self._rows.remove(rows)

    def knows(self, rows: int) -> bool:
        return rows in self._seconds

    def nearest(self, rows: int) -> int:
        """The measured number of rows next to this one. There must be one."""
        return min(self._rows, key=lambda other: abs(other - rows))

    def at(self, rows: int) -> float:
        """Expected seconds; 1.0 per call before anything was measured, so that ratios still make sense."""
        if not self._rows:
            return 1.0
        place = bisect_left(self._rows, rows)
        if place < len(self._rows) and self._rows[place] == rows:
            return self._seconds[rows]
        if 0 < place < len(self._rows):
            return self._between(self._rows[place - 1], self._rows[place], rows)
        if place > 1:
            return max(self._between(self._rows[-2], self._rows[-1], rows), self._seconds[self._rows[-1]])
        return self._scaled(self._rows[0], rows)

    def _between(self, low: int, high: int, rows: int) -> float:
        """On the straight line through two measurements, also beyond them."""
        share = (rows - low) / (high - low)
        return self._seconds[low] * (1.0 - share) + self._seconds[high] * share

    def _scaled(self, known: int, rows: int) -> float:
        """From a single measurement: a fixed part, and a part that grows with the rows."""
        return self._seconds[known] * (FIXED_SHARE + (1.0 - FIXED_SHARE) * rows / known)


class CallCost:
    """Seconds of a call by sequences and rows: eight rows of one sequence read one memory, of eight sequences eight.

    A number of sequences not seen yet borrows the shape of the curve from all others.
    """

    def __init__(self) -> None:
        self._pooled = RowCost()
        self._own: dict[int, RowCost] = {}

    def tell(self, passes: Row[tuple[int, int]], seconds: float) -> None:
        """A call that made these passes (sequences, rows of each) took so long."""
        expected = [self.at(sequences, rows) for sequences, rows in passes]
        for (sequences, rows), share in zip(passes, expected, strict=True):
            part = seconds * share / sum(expected)
            self._pooled.tell(rows, part)
            self._own.setdefault(sequences, RowCost()).tell(rows, part)

    def knows(self, sequences: int, rows: int) -> bool:
        own = self._own.get(sequences)
        return own is not None and own.knows(rows)

    def at(self, sequences: int, rows: int) -> float:
        own = self._own.get(sequences)
        if own is None:
            return self._pooled.at(rows)
        near = own.nearest(rows)
        if near == rows:
            return own.at(rows)
        return max(own.at(near) * self._pooled.at(rows) / self._pooled.at(near), 1e-9)

    def of(self, passes: Row[tuple[int, int]]) -> float:
        """Expected seconds of a call with these passes."""
        return sum(self.at(sequences, rows) for sequences, rows in passes)
