"""What a decode step computes of each sequence: its last token, and behind it the tokens it is guessed to say next.

Joins who guesses (`drafts.py`) with how much pays (`speculation.py`), for one lane. The voice draws from the rows one after
another, exactly as it would in single steps, and stops at the first token that is not the guessed one: an answer is the
same with guesses and without, but for the order in which a batch of another shape sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from monk.engine.counters import Counters
from monk.engine.drafts import Drafts
from monk.engine.lookup import NO_DRAFT, Draft
from monk.engine.native import Run
from monk.engine.sequence import Sequence
from monk.engine.speculation import LONGEST_DRAFT, Pacer, Wish


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One sequence's share of a step. `draft` is what was proposed for position `start` of its tokens, and `run` has as
    much of it as pays."""

    sequence: Sequence
    run: Run
    draft: Draft
    start: int

    @classmethod
    def of(cls, sequence: Sequence, draft: Draft = NO_DRAFT, count: int = 0) -> Bundle:
        tokens = [sequence.tokens[-1], *_filled(draft, sequence.tokens[-1], count)]
        run = Run(sequence.slot, sequence.computed, tokens, outputs=len(tokens))
        return cls(sequence, run, draft, len(sequence.tokens))

    @property
    def drawn(self) -> list[int]:
        """What the sequence has said since."""
        return self.sequence.tokens[self.start :]

    @property
    def num_accepted(self) -> int:
        """Guesses the sequence went on with."""
        guesses = self.run.tokens[1:]
        places = range(min(len(guesses), len(self.drawn)))
        return next((place for place in places if guesses[place] != self.drawn[place]), len(places))


class Guessing:
    """Of one lane. `drafts` None: nothing is guessed."""

    def __init__(self, drafts: Drafts | None, pacer: Pacer, counters: Counters) -> None:
        self._drafts = drafts
        self._pacer = pacer
        self._counters = counters

    def bundles(self, sequences: list[Sequence], room: Callable[[Sequence], int]) -> list[Bundle]:
        """The next step's, in the same order (of slots). `room`: rows a sequence's memory takes beside its own."""
        drafts = self._drafts
        if drafts is None:
            return [Bundle.of(sequence) for sequence in sequences]
        for sequence in sequences:
            drafts.follow(sequence.order, sequence.request, sequence.tokens)
        wanted = [drafts.propose(item.order, min(LONGEST_DRAFT, item.remaining - 1)) for item in sequences]
        wishes = [Wish(item.slot, reach, room(item)) for item, (_, reach) in zip(sequences, wanted, strict=True)]
        counts = self._pacer.choose(wishes)
        return [
            Bundle.of(item, draft, count) for item, (draft, _), count in zip(sequences, wanted, counts, strict=True)
        ]

    def learn(self, bundles: list[Bundle], seconds: float) -> None:
        """What came of a step that took so long, drawing included."""
        if self._drafts is None:
            return
        self._pacer.tell(
            [bundle.run.slot for bundle in bundles], [bundle.run.outputs - 1 for bundle in bundles], seconds
        )
        for bundle in bundles:
            self._drafts.learn(bundle.sequence.order, bundle.draft, bundle.drawn)
            self._counters.drafted_tokens += bundle.run.outputs - 1
            self._counters.accepted_tokens += bundle.num_accepted


def _filled(draft: Draft, last: int, count: int) -> tuple[int, ...]:
    """`count` guesses, the draft's first; the rest repeats its end, or `last`: rows that only keep the pass in one."""
    filler = draft.ids[-1] if draft.ids else last
    return (*draft.ids, *[filler] * count)[:count]
