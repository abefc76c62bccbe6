"""What lies open in the prefill lane: sequence 0 with the prompt, and a scratch to cut blocks out and check them with.

llama.cpp writes and reads whole sequences. In one memory for all, giving the scratch some cells of sequence 0 copies
nothing, so a block is cut out, pasted or looked at from any position without touching the rest.
"""

from __future__ import annotations

import numpy as np

from monk.engine.frames import Image
from monk.engine.kv_store import Block
from monk.engine.native import DONE, Lane, Logits, Run
from monk.engine.sequence import Tokens, common_prefix

PROMPT, SCRATCH = 0, 1


class Desk:
    """One thread. `held` is what sequence 0 has."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.held: Tokens = np.zeros(0, np.int32)

    def in_place(self, tokens: Tokens) -> int:
        """How many of these tokens sequence 0 begins with."""
        return common_prefix(tokens, self.held)

    def cut(self, length: int) -> bool:
        """Keep the first `length` tokens. False, and it is empty, if what it holds is something else."""
        has = self._lane.num_computed(PROMPT)
        good = has == length or (has > length and self._lane.trim(PROMPT, length))
        if not good or not length:
            self._lane.clear(PROMPT)
        self.held = self.held[: length if good else 0]
        return good

    def take(self, image: Image, tokens: Tokens) -> bool:
        """Hold what the image has, which begins with `tokens`; False, and it is empty, when llama.cpp refuses it."""
        self._lane.clear(PROMPT)
        taken = self._lane.restore(PROMPT, image)
        self.held = tokens if taken else tokens[:0]
        return taken and self.cut(len(tokens))

    def save(self) -> Image:
        return self._lane.save(PROMPT)

    def compute(self, tokens: Tokens, end: int, *, wants_logits: bool) -> tuple[int, Logits | None]:
        """Go on to `end`. llama_decode's code, and logits [1, vocab] of the last token if wanted."""
        start = len(self.held)
        code = self._lane.decode([Run(PROMPT, start, tokens[start:end], int(wants_logits))], "prefill")
        if code != DONE:
            self.cut(start)
            return code, None
        self.held = tokens[:end]
        return code, self._lane.logits(1).copy() if wants_logits else None

    @property
    def most_tokens(self) -> int:
        return self._lane.most_tokens

    # --- blocks

    def paste(self, block: Block, tokens: Tokens) -> bool:
        """Put a block behind what sequence 0 holds. False if llama.cpp does not take it or it is of other positions."""
        try:
            image = Image.of(block.payload)
        except ValueError:
            return False
        if not self._lane.restore(SCRATCH, image):
            return False
        self._lane.copy(SCRATCH, PROMPT)
        self._lane.clear(SCRATCH)
        end = block.start + block.num_tokens
        self.held = tokens[:end]
        return self._lane.num_computed(PROMPT) == end

    def cut_out(self, start: int, end: int) -> Image:
        self._lane.copy(PROMPT, SCRATCH, start, end)
        image = self._lane.save(SCRATCH)
        self._lane.clear(SCRATCH)
        return image

    def replay(self, end: int) -> tuple[int, Logits | None]:
        """Logits [vocab] of token end-1, computed anew beside sequence 0, which stays bit for bit as it is."""
        self._lane.copy(PROMPT, SCRATCH, 0, end - 1)
        code = self._lane.decode([Run(SCRATCH, end - 1, self.held[end - 1 : end])], "decode")
        logits = self._lane.logits(1)[0].copy() if code == DONE else None
        self._lane.clear(SCRATCH)
        return code, logits
