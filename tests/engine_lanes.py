"""A model that is a table, with lanes that keep its tokens as KV: for the engine loop without llama.cpp.

It says a weighted sum of all tokens before, modulo the vocabulary: any mistake in what a sequence holds changes the
answer. What it wears tints the KV computed under it, so that KV of another wave changes the answer too. As in llama.cpp
positions must continue, a unified lane shares cells, and what does not fit has no room.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row

import numpy as np
import numpy.typing as npt

from monk.engine.client import AS_ITS_FILE_SAYS, AdapterUse, ModelUse, ThoughtRequest
from monk.engine.frames import Image
from monk.engine.memory import Layout
from monk.engine.native import NO_ROOM, LaneKind, Phase, Run
from monk.engine.sequence import Guard
from monk.errors import AdapterUnusable

VOCAB = 97
END = 96
HEAD = np.array([7, 0], "<u4").view(np.uint8)
SUM_SCALE = 9.0


class SumLane:
    """`poison` is a slot whose rows are always refused; a deaf lane takes no image."""

    def __init__(self, model: SumModel, num_sequences: int, num_cells: int, *, unified: bool, most_tokens: int) -> None:
        self._model = model
        self._unified = unified
        self.num_sequences = num_sequences
        self.num_cells = num_cells
        self.most_tokens = most_tokens
        self.most_outputs = most_tokens
        self.held: list[dict[int, int]] = [{} for _ in range(num_sequences)]  # position to token
        self.poison: int | None = None
        self.deaf = False
        self._logits = np.zeros((0, VOCAB), np.float32)

    def decode(self, runs: Row[Run], phase: Phase) -> int:
        model = self._model
        assert sum(len(run.tokens) for run in runs) <= self.most_tokens
        assert sum(run.outputs for run in runs) <= self.most_outputs
        slots = [run.slot for run in runs]
        assert slots == sorted(slots) or self._unified
        code = model.codes.pop(0) if model.codes else 0
        if code or self.poison in slots:
            return code or -1
        if self._unified and self._cells() + sum(len(run.tokens) for run in runs) > self.num_cells:
            return NO_ROOM
        rows = []
        for run in runs:
            held = self.held[run.slot]
            assert self.num_computed(run.slot) == run.start, "positions must continue"
            for at, token in enumerate(run.tokens):
                held[run.start + at] = int(token) + model.tint
                if at >= len(run.tokens) - run.outputs:
                    rows.append(logits_after([held[place] for place in sorted(held)], model.says))
            model.computed += len(run.tokens)
        self._logits = np.array(rows, np.float32).reshape(len(rows), VOCAB)
        return 0

    def _cells(self) -> int:
        return len({(at, token) for held in self.held for at, token in held.items()})

    def logits(self, rows: int) -> npt.NDArray[np.float32]:
        assert rows == len(self._logits)
        return self._logits

    def num_computed(self, slot: int) -> int:
        return max(self.held[slot], default=-1) + 1

    def trim(self, slot: int, length: int) -> bool:
        if self._model.can_trim:
            self.held[slot] = {at: token for at, token in self.held[slot].items() if at < length}
        return self._model.can_trim

    def clear(self, slot: int) -> None:
        self.held[slot] = {}

    def copy(self, source: int, target: int, start: int = -1, end: int = -1) -> None:
        assert self._unified or start == end == -1, "llama.cpp would abort"
        last = self.num_cells if end < 0 else end
        part = {at: token for at, token in self.held[source].items() if start <= at < last}
        self.held[target] = {**self.held[target], **part} if self._unified else part

    def save(self, slot: int) -> Image:
        pairs = np.array(sorted(self.held[slot].items()), np.int32).reshape(-1)
        head = np.concatenate([HEAD, np.array([1, len(pairs)], "<u4").view(np.uint8)])
        return Image.of(np.concatenate([head, pairs.view(np.uint8)]))

    def restore(self, slot: int, image: Image) -> bool:
        self.clear(slot)
        if self.deaf:
            return False
        pairs = image.payload[16:].view(np.int32).reshape(-1, 2)
        self.held[slot] = {int(at): int(token) for at, token in pairs}
        return True


class SumModel:
    """`codes` are returned by coming calls; `computed` counts the tokens it was given."""

    vocab_size = VOCAB
    context = 4096

    def __init__(
        self,
        slots: int,
        can_trim: bool = True,
        chunk: int = 16,
        fork_cells: int = 0,
        in_place: bool = False,
        stream_bytes: int = 1,
    ) -> None:
        self.can_trim = can_trim
        self.says: Callable[[list[int]], int] = next_token
        self.codes: list[int] = []
        self.computed = 0
        self._slots, self._chunk, self._in_place = slots, chunk, in_place
        self.layout = Layout(chunk, weight_bytes=1000, stream_bytes=stream_bytes, in_place=in_place)
        self._shape = slots, self.layout
        self.shapes: dict[ModelUse, tuple[int, Layout]] = {}  # slots and layout, where not as at first
        self.streams = self._open_streams()
        self.fork_size = (fork_cells, 8 if fork_cells else 0)
        self.lanes: dict[str, SumLane] = {"stream": self.streams}
        self.has_prefill = True
        self.tint = 0
        self.use = ModelUse()
        self.used: list[ModelUse] = []  # one after the other
        self.worn: list[tuple[str, ...]] = []  # one after the other

    def wear(self, adapters: tuple[AdapterUse, ...], use: ModelUse) -> None:
        self._run_with(use)
        self.tint = tint_of(adapters, use)
        self.worn.append(tuple(adapter.path for adapter in adapters))
        if any(adapter.path == "broken" for adapter in adapters):
            self._run_with(ModelUse())
            self.tint = 0
            raise AdapterUnusable("llama.cpp refuses the adapter broken")

    def _run_with(self, use: ModelUse) -> None:
        """Other settings, other contexts; the old ones are gone."""
        if use == self.use:
            return
        for lane in self.lanes.values():
            lane.held = []  # whoever looks into a closed context fails
        self.use = use
        self.used.append(use)
        self._slots, self.layout = self.shapes.get(use, self._shape)
        self.streams = self._open_streams()
        self.lanes = {"stream": self.streams}

    def _open_streams(self) -> SumLane:
        if self._in_place:
            return SumLane(self, 2, 4096 + 256, unified=True, most_tokens=max(self._chunk, 2))
        return SumLane(self, self._slots, 4096, unified=False, most_tokens=max(self._chunk, self._slots))

    def open_lane(self, kind: LaneKind) -> SumLane | None:
        if kind == "prefill" and self.has_prefill:
            self.lanes[kind] = SumLane(self, 2, 4096 + 256, unified=True, most_tokens=self._chunk)
        elif kind == "fork" and self.fork_size[0]:
            self.lanes[kind] = SumLane(self, 9, self.fork_size[0], unified=True, most_tokens=max(self._chunk, 8))
        return self.lanes.get(kind)

    def piece(self, token: int) -> bytes:
        return f"{token} ".encode()

    def is_end(self, token: int) -> bool:
        return token == END

    def guard_for(self, request: ThoughtRequest) -> Guard | None:
        return None

    def request_abort(self) -> None: ...

    def clear_abort(self) -> None: ...


def tint_of(adapters: tuple[AdapterUse, ...], use: ModelUse = AS_ITS_FILE_SAYS) -> int:
    """What is added to every token of the KV: multiples of the vocabulary would not show."""
    worn = sum(int(1000 * adapter.scale) * (1 + len(adapter.sha256)) for adapter in adapters)
    return worn + 5 * (use.experts or 0) + 7 * int((use.rope_freq_base or 0) // 1000) + 11 * int(use.yarn_factor or 0)


def next_token(held: list[int]) -> int:
    return (sum((at + 1) * token for at, token in enumerate(held)) * 31 + 7) % VOCAB


def logits_after(held: list[int], says: Callable[[list[int]], int] = next_token) -> npt.NDArray[np.float32]:
    """[vocab]; what it says is the likeliest token."""
    row = np.zeros(VOCAB, np.float32)
    row[says(held)] = SUM_SCALE
    return row
