"""What a job may spend: how many of a thought's tokens go into its thinking part, how many are left for the next thought, and
the seconds a job has used.

A share of 0.7 of 1,000 tokens means that at the latest the 700th token ends the thinking part, the words that end it
included, so that the answer has the other 300.
"""

from __future__ import annotations

import time

from monk.engine.client import EngineClient, Segment, Thinking
from monk.engine.marks import marks_of
from monk.engine.request import leaves_an_answer

LEAST_TOKENS = 16  # a thought may have, when those before it used the job's budget up: a verdict, or a few words
# Said before the mark, so that the model does not end in the middle of a sentence; the literature forces the mark alone or
# a cue like this one.
SENTENCE = "\n\nMy time to think is used up, so I answer now from what I have.\n"


def thinking_of(engine: EngineClient, wanted: float | None, max_tokens: int, *, opened: bool) -> Thinking | None:
    """The thinking part of one thought; None for a model that marks none. `opened`: the prompt has begun it.

    `wanted`: up to 1 a share of `max_tokens`, above that tokens; None or 1: the model ends it itself. Where `max_tokens` is
    too small for the sentence, the mark alone ends it; where it is too small for that, nothing does.
    """
    marks = marks_of(engine.card())
    if marks is None:
        return None

    def ids(text: str, *, control: bool = True) -> tuple[int, ...]:
        return tuple(engine.tokenize([Segment(text, control)], add_bos=False))

    opening, ending, mark = ids(marks.opening), ids(marks.ending), ids(marks.closing)
    if wanted is None or wanted == 1:
        return Thinking(opening, ending, mark, opened)
    most = min(int(wanted * max_tokens if wanted < 1 else wanted), max_tokens - 1)
    for closing in ((*ids(SENTENCE, control=False), *mark), mark):
        part = Thinking(opening, ending, closing, opened, max(0, most - len(closing)))
        if most >= len(closing) and leaves_an_answer(part, max_tokens):
            return part
    bare = Thinking(opening, ending, mark, opened, 0)
    return bare if leaves_an_answer(bare, max_tokens) else Thinking(opening, ending, mark, opened)


class TokenBudget:
    """What is left of a job's tokens. In the order in which its thoughts are asked for, so that a job that begins again
    after a crash asks for the same ones."""

    def __init__(self, tokens: int | None) -> None:
        self._left = tokens

    def share(self, max_tokens: int, count: int = 1) -> int:
        """Tokens each of `count` thoughts may have that are thought side by side."""
        if self._left is None:
            return max_tokens
        return min(max_tokens, max(LEAST_TOKENS, self._left // count))

    def spend(self, tokens: int) -> None:
        if self._left is not None:
            self._left = max(0, self._left - tokens)


class TimeBudget:
    """Seconds a job has run, those of its earlier attempts included, and how many are left of its minutes."""

    def __init__(self, minutes: float | None, used_seconds: float) -> None:
        self._most = float("inf") if minutes is None else minutes * 60
        self._used_before = used_seconds
        self._begun = time.monotonic()

    def used(self) -> float:
        return self._used_before + time.monotonic() - self._begun

    def left(self) -> float:
        return self._most - self.used()
