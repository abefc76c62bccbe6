"""The line before the lanes: who waits, who is next, and who is kept out of the streams because a better seat comes free."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Row

from monk.engine.order import Waiting, order
from monk.engine.sequence import Sequence, Tokens


class Line:
    """Thoughts without a seat. One thread.

    `cuts`: the model's memory can be cut, so that beginnings are worth keeping together. `step_seconds`: of a drawn token.
    """

    def __init__(self, cuts: bool, step_seconds: Callable[[], float]) -> None:
        self._cuts = cuts
        self._step_seconds = step_seconds
        self._waiting: list[Sequence] = []
        self._held_back: set[Sequence] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._waiting)

    def enter(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def enter_first(self, sequence: Sequence) -> None:
        """It had a seat already."""
        self._waiting.insert(0, sequence)

    def leave(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)

    def hold_back(self, sequences: Iterable[Sequence]) -> None:
        """Those, and nobody else, are not for the streams."""
        self._held_back = set(sequences)

    def of(self, wave: str | None) -> list[Sequence]:
        return [sequence for sequence in self._waiting if sequence.wave == wave]

    def first(self, wave: str | None, held: Row[Tokens]) -> Sequence:
        """Who gets the next seat; there must be somebody. `held`: what the slots hold."""
        return self._first_of(self._waiting, wave, held)

    def next_for_streams(self, wave: str | None, held: Row[Tokens]) -> Sequence | None:
        """The first of those who may go there; None if there is nobody, or the next one is of another wave."""
        allowed = [sequence for sequence in self._waiting if sequence not in self._held_back]
        if not allowed:
            return None
        sequence = self._first_of(allowed, wave, held)
        return sequence if sequence.wave == wave else None

    def _first_of(self, line: list[Sequence], wave: str | None, held: Row[Tokens]) -> Sequence:
        now = time.monotonic()
        waiting = [_waiting(sequence, now) for sequence in line]
        if not self._cuts:  # only whole prompts can be shared, and the shorter one comes first by itself
            return line[min(range(len(line)), key=lambda at: (-waiting[at].rank(0.0), waiting[at].wave != wave))]
        return line[order(waiting, held, wave, self._step_seconds())[0]]


def _waiting(sequence: Sequence, now: float) -> Waiting:
    waited = now - sequence.arrived_at
    deadline = sequence.request.deadline_seconds
    return Waiting(
        arrival=sequence.order,
        tokens=sequence.row,
        max_new_tokens=max(1, sequence.remaining),
        priority=sequence.request.priority,
        wave=sequence.wave,
        waited_seconds=waited,
        deadline_seconds=None if deadline is None else deadline - waited,
    )
