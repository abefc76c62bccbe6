"""How likely a guessed token is the one the model will draw, learnt as thoughts go on. Numbers only.

A guess behind a long match holds more often than one behind a short one, and a text that has been copied so far will be
copied further. So chances are kept per length of match, for each thought on its own, and start from those of the whole
engine. What is learnt needs no speculation: every guess, sent to the model or not, is compared with what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence as Row

from monk.engine.lookup import Draft

_BOUNDS = (4, 5, 7, 10, 16)  # of match lengths: 3, 4, 5-6, 7-9, 10-15, 16 and more
_FIRST_CHANCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # below what texts of people gave (0.45 to 0.85): proof comes cheap
_PRIOR_WEIGHT = 4.0  # as many guesses as this count what others experienced
_MEMORY = 64.0  # guesses after which an experience has faded to 1/e


class Trust:
    """Chances by length of match. `parent` is what a new one believes; without it, figures from texts of people."""

    def __init__(self, parent: Trust | None = None) -> None:
        self._parent = parent
        self._tested = [0.0] * len(_FIRST_CHANCES)
        self._right = [0.0] * len(_FIRST_CHANCES)

    def chance(self, matched: int) -> float:
        """Probability, in (0, 1), that the token guessed behind `matched` equal ones is right."""
        return self._chance(_class(matched))

    def reach(self, draft: Draft) -> tuple[float, ...]:
        """For each guessed token the probability that it is accepted: it and all before it are right. Falling."""
        reached, chances = 1.0, []
        for place in range(len(draft.ids)):
            reached *= self.chance(draft.matched + place)
            chances.append(reached)
        return tuple(chances)

    def learn(self, draft: Draft, drawn: Row[int]) -> None:
        """Compare a guess with the tokens that were really drawn from its place on."""
        for place, (guessed, token) in enumerate(zip(draft.ids, drawn, strict=False)):
            self._note(_class(draft.matched + place), guessed == token)
            if guessed != token:
                return

    def _note(self, kind: int, right: bool) -> None:
        fading = 1.0 - 1.0 / _MEMORY
        self._tested[kind] = self._tested[kind] * fading + 1.0
        self._right[kind] = self._right[kind] * fading + right
        if self._parent is not None:
            self._parent._note(kind, right)

    def _chance(self, kind: int) -> float:
        prior = self._parent._chance(kind) if self._parent is not None else _FIRST_CHANCES[kind]
        return (self._right[kind] + _PRIOR_WEIGHT * prior) / (self._tested[kind] + _PRIOR_WEIGHT)


def _class(matched: int) -> int:
    return sum(matched >= bound for bound in _BOUNDS)
