"""In which order waiting thoughts get a slot. Pure: values in, positions out; no clock, no model.

What a whole known queue allows, from the strongest reason to the weakest:

- Rank: the owner's priority comes first. Every `AGEING_SECONDS` of waiting count as one step of priority, so that
  nothing waits for ever: whoever comes later than `overtaking_seconds` after a thought can never get before it. A
  deadline about to be missed counts as `URGENT_STEPS`.
- Urgency: within a rank the nearest of the pressing deadlines first. One that has passed presses no longer: the seconds
  spent on it would make others late as well.
- Wave: within a rank, thoughts of the wave that runs (its adapters, its settings). A change empties all slots and forgets
  what they hold.
- Family: thoughts that share at least half of their prompt run back to back, and those whose beginning a slot holds now
  come first: prefill of a shared document is paid once, as long as nothing else has pushed it out.
- Length: long families and long answers first. Short ones fill the gaps at the end, when a last long thought alone in
  the batch would waste most of every pass over the weights.
- Arrival.

A caller that cannot mix waves admits up to the first thought of another one, and lets the slots run empty then.
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from monk.engine.sequence import Tokens, common_prefix

HIGHEST_PRIORITY = 100
AGEING_SECONDS = 600.0  # of waiting, for one step of priority; within it the cheaper order may hold a thought back
URGENT_STEPS = 10
URGENT_FACTOR = 2.0  # a deadline presses when less than this multiple of the expected seconds is left
PROMPT_TOKEN_WEIGHT = 0.1  # of a prompt token against a drawn one, in time
LEAST_FAMILY_TOKENS = 16


@dataclass(frozen=True)
class Waiting:
    """One thought in the line. Seconds are as of now; `tokens` are those it starts with."""

    arrival: int  # rising
    tokens: Tokens
    max_new_tokens: int
    priority: int = 0
    waited_seconds: float = 0.0
    deadline_seconds: float | None = None  # left until it; negative when it has passed
    wave: str | None = None

    @cached_property
    def work(self) -> float:
        """Drawn tokens it costs at most, its prompt included at the price of prompts."""
        return len(self.tokens) * PROMPT_TOKEN_WEIGHT + self.max_new_tokens

    def presses(self, seconds_per_token: float) -> bool:
        """True while its deadline can be met, but not for long."""
        left = self.deadline_seconds
        return left is not None and 0.0 <= left <= URGENT_FACTOR * self.work * seconds_per_token

    def rank(self, seconds_per_token: float) -> int:
        """Priority with what waiting and a pressing deadline add. Higher is served first."""
        aged = int(self.waited_seconds // AGEING_SECONDS)
        return self.priority + aged + URGENT_STEPS * self.presses(seconds_per_token)


def order(
    waiting: Row[Waiting], held: Row[Tokens] = (), wave: str | None = None, seconds_per_token: float = 0.0
) -> list[int]:
    """Positions in `waiting`, the next to be admitted first.

    `held`: what the slots hold or will hold. `wave`: the one that runs. `seconds_per_token` of a drawn token of one
    thought; 0 if unknown, and then no deadline presses.
    """
    if len(waiting) < 2:
        return list(range(len(waiting)))
    families = _families(waiting)
    warm = {family for at, family in enumerate(families) if _is_held(waiting[at].tokens, held)}
    longest: dict[tuple[int, int], float] = {}  # of each family among its equals in rank
    ranks = [item.rank(seconds_per_token) for item in waiting]
    for family, rank, item in zip(families, ranks, waiting, strict=True):
        longest[family, rank] = max(longest.get((family, rank), 0.0), item.work)

    def key(at: int) -> tuple[float, ...]:
        item, family = waiting[at], families[at]
        pressing = item.presses(seconds_per_token)
        return (
            -ranks[at],
            not pressing,
            (item.deadline_seconds or 0.0) if pressing else 0.0,
            item.wave != wave,
            waves[item.wave],
            family not in warm,
            -longest[family, ranks[at]],
            family,
            -item.work,
            item.arrival,
        )

    waves = _first_arrivals(waiting)
    return sorted(range(len(waiting)), key=key)


def overtaking_seconds(priority: int) -> float:
    """How much later another thought must come to be sure that it is served after one of this priority."""
    return (HIGHEST_PRIORITY + URGENT_STEPS - priority + 1) * AGEING_SECONDS


def _first_arrivals(waiting: Row[Waiting]) -> dict[str | None, int]:
    """For each wave the arrival of its first thought: they run in that order."""
    firsts: dict[str | None, int] = {}
    for item in waiting:
        firsts[item.wave] = min(item.arrival, firsts.get(item.wave, item.arrival))
    return firsts


def _families(waiting: Row[Waiting]) -> list[int]:
    """A number for each thought, the same for those whose prompts share half of the shorter one or more: the first arrival
    among them.
    """
    # sorted by their tokens, relatives are neighbours
    line = sorted(range(len(waiting)), key=lambda at: waiting[at].tokens.astype(">u4").tobytes())
    families = [0] * len(waiting)
    for place, at in enumerate(line):
        before = line[place - 1]
        related = place > 0 and _are_related(waiting[before].tokens, waiting[at].tokens)
        families[at] = families[before] if related else place
    firsts: dict[int, int] = {}
    for family, item in zip(families, waiting, strict=True):
        firsts[family] = min(item.arrival, firsts.get(family, item.arrival))
    return [firsts[family] for family in families]


def _are_related(left: Tokens, right: Tokens) -> bool:
    return common_prefix(left, right) >= max(LEAST_FAMILY_TOKENS, min(len(left), len(right)) / 2)


def _is_held(tokens: Tokens, held: Row[Tokens]) -> bool:
    """True if a slot holds at least half of it: the rest is cheaper now than later."""
    wanted = max(LEAST_FAMILY_TOKENS, len(tokens) / 2)
    return any(common_prefix(tokens, np.asarray(other)) >= wanted for other in held)
