"""How many guessed tokens each sequence takes into the next decode step, so that most tokens come per second.

Pure arithmetic over chances and measured seconds: no model, no clock. One `Pacer` serves one context.

With k guesses a sequence adds 1 + k rows, and gets 1 + (the chance that the first is accepted) + (that the first two
are) + ... tokens. What the rows cost depends on the context. In a unified one all rows of a step are one pass over the
weights, so the likeliest guesses of all sequences are taken until the next one no longer pays. In a context of streams
llama.cpp packs only neighbours with equal numbers of rows into one pass: either all sequences bring equally many
(the gaps are filled with guesses nobody believes in), or several passes are counted at their price.

Where no number of guesses beats the plain step, there are none, and since chances are learnt without speculating, that
costs nothing. Only what rows cost must be tried: one step now and then, seldom where it did not change the decision.
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from monk.engine.callcost import CallCost

LONGEST_DRAFT = 16
LEAST_CHANCE = 0.05  # a guess less likely costs more arithmetic here than it can bring
LEAST_GAIN = 1.05  # tokens per second against the plain step: below, measuring errors decide
PROBE_GAIN = 1.25  # if rows were free: below, it is not worth finding out what they cost
PROBE_PASSES = 2  # over the weights, at most
PROBE_DRAFT = 4  # guesses a sequence takes along to find out
FIRST_PROBE_STEPS, LAST_PROBE_STEPS = 16, 1024  # between two trials; doubled by each that changed nothing
PLAIN_EVERY_STEPS = 64  # a step without guesses among those with: what it would cost must not be forgotten

Candidate = tuple[list[int], float]  # guesses of each sequence, and the tokens that a step with them brings on average
Passes = list[tuple[int, int]]  # (sequences, rows of all of them together) of each pass over the weights


@dataclass(frozen=True)
class Wish:
    """What one decoding sequence could guess. `reach`: for each guessed token the chance that it is accepted, falling.
    `room`: how many rows beside its own its memory still takes."""

    slot: int
    reach: tuple[float, ...] = ()
    room: int = LONGEST_DRAFT

    @cached_property
    def _worth(self) -> list[float]:
        return [0.0, *accumulate(self.reach)]

    def worth(self, count: int) -> float:
        """Tokens that so many guesses bring, on average. Those it has not got bring nothing."""
        return self._worth[min(count, len(self.reach))]


class Pacer:
    """Chooses drafts for the steps of one context and learns from what they took.

    `streams`: the context keeps a memory per sequence. `most_rows`: of one call.
    """

    def __init__(self, *, streams: bool, most_rows: int) -> None:
        self._streams = streams
        self._most_rows = most_rows
        self._cost = CallCost()
        self._steps_plain = 0  # since the last step with guesses
        self._steps_guessing = 0  # since the last step without
        self._probe_steps = FIRST_PROBE_STEPS
        self._probing = False

    def choose(self, wishes: Row[Wish]) -> list[int]:
        """Guesses to take along for each sequence; in streams perhaps more than it has: fill up with any token.

        `wishes` are in order of slots, at least one.
        """
        nothing = [0] * len(wishes)
        if not any(wish.reach for wish in wishes) or self._steps_guessing >= PLAIN_EVERY_STEPS:
            return nothing
        if _most_tokens(wishes) < LEAST_GAIN * len(wishes):  # not even if rows were free
            return nothing
        counts, gain = self._best(wishes)
        self._probing = gain <= LEAST_GAIN
        if self._probing:
            counts = self._probe(wishes) if self._steps_plain >= self._probe_steps else nothing
        elif self._probe_steps > FIRST_PROBE_STEPS:
            self._probe_steps = FIRST_PROBE_STEPS
        return counts

    def tell(self, slots: Row[int], counts: Row[int], seconds: float) -> None:
        """A step with these numbers of guesses took so long."""
        self._cost.tell(self._passes(slots, counts), max(seconds, 1e-9))
        if any(counts):
            self._steps_plain, self._steps_guessing = 0, self._steps_guessing + 1
            if self._probing:
                self._probe_steps = min(2 * self._probe_steps, LAST_PROBE_STEPS)
        else:
            self._steps_plain, self._steps_guessing = self._steps_plain + 1, 0

    # --- the best of all choices

    def _best(self, wishes: Row[Wish]) -> tuple[list[int], float]:
        """(guesses, tokens per second against the plain step); none when none gains enough."""
        slots, number = [wish.slot for wish in wishes], len(wishes)
        plain = self._cost.of(self._passes(slots, [0] * number)) / number  # seconds per token
        best, best_gain = [0] * number, LEAST_GAIN
        for counts, tokens in self._candidates(wishes):
            if tokens <= best_gain * number:
                continue  # guesses never make a step cheaper
            if tokens * plain <= best_gain * self._cost.at(number, number + sum(counts)):
                continue  # nor do several passes
            gain = tokens * plain / self._cost.of(self._passes(slots, counts))
            if gain > best_gain:
                best, best_gain = counts, gain
        return best, best_gain

    def _candidates(self, wishes: Row[Wish]) -> list[Candidate]:
        return self._common(wishes) if self._streams else self._likeliest(wishes)

    def _likeliest(self, wishes: Row[Wish]) -> list[Candidate]:
        """The n likeliest guesses of all, for each n. No other choice of n guesses brings more tokens."""
        guesses = [
            (-chance, row)
            for row, wish in enumerate(wishes)
            for chance in wish.reach[: max(0, min(wish.room, LONGEST_DRAFT))]
            if chance >= LEAST_CHANCE
        ]
        counts, tokens, found = [0] * len(wishes), float(len(wishes)), []
        for minus_chance, row in sorted(guesses)[: max(0, self._most_rows - len(wishes))]:
            counts[row] += 1
            tokens -= minus_chance
            found.append((list(counts), tokens))
        return found

    def _common(self, wishes: Row[Wish]) -> list[Candidate]:
        """For each length: all sequences fill up to it, or only those bring it that have so many guesses."""
        found, number, room = [], len(wishes), min(wish.room for wish in wishes)
        most = self._most_rows - number
        for length in range(1, min(LONGEST_DRAFT, max(len(wish.reach) for wish in wishes)) + 1):
            worth = [wish.worth(length) for wish in wishes]
            able = [len(wish.reach) >= length <= wish.room for wish in wishes]
            if 0 < length * sum(able) <= most:
                alone = [length if one else 0 for one in able]
                found.append((alone, number + sum(brought for brought, one in zip(worth, able, strict=True) if one)))
            if length <= room and length * number <= most:
                found.append(([length] * number, number + sum(worth)))
        return found

    def _passes(self, slots: Row[int], counts: Row[int]) -> Passes:
        if self._streams:
            return stream_passes(slots, [1 + count for count in counts])
        return [(len(counts), len(counts) + sum(counts))]

    # --- finding out

    def _probe(self, wishes: Row[Wish]) -> list[int]:
        """A short trial of guesses that would pay if rows were free; none if they would not even then.

        Only in few passes: what many take is known to be dear without trying (nine passes of a step of 32 took four times
        the plain step, and every trial splits otherwise).
        """
        slots = [wish.slot for wish in wishes]
        found = [
            (counts, tokens)
            for counts, tokens in self._candidates(wishes)
            if max(counts) <= PROBE_DRAFT and tokens >= PROBE_GAIN * len(wishes)
        ]
        few = [one for one in found if len(self._passes(slots, one[0])) <= PROBE_PASSES]
        best, _ = max(few, key=lambda one: one[1], default=([0] * len(wishes), 0.0))
        return best


def _most_tokens(wishes: Row[Wish]) -> float:
    """Of one step in which all guesses are taken along."""
    return len(wishes) + sum(wish.worth(len(wish.reach)) for wish in wishes)


def stream_passes(slots: Row[int], rows: Row[int]) -> Passes:
    """How llama.cpp splits a batch in a context of streams (`split_equal`, sequential): neighbours, equally many rows.

    `slots` rising, `rows` of each. A gap in the slots or a sequence with fewer rows ends a pass.
    """
    waiting, left = list(slots), list(rows)
    passes = []
    while waiting:
        size = next(
            (place for place in range(1, len(waiting)) if waiting[place] > waiting[place - 1] + 1), len(waiting)
        )
        taken = min(left[:size])
        passes.append((size, size * taken))
        over = [place for place in range(size) if left[place] > taken]
        waiting = [waiting[place] for place in over] + waiting[size:]
        left = [left[place] - taken for place in over] + left[size:]
    return passes
