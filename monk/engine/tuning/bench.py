"""The trials, made: the model is loaded, contexts are opened as the engine opens them, llama_decode is timed.

Works on arbitrary token ids. One thread; `abort` may come from any.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from monk.engine import memory
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane import LlamaLane
from monk.engine.llama import LlamaModel, last_log_lines
from monk.engine.memory import Plan
from monk.engine.native import ABORTED, DONE, NO_ROOM, Run
from monk.engine.sequence import Tokens
from monk.engine.tuning import size
from monk.engine.tuning.trial import Situation, Trial
from monk.errors import MemoryTooSmall

MOST_RIGS = 3  # open at once
WARM_TOKENS, PROBE_TOKENS = 32, 64
STEP_SECONDS, MOST_STEPS = 0.25, 4  # a step is repeated until so long has passed, so often at most


class OutOfTime(Exception):
    """The trial was cut off."""


class Refused(Exception):
    """The trial cannot be made; says why."""


class Rig:
    """Contexts of one kind: a stream for each thought and one more with the beginning that all can be laid behind."""

    def __init__(self, streams: LlamaLane, forks: LlamaLane | None, num_bytes: int) -> None:
        self.streams, self.forks = streams, forks
        self.num_bytes = num_bytes
        self.base = streams.num_sequences - 1
        self.held: dict[tuple[LlamaLane, int], int] = {}  # tokens, where they are known
        self.is_built = False

    @property
    def width(self) -> int:
        return self.base


class Bench:
    """Raises ModelUnusable or MemoryTooSmall when the model cannot be loaded at all."""

    def __init__(
        self, config: EngineConfig, file: GgufFile, available_bytes: int, on_progress: Callable[[], None]
    ) -> None:
        self._config = replace(config, speculation="off", kv_folder=None)
        self._file = file
        self._available_bytes = available_bytes
        plan = memory.fit(file, replace(self._config, slots=1, context=256, ubatch=PROBE_TOKENS), available_bytes)
        self._model = LlamaModel(self._config, plan, on_progress)
        self._situation: Situation | None = None
        self._rigs: dict[tuple[bool, str, str], Rig] = {}
        random = np.random.default_rng(0)  # any text will do; of a mixture it should meet all experts
        self._tokens: Tokens = random.integers(0, self._model.vocab_size, 16384, dtype=np.int32)

    def abort(self) -> None:
        """End the call under way, and every one after it. From any thread."""
        self._model.request_abort()

    def probe(self) -> float:
        """Prompt tokens per second, after a first call that has brought the weights in. Raises OutOfTime."""
        lane = self._model.streams
        self._timed(lane, [Run(0, 0, self._tokens[:WARM_TOKENS])])
        seconds = self._timed(lane, [Run(0, WARM_TOKENS, self._tokens[:PROBE_TOKENS])])
        lane.clear(0)
        return PROBE_TOKENS / seconds

    def face(self, situation: Situation) -> None:
        """What trials are to come."""
        self._situation = situation

    def measure(self, trial: Trial) -> float:
        """Seconds of a call. Raises Refused, OutOfTime."""
        rig = self._rig(trial)
        lane = rig.streams if trial.phase != "shared" else rig.forks
        if lane is None:
            raise Refused("there is no room for a context whose thoughts share a beginning")
        lane.use_threads(trial.threads)
        if not rig.is_built and trial.depth:
            self._build(rig)
        if trial.phase == "prompt":
            return self._prompt(rig, trial)
        if trial.phase == "copy":
            return self._copy(rig, trial)
        if trial.rows > (rig.width if lane is rig.streams else lane.num_sequences - 1):
            raise Refused(f"there is room for {rig.width} thoughts at once")
        first = 0 if lane is rig.streams else 1
        return self._steps(rig, lane, range(first, first + trial.rows), trial.depth)

    def close(self) -> None:
        self._model.close()

    # --- the trials

    def _prompt(self, rig: Rig, trial: Trial) -> float:
        self._lay(rig, rig.streams, 0, trial.depth, fresh=True)
        if trial.depth:  # a copy between streams is made by the next call
            self._timed(rig.streams, [self._next(rig, rig.streams, 0, 1)])
        seconds = self._timed(rig.streams, [self._next(rig, rig.streams, 0, trial.rows)])
        rig.held.pop((rig.streams, 0))
        return seconds

    def _steps(self, rig: Rig, lane: LlamaLane, slots: range, depth: int) -> float:
        """The fastest of a few; the first one copies, and gets its buffers."""
        seconds: list[float] = []
        for slot in slots:
            self._lay(rig, lane, slot, depth)
        while len(seconds) < 2 or (len(seconds) <= MOST_STEPS and sum(seconds) < STEP_SECONDS):
            seconds.append(self._timed(lane, [self._next(rig, lane, slot, 1) for slot in slots]))
        return min(seconds[1:])

    def _copy(self, rig: Rig, trial: Trial) -> float:
        began = time.perf_counter()
        for slot in range(trial.rows):
            self._lay(rig, rig.streams, slot, trial.depth, fresh=True)
        self._timed(rig.streams, [self._next(rig, rig.streams, 0, 1)])
        return time.perf_counter() - began

    def _lay(self, rig: Rig, lane: LlamaLane, slot: int, depth: int, *, fresh: bool = False) -> None:
        """Have the sequence hold `depth` tokens, or with `fresh` false a few more."""
        held = rig.held.get((lane, slot), -1)
        if not fresh and depth <= held <= depth + size.SLACK - MOST_STEPS - 1:
            return
        lane.clear(slot)
        if depth:
            lane.copy(rig.base if lane is rig.streams else 0, slot)
        rig.held[lane, slot] = depth

    def _next(self, rig: Rig, lane: LlamaLane, slot: int, count: int, outputs: int = 1) -> Run:
        start = rig.held[lane, slot]
        rig.held[lane, slot] = start + count
        place = (start + 37 * slot) % (len(self._tokens) - count)
        return Run(slot, start, self._tokens[place : place + count], outputs)

    def _timed(self, lane: LlamaLane, runs: list[Run]) -> float:
        began = time.perf_counter()
        code = lane.decode(runs, "prefill")
        outputs = sum(run.outputs for run in runs)
        if code == DONE and outputs:
            lane.logits(outputs)
        seconds = time.perf_counter() - began
        if code == ABORTED:
            raise OutOfTime
        if code != DONE:
            raise Refused("the context is full" if code == NO_ROOM else f"llama_decode says {code}")
        return seconds

    # --- contexts

    def _rig(self, trial: Trial) -> Rig:
        kind = (trial.flash, trial.type_k, trial.type_v)
        rig = self._rigs.pop(kind, None)
        if rig is None:
            while len(self._rigs) >= MOST_RIGS:
                self._close_oldest()
            rig = self._open(kind)
        self._rigs[kind] = rig  # the newest last
        return rig

    def _open(self, kind: tuple[bool, str, str]) -> Rig:
        """As wide as there is room for; rigs used longest ago make room for the widest step that runs now."""
        assert self._situation is not None
        widest, needed = size.widest(self._situation), self._situation.now.width
        while True:
            refusal: MemoryTooSmall | None = None
            for width in sorted({widest, needed, *(w for w in self._situation.widths if w >= needed)}, reverse=True):
                try:
                    return self._opened(kind, width)
                except MemoryTooSmall as error:
                    refusal = error
            if not self._rigs:
                raise Refused(str(refusal))
            self._close_oldest()

    def _opened(self, kind: tuple[bool, str, str], width: int) -> Rig:
        config, plan = self._planned(kind, width)
        streams = self._model.open_lane_under(config, plan, "stream")
        if streams is None:
            raise Refused(f"llama.cpp opens no such context: {last_log_lines()}")
        forks = None
        if self._situation is not None and self._situation.forks and not kind[0]:
            forks = self._model.open_lane_under(config, plan, "fork")
        taken = [plan.lanes[name].total_bytes for name, lane in (("stream", streams), ("fork", forks)) if lane]
        return Rig(streams, forks, sum(taken))

    def _planned(self, kind: tuple[bool, str, str], width: int) -> tuple[EngineConfig, Plan]:
        assert self._situation is not None
        flash, type_k, type_v = kind
        config = replace(
            self._config,
            slots=width + 1,
            context=size.reach(self._situation),
            ubatch=max(size.longest_call(self._situation), 16),
            flash_attention="on" if flash else "off",
            kv_type_k=type_k,  # type: ignore[arg-type]
            kv_type_v=type_v,  # type: ignore[arg-type]
        )
        return config, memory.fit(
            self._file, config, self._available_bytes - sum(r.num_bytes for r in self._rigs.values())
        )

    def _close_oldest(self) -> None:
        rig = self._rigs.pop(next(iter(self._rigs)))
        for lane in (rig.streams, rig.forks):
            if lane is not None:
                self._model.close_lane(lane)

    def _build(self, rig: Rig) -> None:
        """Compute the beginning that the trials stand behind, once."""
        assert self._situation is not None
        depth, piece = self._situation.depth, self._situation.piece
        for start in range(0, depth, piece):
            run = Run(rig.base, start, self._tokens[start : min(start + piece, depth)])
            self._timed(rig.streams, [run])
        if rig.forks is not None and not rig.forks.restore(0, rig.streams.save(rig.base)):
            self._model.close_lane(rig.forks)
            rig.forks = None
        rig.is_built = True
