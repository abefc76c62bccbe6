"""What the engine has done since it started; written by the loop, read by the heart."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Totals, but for the first two."""

    active: int = 0
    waiting: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    shared_tokens: int = 0  # of prompts, taken from a neighbour or from what was left in a slot
    forked_tokens: int = 0  # of prompts, read together with others in the fork lane
    drafted_tokens: int = 0  # guesses computed beside the last tokens of answers
    accepted_tokens: int = 0  # of them, those that the answers went on with
    deduplicated: int = 0  # thoughts that another one answered
    waves: int = 0  # changes of what the model wears
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    python_seconds: float = 0.0  # of the steps, outside llama.cpp
    steps: int = 0
    in_step: bool = False
    progress_at: float = 0.0  # monotonic end of the last step

    def timed(self, call: Callable[[], int]) -> tuple[int, float]:
        """What the call returns, and its seconds."""
        self.in_step = True
        started = time.perf_counter()
        try:
            return call(), time.perf_counter() - started
        finally:
            self.in_step = False
