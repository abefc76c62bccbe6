"""The fork lane: thoughts that go on from one long beginning, such as questions on one document or samples of a prompt.

Sequence 0 holds the beginning, computed in the prefill lane; members get it by name, which copies nothing. Their own
tokens are prefilled together in one batch, whatever their lengths, and decoded in one call. One beginning at a time:
another one comes in when all members of the last have left. Until then who shares it may join, also later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from monk.engine.counters import Counters
from monk.engine.frames import Image
from monk.engine.grouping import Candidate, Prices, best_width, expected_own, own_cells
from monk.engine.guessing import Guessing
from monk.engine.hall import Hall
from monk.engine.native import NO_ROOM, Lane
from monk.engine.scheduler import Prefill, Scheduler
from monk.engine.sequence import Sequence, Tokens
from monk.engine.voice import Voice

log = logging.getLogger(__name__)

SHARED = 0


class Forks(Hall):
    """`send_back(sequence)`: it goes to the front of the line again, and never into this lane."""

    name = "fork"

    def __init__(
        self,
        lane: Lane,
        scheduler: Scheduler,
        voice: Voice,
        counters: Counters,
        guessing: Guessing,
        longest_suffix: int,
        prices: Prices,
        send_back: Callable[[Sequence], None],
    ) -> None:
        super().__init__(lane, range(1, lane.num_sequences), scheduler, voice, counters, guessing)
        self._longest_suffix = longest_suffix
        self._prices = prices
        self._send_back = send_back
        self._shared: Tokens = np.zeros(0, np.int32)
        self._is_ready = False  # sequence 0 holds them

    # --- who gets in

    @property
    def is_empty(self) -> bool:
        return not self.owners

    @property
    def shared(self) -> Tokens:
        return self._shared

    def holds(self, shared: Tokens) -> bool:
        """True if these very tokens lie ready."""
        return self._is_ready and np.array_equal(self._shared, shared)

    def form(self, shared: Tokens, members: list[Sequence]) -> None:
        """A new group; the beginning comes later, by `receive`. Nobody may be in."""
        assert self.is_empty, "members of the last group would go on from another text"
        for number in (SHARED, *self._slots):
            self._lane.clear(number)
        self._shared, self._is_ready = shared, False
        for sequence in members:
            self._sit_down(sequence)

    def forget(self) -> None:
        """The model wears something else. Nobody may be in."""
        assert self.is_empty, "a thought would go on with another model's memory"
        self._lane.clear(SHARED)
        self._shared, self._is_ready = self._shared[:0], False

    def takes(self, sequence: Sequence) -> bool:
        """True if the thought can join those who are in, or go on from what they left."""
        roomy = self.has_free_slot and self._cells_of(sequence) <= self._free_cells()
        return roomy and len(self.owners) < self._best_width(sequence) and self._is_kin(sequence)

    def takes_later(self, sequence: Sequence) -> bool:
        """True if it is cheaper for the thought to wait for a seat than to be computed elsewhere.

        Whoever matters more than all who are in need not wait for them.
        """
        fits = self._cells_of(sequence) <= self._lane.num_cells - len(self._shared)
        if not self.owners or not fits or not self._is_kin(sequence):
            return False
        return sequence.request.priority <= max(owner.request.priority for owner in self.owners)

    def _is_kin(self, sequence: Sequence) -> bool:
        """True if the thought goes on from what this lane holds or will hold."""
        length = len(self._shared)
        own = len(sequence.tokens) - length
        if not length or not (self._is_ready or self.owners) or sequence.no_fork:
            return False
        return 0 < own <= self._longest_suffix and bool((sequence.row[:length] == self._shared).all())

    def _best_width(self, sequence: Sequence) -> int:
        members, length = [*self.owners, sequence], len(self._shared)
        own = sum(expected_own(len(item.tokens), item.remaining, length) for item in members) / len(members)
        return best_width(own, len(self._slots), self._prices)

    def join(self, sequence: Sequence) -> None:
        self._sit_down(sequence)

    def _sit_down(self, sequence: Sequence) -> None:
        slot = next(slot for slot in self._slots.values() if slot.owner is None)
        slot.owner = sequence
        sequence.lane, sequence.slot, sequence.computed = "fork", slot.number, 0
        if self._is_ready:
            self._fork(sequence)

    def _fork(self, sequence: Sequence) -> None:
        self._reset(sequence)
        self._counters.forked_tokens += sequence.computed
        done = sequence.target if sequence.pending == 1 else sequence.computed
        self._voice.progress(sequence, done)

    def _cells_of(self, sequence: Sequence) -> int:
        return own_cells(Candidate(sequence.row, sequence.remaining), len(self._shared))

    def _free_cells(self) -> int:
        """Cells nobody holds or will need."""
        return self._lane.num_cells - len(self._shared) - sum(self._cells_of(owner) for owner in self.owners)

    def release(self, sequence: Sequence) -> None:
        """Its own cells are needed by others; the beginning stays."""
        self._lane.clear(sequence.slot)
        self._slots[sequence.slot].owner = None
        sequence.lane, sequence.slot = None, -1
        if self.is_empty and not self._is_ready:
            self._shared = self._shared[:0]

    def receive(self, image: Image | None) -> None:
        """The beginning is computed (or could not be, and everybody goes elsewhere)."""
        self._lane.clear(SHARED)
        length = len(self._shared)
        self._is_ready = image is not None and self._lane.restore(SHARED, image)
        self._is_ready = self._is_ready and self._lane.num_computed(SHARED) == length
        for owner in self.owners:
            if self._is_ready:
                self._fork(owner)
            else:
                log.warning("kv was not taken over; the thought is computed alone", extra={"thought_id": owner.id})
                self._turn_away(owner)

    def _turn_away(self, sequence: Sequence) -> None:
        self.release(sequence)
        sequence.computed, sequence.no_fork = 0, True
        self._send_back(sequence)

    # --- steps

    def _is_blocked(self, sequence: Sequence) -> bool:
        return not self._is_ready

    def prefill(self, step: Prefill, *, others_waited: bool) -> None:
        """What members have of their own, together, the oldest first."""
        left, parts = min(step.num_tokens, self._lane.most_tokens), []
        for owner in sorted(self.owners, key=lambda item: item.order):
            if left > 0 and owner.pending > 1:
                parts.append(self._prefill_part(owner, left))
                left -= len(parts[-1][1].tokens)
        count = sum(len(run.tokens) for _, run in parts)
        seconds = self._compute(parts, "prefill")
        if seconds is not None:
            self._scheduler.did_prefill(count, seconds, others_waited=others_waited, lane="fork")

    def _room(self, sequence: Sequence) -> int:
        """Cells were set aside for the longest answer it may give."""
        return sequence.remaining - 1

    def _refuse(self, sequence: Sequence, code: int) -> None:
        if code == NO_ROOM:
            self._turn_away(sequence)
        else:
            super()._refuse(sequence, code)

    def _reset(self, sequence: Sequence) -> None:
        """A member goes on from the beginning again."""
        self._lane.clear(sequence.slot)
        self._lane.copy(SHARED, sequence.slot)
        sequence.computed = len(self._shared)
