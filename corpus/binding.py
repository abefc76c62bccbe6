"""Which number belongs to which name or condition in a sentence that lists several: in "3 GiB at 32k and 12 GiB at 128k"
the 12 belongs to 128k, and in "A takes 32 GiB, and B 40 GiB" the 40 to B."""

from __future__ import annotations

import re
from collections.abc import Iterator

from corpus.names import coded_names
from corpus.numerals import Number, numbers_in

_CLAUSE = re.compile(
    r"[,;](?=\s)|[，；、]|\s(?:and|while|whereas|but|und|während|sondern|aber|et|tandis que|mais|и|а|но)\s"
)


def crossed(statement: str, sentence: str) -> bool:
    """Whether the statement takes a name or number from one clause of the sentence and joins it with another's number.

    Noticed where the clause has a number of the same unit that the statement passes over.
    """
    clauses = list(_clauses(sentence))
    if len(clauses) < 2:
        return False
    names, numbers = coded_names(statement), numbers_in(statement)
    bound = [number for clause_names, found in clauses if clause_names & names for number in found]
    loose = [number for number in numbers if not _in(number, bound)]
    return any(
        _touches(clause_names, clause_numbers, names, numbers) and _passed_over(clause_numbers, numbers, loose)
        for clause_names, clause_numbers in clauses
    )


def _clauses(sentence: str) -> Iterator[tuple[set[str], list[Number]]]:
    for clause in _CLAUSE.split(sentence):
        found = coded_names(clause), numbers_in(clause)
        if found[0] or found[1]:
            yield found


def _touches(clause_names: set[str], clause_numbers: list[Number], names: set[str], numbers: list[Number]) -> bool:
    return bool(clause_names & names) or any(_in(number, clause_numbers) for number in numbers)


def _passed_over(clause: list[Number], said: list[Number], loose: list[Number]) -> bool:
    """A number of the clause is not said, and another one of its unit, not of this clause, is.

    `loose`: what is said of numbers that stand in no clause with a name that is said.
    """
    return any(
        here.unit is not None
        and not _in(here, said)
        and any(number.unit == here.unit and not _in(number, clause) for number in loose)
        for here in clause
    )


def _in(number: Number, numbers: list[Number]) -> bool:
    return any(number.same_as(other) for other in numbers)
