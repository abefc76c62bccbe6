"""The prefill lane: long prompts, computed one after the other in a context of their own, and kept block by block.

    reading ──▶ what is there already: in this lane, in a slot, on disk ──▶ proved ──▶ chunks ──▶ handed over
                                                                             └ each whole block goes to the store

Sequence 0 holds the prompt. Sequence 1 is a scratch: llama.cpp writes and reads whole sequences, so a block is cut out by
giving the scratch its cells, which in one memory for all copies nothing. A killed process has lost the block it was in,
not the hours before. A restored block must prove itself before anything stands on it: its last token is computed again
beside it, and the logits compared with those it had when it was written. Its own cells stay untouched, so what follows
is computed from the very bits of the first time.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monk.engine.archive import Archive
from monk.engine.counters import Counters
from monk.engine.frames import Image
from monk.engine.kv_store import Block
from monk.engine.native import ABORTED, DONE, Lane, Logits, Run
from monk.engine.scheduler import Prefill, Scheduler, Work
from monk.engine.sequence import Sequence, Tokens, common_prefix
from monk.engine.shelf import Shelf, is_proved
from monk.engine.streams import Streams
from monk.engine.voice import Voice

log = logging.getLogger(__name__)

PROMPT, SCRATCH = 0, 1


@dataclass(slots=True, eq=False)
class Reading:
    """Tokens to be computed. `payer`: the thought whose account it goes to; `wants_logits`: of the last token.

    `done(image, logits)` is called at the end, with None for both if it cannot be computed here.
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

    @property
    def last_reusable(self) -> int:
        """How many tokens may be taken over: for its logits the last one must be computed."""
        return len(self.tokens) - 1 if self.wants_logits else len(self.tokens)


class Study:
    """One thread. The lane is opened for the first reading."""

    def __init__(
        self,
        open_lane: Callable[[], Lane | None],
        archive: Archive | None,
        streams: Streams,
        scheduler: Scheduler,
        voice: Voice,
        counters: Counters,
    ) -> None:
        self._open_lane = open_lane
        self._lane: Lane | None = None
        self._archive = archive
        self._streams = streams
        self._scheduler = scheduler
        self._voice = voice
        self._counters = counters
        self._readings: list[Reading] = []
        self._held: Tokens = np.zeros(0, np.int32)  # what sequence 0 has
        self._given: OrderedDict[str, None] = OrderedDict()
        self.is_closed = False

    # --- the line

    def open(self) -> bool:
        """Have the lane ready; False if there is no room for it."""
        if self._lane is None and not self.is_closed:
            self._lane = self._open_lane()
            self.is_closed = self._lane is None
        return self._lane is not None

    def ask(self, reading: Reading) -> None:
        self._readings.append(reading)

    def drop(self, payer: Sequence) -> None:
        """Whoever paid has left. What was computed stays for the next."""
        self._readings = [reading for reading in self._readings if reading.payer is not payer]

    def forget(self) -> None:
        """The model wears something else. Nothing may be waiting to be read."""
        assert not self._readings, "a prompt would be read half by one model and half by another"
        self._held = self._held[:0]
        if self._lane is not None:
            self._lane.clear(PROMPT)

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
        self._counters.prefill_seconds += seconds
        reading.payer.prefill_seconds += seconds
        self._scheduler.did_prefill(num_tokens, seconds, others_waited=others_waited, lane="study")
        if code not in (DONE, ABORTED):
            log.error("the prefill lane refused a batch", extra={"code": code, "thought_id": reading.payer.id})
            self._finish(reading, None, None)

    def _advance(self, reading: Reading, most: int) -> tuple[int, int]:
        """(llama_decode's code, prompt tokens computed)"""
        assert self._lane is not None
        if not reading.begun:
            self._begin(self._lane, reading)
            return DONE, 0
        if reading.restoring:
            return self._restore_block(self._lane, reading), 0
        shelf = reading.shelf
        if shelf is not None and (start := shelf.missing_start(reading.computed)) is not None:
            return self._backfill(self._lane, reading, shelf, start), 0
        if reading.computed >= len(reading.tokens):  # a beginning that was there to its last token
            self._finish(reading, self._lane.save(PROMPT), None)
            return DONE, 0
        return self._compute_chunk(self._lane, reading, most)

    # --- what is there already

    def _begin(self, lane: Lane, reading: Reading) -> None:
        """Take over the longest beginning that this lane, a slot or the store has."""
        reading.begun = True
        if self._archive is not None:
            reading.shelf = Shelf(self._archive, reading.tokens, self._given)
        stored = reading.shelf.stored_tokens if reading.shelf is not None else 0
        here = common_prefix(reading.tokens, self._held)
        slot, there = self._streams.longest_held(reading.tokens)
        if there > max(here, stored):
            here = self._fetch_from_slot(lane, reading, slot, there)
        reading.computed = min(here, reading.last_reusable)
        self._counters.shared_tokens += reading.computed
        self._cut(lane, reading)
        reading.restoring = stored > reading.computed

    def _fetch_from_slot(self, lane: Lane, reading: Reading, slot: int, length: int) -> int:
        image = self._streams.image_of(slot)
        lane.clear(PROMPT)
        self._held = self._held[:0]
        if not lane.restore(PROMPT, image):
            return 0
        self._held = reading.tokens[:length]
        return length

    def _cut(self, lane: Lane, reading: Reading) -> None:
        """Make sequence 0 hold exactly what the reading has computed, or nothing."""
        held = lane.num_computed(PROMPT)
        if held != reading.computed and (held < reading.computed or not lane.trim(PROMPT, reading.computed)):
            reading.computed = 0
        if not reading.computed:
            lane.clear(PROMPT)
        self._held = reading.tokens[: reading.computed]

    def _restore_block(self, lane: Lane, reading: Reading) -> int:
        """The next block from the store, if it proves itself; else the rest is computed."""
        assert reading.shelf is not None
        started_at = time.perf_counter()
        start = reading.shelf.next_boundary(reading.computed) - self._block_tokens
        block = reading.shelf.fetch(start)
        if block is None:
            reading.restoring = False
            return DONE
        before, reading.computed = reading.computed, start
        self._cut(lane, reading)
        if not self._paste(lane, block):
            return self._reject(lane, reading, start, "llama.cpp does not take it")
        reading.computed = end = start + block.num_tokens
        self._held = reading.tokens[:end]
        if lane.num_computed(PROMPT) != end:
            return self._reject(lane, reading, start, "it holds other positions")
        code, logits = self._replay(lane, reading.tokens, end)
        if logits is None:
            reading.computed = start
            self._cut(lane, reading)
            return code  # fetched again after an interruption
        if not is_proved(block.proof, logits):
            return self._reject(lane, reading, start, "the model says something else behind it")
        reading.shelf.used(start, max(0.0, block.seconds - (time.perf_counter() - started_at)))
        self._accept(lane, reading, before)
        return DONE

    def _paste(self, lane: Lane, block: Block) -> bool:
        """Put the block's KV behind what sequence 0 holds."""
        try:
            image = Image.of(block.payload)
        except ValueError:
            return False
        if not lane.restore(SCRATCH, image):
            return False
        lane.copy(SCRATCH, PROMPT)
        lane.clear(SCRATCH)
        return True

    def _accept(self, lane: Lane, reading: Reading, before: int) -> None:
        assert reading.shelf is not None
        reading.restoring = reading.computed < reading.shelf.stored_tokens
        if reading.computed > reading.last_reusable:
            reading.computed = reading.last_reusable
            self._cut(lane, reading)
        self._counters.shared_tokens += reading.computed - before
        self._voice.progress(reading.payer, reading.computed)

    def _reject(self, lane: Lane, reading: Reading, start: int, reason: str) -> int:
        """Trust neither this block nor what stands on it; what was proved before it stays."""
        assert reading.shelf is not None
        log.warning("kv block failed its proof and is deleted", extra={"start": start, "reason": reason})
        reading.shelf.distrust(start)
        lane.clear(SCRATCH)
        reading.restoring = False
        reading.computed = min(start, reading.last_reusable)
        self._cut(lane, reading)
        return DONE

    # --- computing

    def _compute_chunk(self, lane: Lane, reading: Reading, most: int) -> tuple[int, int]:
        start = reading.computed
        end = min(len(reading.tokens), start + min(most, lane.most_tokens))
        boundary = None
        if reading.shelf is not None:
            boundary = reading.shelf.next_boundary(start)
            end = min(end, boundary)
        is_last = end == len(reading.tokens)
        run = Run(PROMPT, start, reading.tokens[start:end], int(end == boundary or (is_last and reading.wants_logits)))
        started_at = time.perf_counter()
        code = lane.decode([run], "prefill")
        if code != DONE:
            self._cut(lane, reading)
            return code, 0
        self._note_computed(reading, end, time.perf_counter() - started_at)
        logits = lane.logits(1).copy() if run.outputs else None
        if end == boundary and logits is not None:
            self._put_block(lane, reading, end, logits[0])
        if is_last:
            self._finish(reading, lane.save(PROMPT), logits)
        return DONE, end - start

    def _note_computed(self, reading: Reading, end: int, seconds: float) -> None:
        count = end - reading.computed
        reading.computed = end
        reading.block_seconds += seconds
        reading.payer.num_prefilled += count
        self._counters.prefill_tokens += count
        self._held = reading.tokens[:end]
        self._voice.progress(reading.payer, end)

    def _put_block(self, lane: Lane, reading: Reading, end: int, logits: Logits) -> None:
        """Hand the block that ends here to the store, unless it has it."""
        shelf = reading.shelf
        assert shelf is not None
        if shelf.missing_start(end) == end - self._block_tokens:
            shelf.put(end - self._block_tokens, self._cut_out(lane, end), logits, reading.block_seconds)
        reading.block_seconds = 0.0

    def _cut_out(self, lane: Lane, end: int) -> Image:
        lane.copy(PROMPT, SCRATCH, end - self._block_tokens, end)
        image = lane.save(SCRATCH)
        lane.clear(SCRATCH)
        return image

    def _backfill(self, lane: Lane, reading: Reading, shelf: Shelf, start: int) -> int:
        """A block that was computed elsewhere and never written: only its proof is missing."""
        end = start + self._block_tokens
        code, logits = self._replay(lane, reading.tokens, end)
        if logits is not None:
            seconds = self._block_tokens * self._scheduler.prefill_seconds_per_token
            shelf.put(start, self._cut_out(lane, end), logits, seconds)
        return code

    def _replay(self, lane: Lane, tokens: Tokens, end: int) -> tuple[int, Logits | None]:
        """Logits [vocab] of token end-1, computed anew in the scratch beside sequence 0, which stays as it is."""
        lane.copy(PROMPT, SCRATCH, 0, end - 1)
        code = lane.decode([Run(SCRATCH, end - 1, tokens[end - 1 : end])], "decode")
        logits = lane.logits(1)[0].copy() if code == DONE else None
        lane.clear(SCRATCH)
        return code, logits

    @property
    def _block_tokens(self) -> int:
        assert self._archive is not None
        return self._archive.block_tokens

    def _finish(self, reading: Reading, image: Image | None, logits: Logits | None) -> None:
        self._readings.remove(reading)
        reading.done(image, logits)
