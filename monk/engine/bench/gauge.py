"""The measurements, made: one lane at a time is opened as the point asks, filled to its depth, and timed.

Works on arbitrary token ids. One thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from monk.engine import memory
from monk.engine.bench.deep import BLOCK_TOKENS, WHOLE_TOKENS, Deep
from monk.engine.bench.meters import Energy, Others, forget_peak, joules, peak_bytes
from monk.engine.bench.point import Point
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.frames import Image
from monk.engine.gguf_file import GgufFile
from monk.engine.lane import LlamaLane
from monk.engine.lane_plan import kv_bytes_per_token, output_bytes
from monk.engine.llama import LlamaModel, last_log_lines
from monk.engine.memory import Plan
from monk.engine.native import DONE, NO_ROOM, Run
from monk.engine.sequence import Tokens
from monk.errors import MemoryTooSmall, SettingsInvalid

WARM_TOKENS = 64  # of a prompt, where filling has used all buffers of a chunk already; a restored beginning has not
WARM_SECONDS = 0.3
TELL_SECONDS = 5.0
# Rows with logits a context has room for; llama-bench has it for a whole batch. A prompt of 512 behind 1,024 is 2 to 5 %
# faster with room for 64 or 512 than for one, though one is used (tests/bench/README.md).
RESERVED_OUTPUTS = 64
IMAGE_BYTES = 512 << 20  # of a beginning that is kept in memory for the next width
Told = Callable[[dict[str, Any]], None]


class Refused(Exception):
    """The measurement cannot be made; says why."""


class Gauge:
    """Raises ModelUnusable or MemoryTooSmall when the model cannot be loaded at all."""

    def __init__(
        self,
        config: EngineConfig,
        use: ModelUse,
        file: GgufFile,
        available_bytes: int,
        folder: Path | None,
        facts: Mapping[str, object],
        told: Told,
    ) -> None:
        """`folder`: for the KV of long beginnings; `facts`: what of the model is in its names."""
        self._config = replace(config, speculation="off", kv_folder=None, kv_block_tokens=BLOCK_TOKENS)
        self._file, self._available_bytes = file, available_bytes
        self._folder, self._facts, self._told = folder, facts, told
        plan = memory.fit(file, replace(self._config, slots=1, context=256, ubatch=WARM_TOKENS), available_bytes)
        self._model = LlamaModel(self._config, plan, lambda: None, file, use)
        self.energy = Energy()
        self._random = np.random.default_rng(0)  # any text will do; of a mixture it should meet all experts
        self._tokens: Tokens = np.zeros(0, np.int32)
        self._lane: LlamaLane | None = None
        self._lane_is: tuple[Any, ...] = ()
        self._planned_bytes = 0
        self._state: Image | None = None  # of the only sequence, where its memory cannot be cut
        self._image: tuple[tuple[Any, ...], Image] | None = None

    def close(self) -> None:
        self._model.close()

    def measure(self, point: Point, repeats: int) -> dict[str, Any]:
        """Rates and what it took, as JSON. Raises Refused, with nothing changed."""
        lane = self._opened(point)
        lane.use_threads(point.threads)
        filled, fill_seconds = self._fill(lane, point)
        self._warm(lane, point, is_warm=filled >= lane.most_tokens)
        others, before, began = Others(), self.energy.read(), time.perf_counter()
        samples = []
        for number in range(repeats):
            samples.append(point.num_tokens / self._once(lane, point))
            self._told({"event": "repeat", "number": number + 1, "of": repeats, "tokens_per_second": samples[-1]})
        spent = joules(before, self.energy.read())
        seconds = time.perf_counter() - began
        self._all_back(lane, point)  # the next point may stand behind the same tokens
        tokens = point.num_tokens * repeats
        return {
            "tokens_per_second": {
                "mean": round(fmean(samples), 4),
                "deviation": round(stdev(samples), 4) if repeats > 1 else 0.0,
                "median": round(median(samples), 4),
            },
            "samples": [round(rate, 4) for rate in samples],
            "seconds": round(seconds, 3),
            "filled_tokens": filled,
            "fill_seconds": round(fill_seconds, 3),
            "memory_bytes": peak_bytes() or None,
            "planned_bytes": self._planned_bytes + (0 if self._image is None else self._image[1].num_bytes),
            "energy_joules": None if spent is None else round(spent, 3),
            "joules_per_token": None if spent is None else round(spent / tokens, 4),
            "others_percent": others.percent(),
        }

    # --- the lane

    def _opened(self, point: Point) -> LlamaLane:
        if point.rows == 1:
            self._image = None
        kind = (point.rows, point.context, point.flash, point.type_k, point.type_v, point.ubatch, point.depth > 0)
        if self._lane is not None and kind == self._lane_is:
            forget_peak()
            return self._lane
        config = self._config_of(point)
        plan = self._reserved(self._planned(config))
        self._close_lane()
        forget_peak()
        lane = self._model.open_lane_under(config, plan, "stream")
        if lane is None:
            raise Refused(f"llama.cpp opens no such context: {last_log_lines()}")
        self._lane, self._lane_is = lane, kind
        shape = plan.lanes["stream"]
        self._planned_bytes = plan.weight_bytes + shape.total_bytes + plan.process_bytes
        return lane

    def _config_of(self, point: Point) -> EngineConfig:
        """Raises Refused for what cannot go together."""
        settings: dict[str, Any] = {
            "slots": point.rows + self._has_base(point),
            "context": point.context,
            "ubatch": point.ubatch,
            **point.settings,
            # with one sequence: a scratch beside it, to cut blocks with; it costs a step some 2 %
            "kv_folder": (self._folder or Path(".")) if point.depth else None,
        }
        try:
            return replace(self._config, **settings)
        except SettingsInvalid as error:
            raise Refused(error.message) from error

    def _has_base(self, point: Point) -> bool:
        """Of several sequences whose memory cannot be cut, a last one keeps the beginning, to be copied for each repeat."""
        return point.rows > 1 and not self._model.can_trim

    def _planned(self, config: EngineConfig) -> Plan:
        try:
            return memory.fit(self._file, config, self._available_bytes)
        except MemoryTooSmall as error:
            raise Refused(error.message) from error

    def _reserved(self, plan: Plan) -> Plan:
        """With room for more outputs than are used."""
        shape = plan.lanes["stream"]
        outputs = max(shape.outputs, min(RESERVED_OUTPUTS, shape.batch))
        shape = replace(shape, outputs=outputs, output_bytes=output_bytes(self._file, outputs))
        return replace(plan, lanes={**plan.lanes, "stream": shape})

    def _close_lane(self) -> None:
        if self._lane is not None:
            self._model.close_lane(self._lane)
            self._lane = None

    # --- what a measurement stands behind

    def _fill(self, lane: LlamaLane, point: Point) -> tuple[int, float]:
        """(tokens that had to be computed, seconds): every sequence holds `depth` tokens."""
        base = lane.num_sequences - 1 if self._has_base(point) else 0
        computed, seconds = self._compute(lane, base, point)
        self._state = lane.save(0) if point.rows == 1 and point.depth and not self._model.can_trim else None
        for slot in range(point.rows):
            if slot != base and lane.num_computed(slot) != point.depth:
                lane.clear(slot)
                if point.depth:
                    lane.copy(base, slot)
        return computed, seconds

    def _compute(self, lane: LlamaLane, base: int, point: Point) -> tuple[int, float]:
        depth = point.depth
        if lane.num_computed(base) > depth and not (self._model.can_trim and lane.trim(base, depth)):
            lane.clear(base)
        held = self._remembered(lane, base, lane.num_computed(base), point)
        deep = self._deep(lane, point)
        if deep is not None and self._model.can_trim:
            held = deep.restore(lane, held, depth)
        elif deep is not None and held == 0:
            held = deep.restore_whole(lane, depth)
        began = told_at = block_at = time.perf_counter()
        at = held
        while at < depth:
            end = min(at + lane.most_tokens, depth, (at // BLOCK_TOKENS + 1) * BLOCK_TOKENS)
            _timed(lane, [[Run(base, at, self._token_row(end)[at:end])]])
            at = end
            if deep is not None and (at % BLOCK_TOKENS == 0 or at == depth):
                if not self._keep(deep, lane, at, depth, time.perf_counter() - block_at):
                    self._told({"event": "no-room", "tokens": at})
                    deep = None
                block_at = time.perf_counter()
            if (now := time.perf_counter()) - told_at > TELL_SECONDS:
                told_at = now
                rate = (at - held) / (now - began)
                self._told({"event": "filling", "tokens": at, "of": depth, "tokens_per_second": round(rate, 1)})
        seconds = time.perf_counter() - began
        self._remember(lane, base, point)
        return depth - held, seconds if depth > held else 0.0

    def _keep(self, deep: Deep, lane: LlamaLane, at: int, depth: int, seconds: float) -> bool:
        if self._model.can_trim:
            return deep.keep(lane, at, seconds)
        return deep.keep_whole(lane.save(0), at, seconds) if at == depth or at % WHOLE_TOKENS == 0 else True

    def _deep(self, lane: LlamaLane, point: Point) -> Deep | None:
        """With one row only; a memory that can be cut needs a scratch sequence for it."""
        if self._folder is None or point.rows != 1 or lane.num_sequences != 1 + self._model.can_trim:
            return None
        facts = {**self._facts, "flash": point.flash, "type_k": point.type_k, "type_v": point.type_v}
        return Deep(self._folder, facts, self._token_row(point.depth))

    def _bytes_per_token(self, point: Point) -> int:
        return kv_bytes_per_token(self._file, replace(self._config, **point.settings))

    def _remembered(self, lane: LlamaLane, base: int, held: int, point: Point) -> int:
        """Of a short beginning, from the lane before."""
        if self._image is None or self._image[0] != self._image_key(point) or held == point.depth:
            return held
        lane.clear(base)
        return point.depth if lane.restore(base, self._image[1]) else 0

    def _remember(self, lane: LlamaLane, base: int, point: Point) -> None:
        size = point.depth * self._bytes_per_token(point)
        if point.rows == 1 or not self._model.can_trim or not 0 < size <= IMAGE_BYTES:
            return
        if self._image is None or self._image[0] != self._image_key(point):
            self._image = (self._image_key(point), lane.save(base))

    def _image_key(self, point: Point) -> tuple[Any, ...]:
        return (point.depth, point.flash, point.type_k, point.type_v)

    def _token_row(self, count: int) -> Tokens:
        while len(self._tokens) < count + 1:
            more = self._random.integers(0, self._model.vocab_size, BLOCK_TOKENS, dtype=np.int32)
            self._tokens = np.concatenate([self._tokens, more])
        return self._tokens

    # --- timing

    def _warm(self, lane: LlamaLane, point: Point, *, is_warm: bool) -> None:
        """A call at least: on two shared cores that had been idle the first ten steps took 5 % longer (2026-11-26)."""
        seconds = 0.0
        while seconds < WARM_SECONDS:
            self._all_back(lane, point)
            if point.test == "answer":
                seconds += self._steps(lane, point, point.depth, 1)
            else:
                seconds += self._prompt(lane, point.depth, min(point.tokens, WARM_TOKENS) if is_warm else point.tokens)
            if self._state is not None:  # to put it back takes longer than a call
                break

    def _once(self, lane: LlamaLane, point: Point) -> float:
        """Seconds of one repeat, from the same state as all others."""
        self._all_back(lane, point)
        first = point.depth
        if self._has_base(point) and first:  # copies between sequences are made by the next call
            self._steps(lane, point, first, 1)
            first += 1
        if point.test == "prompt":
            return self._prompt(lane, first, point.tokens)
        return self._steps(lane, point, first, point.tokens)

    def _all_back(self, lane: LlamaLane, point: Point) -> None:
        """To what they stand behind, and no more."""
        for slot in range(point.rows):
            if lane.num_computed(slot) != point.depth and not self._back(lane, slot, point):
                raise Refused(f"the model's memory cannot be put back to {point.depth} tokens")

    def _back(self, lane: LlamaLane, slot: int, point: Point) -> bool:
        if point.depth and self._model.can_trim:
            return lane.trim(slot, point.depth)
        lane.clear(slot)
        if not point.depth:
            return True
        if self._state is not None:
            return lane.restore(slot, self._state)
        lane.copy(lane.num_sequences - 1, slot)
        return True

    def _prompt(self, lane: LlamaLane, first: int, count: int) -> float:
        tokens = self._token_row(first + count)
        starts = range(first, first + count, lane.most_tokens)
        ends = (min(start + lane.most_tokens, first + count) for start in starts)
        return _timed(lane, [[Run(0, start, tokens[start:end])] for start, end in zip(starts, ends, strict=True)])

    def _steps(self, lane: LlamaLane, point: Point, first: int, count: int) -> float:
        """Each row another text."""
        tokens = self._token_row(first + count + 37 * point.rows)
        rows = [(slot, tokens[37 * slot :]) for slot in range(point.rows)]
        places = range(first, first + count)
        return _timed(lane, [[Run(slot, at, row[at : at + 1]) for slot, row in rows] for at in places])


def _timed(lane: LlamaLane, calls: list[list[Run]]) -> float:
    """Seconds of the calls, one after the other. Raises Refused when one of them fails."""
    batches = [lane.prepared(runs) for runs in calls]
    began = time.perf_counter()
    for batch in batches:
        if (code := lane.compute(batch, "prefill")) != DONE:
            raise Refused("the context is full" if code == NO_ROOM else f"llama_decode says {code}")
    lane.logits(1)
    return time.perf_counter() - began
