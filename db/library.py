"""Documents and passages: the only SQL for them. Knows rows, not files and not vectors.

A document and its passages change in one short transaction, so a reader sees the old document or the new one, whole. The
search index follows by triggers (see migration 0002).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    ColumnElement,
    Float,
    Integer,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    text,
    update,
)
from sqlalchemy.orm import Session

from db.database import Database
from db.models import EPOCH, Document
from db.words import IndexSize, WordCounts

T = TypeVar("T")
_ROWS_PER_STATEMENT = 500  # below SQLite's limit of variables

PASSAGES = table(
    "passages",
    *(column(name) for name in ("id", "document_id", "ordinal", "text", "heading")),
    *(column(name) for name in ("page", "line", "end_page", "end_line", "start", "end")),
    column("places", JSON),
)
TERMS = table("passage_terms", *(column(name) for name in ("id", "passage_id", "title", "heading", "text")))


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A document as it is to be stored. `problem` is why it is unreadable, or what was lost; `modified_us` since 1970."""

    path: str
    sha256: str
    size_bytes: int
    modified_us: int
    title: str
    format: str
    num_pages: int | None
    num_characters: int
    readable: bool
    problem: str | None
    index_key: str | None  # None: read it again at the next opportunity
    read_at: datetime
    tags: tuple[str, ...] = ()  # what it says of itself, in the form of `corpus.tags`


@dataclass(frozen=True, slots=True)
class StoredDocument(DocumentRecord):
    """The same with its number."""

    id: int = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class PassageRecord:
    """A passage as it is to be stored, with the search terms made of it."""

    id: str
    text: str
    heading: str
    page: int | None
    line: int | None
    end_page: int | None
    end_line: int | None
    start: int
    end: int
    places: tuple[tuple[int, int], ...]  # (offset in text, page or line); empty: newlines count
    title_terms: str
    heading_terms: str
    text_terms: str


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage with the document it stands in."""

    id: str
    document_id: int
    path: str
    title: str
    format: str
    ordinal: int
    text: str
    heading: str
    page: int | None
    line: int | None
    end_page: int | None
    end_line: int | None
    start: int
    end: int
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents count; empty fields do not restrict."""

    folder: str = ""  # relative to the corpus folder: "manuals" or "manuals/2024"
    formats: tuple[str, ...] = ()  # what a reader calls it ("markdown") or how the file's name ends ("md")
    paths: tuple[str, ...] = ()
    since: datetime | None = None  # the file was changed then or later ...
    until: datetime | None = None  # ... and before this
    tags: tuple[str, ...] = ()  # a document with any of these

    def __bool__(self) -> bool:
        return bool(self.folder.strip("/") or self.formats or self.paths or self.since or self.until or self.tags)

    def __str__(self) -> str:
        """For messages: "folder manuals, type pdf, changed since 2026-01-01"."""
        parts = [f"folder {self.folder.strip('/')}"] if self.folder.strip("/") else []
        parts += [f"type {' or '.join(self.formats)}"] if self.formats else []
        parts += [f"file {' or '.join(self.paths)}"] if self.paths else []
        parts += [f"tag {' or '.join(self.tags)}"] if self.tags else []
        parts += [f"changed since {self.since:%Y-%m-%d %H:%M%z}"] if self.since else []
        parts += [f"changed before {self.until:%Y-%m-%d %H:%M%z}"] if self.until else []
        return ", ".join(parts) or "every document"


@dataclass(frozen=True, slots=True)
class LibraryCounts:
    """What is stored."""

    num_documents: int  # readable
    num_unreadable: int
    num_passages: int
    num_characters: int
    num_pages: int
    last_read_at: datetime | None


class LibraryTables:
    """All questions to and changes of documents and passages. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._words = WordCounts(database)

    def documents(self) -> list[StoredDocument]:
        """Every document, by path."""
        with self._database.read() as session:
            return [_stored(row) for row in session.scalars(select(Document).order_by(Document.path))]

    def document(self, path: str) -> StoredDocument | None:
        """The document of this path."""
        with self._database.read() as session:
            row = session.scalar(select(Document).where(Document.path == path))
            return None if row is None else _stored(row)

    def document_by_id(self, document_id: int) -> StoredDocument | None:
        """The document of this number."""
        with self._database.read() as session:
            row = session.get(Document, document_id)
            return None if row is None else _stored(row)

    def paths(self, only: DocumentFilter) -> list[str]:
        """Paths of the readable documents that match, sorted."""
        query = select(Document.path).where(Document.state == "indexed", *_conditions(only)).order_by(Document.path)
        with self._database.read() as session:
            return list(session.scalars(query))

    def save(self, records: Sequence[tuple[DocumentRecord, Sequence[PassageRecord]]]) -> list[str]:
        """Store documents with their passages, each in place of what was known under its path; one transaction.

        Returns the ids of passages that are no longer there.
        """
        gone: list[str] = []
        with self._database.write() as session:
            for record, passages in records:
                document_id = put_document(session, record)
                gone += _put_passages(session, document_id, passages)
        return gone

    def touch(self, document_id: int, *, size_bytes: int, modified_us: int, read_at: datetime) -> None:
        """The file was seen again with the same content."""
        with self._database.write() as session:
            session.execute(
                update(Document)
                .where(Document.id == document_id)
                .values(size_bytes=size_bytes, modified_at=_moment(modified_us), read_at=read_at)
            )

    def remove(self, document_ids: Iterable[int]) -> list[str]:
        """Forget documents; returns the ids of their passages. One transaction."""
        gone: list[str] = []
        with self._database.write() as session:
            for part in _parts(sorted(document_ids)):
                gone += session.scalars(select(PASSAGES.c.id).where(PASSAGES.c.document_id.in_(part)))
                session.execute(delete(Document).where(Document.id.in_(part)))
        return gone

    def passage_ids(self) -> set[str]:
        """The ids of all passages."""
        with self._database.read() as session:
            return set(session.scalars(select(PASSAGES.c.id)))

    def passages(self, ids: Iterable[str]) -> dict[str, FoundPassage]:
        """The passages of these ids that exist."""
        found: dict[str, FoundPassage] = {}
        with self._database.read() as session:
            for part in _parts(list(dict.fromkeys(ids))):
                found.update({row.id: row for row in found_passages(session, PASSAGES.c.id.in_(part))})
        return found

    def passages_of(self, document_id: int) -> list[FoundPassage]:
        """The passages of a document in order."""
        with self._database.read() as session:
            return sorted(found_passages(session, PASSAGES.c.document_id == document_id), key=lambda row: row.ordinal)

    def search(self, terms: Sequence[str], limit: int, only: DocumentFilter) -> list[tuple[str, float]]:
        """(passage id, BM25 score, larger is better) of passages with any of `terms`, best first, ties by id."""
        if not terms:
            return []
        query = " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)
        ranked = (
            select(
                column("rowid", Integer).label("number"), literal_column("bm25(passage_search)", Float).label("rank")
            )
            .select_from(table("passage_search"))
            .where(text("passage_search MATCH :query"))
        )
        if only:
            documents = select(Document.id).where(
                *_conditions(only)
            )  # nested, not joined: else every passage is looked at
            passages = select(PASSAGES.c.id).where(PASSAGES.c.document_id.in_(documents))
            allowed = select(TERMS.c.id).where(TERMS.c.passage_id.in_(passages))
            # the plus keeps SQLite from starting the whole match anew for each of the allowed rows: minutes instead of 0.1 s
            ranked = ranked.where(literal_column("+passage_search.rowid", Integer).in_(allowed))
        best = ranked.order_by(ranked.selected_columns.rank).limit(limit).subquery()
        statement = select(TERMS.c.passage_id, best.c.rank).join(TERMS, TERMS.c.id == best.c.number)
        with self._database.read() as session:
            rows = session.execute(statement, {"query": query})
            return sorted(((str(id), -float(rank)) for id, rank in rows), key=lambda hit: (-hit[1], hit[0]))

    def num_passages_with(self, terms: Sequence[str]) -> dict[str, int]:
        """How many passages hold each term; terms that none holds are left out."""
        return self._words.num_passages_with(terms)

    def index_size(self) -> IndexSize:
        """Passages and terms of the full-text index, at once."""
        return self._words.size()

    def terms_of(self, ids: Sequence[str]) -> dict[str, str]:
        """All search terms of each of these passages, with spaces between."""
        found: dict[str, str] = {}
        with self._database.read() as session:
            for part in _parts(list(ids)):
                query = select(TERMS.c.passage_id, TERMS.c.title, TERMS.c.heading, TERMS.c.text)
                for id, *texts in session.execute(query.where(TERMS.c.passage_id.in_(part))):
                    found[str(id)] = " ".join(texts)
        return found

    def counts(self) -> LibraryCounts:
        """Totals over everything stored."""
        readable: ColumnElement[int] = func.coalesce(func.sum(cast(Document.state == "indexed", Integer)), 0)
        with self._database.read() as session:
            documents, good, characters, pages, last = session.execute(
                select(
                    func.count(),
                    readable,
                    func.coalesce(func.sum(Document.num_characters), 0),
                    func.coalesce(func.sum(Document.num_pages), 0),
                    func.max(Document.read_at),
                )
            ).one()
            passages = session.scalar(select(func.count()).select_from(PASSAGES)) or 0
        return LibraryCounts(good, documents - good, passages, characters, pages or 0, last)

    def num_passages(self) -> int:
        """Number of passages."""
        with self._database.read() as session:
            return int(session.scalar(select(func.count()).select_from(PASSAGES)) or 0)


def put_document(session: Session, record: DocumentRecord) -> int:
    """Store what is known of a document, in place of what was known under its path; returns its number."""
    values: dict[str, Any] = {
        "sha256": record.sha256,
        "size_bytes": record.size_bytes,
        "modified_at": _moment(record.modified_us),
        "title": record.title,
        "format": record.format,
        "num_pages": record.num_pages,
        "num_characters": record.num_characters,
        "state": "indexed" if record.readable else "unreadable",
        "problem": record.problem,
        "index_key": record.index_key,
        "read_at": record.read_at,
        "tags": list(record.tags),
    }
    known = session.scalar(select(Document.id).where(Document.path == record.path))
    if known is not None:
        session.execute(update(Document).where(Document.id == known).values(**values))
        return known
    return session.execute(insert(Document).values(path=record.path, **values).returning(Document.id)).scalar_one()


def _put_passages(session: Session, document_id: int, passages: Sequence[PassageRecord]) -> list[str]:
    """Replace all passages of a document; returns the ids that went. A passage that stays is written anew with its place."""
    before = set(session.scalars(select(PASSAGES.c.id).where(PASSAGES.c.document_id == document_id)))
    session.execute(delete(PASSAGES).where(PASSAGES.c.document_id == document_id))
    if passages:
        session.execute(insert(PASSAGES), [passage_row(document_id, i, passage) for i, passage in enumerate(passages)])
        session.execute(insert(TERMS), [terms_row(passage) for passage in passages])
    return sorted(before - {passage.id for passage in passages})


def passage_row(document_id: int, ordinal: int, passage: PassageRecord) -> dict[str, Any]:
    """A passage as a row of its table."""
    return {
        "id": passage.id,
        "document_id": document_id,
        "ordinal": ordinal,
        "text": passage.text,
        "heading": passage.heading,
        "page": passage.page,
        "line": passage.line,
        "end_page": passage.end_page,
        "end_line": passage.end_line,
        "start": passage.start,
        "end": passage.end,
        "places": [list(place) for place in passage.places],
    }


def terms_row(passage: PassageRecord) -> dict[str, Any]:
    """Its search terms as a row of theirs."""
    return {
        "passage_id": passage.id,
        "title": passage.title_terms,
        "heading": passage.heading_terms,
        "text": passage.text_terms,
    }


def found_passages(session: Session, condition: ColumnElement[bool]) -> list[FoundPassage]:
    """Passages with their documents, in no order."""
    query = (
        select(Document.path, Document.title, Document.format, PASSAGES)
        .join(PASSAGES, PASSAGES.c.document_id == Document.id)
        .where(condition)
    )
    return [
        FoundPassage(**{**row, "places": tuple((offset, number) for offset, number in row["places"])})
        for row in (dict(found) for found in session.execute(query).mappings())
    ]


def _conditions(only: DocumentFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    folder = only.folder.strip("/")
    if folder:  # not LIKE: that takes "Notes" for "notes"
        conditions.append(func.substr(Document.path, 1, len(folder) + 1).in_((folder, folder + "/")))
    if only.formats:
        suffixes = [Document.path.endswith("." + name.lstrip("."), autoescape=True) for name in only.formats]
        conditions.append(or_(Document.format.in_(only.formats), *suffixes))
    if only.paths:
        conditions.append(Document.path.in_(only.paths))
    if only.tags:
        tag = func.json_each(Document.tags).table_valued("value")
        conditions.append(select(tag.c.value).where(tag.c.value.in_(only.tags)).correlate(Document).exists())
    if only.since is not None:
        conditions.append(Document.modified_at >= only.since)
    if only.until is not None:
        conditions.append(Document.modified_at < only.until)
    return conditions


def _stored(row: Document) -> StoredDocument:
    return StoredDocument(
        id=row.id,
        path=row.path,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        modified_us=(row.modified_at - EPOCH) // timedelta(microseconds=1),
        title=row.title,
        format=row.format,
        num_pages=row.num_pages,
        num_characters=row.num_characters,
        readable=row.state == "indexed",
        problem=row.problem,
        index_key=row.index_key,
        read_at=row.read_at,
        tags=tuple(row.tags),
    )


def _moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _ROWS_PER_STATEMENT):
        yield items[start : start + _ROWS_PER_STATEMENT]
