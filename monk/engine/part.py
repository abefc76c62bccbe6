"""The thinking part of one answer: whether it is in it, and what is said for it when its budget is used up.

    before ──opening──▶ thinking ──ending──────────────────────▶ answering
       └──any other token──────┼──────────────────────────────────────▲
                               └─budget used up─▶ closing, token by token ─┘

Budget forcing (Muennighoff et al. 2025, arXiv:2501.19393): a model that thinks to the end of its limit has said nothing.
When its share is used up, the tokens that end the thinking part are said for it, and it answers with the rest. A function
of the tokens alone: a thought that was cut stands where it stood. Works on token ids; never sees text or logits.
"""

from __future__ import annotations

from typing import Literal

from monk.engine.client import Thinking

State = Literal["before", "thinking", "closing", "answering"]


class ThinkingPart:
    """Follows one answer. `num_tokens` were thought, forced ones not counted; `was_cut`: it did not end by itself."""

    def __init__(self, marks: Thinking) -> None:
        self._marks = marks
        self._state: State = "thinking" if marks.opened else "before"
        self._said: list[int] = []  # of the part, the opening mark included
        self._num_closed = 0
        self.was_cut = False
        self.forced_last = False  # the newest token was not the model's choice

    @classmethod
    def behind(cls, marks: Thinking, tokens: tuple[int, ...]) -> ThinkingPart:
        """As it stands when these were said."""
        part = cls(marks)
        for token in tokens:
            part.push(token)
        return part

    @property
    def num_tokens(self) -> int:
        return len(self._said)

    @property
    def is_open(self) -> bool:
        """True while the next token does not yet belong to the answer, or may open the part."""
        return self._state != "answering"

    @property
    def forced(self) -> int | None:
        """The token that comes next whatever the model says; None: what it draws."""
        if self._state == "closing":
            return self._marks.closing[self._num_closed]
        limit = self._marks.tokens
        if self._state == "thinking" and limit is not None and len(self._said) >= limit:
            return self._marks.closing[0]
        return None

    def takes(self, token: int) -> bool:
        """True if this token, drawn next, belongs to the part and not to the answer."""
        return self._state == "thinking" or (self._state == "before" and self._opens(token))

    def push(self, token: int) -> bool:
        """Go on behind a token of the answer. True if it belongs to the part."""
        self.forced_last = token == self.forced
        if self._state == "answering":
            return False
        if self.forced_last:
            self._close()
        elif self._state == "before":
            return self._begin(token)
        else:
            self._said.append(token)
            ending = self._marks.ending
            if tuple(self._said[-len(ending) :]) == ending:
                self._state = "answering"
        return True

    def _opens(self, token: int) -> bool:
        """A mark of several tokens that is left half said opens the part all the same: what follows is no answer yet."""
        return bool(self._said) or token == self._marks.opening[0]

    def _begin(self, token: int) -> bool:
        if not self._opens(token):
            self._state = "answering"
            return False
        matches = token == self._marks.opening[len(self._said)]
        self._said.append(token)
        if not matches or len(self._said) == len(self._marks.opening):
            self._state = "thinking"
        return True

    def _close(self) -> None:
        self.was_cut, self._state = True, "closing"
        self._num_closed += 1
        if self._num_closed == len(self._marks.closing):
            self._state = "answering"
