"""Tokens drawn from logits and told to those who asked: sampling, text, stop strings, messages.

Knows neither lanes nor slots. A thought may have several listeners, all of whom hear the same; the first and the last
message of a latecomer are like everybody's, and what it missed comes in one piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from monk.engine import sampler
from monk.engine.client import FinishReason, Message, NewTokens, PrefillProgress, Sampling
from monk.engine.counters import Counters
from monk.engine.native import Logits
from monk.engine.sequence import Listener, Sequence
from monk.errors import MonkError

Deliver = Callable[[str, Message | MonkError], None]
Leave = Callable[[Sequence, bool], None]  # the thought is over; False: what it computed must not be used again


class Vocabulary(Protocol):
    def piece(self, token: int) -> bytes: ...
    def is_end(self, token: int) -> bool: ...


class Voice:
    """One thread. `deliver(id, message)`: errors end a stream as Finished does."""

    def __init__(
        self, vocabulary: Vocabulary, counters: Counters, deliver: Deliver, leave: Leave, flush_seconds: float
    ) -> None:
        self._vocabulary = vocabulary
        self._counters = counters
        self._deliver = deliver
        self._leave = leave
        self._flush_seconds = flush_seconds
        self._flushed_at = 0.0

    # --- drawing

    def draw(self, sequences: list[Sequence], logits: Logits) -> None:
        """One new token for each sequence from its row of logits: [sequences, vocab]."""
        plain = [row for row, item in enumerate(sequences) if _is_plain(item)]
        likeliest = sampler.greedy(logits if len(plain) == len(sequences) else logits[plain]) if plain else []
        chosen = dict(zip(plain, likeliest, strict=True))
        for row, sequence in enumerate(sequences):
            token = chosen.get(row)
            try:
                choice = sampler.Choice(token) if token is not None else self._choose(sequence, logits[row])
                if choice is not None:
                    self._append(sequence, choice)
            except MonkError as error:
                self.fail(sequence, error)

    def draw_run(self, sequence: Sequence, guesses: list[int], logits: Logits) -> None:
        """As many tokens as single steps would have drawn: on until one is not the guessed one, or ends the thought.

        logits: [1 + guesses, vocab]. Each accepted guess counts as computed.
        """
        likeliest = sampler.greedy(logits) if sampler.is_plain_greedy(sequence.request.sampling) else []
        try:
            for row in range(len(guesses) + 1):
                plain = _is_plain(sequence)
                choice = sampler.Choice(likeliest[row]) if plain else self._choose(sequence, logits[row])
                if choice is None or not self._append(sequence, choice) or guesses[row : row + 1] != [choice.token]:
                    return
                sequence.computed += 1
        except MonkError as error:
            self.fail(sequence, error)

    def _choose(self, sequence: Sequence, logits: Logits) -> sampler.Choice | None:
        """A drawn token, or the one that is forced; None if the thought ended instead."""
        sampling, part = sequence.request.sampling, sequence.part
        recent = sequence.tokens[-sampling.repeat_last_n :] if sampling.repeat_last_n > 0 else []
        try:
            if part is not None and part.forced is not None:
                return _forced(part.forced, logits, sampling)
            if part is not None and part.is_open and sequence.guard is not None:
                free = sampler.choose(logits, sampling, recent, sequence.num_answered)
                if part.takes(free.token):
                    return free  # the grammar is the answer's
            return sampler.choose(logits, sampling, recent, sequence.num_answered, sequence.guard)
        except sampler.NothingAllowed:
            self.end(sequence, "stop")
        return None

    def _append(self, sequence: Sequence, choice: sampler.Choice) -> bool:
        """True if the thought goes on behind this token."""
        if self._vocabulary.is_end(choice.token) and choice.token != sequence.forced:
            self.end(sequence, "stop")
            return False
        sequence.tokens.append(choice.token)
        sequence.num_decoded += 1
        self._counters.decode_tokens += 1
        sequence.unsent_ids.append(choice.token)
        sequence.unsent_text.append(sequence.say(choice.token, self._vocabulary.piece(choice.token)))
        if choice.logprob is not None:
            sequence.unsent_logprobs.append(choice.logprob)
        if sequence.text.stopped:
            self.end(sequence, "stop")
        elif sequence.remaining <= 0:
            self.end(sequence, "length")
        return not sequence.text.stopped and sequence.remaining > 0

    # --- telling

    def progress(self, sequence: Sequence, done: int) -> None:
        """`done` tokens of the prompt are computed."""
        for listener in sequence.listeners:
            self._deliver(listener.id, PrefillProgress(min(done, sequence.target), sequence.target))

    def catch_up(self, sequence: Sequence, listener: Listener) -> None:
        """Tell a new listener what the others have heard."""
        sequence.listeners.append(listener)
        if sequence.computed:
            done = min(sequence.computed, sequence.target)
            self._deliver(listener.id, PrefillProgress(done, sequence.target))
        ids = sequence.tokens[sequence.target : len(sequence.tokens) - len(sequence.unsent_ids)]
        if ids:
            self._deliver(listener.id, NewTokens(tuple(ids), sequence.sent_text, tuple(sequence.sent_logprobs)))

    def part_with(self, sequence: Sequence, listener: Listener) -> None:
        """One listener has heard enough; with the last one the thought ends."""
        if len(sequence.listeners) == 1:
            self.end(sequence, "cancelled")
            return
        self._send(sequence)
        self._deliver(listener.id, sequence.finished("cancelled", listener))
        sequence.listeners.remove(listener)

    def end(self, sequence: Sequence, reason: FinishReason) -> None:
        rest = sequence.text.finish() if reason != "paused" else ""
        if rest:
            sequence.unsent_text.append(rest)
        self._send(sequence)
        for listener in sequence.listeners:
            self._deliver(listener.id, sequence.finished(reason, listener))
        self._leave(sequence, True)

    def fail(self, sequence: Sequence, error: MonkError) -> None:
        self._send(sequence)
        for listener in sequence.listeners:
            self._deliver(listener.id, error)
        self._leave(sequence, False)

    def flush(self, sequences: Iterable[Sequence], *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._flushed_at < self._flush_seconds:
            return
        self._flushed_at = now
        for sequence in sequences:
            self._send(sequence)

    def _send(self, sequence: Sequence) -> None:
        text = "".join(sequence.unsent_text)
        if not sequence.unsent_ids and not text:
            return
        message = NewTokens(tuple(sequence.unsent_ids), text, tuple(sequence.unsent_logprobs))
        for listener in sequence.listeners:
            self._deliver(listener.id, message)
        sequence.sent_text += text
        sequence.sent_logprobs += sequence.unsent_logprobs
        sequence.unsent_ids, sequence.unsent_text, sequence.unsent_logprobs = [], [], []


def _is_plain(sequence: Sequence) -> bool:
    """True if the likeliest token is the next one, without a closer look."""
    return sequence.forced is None and sampler.is_plain_greedy(sequence.request.sampling)


def _forced(token: int, logits: Logits, sampling: Sampling) -> sampler.Choice:
    """The token whatever the logits say; its logprob is what the model thought of it."""
    if not sampling.logprobs:
        return sampler.Choice(token)
    return sampler.choose(logits, Sampling(logit_bias={token: np.inf}, logprobs=sampling.logprobs), (), 0)


def repeated(logits: Logits, times: int) -> Logits:
    """One row for several thoughts with the same tokens; a copy, since the next call overwrites the original."""
    return np.repeat(logits, times, axis=0)
