"""Documents too long for one transaction, and stretches of them. Knows rows, not files and not vectors.

While a long document is being stored its rows appear part by part, and its `index_key` is empty: whoever is interrupted
begins it again. No transaction holds the database for longer than a second or so.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from db.database import Database
from db.library import (
    PASSAGES,
    TERMS,
    DocumentRecord,
    FoundPassage,
    PassageRecord,
    found_passages,
    passage_row,
    put_document,
    terms_row,
)
from db.models import Document

_ROWS_PER_TRANSACTION = 2000


class LongDocuments:
    """All questions to and changes of a document's passages by their order. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, record: DocumentRecord) -> int:
        """Store what is known of a document, its passages as they are; returns its number."""
        with self._database.write() as session:
            return put_document(session, record)

    def clear(self, document_id: int) -> None:
        """Forget the passages of a document, some at a time."""
        some = select(PASSAGES.c.id).where(PASSAGES.c.document_id == document_id).limit(_ROWS_PER_TRANSACTION)
        while True:
            with self._database.write() as session:
                gone = session.execute(delete(PASSAGES).where(PASSAGES.c.id.in_(some)).returning(PASSAGES.c.id)).all()
            if not gone:
                return

    def append(self, document_id: int, passages: Sequence[PassageRecord], first_ordinal: int) -> None:
        """Add passages behind those that are there."""
        for start in range(0, len(passages), _ROWS_PER_TRANSACTION):
            part = passages[start : start + _ROWS_PER_TRANSACTION]
            with self._database.write() as session:
                session.execute(
                    insert(PASSAGES),
                    [passage_row(document_id, first_ordinal + start + i, passage) for i, passage in enumerate(part)],
                )
                session.execute(insert(TERMS), [terms_row(passage) for passage in part])

    def passages_within(self, path: str, start: int, end: int) -> list[FoundPassage]:
        """The passages of a document that stand, wholly or in part, in characters `start` to `end`, in order."""
        inside = (Document.path == path) & (PASSAGES.c.end > start) & (PASSAGES.c.start < end)
        with self._database.read() as session:
            return sorted(found_passages(session, inside), key=lambda passage: passage.ordinal)
