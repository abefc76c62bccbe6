"""One thought on its way through the engine: its tokens, how many of them are computed, and what it has cost.

Works on token ids. Never sees llama.cpp or the socket. A sequence owned by a slot is in one of two phases, told by how
many of its tokens the KV does not hold yet: several (prefill) or just the last one (decode).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from monk.engine.client import Finished, FinishReason, ThoughtRequest, TokenLogprob, wave_of
from monk.engine.part import ThinkingPart
from monk.engine.text import TextStream

Tokens = npt.NDArray[np.int32]
LaneName = Literal["stream", "study", "fork"]  # where a step takes place


class Guard(Protocol):
    """A grammar that follows one answer. `accept` only what `allows` said yes to: the native side aborts otherwise."""

    def allows(self, token: int) -> bool: ...

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits [vocab] of forbidden tokens to -inf, in place."""
        ...

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Listener:
    """One who asked for this thought. Identical thoughts are computed once for all who want them."""

    id: str
    is_first: bool = False  # the one whose account has what was prefilled


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable state of one thought. `tokens` holds prompt, saved and new tokens in one row."""

    request: ThoughtRequest
    tokens: list[int]
    text: TextStream
    listeners: list[Listener]
    wave: str = ""  # what the model wears for it; KV of two waves never meets
    order: int = 0  # place in the line of arrivals
    arrived_at: float = 0.0  # monotonic
    guard: Guard | None = None
    part: ThinkingPart | None = None  # for a model that marks one
    lane: LaneName | None = None  # None: waiting
    slot: int = -1
    computed: int = 0  # leading tokens whose KV is in the slot
    in_study: bool = False  # the rest of its prompt is computed in the prefill lane
    no_fork: bool = False  # was in a fork lane that could not hold it
    source: Sequence | None = None  # takes a copy of this one's beginning as soon as it is computed
    shared: int = 0  # how many tokens it takes
    num_prefilled: int = 0
    num_decoded: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    sent_text: str = ""
    sent_logprobs: list[TokenLogprob] = field(default_factory=list)
    unsent_ids: list[int] = field(default_factory=list)
    unsent_text: list[str] = field(default_factory=list)
    unsent_logprobs: list[TokenLogprob] = field(default_factory=list)
    _asked: Tokens | None = None

    @classmethod
    def begin(cls, request: ThoughtRequest, order: int = 0, arrived_at: float = 0.0) -> Sequence:
        tokens = [*request.prompt, *request.saved]
        listeners = [Listener(request.id, is_first=True)]
        wave = wave_of(request.adapters, request.model)
        part = None if request.thinking is None else ThinkingPart(request.thinking)
        return cls(request, tokens, TextStream(request.stop), listeners, wave, order, arrived_at, part=part)

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

    @property
    def row(self) -> Tokens:
        """All its tokens as an array. The prompt's is made once: it is asked for whenever somebody comes or goes."""
        if self._asked is None:
            self._asked = np.asarray(self.tokens[: self.target], np.int32)
        answer = self.tokens[self.target :]
        return np.concatenate([self._asked, np.asarray(answer, np.int32)]) if answer else self._asked

    @property
    def forced(self) -> int | None:
        """The next token, where it is not the model's to choose."""
        return None if self.part is None else self.part.forced

    def say(self, token: int, piece: bytes) -> str:
        """Text, grammar and thinking part behind one more token of the answer; returns the text it releases."""
        is_answer = self.part is None or not self.part.push(token)
        if self.guard is not None and is_answer:
            self.guard.accept(token)
        return self.text.push(piece, listens=is_answer)

    def is_same_as(self, request: ThoughtRequest) -> bool:
        """True if the request's answer is this one's, token by token."""
        return _what_counts(self.request) == _what_counts(request)

    def finished(self, reason: FinishReason, listener: Listener | None = None) -> Finished:
        """The end as one listener hears it: seconds are divided among those who are there."""
        share = max(1, len(self.listeners))
        is_first = listener is None or listener.is_first
        return Finished(
            reason=reason,
            text=self.text.text,
            num_prefilled=self.num_prefilled if is_first else 0,
            num_decoded=self.num_decoded,
            prefill_seconds=self.prefill_seconds / share,
            decode_seconds=self.decode_seconds / share,
        )


def _what_counts(request: ThoughtRequest) -> tuple[object, ...]:
    """All that shapes the answer, the cheapest to compare first."""
    sampling = replace(request.sampling, seed=0) if request.sampling.temperature == 0.0 else request.sampling
    wave = wave_of(request.adapters, request.model)
    return request.max_tokens, wave, sampling, request.stop, request.thinking, request.saved, request.prompt


def common_prefix(left: Tokens, right: Tokens) -> int:
    """Number of equal leading tokens."""
    length = min(len(left), len(right))
    different = left[:length] != right[:length]
    return int(different.argmax()) if different.any() else length
