"""How often words stand in the passages: what their weights are made of. Remembered until the index changes.

Counting a common word means reading all of its places, some ten milliseconds among a hundred thousand passages; and common
words come back in every question.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import column, func, select, table, text
from sqlalchemy.orm import Session

from db.database import Database

_REMEMBERED = 50_000  # words; more are forgotten all at once
_VOCABULARY = table("passage_vocabulary", column("term"), column("doc"))
_TERMS = table("passage_terms", column("id"))


@dataclass(frozen=True, slots=True)
class IndexSize:
    """What the full-text index holds."""

    num_passages: int
    num_terms: int  # of all passages, titles and headings together


class WordCounts:
    """The counts of one index. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._state: tuple[bytes, int] | None = None
        self._known: dict[str, int] = {}

    def size(self) -> IndexSize:
        """From the record that SQLite itself keeps for its BM25; at once."""
        with self._database.read() as session:
            return _size(_state(session)[0])

    def num_passages_with(self, terms: Sequence[str]) -> dict[str, int]:
        """How many passages hold each term; terms that none holds are left out."""
        with self._database.read() as session:
            state = _state(session)
            with self._lock:
                if state != self._state or len(self._known) > _REMEMBERED:
                    self._state, self._known = state, {}
                known = self._known
            missing = [term for term in terms if term not in known]
            if missing:
                known.update({**dict.fromkeys(missing, 0), **_counted(session, missing)})
        return {term: known[term] for term in terms if known[term]}


def _counted(session: Session, terms: list[str]) -> dict[str, int]:
    rows = session.execute(select(_VOCABULARY.c.term, _VOCABULARY.c.doc).where(_VOCABULARY.c.term.in_(terms)))
    return {str(term): int(number) for term, number in rows}


def _state(session: Session) -> tuple[bytes, int]:
    """Another after every change: the record of sizes, and the number of the newest row."""
    record = session.execute(text("SELECT block FROM passage_search_data WHERE id = 1")).scalar()
    return bytes(record or b""), int(session.scalar(select(func.max(_TERMS.c.id))) or 0)


def _size(record: bytes) -> IndexSize:
    """The record is the number of rows, then the terms of each column, as SQLite's varints."""
    numbers = list(_varints(record))
    return IndexSize(numbers[0], sum(numbers[1:])) if numbers else IndexSize(0, 0)


def _varints(record: bytes) -> Iterable[int]:
    """Seven bits a byte, the most significant first, the last byte without its top bit."""
    value = 0
    for byte in record:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            yield value
            value = 0
