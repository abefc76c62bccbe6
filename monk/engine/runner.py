"""The engine loop: admits thoughts, runs the step the scheduler picks, samples, and hands out what came.

Runs in one thread, which owns the model. Knows neither sockets nor text templates. Other threads talk to it through
`think`, `cancel` and `stop`.

    waiting ──admit──▶ slot: prefill ──▶ decode ──▶ Finished
                          └ or waits for a neighbour that computes the same beginning, and copies it
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from monk.engine import sampler
from monk.engine.client import FinishReason, Message, NewTokens, PrefillProgress, ThoughtRequest
from monk.engine.request import check_request
from monk.engine.scheduler import Decode, Prefill, Scheduler, SlotView, Work, compaction, least_shared_tokens, place
from monk.engine.sequence import Guard, Sequence
from monk.errors import EngineFailed, MonkError

log = logging.getLogger(__name__)

DONE, NO_ROOM, ABORTED = 0, 1, 2  # llama_decode's codes; below zero: the batch was refused

Logits = npt.NDArray[np.float32]


class Model(Protocol):
    """What the loop needs of a model; `llama.py` has the real one."""

    vocab_size: int
    context: int
    can_trim: bool

    def decode_chunk(self, slot: int, start: int, tokens: npt.NDArray[np.int32], *, wants_logits: bool) -> int: ...
    def decode_rows(self, slots: list[int], positions: list[int], tokens: list[int]) -> int: ...
    def logits(self, rows: int) -> Logits: ...
    def num_computed(self, slot: int) -> int: ...
    def trim(self, slot: int, length: int) -> bool: ...
    def clear(self, slot: int) -> None: ...
    def copy(self, source: int, target: int) -> None: ...
    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    def guard_for(self, request: ThoughtRequest) -> Guard | None: ...
    def request_abort(self) -> None: ...
    def clear_abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """The engine's settings after all choices were made."""

    context: int
    slots: int
    chunk: int
    weight_bytes: int
    stream_bytes: int
    prefill_slice_seconds: float = 1.0
    decode_share: float = 0.25
    flush_seconds: float = 0.1
    share_prefixes: bool = True


@dataclass(slots=True)
class Slot:
    """A stretch of KV and what it holds. After its owner is gone, `tokens` stay until somebody needs the slot."""

    number: int
    owner: Sequence | None = None
    tokens: npt.NDArray[np.int32] = None  # type: ignore[assignment]  # set below: dataclasses refuse arrays as defaults
    last_used: int = 0

    def __post_init__(self) -> None:
        self.tokens = np.zeros(0, np.int32)


@dataclass(slots=True)
class Counters:
    """Totals since the start; read by other threads, written by the loop only."""

    active: int = 0
    waiting: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    shared_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    python_seconds: float = 0.0  # of the steps, outside llama_decode
    steps: int = 0
    in_step: bool = False
    progress_at: float = 0.0  # monotonic end of the last step


Deliver = Callable[[str, Message | MonkError], None]


class Runner:
    """`deliver(id, message)` is called from the loop's thread; errors end a stream as Finished does."""

    def __init__(self, model: Model, config: RunnerConfig, deliver: Deliver) -> None:
        self._model = model
        self._config = config
        self._deliver = deliver
        self._scheduler = Scheduler(config.chunk, config.prefill_slice_seconds, config.decode_share)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._slots = [Slot(number) for number in range(config.slots)]
        self._waiting: deque[Sequence] = deque()
        self._by_id: dict[str, Sequence] = {}
        self._order: dict[str, int] = {}
        self._num_admitted = 0
        self._flushed_at = 0.0
        self._stopping = False
        self.counters = Counters(progress_at=time.monotonic())

    # --- from other threads

    def think(self, request: ThoughtRequest) -> None:
        self._inbox.put(lambda: self._enqueue(request))

    def cancel(self, thought_id: str) -> None:
        self._inbox.put(lambda: self._mark_cancelled(thought_id))
        sequence = self._by_id.get(thought_id)
        if sequence is not None and sequence.slot >= 0 and sequence.pending > 1:
            self._model.request_abort()  # a prefill chunk of a large model can last half a minute

    def stop(self) -> None:
        """Make `run` return soon: the step under way is aborted, every open thought ends as paused."""
        self._stopping = True
        self._model.request_abort()
        self._inbox.put(lambda: None)

    # --- the loop

    def run(self) -> None:
        """Serve until `stop`. Raises only what is a defect; a thought's own failure goes to its stream."""
        while not self._stopping:
            self._read_inbox()
            if not self._stopping:
                self.turn()
        self._pause_all()

    def turn(self) -> bool:
        """One step; False if there was nothing to do."""
        self._drop_cancelled()
        self._admit()
        self._take_shared()
        self._close_gap()
        step = self._scheduler.next_step(self._works())
        if step is None:
            return False
        started = time.perf_counter()
        native = self.counters.prefill_seconds + self.counters.decode_seconds
        if isinstance(step, Prefill):
            self._prefill(step)
        else:
            self._decode(step)
        native = self.counters.prefill_seconds + self.counters.decode_seconds - native
        self._count_step(time.perf_counter() - started - native)
        self._flush(force=False)
        return True

    def _count_step(self, python_seconds: float) -> None:
        self.counters.python_seconds += python_seconds
        self.counters.steps += 1
        self.counters.progress_at = time.monotonic()

    def _read_inbox(self) -> None:
        """Take commands; wait for one if there is nothing else to do."""
        idle = not self._waiting and all(slot.owner is None for slot in self._slots)
        if idle:
            self._count_seats()
            self.counters.progress_at = time.monotonic()
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get_nowait()()
        self._count_seats()
        if not self._stopping:
            self._model.clear_abort()

    # --- arrivals and departures

    def _enqueue(self, request: ThoughtRequest) -> None:
        if request.id in self._by_id:
            self._deliver(request.id, EngineFailed(f"thought {request.id} is running already"))
            return
        try:
            check_request(request, self._model.vocab_size, self._config.context)
            sequence = self._replay(request)
        except MonkError as error:
            self._deliver(request.id, error)
            return
        reason = self._finished_by(sequence)
        if reason is not None:
            self._deliver(request.id, sequence.finished(reason))
            return
        self._by_id[request.id] = sequence
        self._waiting.append(sequence)

    def _replay(self, request: ThoughtRequest) -> Sequence:
        """The sequence with text and grammar behind its saved tokens."""
        sequence = Sequence.begin(request)
        sequence.guard = self._model.guard_for(request)
        for token in request.saved:
            sequence.text.push(self._model.piece(token))
            if sequence.guard is not None:
                sequence.guard.accept(token)
        return sequence

    def _finished_by(self, sequence: Sequence) -> FinishReason | None:
        """Why the tokens so far already end the answer."""
        if sequence.text.stopped:
            return "stop"
        if sequence.num_answered and self._model.is_end(sequence.tokens[-1]):
            sequence.text.finish()
            return "stop"
        if sequence.remaining <= 0:
            sequence.text.finish()
            return "length"
        return None

    def _mark_cancelled(self, thought_id: str) -> None:
        sequence = self._by_id.get(thought_id)
        if sequence is not None:
            sequence.cancelled = True

    def _drop_cancelled(self) -> None:
        for sequence in [item for item in self._by_id.values() if item.cancelled]:
            self._end(sequence, "cancelled")

    def _pause_all(self) -> None:
        for sequence in list(self._by_id.values()):
            self._end(sequence, "cancelled" if sequence.cancelled else "paused")
        self._flush(force=True)

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        rest = sequence.text.finish() if reason in ("stop", "length", "cancelled") else ""
        if rest:
            sequence.unsent_text.append(rest)
        self._send_tokens(sequence)
        self._deliver(sequence.id, sequence.finished(reason))
        self._forget(sequence)

    def _fail(self, sequence: Sequence, error: MonkError) -> None:
        self._send_tokens(sequence)
        self._deliver(sequence.id, error)
        if sequence.slot >= 0:
            self._model.clear(sequence.slot)
            sequence.computed = 0
        self._forget(sequence)

    def _forget(self, sequence: Sequence) -> None:
        del self._by_id[sequence.id]
        if sequence.guard is not None:
            sequence.guard.close()
        if sequence.slot < 0:
            self._waiting.remove(sequence)
            return
        self._release_followers(sequence)
        slot = self._slots[sequence.slot]
        slot.tokens = np.asarray(sequence.tokens[: sequence.computed], np.int32)
        slot.owner = None
        self._num_admitted += 1
        slot.last_used = self._num_admitted
        self._order.pop(sequence.id, None)

    # --- slots

    def _admit(self) -> None:
        """Give free slots to waiting thoughts, in order of arrival."""
        while self._waiting and any(slot.owner is None for slot in self._slots):
            self._seat(self._waiting.popleft())
        self._count_seats()

    def _count_seats(self) -> None:
        self.counters.active = sum(slot.owner is not None for slot in self._slots)
        self.counters.waiting = len(self._waiting)

    def _seat(self, sequence: Sequence) -> None:
        tokens = np.asarray(sequence.tokens, np.int32)
        least = least_shared_tokens(self._config.stream_bytes, self._scheduler.prefill_seconds_per_token)
        views = [self._view(slot) for slot in self._slots]
        seat = place(tokens, views, can_trim=self._model.can_trim, least_shared=least)
        assert seat is not None, "a free slot was seen a moment ago"
        slot = self._slots[seat.slot]
        slot.owner, slot.tokens = sequence, tokens
        sequence.slot = seat.slot
        sequence.computed = self._keep(seat.slot, seat.kept)
        if seat.source is not None:
            sequence.source, sequence.shared = self._origin(seat.source, seat.shared), seat.shared
        self.counters.shared_tokens += sequence.computed
        self._num_admitted += 1
        self._order[sequence.id] = self._num_admitted

    def _origin(self, number: int, shared: int) -> Sequence | None:
        """Who really computes the beginning that the slot holds: the first of those who wait for each other."""
        source = self._slots[number].owner
        while source is not None and source.source is not None and source.shared >= shared:
            source = source.source
        return source

    def _view(self, slot: Slot) -> SlotView:
        known = slot.tokens if self._config.share_prefixes else slot.tokens[:0]
        if slot.owner is None:
            return SlotView(slot.number, True, known, len(known), slot.last_used)
        return SlotView(slot.number, False, known, slot.owner.computed)

    def _keep(self, number: int, kept: int) -> int:
        """Cut the slot's KV back to `kept` tokens; returns how many are really left."""
        held = self._model.num_computed(number) if kept else 0
        if kept and (held == kept or (held > kept and self._model.trim(number, kept))):
            return kept
        self._model.clear(number)
        return 0

    def _take_shared(self) -> None:
        """Copy beginnings that have become complete."""
        for slot in self._slots:
            follower = slot.owner
            if follower is None or follower.source is None or not self._model.can_trim:
                continue
            if follower.source.computed >= min(follower.shared, len(follower.tokens) - 1):
                self._copy_beginning(follower)

    def _copy_beginning(self, follower: Sequence) -> None:
        """Copy what the source has of the shared beginning, and follow it no longer."""
        source = follower.source
        assert source is not None
        length = min(follower.shared, source.computed, len(follower.tokens) - 1)
        follower.source = None
        if length <= 0:
            return
        self._model.copy(source.slot, follower.slot)
        follower.computed = self._keep(follower.slot, length)
        self.counters.shared_tokens += follower.computed

    def _release_followers(self, source: Sequence) -> None:
        """The source leaves: its followers take what is there, or start on their own."""
        for follower in self._followers(source):
            if self._model.can_trim:
                self._copy_beginning(follower)
            follower.source = None

    def _followers(self, source: Sequence) -> list[Sequence]:
        return [slot.owner for slot in self._slots if slot.owner is not None and slot.owner.source is source]

    def _close_gap(self) -> None:
        """Move the last thought into a gap when nobody waits for the slot: each gap costs a pass over the weights."""
        if self._waiting:
            return
        active = [(slot.number, slot.owner.remaining) for slot in self._slots if slot.owner is not None]
        move = compaction(active, weight_bytes=self._config.weight_bytes, stream_bytes=self._config.stream_bytes)
        if move is None:
            return
        origin, target = self._slots[move[0]], self._slots[move[1]]
        sequence = origin.owner
        assert sequence is not None
        if sequence.computed:
            self._model.copy(origin.number, target.number)
        else:
            self._model.clear(target.number)
        target.owner, target.tokens, sequence.slot = sequence, origin.tokens, target.number
        origin.owner, origin.tokens = None, origin.tokens[:0]
        self._model.clear(origin.number)

    def _works(self) -> list[Work]:
        return [
            Work(slot.number, self._order[owner.id], owner.pending, blocked=owner.source is not None)
            for slot in self._slots
            if (owner := slot.owner) is not None
        ]

    # --- prefill

    def _prefill(self, step: Prefill) -> None:
        sequence = self._slots[step.slot].owner
        assert sequence is not None
        start = sequence.computed
        count = step.num_tokens
        last = count == sequence.pending
        chunk = np.asarray(sequence.tokens[start : start + count], np.int32)
        others_wait = any(work.pending == 1 and not work.blocked for work in self._works())
        code, seconds = self._timed(lambda: self._model.decode_chunk(step.slot, start, chunk, wants_logits=last))
        self.counters.prefill_seconds += seconds
        sequence.prefill_seconds += seconds
        if code != DONE:
            self._recover([sequence], code)
            return
        self._scheduler.did_prefill(count, seconds, others_waited=others_wait)
        self.counters.prefill_tokens += count
        sequence.num_prefilled += count
        sequence.computed += count
        self._deliver(sequence.id, PrefillProgress(min(sequence.computed, sequence.target), sequence.target))
        if last:
            self._finish_prefill(sequence, self._model.logits(1))

    def _finish_prefill(self, sequence: Sequence, logits: Logits) -> None:
        """Draw the first token, for followers with the very same tokens too."""
        twins = [item for item in self._followers(sequence) if item.shared == sequence.computed]
        for twin in twins:
            self._model.copy(sequence.slot, twin.slot)
            twin.source = None
            twin.computed = sequence.computed
            self.counters.shared_tokens += twin.computed
        logits = logits.copy()  # [1, vocab]; the next call overwrites the original
        ready = [twin for twin in twins if twin.pending == 0]
        self._draw([sequence, *ready], np.repeat(logits, 1 + len(ready), axis=0))

    # --- decode

    def _decode(self, step: Decode) -> None:
        sequences = [owner for slot in step.slots if (owner := self._slots[slot].owner) is not None]
        code = self._run_rows(sequences)
        if code != DONE:
            self._recover(sequences, code)
            return
        for sequence in sequences:
            sequence.computed += 1
        self._draw(sequences, self._model.logits(len(sequences)))

    def _run_rows(self, sequences: list[Sequence]) -> int:
        """Compute the last token of each; the wall time is divided evenly."""
        slots = [item.slot for item in sequences]
        positions = [item.computed for item in sequences]
        tokens = [item.tokens[-1] for item in sequences]
        code, seconds = self._timed(lambda: self._model.decode_rows(slots, positions, tokens))
        self.counters.decode_seconds += seconds
        self._scheduler.did_decode(seconds)
        for sequence in sequences:
            sequence.decode_seconds += seconds / len(sequences)
        return code

    def _timed(self, call: Callable[[], int]) -> tuple[int, float]:
        self.counters.in_step = True
        started = time.perf_counter()
        try:
            return call(), time.perf_counter() - started
        finally:
            self.counters.in_step = False

    def _recover(self, sequences: list[Sequence], code: int) -> None:
        """After a step that did not end well: put KV and bookkeeping back in step, and single out who cannot go on."""
        for sequence in sequences:
            self._resync(sequence)
        if code == ABORTED:
            return
        if len(sequences) > 1:
            for sequence in sequences:
                self._decode_alone(sequence)
            return
        error = EngineFailed(f"llama.cpp refused a batch (code {code}); the thought cannot go on", return_code=code)
        self._fail(sequences[0], error)

    def _decode_alone(self, sequence: Sequence) -> None:
        if sequence.pending != 1:
            return  # its memory had to be dropped; it is prefilled again
        code = self._run_rows([sequence])
        if code != DONE:
            self._recover([sequence], code)
            return
        sequence.computed += 1
        self._draw([sequence], self._model.logits(1))

    def _resync(self, sequence: Sequence) -> None:
        """Make the slot hold exactly `computed` tokens again; if that is impossible, none."""
        held = self._model.num_computed(sequence.slot)
        if held == sequence.computed:
            return
        if self._model.can_trim and held > sequence.computed and self._model.trim(sequence.slot, sequence.computed):
            return
        self._model.clear(sequence.slot)
        sequence.computed = 0

    # --- tokens

    def _draw(self, sequences: list[Sequence], logits: Logits) -> None:
        """One new token for each sequence from its row of logits: [sequences, vocab]."""
        plain = [row for row, item in enumerate(sequences) if sampler.is_plain_greedy(item.request.sampling)]
        likeliest = sampler.greedy(logits if len(plain) == len(sequences) else logits[plain]) if plain else []
        chosen = dict(zip(plain, likeliest, strict=True))
        for row, sequence in enumerate(sequences):
            token = chosen.get(row)
            try:
                choice = sampler.Choice(token) if token is not None else self._choose(sequence, logits[row])
                if choice is not None:
                    self._append(sequence, choice)
            except MonkError as error:
                self._fail(sequence, error)

    def _choose(self, sequence: Sequence, logits: Logits) -> sampler.Choice | None:
        """A drawn token; None if the thought ended instead."""
        sampling = sequence.request.sampling
        recent = sequence.tokens[-sampling.repeat_last_n :] if sampling.repeat_last_n > 0 else []
        try:
            return sampler.choose(logits, sampling, recent, sequence.num_answered, sequence.guard)
        except sampler.NothingAllowed:
            self._end(sequence, "stop")
        return None

    def _append(self, sequence: Sequence, choice: sampler.Choice) -> None:
        if self._model.is_end(choice.token):
            self._end(sequence, "stop")
            return
        if sequence.guard is not None:
            sequence.guard.accept(choice.token)
        sequence.tokens.append(choice.token)
        sequence.num_decoded += 1
        self.counters.decode_tokens += 1
        sequence.unsent_ids.append(choice.token)
        sequence.unsent_text.append(sequence.text.push(self._model.piece(choice.token)))
        if choice.logprob is not None:
            sequence.unsent_logprobs.append(choice.logprob)
        if sequence.text.stopped:
            self._end(sequence, "stop")
        elif sequence.remaining <= 0:
            self._end(sequence, "length")

    def _flush(self, *, force: bool) -> None:
        now = time.monotonic()
        if not force and now - self._flushed_at < self._config.flush_seconds:
            return
        self._flushed_at = now
        for sequence in self._by_id.values():
            self._send_tokens(sequence)

    def _send_tokens(self, sequence: Sequence) -> None:
        text = "".join(sequence.unsent_text)
        if not sequence.unsent_ids and not text:
            return
        self._deliver(sequence.id, NewTokens(tuple(sequence.unsent_ids), text, tuple(sequence.unsent_logprobs)))
        sequence.unsent_ids, sequence.unsent_text, sequence.unsent_logprobs = [], [], []
