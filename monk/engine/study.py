"""The prefill lane: long prompts, computed one after the other in a context of their own, and kept block by block.

    reading ──▶ what is there already: in this lane, in a slot, on disk ──▶ proved ──▶ chunks ──▶ handed over
                                                                             └ each whole block goes to the store

Where there is only one slot, its own lane has the scratch (`in_place`): nothing is handed over, and no second copy of a
long prompt's KV is ever needed.

A killed process has lost the block it was in, not the hours before. A restored block must prove itself before anything
stands on it: its last token is computed again beside it, and the logits compared with those it had when it was written.
Its own cells stay untouched, so what follows is computed from the very bits of the first time.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from monk.engine.archive import Archive
from monk.engine.counters import Counters
from monk.engine.desk import Desk
from monk.engine.frames import Image
from monk.engine.native import ABORTED, DONE, Lane, Logits
from monk.engine.scheduler import Prefill, Scheduler, Work
from monk.engine.sequence import Sequence, Tokens
from monk.engine.shelf import Piece, Shelf, is_proved
from monk.engine.streams import Streams
from monk.engine.voice import Voice

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Reading:
    """Tokens to be computed. `payer`: the thought whose account it goes to; `wants_logits`: of the last token.

    `done(image, logits)` is called at the end: without an image where it was computed in place, without logits when they
    were not wanted, with None for both if it cannot be computed here.
    """

    tokens: Tokens
    order: int
    payer: Sequence
    wants_logits: bool
    done: Callable[[Image | None, Logits | None], None]
    computed: int = 0
    shelf: Shelf | None = None
    begun: bool = False
    restoring: bool = False
    block_seconds: float = 0.0  # spent on the block it is in
    result: tuple[Image | None, Logits | None] | None = None

    @property
    def last_reusable(self) -> int:
        """How many tokens may be taken over: for its logits the last one must be computed."""
        return len(self.tokens) - 1 if self.wants_logits else len(self.tokens)


class Study:
    """One thread. The lane is opened for the first reading. `in_place`: it is that of the only slot, whose thought pays."""

    def __init__(
        self,
        open_lane: Callable[[], Lane | None],
        archive: Archive | None,
        streams: Streams,
        scheduler: Scheduler,
        voice: Voice,
        counters: Counters,
        in_place: bool = False,
    ) -> None:
        self._open_lane = open_lane
        self._in_place = in_place
        self._desk: Desk | None = None
        self._archive = archive
        self._streams = streams
        self._scheduler = scheduler
        self._voice = voice
        self._counters = counters
        self._readings: list[Reading] = []
        self._given: OrderedDict[str, None] = OrderedDict()
        self._is_closed = False

    # --- the line

    def open(self) -> bool:
        """Have the lane ready; False if there is no room for it."""
        if self._desk is None and not self._is_closed:
            lane = self._open_lane()
            self._desk = None if lane is None else Desk(lane)
            self._is_closed = lane is None
        return self._desk is not None

    def ask(self, reading: Reading) -> None:
        self._readings.append(reading)

    def drop(self, payer: Sequence) -> None:
        """Whoever paid has left. What was computed stays for the next."""
        self._readings = [reading for reading in self._readings if reading.payer is not payer]

    def forget(self) -> None:
        """The model wears something else. Nothing may be waiting to be read."""
        assert not self._readings, "a prompt would be read half by one model and half by another"
        if self._desk is not None:
            self._desk.cut(0)

    def is_for(self, payer: Sequence) -> bool:
        return any(reading.payer is payer for reading in self._readings)

    def works(self) -> list[Work]:
        return [
            Work(0, reading.order, max(1, len(reading.tokens) - reading.computed), lane="study")
            for reading in self._readings[:1]
        ]

    # --- one step

    def prefill(self, step: Prefill, *, others_waited: bool) -> None:
        """The next piece of the first reading: a block fetched, a proof, or a chunk computed."""
        reading = self._readings[0]
        num_tokens = 0

        def work() -> int:
            nonlocal num_tokens
            code, num_tokens = self._advance(reading, step.num_tokens)
            return code

        code, seconds = self._counters.timed(work)
        if self._in_place:
            reading.payer.computed = reading.computed
        self._counters.prefill_seconds += seconds
        reading.payer.prefill_seconds += seconds
        self._scheduler.did_prefill(num_tokens, seconds, others_waited=others_waited, lane="study")
        if reading.result is not None:
            self._readings.remove(reading)
            reading.done(*reading.result)
        elif code not in (DONE, ABORTED):
            log.error("the prefill lane refused a batch", extra={"code": code, "thought_id": reading.payer.id})
            self._readings.remove(reading)
            reading.done(None, None)

    def _advance(self, reading: Reading, most: int) -> tuple[int, int]:
        """(llama_decode's code, prompt tokens computed)"""
        desk = self._desk
        assert desk is not None, "readings are asked for after open"
        if not reading.begun:
            self._begin(desk, reading)
            return DONE, 0
        if reading.shelf is not None and reading.restoring:
            return self._restore_block(desk, reading, reading.shelf), 0
        if reading.shelf is not None and (piece := reading.shelf.missing(reading.computed)) is not None:
            return self._backfill(desk, reading.shelf, piece), 0
        if reading.computed >= len(reading.tokens):  # a beginning that was there to its last token
            reading.result = self._hand_over(desk), None
            return DONE, 0
        return self._compute_chunk(desk, reading, most)

    # --- what is there already

    def _begin(self, desk: Desk, reading: Reading) -> None:
        """Take over the longest beginning that this lane, a slot or the store has."""
        reading.begun = True
        if self._archive is not None:
            reading.shelf = Shelf(self._archive, reading.tokens, self._given)
        stored = reading.shelf.stored_tokens if reading.shelf is not None else 0
        here = self._held_here(desk, reading, stored)
        self._go_back(desk, reading, min(here, reading.last_reusable))
        if not self._in_place:  # else its slot counted them
            self._counters.shared_tokens += reading.computed
        reading.restoring = stored > reading.computed

    def _held_here(self, desk: Desk, reading: Reading, stored: int) -> int:
        """How many of its tokens the lane holds, fetched from a slot if one has more of them than lane and store."""
        if self._in_place:
            desk.held = reading.tokens[: reading.payer.computed]
            return len(desk.held)
        here = desk.in_place(reading.tokens)
        slot, there = self._streams.longest_held(reading.tokens)
        if there > max(here, stored):
            here = there if desk.take(self._streams.image_of(slot), reading.tokens[:there]) else 0
        return here

    def _hand_over(self, desk: Desk) -> Image | None:
        return None if self._in_place else desk.save()

    def _go_back(self, desk: Desk, reading: Reading, length: int) -> None:
        """Go on from that many tokens, or from none if they cannot be had."""
        reading.computed = length if desk.cut(length) else 0

    def _restore_block(self, desk: Desk, reading: Reading, shelf: Shelf) -> int:
        """The next block from the store, if it proves itself; else the rest is computed."""
        started_at = time.perf_counter()
        piece = shelf.next_stored(reading.computed)
        block = None if piece is None else shelf.fetch(piece)
        if block is None or piece is None:
            reading.restoring = False
            return DONE
        before, start = reading.computed, piece.start
        self._go_back(desk, reading, start)
        if reading.computed != start:
            return DONE  # from the first block again
        if not desk.paste(block, reading.tokens):
            return self._reject(desk, reading, shelf, piece, "llama.cpp does not take it")
        code, logits = desk.replay(piece.end)
        if logits is None:
            self._go_back(desk, reading, start)
            return code  # fetched again after an interruption
        if not is_proved(block.proof, logits):
            return self._reject(desk, reading, shelf, piece, "the model says something else behind it")
        shelf.used(piece, max(0.0, block.seconds - (time.perf_counter() - started_at)))
        self._go_back(desk, reading, min(piece.end, reading.last_reusable))
        reading.restoring = piece.end < shelf.stored_tokens
        self._counters.shared_tokens += max(0, reading.computed - before)
        self._voice.progress(reading.payer, reading.computed)
        return DONE

    def _reject(self, desk: Desk, reading: Reading, shelf: Shelf, piece: Piece, reason: str) -> int:
        """Trust neither this block nor what stands on it; what was proved before it stays."""
        log.warning("kv block failed its proof and is deleted", extra={"start": piece.start, "reason": reason})
        shelf.distrust(piece)
        reading.restoring = False
        self._go_back(desk, reading, piece.start)
        return DONE

    # --- computing

    def _compute_chunk(self, desk: Desk, reading: Reading, most: int) -> tuple[int, int]:
        """Up to `most` tokens, but not beyond the end of a block."""
        start, shelf = reading.computed, reading.shelf
        end = min(len(reading.tokens), start + min(most, desk.most_tokens))
        boundary = shelf.next_boundary(start) if shelf is not None else None
        end = end if boundary is None else min(end, boundary)
        is_last = end == len(reading.tokens)
        started_at = time.perf_counter()
        wants_logits = end == boundary or (is_last and reading.wants_logits)
        code, logits = desk.compute(reading.tokens, end, wants_logits=wants_logits)
        if code != DONE:
            reading.computed = len(desk.held)
            return code, 0
        self._note_computed(reading, end, time.perf_counter() - started_at)
        if shelf is not None and logits is not None and end == boundary:
            self._put_block(desk, reading, shelf, logits[0])
        if is_last:
            reading.result = self._hand_over(desk), logits
        return DONE, end - start

    def _note_computed(self, reading: Reading, end: int, seconds: float) -> None:
        count = end - reading.computed
        reading.computed = end
        reading.block_seconds += seconds
        reading.payer.num_prefilled += count
        self._counters.prefill_tokens += count
        self._voice.progress(reading.payer, end)

    def _put_block(self, desk: Desk, reading: Reading, shelf: Shelf, logits: Logits) -> None:
        """Hand the block that ends here to the store, unless it has it."""
        piece = shelf.missing(reading.computed)
        if piece is not None and piece.end == reading.computed:
            shelf.put(piece, desk.cut_out(piece.start, piece.end), logits, reading.block_seconds)
        reading.block_seconds = 0.0

    def _backfill(self, desk: Desk, shelf: Shelf, piece: Piece) -> int:
        """A block that was computed elsewhere and never written: only its proof is missing."""
        code, logits = desk.replay(piece.end)
        if logits is not None:
            seconds = piece.num_tokens * self._scheduler.prefill_seconds_per_token
            shelf.put(piece, desk.cut_out(piece.start, piece.end), logits, seconds)
        return code
