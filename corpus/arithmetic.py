"""Numbers that are written nowhere but follow from two that are, by one step: shown with the step, never as read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from corpus.numerals import Number

_SMALLEST = 10  # below, some two numbers of a sentence nearly always give it by chance
_STEPS: tuple[tuple[str, Callable[[Decimal, Decimal], Decimal], bool], ...] = (
    ("+", lambda a, b: a + b, True),
    ("−", lambda a, b: a - b, False),
    ("×", lambda a, b: a * b, True),
    ("÷", lambda a, b: a / b, False),
)


@dataclass(frozen=True, slots=True)
class Computed:
    """A number with the step that gives it: "12 × 16 = 192"."""

    number: str
    step: str

    def to_json(self) -> dict[str, str]:
        """{number, step}."""
        return {"number": self.number, "step": self.step}


def computed(
    wanted: Number, said: Sequence[Number], there: Sequence[Number], asked: Sequence[Number]
) -> Computed | None:
    """How `wanted` follows from two numbers that the reader can see; None when it does not.

    Both must stand in the evidence (`there`) or in the question (`asked`), at least one of them in the evidence, and at
    least one in the statement (`said`): a number pulled together from what the answer does not mention is no computation.
    """
    if abs(wanted.value) < _SMALLEST:
        return None
    spoken = [*said, *asked]
    known = _distinct([number for number in (*there, *asked) if number.spelled[:1].isdigit()])
    seen = [number for number in known if _in(number, spoken) and number.value != wanted.value]
    for i, left in enumerate(seen):
        for j, right in enumerate(seen):
            if i == j or not all(_in(left, kind) or _in(right, kind) for kind in (there, said)):
                continue
            for sign, step, either_way in _STEPS:
                if sign in "+−" and left.unit != right.unit:
                    continue
                if not (either_way and j < i) and (sign != "÷" or right.value) and _gives(step, left, right, wanted):
                    return Computed(wanted.spelled, f"{left.spelled} {sign} {right.spelled} = {wanted.spelled}")
    return None


def _gives(step: Callable[[Decimal, Decimal], Decimal], left: Number, right: Number, wanted: Number) -> bool:
    """Whether the step gives the number, rounded as it is written and not by more than a hundredth."""
    off = abs(step(left.value, right.value) - wanted.value)
    return off <= Decimal("0.5").scaleb(-wanted.decimals) and off <= abs(wanted.value) / 100


def _in(number: Number, numbers: Sequence[Number]) -> bool:
    return any(number.same_as(other) for other in numbers)


def _distinct(numbers: Sequence[Number]) -> list[Number]:
    found: list[Number] = []
    for number in numbers:
        if not any(number.value == other.value for other in found):
            found.append(number)
    return found
