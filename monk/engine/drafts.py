"""The guesses of all thoughts in the engine: who remembers what, together with whom, and how far it is believed.

Works on token ids; one thread. Thoughts of one group share a memory (see `lookup.py`), each has its own trust. The
memories of groups without a running thought are kept for a while: the next question on the same document may come soon.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from collections.abc import Sequence as Row
from dataclasses import dataclass, field

import numpy as np

from monk.engine.client import ThoughtRequest
from monk.engine.lookup import Draft, Lookup, Trail
from monk.engine.trust import Trust

MOST_IDLE_NODES = 1 << 20  # tokens remembered for groups without a thought (24 MB)


@dataclass(slots=True)
class _Group:
    lookup: Lookup = field(default_factory=Lookup)
    num_running: int = 0


@dataclass(slots=True)
class _Guesser:
    """What one thought brings along."""

    group: _Group
    trail: Trail
    trust: Trust
    num_known: int  # tokens the trail has taken in


class Drafts:
    """Guesses for running thoughts, by a number that is theirs alone."""

    def __init__(self) -> None:
        self._trust = Trust()
        self._groups: OrderedDict[Hashable, _Group] = OrderedDict()  # the longest unused first
        self._guessers: dict[int, _Guesser] = {}

    def follow(self, number: int, request: ThoughtRequest, tokens: Row[int]) -> None:
        """Take in what a thought holds by now; the first call begins it. `tokens` only ever grow."""
        guesser = self._guessers.get(number)
        if guesser is None:
            self._begin(number, request, tokens)
            return
        for token in tokens[guesser.num_known :]:
            guesser.trail.append(token)
        guesser.num_known = len(tokens)

    def end(self, number: int) -> None:
        """The thought is over, or never began."""
        guesser = self._guessers.pop(number, None)
        if guesser is not None:
            guesser.group.num_running -= 1
            self._forget_idle()

    def propose(self, number: int, longest: int) -> tuple[Draft, tuple[float, ...]]:
        """(a guess of at most so many tokens, the chance of each to be accepted) for a followed thought."""
        guesser = self._guessers[number]
        draft = guesser.trail.draft(longest)
        return draft, guesser.trust.reach(draft)

    def learn(self, number: int, draft: Draft, drawn: Row[int]) -> None:
        """What was really drawn in the place of a guess, sent or not. No news about a thought that has ended."""
        guesser = self._guessers.get(number)
        if guesser is not None:
            guesser.trust.learn(draft, drawn)

    @property
    def num_nodes(self) -> int:
        """Tokens remembered."""
        return sum(len(group.lookup) for group in self._groups.values())

    def _begin(self, number: int, request: ThoughtRequest, tokens: Row[int]) -> None:
        group = self._group_for(group_key(request))
        group.num_running += 1
        trail = group.lookup.open(np.asarray(tokens, np.int32))
        self._guessers[number] = _Guesser(group, trail, Trust(self._trust), len(tokens))

    def _group_for(self, key: Hashable) -> _Group:
        group = self._groups.get(key)
        if group is None or group.lookup.full:
            group = self._groups[key] = _Group()  # thoughts in a full one keep it alive until they end
        self._groups.move_to_end(key)
        return group

    def _forget_idle(self) -> None:
        idle = [(key, group) for key, group in self._groups.items() if group.num_running == 0]
        nodes = sum(len(group.lookup) for _, group in idle)
        for key, group in idle:
            if nodes <= MOST_IDLE_NODES:
                return
            nodes -= len(group.lookup)
            del self._groups[key]


def group_key(request: ThoughtRequest) -> Hashable:
    """Thoughts with the same key learn from each other: what the caller named, else the very same prompt."""
    return request.group or hash(request.prompt)
