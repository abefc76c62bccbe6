"""The trials, made: the model is loaded, contexts are opened as the engine opens them, llama_decode is timed.

Works on arbitrary token ids. One thread; `abort` may come from any.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np

from monk.engine import memory
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane import LlamaLane
from monk.engine.llama import LlamaModel, last_log_lines
from monk.engine.memory import Plan
from monk.engine.native import ABORTED, DONE, NO_ROOM, LaneKind, Run
from monk.engine.sequence import Tokens
from monk.engine.tuning import size
from monk.engine.tuning.trial import Situation, Trial
from monk.errors import MemoryTooSmall

WARM_TOKENS, PROBE_TOKENS = 32, 64
STEP_SECONDS, MOST_STEPS = 0.4, 12  # a step is repeated until so long has passed, so often at most


class OutOfTime(Exception):
    """The trial was cut off."""


class Refused(Exception):
    """The trial cannot be made; says why."""


class Rig:
    """Lanes with one kind of attention and KV, opened when first needed.

    prompts   sequence 0 holds the beginning, 1 is where prompts are computed behind it
    steps     a sequence for each thought, and a last one that holds the beginning
    forks     sequence 0 holds the beginning, the others go on from it
    """

    def __init__(self) -> None:
        self.prompts: LlamaLane | None = None
        self.steps: LlamaLane | None = None
        self.forks: LlamaLane | None = None
        self.num_bytes: dict[LlamaLane, int] = {}
        self.held: dict[tuple[LlamaLane, int], int] = {}  # tokens of a sequence, where they are known

    @property
    def total_bytes(self) -> int:
        return sum(self.num_bytes.values())

    def forget(self, lane: LlamaLane) -> None:
        self.num_bytes.pop(lane)
        self.held = {place: count for place, count in self.held.items() if place[0] is not lane}


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
        match trial.phase:
            case "prompt":
                return self._prompt(rig, trial)
            case "copy":
                return self._copy(rig, trial)
            case "step":
                lane = self._steps_lane(rig, trial)
                return self._steps(rig, lane, range(trial.rows), lane.num_sequences - 1, trial)
            case "shared":
                return self._steps(rig, self._forks_lane(rig, trial), range(1, trial.rows + 1), 0, trial)

    def close(self) -> None:
        self._model.close()

    # --- the trials

    def _prompt(self, rig: Rig, trial: Trial) -> float:
        lane = self._prompts_lane(rig, trial)
        lane.use_threads(trial.threads)
        self._lay(rig, lane, 1, 0, trial.depth, fresh=True)
        if trial.depth:  # a copy between streams is made by the next call
            self._timed(lane, [self._next(rig, lane, 1, 1)])
        seconds = self._timed(lane, [self._next(rig, lane, 1, trial.rows)])
        rig.held.pop((lane, 1))
        return seconds

    def _steps(self, rig: Rig, lane: LlamaLane, slots: range, base: int, trial: Trial) -> float:
        """The middle of a few; the first one copies, and gets its buffers."""
        lane.use_threads(trial.threads)
        seconds: list[float] = []
        for slot in slots:
            self._lay(rig, lane, slot, base, trial.depth)
        while len(seconds) < 2 or (len(seconds) <= MOST_STEPS and sum(seconds) < STEP_SECONDS):
            seconds.append(self._timed(lane, [self._next(rig, lane, slot, 1) for slot in slots]))
        return median(seconds[1:])

    def _copy(self, rig: Rig, trial: Trial) -> float:
        lane = self._steps_lane(rig, trial)
        lane.use_threads(trial.threads)
        began = time.perf_counter()
        for slot in range(trial.rows):
            self._lay(rig, lane, slot, lane.num_sequences - 1, trial.depth, fresh=True)
        self._timed(lane, [self._next(rig, lane, 0, 1)])
        return time.perf_counter() - began

    def _lay(self, rig: Rig, lane: LlamaLane, slot: int, base: int, depth: int, *, fresh: bool = False) -> None:
        """Have the sequence hold `depth` tokens, or with `fresh` false a few more."""
        held = rig.held.get((lane, slot), -1)
        if not fresh and depth <= held <= depth + size.SLACK - MOST_STEPS - 1:
            return
        lane.clear(slot)
        if depth:
            lane.copy(base, slot)
        rig.held[lane, slot] = depth

    def _next(self, rig: Rig, lane: LlamaLane, slot: int, count: int) -> Run:
        start = rig.held[lane, slot]
        rig.held[lane, slot] = start + count
        place = (start + 37 * slot) % (len(self._tokens) - count)
        return Run(slot, start, self._tokens[place : place + count])

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

    # --- lanes

    def _rig(self, trial: Trial) -> Rig:
        kind = (trial.flash, trial.type_k, trial.type_v)
        rig = self._rigs.pop(kind, None) or Rig()
        self._rigs[kind] = rig  # the newest last
        return rig

    def _prompts_lane(self, rig: Rig, trial: Trial) -> LlamaLane:
        if rig.prompts is None:
            assert self._situation is not None
            rows = size.longest_call(self._situation)
            rig.prompts = self._opened(rig, trial, "stream", 2, size.padded(self._situation.depth + rows), rows)
            self._compute(rig.prompts, 0)
        return rig.prompts

    def _steps_lane(self, rig: Rig, trial: Trial) -> LlamaLane:
        """Wide enough for this trial. A narrow one is enough for most, and a wide one takes seconds to open."""
        assert self._situation is not None
        if rig.steps is not None and rig.steps.num_sequences > trial.rows:
            return rig.steps
        if rig.steps is not None:
            self._close(rig, rig.steps)
            rig.steps = None
        now = self._situation.now.width
        width = now if trial.rows <= now else max(size.widest(self._situation), trial.rows)
        for wanted in dict.fromkeys((width, trial.rows)):
            try:
                rig.steps = self._opened(rig, trial, "stream", wanted + 1, size.padded(self._situation.depth), 0)
                break
            except Refused:
                if wanted == trial.rows:
                    raise
        assert rig.steps is not None
        self._bring(rig, trial, rig.steps, rig.steps.num_sequences - 1)
        return rig.steps

    def _forks_lane(self, rig: Rig, trial: Trial) -> LlamaLane:
        assert self._situation is not None
        if rig.forks is not None and rig.forks.num_sequences > trial.rows:
            return rig.forks
        if rig.forks is not None:
            self._close(rig, rig.forks)
            rig.forks = None
        cells = self._situation.depth + trial.rows * size.SLACK  # the plan makes it twice the context of a stream
        rig.forks = self._opened(rig, trial, "fork", trial.rows, size.padded(cells // 2), 0)
        self._bring(rig, trial, rig.forks, 0)
        return rig.forks

    def _opened(self, rig: Rig, trial: Trial, kind: LaneKind, slots: int, context: int, rows: int) -> LlamaLane:
        """Lanes used longest ago make room for it. Raises Refused."""
        config = replace(
            self._config,
            slots=slots,
            context=context,
            ubatch=max(rows, 32),
            flash_attention="on" if trial.flash else "off",
            kv_type_k=trial.type_k,  # type: ignore[arg-type]
            kv_type_v=trial.type_v,  # type: ignore[arg-type]
        )
        plan = self._planned(rig, config)
        lane = self._model.open_lane_under(config, plan, kind)
        if lane is None:
            why = (
                last_log_lines()
                if kind in plan.lanes
                else "there is no room for it, or the model's KV cannot be forked"
            )
            raise Refused(f"llama.cpp opens no such context: {why}" if kind in plan.lanes else why)
        rig.num_bytes[lane] = plan.lanes[kind].total_bytes
        return lane

    def _planned(self, rig: Rig, config: EngineConfig) -> Plan:
        while True:
            open_bytes = sum(other.total_bytes for other in self._rigs.values())
            try:
                return memory.fit(self._file, config, self._available_bytes - open_bytes)
            except MemoryTooSmall as error:
                others = [kind for kind, other in self._rigs.items() if other is not rig]
                if not others:
                    raise Refused(str(error)) from error
                self._close_rig(self._rigs.pop(others[0]))

    def _close_rig(self, rig: Rig) -> None:
        for lane in list(rig.num_bytes):
            self._close(rig, lane)

    def _close(self, rig: Rig, lane: LlamaLane) -> None:
        rig.forget(lane)
        self._model.close_lane(lane)

    # --- the beginning

    def _bring(self, rig: Rig, trial: Trial, lane: LlamaLane, slot: int) -> None:
        """Have what the prompts stand behind in another lane: as bytes where that is possible, else computed again."""
        if self._model.can_trim and lane.restore(slot, self._prompts_lane(rig, trial).save(0)):
            return
        self._compute(lane, slot)

    def _compute(self, lane: LlamaLane, slot: int) -> None:
        assert self._situation is not None
        depth, piece = self._situation.depth, min(self._situation.piece, lane.most_tokens)
        for start in range(0, depth, piece):
            self._timed(lane, [Run(slot, start, self._tokens[start : min(start + piece, depth)])])
