"""The engine loop: takes thoughts in, runs the step the scheduler picks, and lets them go.

Runs in one thread, which owns the model. Knows neither sockets nor text templates, nor in which lane a thought is
(`lanes.py`). Other threads talk to it through `think`, `cancel` and `stop`.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import replace

from monk.engine.archive import Archive
from monk.engine.client import AdapterUse, FinishReason, ModelUse, ThoughtRequest
from monk.engine.counters import Counters
from monk.engine.lanes import Lanes, RunnerConfig
from monk.engine.model_use import settled
from monk.engine.native import Model
from monk.engine.request import check_request
from monk.engine.scheduler import Scheduler
from monk.engine.sequence import Listener, Sequence
from monk.engine.voice import Deliver, Voice
from monk.errors import EngineFailed, MonkError

__all__ = ["Runner", "RunnerConfig"]


class Runner:
    """`deliver(id, message)` is called from the loop's thread; errors end a stream as Finished does."""

    def __init__(self, model: Model, config: RunnerConfig, deliver: Deliver, archive: Archive | None = None) -> None:
        self._model = model
        self._config = config
        self._deliver = deliver
        self.counters = Counters(progress_at=time.monotonic())
        self._scheduler = Scheduler(model.layout.chunk, config.prefill_slice_seconds, config.decode_share)
        self._voice = Voice(model, self.counters, deliver, self._forget, config.flush_seconds)
        self._lanes = Lanes(model, config, self._scheduler, self._voice, self.counters, archive)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._by_id: dict[str, Sequence] = {}  # of every listener
        self._sequences: dict[Sequence, None] = {}  # in order of arrival
        self._num_arrived = 0
        self._stopping = False

    # --- from other threads

    def think(self, request: ThoughtRequest) -> None:
        self._inbox.put(lambda: self._enqueue(request))

    def cancel(self, thought_id: str) -> None:
        self._inbox.put(lambda: self._cancel(thought_id))
        sequence = self._by_id.get(thought_id)
        if sequence is not None and sequence.lane is not None and sequence.pending > 1:
            self._model.request_abort()  # a prefill chunk of a large model can last half a minute

    def stop(self) -> None:
        """Make `run` return soon: the step under way is aborted, every open thought ends as paused."""
        self._stopping = True
        self._model.request_abort()
        self._inbox.put(lambda: None)

    @property
    def runs_with(self) -> ModelUse:
        """What the model runs with at present."""
        return self._lanes.model_use

    @property
    def wears(self) -> tuple[AdapterUse, ...]:
        """The adapters that the model wears at present."""
        return self._lanes.adapters

    # --- the loop

    def run(self) -> None:
        """Serve until `stop`. Raises only what is a defect; a thought's own failure goes to its stream."""
        while not self._stopping:
            self._read_inbox()
            if not self._stopping:
                self.turn()
        for sequence in list(self._sequences):
            self._voice.end(sequence, "paused")

    def turn(self) -> bool:
        """One step; False if there was nothing to do."""
        self._lanes.admit()
        works = self._lanes.works()
        step = self._scheduler.next_step(works)
        if step is None:
            return False
        started = time.perf_counter()
        native = self.counters.prefill_seconds + self.counters.decode_seconds
        self._lanes.run(step, others_waited=any(work.decodes for work in works))
        native = self.counters.prefill_seconds + self.counters.decode_seconds - native
        self._count_step(time.perf_counter() - started - native)
        self._voice.flush(self._sequences)
        return True

    def _count_step(self, python_seconds: float) -> None:
        self.counters.python_seconds += python_seconds
        self.counters.steps += 1
        self.counters.progress_at = time.monotonic()

    def _read_inbox(self) -> None:
        """Take commands; wait for one if there is nothing else to do."""
        if not self._sequences:
            self._count_seats()
            self.counters.progress_at = time.monotonic()
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get_nowait()()
        self._count_seats()
        if not self._stopping:
            self._model.clear_abort()

    def _count_seats(self) -> None:
        self.counters.active = self._lanes.num_seated
        self.counters.waiting = len(self._lanes.line)

    # --- arrivals and departures

    def _enqueue(self, request: ThoughtRequest) -> None:
        if request.id in self._by_id:
            self._deliver(request.id, EngineFailed(f"thought {request.id} is running already"))
            return
        try:
            request = replace(request, model=settled(request.model, self._config.house, self._config.own))
        except MonkError as error:
            self._deliver(request.id, error)
            return
        twin = next((item for item in self._sequences if item.is_same_as(request)), None)
        if twin is not None:
            self._by_id[request.id] = twin
            self.counters.deduplicated += 1
            if request.priority > twin.request.priority:
                twin.request = replace(twin.request, priority=request.priority)
            self._voice.catch_up(twin, Listener(request.id))
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
        self._sequences[sequence] = None
        self._lanes.enter(sequence)

    def _replay(self, request: ThoughtRequest) -> Sequence:
        """The sequence with text and grammar behind its saved tokens."""
        self._num_arrived += 1
        sequence = Sequence.begin(request, self._num_arrived, time.monotonic())
        sequence.guard = self._model.guard_for(request)
        for token in request.saved:
            sequence.say(token, self._model.piece(token))
        return sequence

    def _finished_by(self, sequence: Sequence) -> FinishReason | None:
        """Why the tokens so far already end the answer."""
        if sequence.text.stopped:
            return "stop"
        was_forced = sequence.part is not None and sequence.part.forced_last
        if sequence.num_answered and self._model.is_end(sequence.tokens[-1]) and not was_forced:
            sequence.text.finish()
            return "stop"
        if sequence.remaining <= 0:
            sequence.text.finish()
            return "length"
        return None

    def _cancel(self, thought_id: str) -> None:
        sequence = self._by_id.get(thought_id)
        if sequence is None:
            return
        listener = next(item for item in sequence.listeners if item.id == thought_id)
        if len(sequence.listeners) > 1:
            del self._by_id[thought_id]
        self._voice.part_with(sequence, listener)

    def _forget(self, sequence: Sequence, keep: bool) -> None:
        """The thought is over, for all who listened."""
        for listener in sequence.listeners:
            del self._by_id[listener.id]
        del self._sequences[sequence]
        if sequence.guard is not None:
            sequence.guard.close()
        self._lanes.leave(sequence, keep=keep)
