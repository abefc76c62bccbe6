"""The streams: thoughts that have little in common, each with a stretch of memory of its own.

waiting ──seat──▶ slot: prefill ──▶ decode ──▶ released, its KV kept until somebody needs the slot
                   ├ or waits for a neighbour that computes the same beginning, and copies it
                   └ or waits for the prefill lane, which hands over the whole prompt's KV
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from monk.engine.counters import Counters
from monk.engine.frames import Image
from monk.engine.guessing import Guessing
from monk.engine.hall import Hall, Slot
from monk.engine.native import Lane, Logits
from monk.engine.placement import COPY_BYTES_PER_SECOND, SlotView, compaction, least_shared_tokens, place, side_by_side
from monk.engine.scheduler import Prefill, Scheduler
from monk.engine.sequence import Sequence, Tokens, common_prefix
from monk.engine.voice import Voice, repeated

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What decides whether KV is worth moving. `can_trim`: this model's memory can be cut back."""

    can_trim: bool
    weight_bytes: int
    stream_bytes: int
    share_prefixes: bool
    copy_bytes_per_second: float = COPY_BYTES_PER_SECOND


class Streams(Hall):
    """`send_to_study(sequence, missing)`: True if the prefill lane will compute the `missing` tokens."""

    name = "stream"

    def __init__(
        self,
        lane: Lane,
        slots: Iterable[int],
        facts: StreamFacts,
        scheduler: Scheduler,
        voice: Voice,
        counters: Counters,
        guessing: Guessing,
        send_to_study: Callable[[Sequence, int], bool],
    ) -> None:
        super().__init__(lane, slots, scheduler, voice, counters, guessing)
        self._facts = facts
        self._send_to_study = send_to_study
        self._num_seated = 0

    # --- coming and going

    def seat(self, sequence: Sequence) -> None:
        """Give a waiting thought a free slot; there must be one."""
        tokens = sequence.row
        copy_seconds = self._facts.stream_bytes / self._facts.copy_bytes_per_second
        least = least_shared_tokens(copy_seconds, self._scheduler.prefill_seconds_per_token)
        views = [self._view(slot) for slot in self._slots.values()]
        seat = place(tokens, views, can_trim=self._facts.can_trim, least_shared=least)
        assert seat is not None, "the caller saw a free slot a moment ago"
        slot = self._slots[seat.slot]
        slot.owner, slot.tokens = sequence, tokens
        sequence.lane, sequence.slot = "stream", seat.slot
        sequence.computed = self._keep(seat.slot, seat.kept)
        sequence.source, sequence.shared = None, 0
        self._counters.shared_tokens += sequence.computed
        self._num_seated += 1
        slot.last_used = self._num_seated
        if self._send_to_study(sequence, len(tokens) - max(sequence.computed, seat.shared)):
            return
        if seat.source is not None:
            sequence.source, sequence.shared = self._origin(seat.source, seat.shared), seat.shared

    def kept_for(self, tokens: Tokens) -> int:
        """How many leading tokens a free slot still holds."""
        held = (slot.tokens for slot in self._slots.values() if slot.owner is None)
        return max((common_prefix(tokens, other) for other in held), default=0)

    def release(self, sequence: Sequence, *, keep: bool) -> None:
        """Its slot is free; what it holds stays for others if it may be used again."""
        if not keep:
            self._reset(sequence)
        for follower in self._followers(sequence):
            self._let_go(follower)
        slot = self._slots[sequence.slot]
        slot.tokens = np.asarray(sequence.tokens[: sequence.computed], np.int32)
        slot.owner = None
        self._num_seated += 1
        slot.last_used = self._num_seated
        sequence.lane, sequence.slot, sequence.in_study = None, -1, False

    def forget(self) -> None:
        """The model wears something else: nothing that is held is true any more. Nobody may be in."""
        for slot in self._slots.values():
            assert slot.owner is None, "a thought would go on with another model's memory"
            slot.tokens = slot.tokens[:0]
            self._lane.clear(slot.number)

    def _origin(self, number: int, shared: int) -> Sequence | None:
        """Who really computes the beginning that the slot holds: the first of those who wait for each other."""
        source = self._slots[number].owner
        while source is not None and source.source is not None and source.shared >= shared:
            source = source.source
        return source

    def _view(self, slot: Slot) -> SlotView:
        known = slot.tokens if self._facts.share_prefixes else slot.tokens[:0]
        if slot.owner is None:
            return SlotView(slot.number, True, known, len(known), slot.last_used)
        return SlotView(slot.number, False, known, slot.owner.computed)

    def _keep(self, number: int, kept: int) -> int:
        """Cut the slot's KV back to `kept` tokens; returns how many are really left."""
        held = self._lane.num_computed(number) if kept else 0
        if kept and (held == kept or (held > kept and self._lane.trim(number, kept))):
            return kept
        self._lane.clear(number)
        return 0

    def _is_blocked(self, sequence: Sequence) -> bool:
        return sequence.source is not None or sequence.in_study

    # --- beginnings

    def settle(self, *, somebody_waits: bool) -> None:
        """Between two steps: copy beginnings that have become complete, and close a gap."""
        for follower in self.owners:
            source = follower.source
            if source is None or not self._facts.can_trim:
                continue
            if source.computed >= min(follower.shared, len(follower.tokens) - 1):
                self._copy_beginning(follower)
        if not somebody_waits:
            self._close_gap()

    def _copy_beginning(self, follower: Sequence) -> None:
        """Copy what the source has of the shared beginning, and follow it no longer."""
        source = follower.source
        assert source is not None
        length = min(follower.shared, source.computed, len(follower.tokens) - 1)
        follower.source = None
        if length <= 0:
            return
        self._lane.copy(source.slot, follower.slot)
        follower.computed = self._keep(follower.slot, length)
        self._counters.shared_tokens += follower.computed

    def _let_go(self, follower: Sequence) -> None:
        """Its source leaves: it takes what is there, or starts on its own."""
        if self._facts.can_trim:
            self._copy_beginning(follower)
        follower.source = None
        self._send_to_study(follower, follower.pending)

    def _followers(self, source: Sequence) -> list[Sequence]:
        return [owner for owner in self.owners if owner.source is source]

    def _close_gap(self) -> None:
        """Move the last thought into a gap when nobody waits for the slot: each gap costs a pass over the weights."""
        active = [(owner.slot, owner.remaining) for owner in self.owners]
        facts = self._facts
        move = compaction(active, weight_bytes=facts.weight_bytes, stream_bytes=facts.stream_bytes)
        if move is None:
            return
        origin, target = self._slots[move[0]], self._slots[move[1]]
        sequence = self._owner(origin.number)
        if sequence.computed:
            self._lane.copy(origin.number, target.number)
        else:
            self._lane.clear(target.number)
        target.owner, target.tokens, sequence.slot = sequence, origin.tokens, target.number
        origin.owner, origin.tokens = None, origin.tokens[:0]
        self._lane.clear(origin.number)

    # --- steps

    def prefill(self, step: Prefill, *, others_waited: bool) -> None:
        """The next piece of one prompt, with equally long ones of its neighbours."""
        slots, each = side_by_side(
            self._prompts_beside(step.slot), step.slot, min(step.num_tokens, self._lane.most_tokens)
        )
        seconds = self._compute([self._prefill_part(self._owner(slot), each) for slot in slots], "prefill")
        if seconds is not None:
            self._scheduler.did_prefill(each * len(slots), seconds, others_waited=others_waited)

    def _prompts_beside(self, slot: int) -> dict[int, int]:
        """Tokens left of the prompt in this slot, and of those that may be computed in the same call. Whoever others wait
        for is computed alone: they take over what it has in the moment it ends."""
        prompts = {
            owner.slot: owner.pending
            for owner in self.owners
            if owner.pending > 1 and not self._is_blocked(owner) and not self._followers(owner)
        }
        return prompts if slot in prompts else {slot: self._owner(slot).pending}

    def _room(self, sequence: Sequence) -> int:
        return self._lane.num_cells - len(sequence.tokens)

    def _draw(self, sequences: list[Sequence], logits: Logits) -> None:
        """For those who waited for the very same tokens too."""
        if len(sequences) == 1 and (ready := self._ready_twins(sequences[0])):
            logits = repeated(logits, 1 + len(ready))
            sequences = [*sequences, *ready]
        super()._draw(sequences, logits)

    def _ready_twins(self, sequence: Sequence) -> list[Sequence]:
        """Followers whose shared beginning is all the sequence has; those whose whole prompt it is."""
        twins = [item for item in self._followers(sequence) if item.shared == sequence.computed]
        for twin in twins:
            self._lane.copy(sequence.slot, twin.slot)
            twin.source = None
            twin.computed = sequence.computed
            self._counters.shared_tokens += twin.computed
        return [twin for twin in twins if twin.pending == 0]

    # --- to and from the prefill lane

    def longest_held(self, tokens: Tokens) -> tuple[int, int]:
        """(slot, length) of the longest beginning of these tokens that a slot holds; length 0 if none does."""
        if not self._facts.share_prefixes:
            return -1, 0
        lengths = {slot.number: common_prefix(tokens, self._held(slot)) for slot in self._slots.values()}
        best = max(lengths, key=lambda number: lengths[number])
        return best, lengths[best]

    def _held(self, slot: Slot) -> Tokens:
        return slot.tokens if slot.owner is None else slot.owner.row[: slot.owner.computed]

    def image_of(self, number: int) -> Image:
        return self._lane.save(number)

    def receive(self, sequence: Sequence, image: Image | None, logits: Logits) -> None:
        """The prompt is computed: take its KV, and draw from its last row of logits [1, vocab].

        Without an image it is in the slot already.
        """
        sequence.in_study = False
        if image is not None:
            self._lane.clear(sequence.slot)
            self._lane.restore(sequence.slot, image)
        if self._lane.num_computed(sequence.slot) != len(sequence.tokens):
            log.warning("kv was not taken over; the prompt is computed again", extra={"thought_id": sequence.id})
            self._reset(sequence)
            return
        sequence.computed = len(sequence.tokens)
        self._draw([sequence], logits)
