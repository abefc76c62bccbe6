"""What enters the next batch. Pure arithmetic over plain values: no model, no clock.

A step is one prefill chunk, or one row of every decoding sequence of one lane. Seconds are told to the scheduler after
each step; it lets prefill run while nobody waits, and otherwise hands decode its share. Where two lanes decode they take
turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass

from monk.engine.sequence import LaneName

PATIENCE = 10.0  # slices that a batch waits for the short prompts of those who join it


@dataclass(frozen=True, slots=True)
class Prefill:
    """Compute the next tokens of the sequence in `slot`, or of it and its neighbours: `num_tokens` in all at most."""

    slot: int
    num_tokens: int
    lane: LaneName = "stream"


@dataclass(frozen=True, slots=True)
class Decode:
    """Compute the last token of each of these slots, in rising order."""

    slots: tuple[int, ...]
    lane: LaneName = "stream"


Step = Prefill | Decode


@dataclass(frozen=True, slots=True)
class Work:
    """What one occupied slot still has to do. `order` is its place in the line of arrivals."""

    slot: int
    order: int
    pending: int  # tokens the KV does not hold: 1 means decode, but in the study, which only prefills
    blocked: bool = False  # waits for another slot to compute the beginning they share
    lane: LaneName = "stream"
    hurried: bool = False  # matters more than others: its tokens should not wait for their prompts

    @property
    def decodes(self) -> bool:
        return self.pending == 1 and self.lane != "study" and not self.blocked

    @property
    def prefills(self) -> bool:
        return (self.pending > 1 or self.lane == "study") and not self.blocked


class Scheduler:
    """Alternates the two phases. `chunk` is the largest prefill step in tokens."""

    def __init__(self, chunk: int, prefill_slice_seconds: float, decode_share: float) -> None:
        self.chunk = chunk
        self._slice = prefill_slice_seconds
        self._share = decode_share
        self._prefilled_seconds = 0.0  # since decode last had its turn
        self._owed_seconds = 0.0  # decode time to be given before prefill goes on
        self._seconds_per_token: dict[LaneName, float] = {}  # of prefill, smoothed
        self._decoded_last: LaneName = "fork"
        self.decode_step_seconds = 0.0  # smoothed; 0 before the first

    def next_step(self, works: Rows[Work]) -> Step | None:
        """The next batch, or None when nothing can run."""
        decoding = [work for work in works if work.decodes]
        prefilling = [work for work in works if work.prefills]
        if not prefilling:
            return self._decode(decoding) if decoding else None
        first = min(prefilling, key=lambda work: work.order)
        together = sum(work.pending for work in prefilling if work.lane == first.lane)
        pending = first.pending if first.lane == "study" else together
        seconds = self._most_seconds(decoding, first.lane, pending)
        if self._prefilled_seconds >= seconds:
            return self._decode(decoding)
        return Prefill(first.slot, min(pending, self._chunk_tokens(seconds, first.lane)), first.lane)

    def _decode(self, decoding: Rows[Work]) -> Decode:
        lanes = {work.lane for work in decoding}
        lane = next((lane for lane in sorted(lanes) if lane != self._decoded_last), self._decoded_last)
        self._decoded_last = lane
        return Decode(tuple(sorted(work.slot for work in decoding if work.lane == lane)), lane)

    def did_prefill(self, num_tokens: int, seconds: float, *, others_waited: bool, lane: LaneName = "stream") -> None:
        """`num_tokens` 0: the time was spent on fetching or proving what had been computed before."""
        if num_tokens:
            rate, known = seconds / num_tokens, self._seconds_per_token.get(lane)
            self._seconds_per_token[lane] = rate if known is None else 0.7 * known + 0.3 * rate
        if others_waited:
            self._prefilled_seconds += seconds
            self._owed_seconds += seconds * self._share / (1.0 - self._share)

    def did_decode(self, seconds: float) -> None:
        self.decode_step_seconds = (
            0.9 * self.decode_step_seconds + 0.1 * seconds if self.decode_step_seconds else seconds
        )
        self._owed_seconds -= seconds
        if self._owed_seconds <= 0.0:
            self._prefilled_seconds = self._owed_seconds = 0.0

    @property
    def prefill_seconds_per_token(self) -> float:
        """Smoothed, of the lane measured first; 0 before the first prefill."""
        return next(iter(self._seconds_per_token.values()), 0.0)

    def _most_seconds(self, decoding: Rows[Work], lane: LaneName, pending: int) -> float:
        """Of prefill until decode has its turn. A batch that is soon complete is waited for: its steps cost little more
        than those of a part of it."""
        if not decoding:
            return math.inf
        rate, patience = self._seconds_per_token.get(lane), PATIENCE * self._slice
        is_soon = rate is not None and self._prefilled_seconds + rate * pending <= patience
        return patience if is_soon and not any(work.hurried for work in decoding) else self._slice

    def _chunk_tokens(self, seconds: float, lane: LaneName) -> int:
        """A full chunk, or what fits in the rest of so many seconds when running thoughts wait for it."""
        rate = self._seconds_per_token.get(lane)
        if math.isinf(seconds) or not rate:
            return self.chunk
        fits = int((seconds - self._prefilled_seconds) / rate)
        return max(min(64, self.chunk), min(self.chunk, fits))
