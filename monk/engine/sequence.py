"""One thought on its way through the engine: its tokens, how many of them are computed, and what it has cost.

Works on token ids. Never sees llama.cpp or the socket. A sequence owned by a slot is in one of two phases, told by how
many of its tokens the KV does not hold yet: several (prefill) or just the last one (decode).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from monk.engine.client import Finished, FinishReason, ThoughtRequest, TokenLogprob
from monk.engine.text import TextStream

Tokens = npt.NDArray[np.int32]


class Guard(Protocol):
    """A grammar that follows one answer. `accept` only what `allows` said yes to: the native side aborts otherwise."""

    def allows(self, token: int) -> bool: ...

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits [vocab] of forbidden tokens to -inf, in place."""
        ...

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable state of one thought. `tokens` holds prompt, saved and new tokens in one row."""

    request: ThoughtRequest
    tokens: list[int]
    text: TextStream
    guard: Guard | None = None
    slot: int = -1  # -1: waiting
    computed: int = 0  # leading tokens whose KV is in the slot
    source: Sequence | None = None  # takes a copy of this one's beginning as soon as it is computed
    shared: int = 0  # how many tokens it takes
    cancelled: bool = False
    num_prefilled: int = 0
    num_decoded: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    unsent_ids: list[int] = field(default_factory=list)
    unsent_text: list[str] = field(default_factory=list)
    unsent_logprobs: list[TokenLogprob] = field(default_factory=list)

    @classmethod
    def begin(cls, request: ThoughtRequest) -> Sequence:
        return cls(request, [*request.prompt, *request.saved], TextStream(request.stop))

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def target(self) -> int:
        """Tokens to compute before the first new one can be drawn."""
        return len(self.request.prompt) + len(self.request.saved)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def num_answered(self) -> int:
        """Tokens of the answer so far, saved ones included: also the index of the next one to draw."""
        return len(self.tokens) - len(self.request.prompt)

    @property
    def remaining(self) -> int:
        return self.request.max_tokens - self.num_answered

    def finished(self, reason: FinishReason) -> Finished:
        return Finished(
            reason=reason,
            text=self.text.text,
            num_prefilled=self.num_prefilled,
            num_decoded=self.num_decoded,
            prefill_seconds=self.prefill_seconds,
            decode_seconds=self.decode_seconds,
        )


def common_prefix(left: Tokens, right: Tokens) -> int:
    """Number of equal leading tokens."""
    length = min(len(left), len(right))
    different = left[:length] != right[:length]
    return int(different.argmax()) if different.any() else length
