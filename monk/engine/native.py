"""What the engine loop needs of a model: lanes to compute in, and words. `llama.py` and `lane.py` have the real ones.

A lane is one context over the loaded model, with numbered sequences:

    streams   a stretch of memory for each sequence: a long neighbour costs nothing
              (with only one slot: one memory for all; 0 is the slot, and 1 the scratch of a prefill lane, which it is too)
    prefill   one memory for all; 0 is the prompt being computed, 1 a scratch to cut pieces out with
    fork      one memory for all; 0 is a shared beginning, the others go on from it and read it together
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from monk.engine.client import AdapterUse, ModelUse, ThoughtRequest
from monk.engine.frames import Image
from monk.engine.memory import Layout
from monk.engine.sequence import Guard, Tokens

DONE, NO_ROOM, ABORTED = 0, 1, 2  # llama_decode's codes; below zero: the batch was refused

LaneKind = Literal["stream", "prefill", "fork"]
Phase = Literal["prefill", "decode"]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens of one sequence in a batch, from position `start`. The last `outputs` of them get logits.

    Behind the first of these stand guesses: tokens the sequence does not have yet, and perhaps never will.
    """

    slot: int
    start: int
    tokens: Row[int] | Tokens
    outputs: int = 1

    @property
    def num_guesses(self) -> int:
        return max(0, self.outputs - 1)

    @property
    def guesses(self) -> list[int]:
        return [int(token) for token in self.tokens[len(self.tokens) - self.num_guesses :]]

    def without_guesses(self) -> Run:
        known = self.tokens[: len(self.tokens) - self.num_guesses]
        return Run(self.slot, self.start, known, min(1, self.outputs))


class Lane(Protocol):
    """One thread. A slot is a sequence's number."""

    num_sequences: int
    num_cells: int  # tokens that fit: of one sequence in streams, else of all together
    most_tokens: int  # of one call
    most_outputs: int  # rows with logits of one call

    def decode(self, runs: Row[Run], phase: Phase) -> int:
        """Compute the runs in one call. Returns llama_decode's code."""
        ...

    def logits(self, rows: int) -> Logits:
        """Logits of the last call's outputs in order: [rows, vocab], a view that the next call overwrites."""
        ...

    def num_computed(self, slot: int) -> int:
        """Tokens the sequence holds, counted from its first position on."""
        ...

    def trim(self, slot: int, length: int) -> bool:
        """Keep the first `length` tokens. False if this model's memory cannot be cut there."""
        ...

    def clear(self, slot: int) -> None: ...

    def copy(self, source: int, target: int, start: int = -1, end: int = -1) -> None:
        """Give the target what the source has at [start, end); between streams only the whole."""
        ...

    def save(self, slot: int) -> Image: ...

    def restore(self, slot: int, image: Image) -> bool:
        """Put the image into an empty sequence. False, and it stays empty, when llama.cpp refuses it."""
        ...


class Model(Protocol):
    vocab_size: int
    context: int
    can_trim: bool

    @property
    def streams(self) -> Lane: ...

    @property
    def layout(self) -> Layout:
        """Of the lanes as they are now."""
        ...

    @property
    def fork_size(self) -> tuple[int, int]:
        """Cells and members of the fork lane, opened or not; zeros: there is none."""
        ...

    def open_lane(self, kind: LaneKind) -> Lane | None:
        """None when the memory plan has no room for it or llama.cpp refuses."""
        ...

    def wear(self, adapters: tuple[AdapterUse, ...], use: ModelUse) -> None:
        """In all lanes, those opened later too. What they hold must be forgotten; with other settings than before all lanes are
        closed, `streams` is a new one, and the others have to be opened again.

        Raises MonkError when it cannot be: the model is bare then, and runs as it does for the house.
        """
        ...

    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    def guard_for(self, request: ThoughtRequest) -> Guard | None: ...
    def request_abort(self) -> None: ...
    def clear_abort(self) -> None: ...
