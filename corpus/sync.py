"""Brings the database and the vectors in step with the corpus folder. The database is the truth; this is its only writer.

May be stopped or killed at any moment: vectors of a document are stored first, then its rows in one transaction, so a
document is known whole or not at all, and vectors computed before a crash are found again instead of computed anew. What a
crash leaves over is swept at the end of the next complete sync. A document of several parts (see parts.py) becomes known
part by part; until its last one it counts as unread, and is begun again.

Vectors of an older model are never mixed with a newer one's: the model is in the key that a document was indexed with. Where
only that key is old, a sync by day leaves the document as it is; the one that opens the night reads it again.

A file whose size and time did not change costs one stat. A folder that vanished removes nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from corpus.config import CorpusConfig
from corpus.embedding import EmbeddingModel
from corpus.folder import CorpusFile, OutOfReach, Scan, TryAgain, open_regular, scan
from corpus.parts import PART_CHARACTERS
from corpus.passages import Headers, Prepared, embedded_text, prepared
from corpus.process import Abandoned, ReadingProcess, ReadPart
from corpus.readers import READER_VERSION
from corpus.reading import Reading
from corpus.recognition import WithoutOcr
from corpus.store import VectorStore
from corpus.sync_report import Progress, Stop, SyncProgress, SyncReport
from corpus.terms import TERMS_VERSION
from db.library import DocumentRecord, LibraryTables, StoredDocument
from db.long_documents import LongDocuments
from monk.errors import DocumentUnreadable

_SETTLED_US = (
    2_000_000  # a file read this soon after its last change may have changed again within one tick of its clock
)


class Stopped(Exception):
    """The caller asked to stop."""


@dataclass(slots=True)
class _Read:
    """A document that was read and waits to be stored."""

    record: DocumentRecord
    passages: list[Prepared]
    is_new: bool


class Syncer:
    """One sync. Makes its own reading process; ends it."""

    def __init__(
        self,
        config: CorpusConfig,
        tables: LibraryTables,
        store: VectorStore,
        model: EmbeddingModel,
        progress: Progress,
        stop: Stop,
        *,
        long_documents: LongDocuments,
        rebuild: bool = True,
    ) -> None:
        """`rebuild`: read again what was indexed with another model or reader, although its file did not change."""
        self._config = config
        self._tables = tables
        self._long = long_documents
        self._rebuild = rebuild
        self._store = store
        self._model = model
        self._progress = progress
        self._stop = stop
        self._index_key = index_key(config, model.key)
        self._ocr_mark = config.recognition.mark
        self._reader = ReadingProcess(
            config.folder, config.reading_timeout_seconds, config.reading_memory_bytes, config.recognition, stop
        )
        self._report = SyncReport()
        self._waiting: list[_Read] = []
        self._done = 0
        self._total = 0

    def run(self) -> SyncReport:
        """Raises NotFound when the corpus folder is gone; then nothing was changed."""
        began = time.monotonic()
        found = scan(self._config.folder, self._config.max_file_bytes)
        known = {document.path: document for document in self._tables.documents()}
        try:
            self._read_all(found, known)
            self._remove(found, known)
            self._reconcile()
            self._report.complete = True
        except (Stopped, Abandoned):
            pass
        finally:
            self._reader.close()
        self._report.seconds = time.monotonic() - began
        return self._report

    def _read_all(self, found: Scan, known: dict[str, StoredDocument]) -> None:
        changed = [file for file in found.files if not self._is_unchanged(file, known.get(file.path))]
        self._report.unreadable += sorted(found.unreadable_folders.items())
        self._total = len(changed)
        for file in changed:
            self._check_stop()
            self._progress(SyncProgress(self._done, self._total, self._report.num_passages, file.path))
            self._take(file, known.get(file.path))
            self._done += 1
            if sum(len(read.passages) for read in self._waiting) >= self._config.sync_batch_passages:
                self._store_waiting()
        self._store_waiting()
        self._progress(SyncProgress(self._done, self._total, self._report.num_passages, ""))

    def _is_unchanged(self, file: CorpusFile, known: StoredDocument | None) -> bool:
        """Whether nothing need be done for a file; then it is in the report already."""
        if known is None or known.index_key is None or not _same_stat(file, known) or file.problem is not None:
            return False
        if self._is_current(known):
            self._report.unchanged += 1
        elif self._rebuild:
            return False
        else:
            self._report.outdated += 1
        self._tell_problem(known)
        return True

    def _is_current(self, known: StoredDocument) -> bool:
        """Whether a document was indexed as it would be now; one that needed OCR, also with the same OCR."""
        return known.index_key in (self._index_key, self._index_key + self._ocr_mark)

    def _take(self, file: CorpusFile, known: StoredDocument | None) -> None:
        """Read one file; what cannot be read is recorded at once."""
        try:
            if file.problem is not None:
                raise TryAgain(file.problem, file=file.path)
            if known is not None and self._is_same_content(file, known):
                self._touch(file, known)
                return
            with closing(self._reader.parts(file)) as parts:
                part = next(parts)
                if part.is_last:
                    record = self._record(file, part.reading, part.sha256)
                    self._waiting.append(_Read(record, self._prepared(file, part.reading), known is None))
                else:
                    self._take_long(file, known, part, parts)
        except OutOfReach as exc:
            self._report.unreadable.append((file.path, exc.message))  # what was known of it stays
        except DocumentUnreadable as exc:
            self._refuse(file, known, exc)

    def _take_long(
        self, file: CorpusFile, known: StoredDocument | None, part: ReadPart, parts: Iterator[ReadPart]
    ) -> None:
        """Store a document part by part: no more than one is ever held. Vectors that go are swept at the end."""
        self._store_waiting()
        unfinished = replace(self._record(file, part.reading, part.sha256), index_key=None)
        document_id = self._long.put(unfinished)
        self._long.clear(document_id)
        seen: Counter[bytes] = Counter()
        num_passages, wanted_ocr = 0, False
        while True:
            self._check_stop()
            passages = self._prepared(file, part.reading, seen)
            self._embed([(file.path, passage) for passage in passages])
            self._long.append(document_id, [passage.record for passage in passages], num_passages)
            num_passages, wanted_ocr = num_passages + len(passages), wanted_ocr or part.reading.wanted_ocr
            self._report.num_passages += len(passages)
            self._progress(SyncProgress(self._done, self._total, self._report.num_passages, file.path))
            if part.is_last:
                break
            part = next(parts)
        whole = replace(part.reading, wanted_ocr=wanted_ocr)
        record = self._record(file, whole, part.sha256)
        self._long.put(record)
        self._tell_stored(_Read(record, [], known is None))

    def _prepared(self, file: CorpusFile, reading: Reading, seen: Counter[bytes] | None = None) -> list[Prepared]:
        config = self._config
        return prepared(file.path, reading, self._model, config.chunk_tokens, config.chunk_overlap_tokens, seen)

    def _is_same_content(self, file: CorpusFile, known: StoredDocument) -> bool:
        """Whether a file with a new time still holds what is stored."""
        if not self._is_current(known) or known.size_bytes != file.size_bytes or not known.sha256:
            return False
        with os.fdopen(open_regular(file, self._config.folder), "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == known.sha256

    def _touch(self, file: CorpusFile, known: StoredDocument) -> None:
        self._tables.touch(
            known.id, size_bytes=file.size_bytes, modified_us=file.modified_us, read_at=datetime.now(UTC)
        )
        self._report.unchanged += 1
        self._tell_problem(known)

    def _tell_problem(self, known: StoredDocument) -> None:
        if known.problem:
            (self._report.lost if known.readable else self._report.unreadable).append((known.path, known.problem))

    def _refuse(self, file: CorpusFile, known: StoredDocument | None, exc: DocumentUnreadable) -> None:
        """Record an unreadable file. What was known of it goes: it could not be shown where it stands."""
        self._report.unreadable.append((file.path, exc.message))
        if known is not None and not known.readable and known.problem == exc.message and _same_stat(file, known):
            return
        record = DocumentRecord(
            path=file.path,
            sha256="",
            size_bytes=file.size_bytes,
            modified_us=file.modified_us,
            title=file.path.rpartition("/")[2],
            format="",
            num_pages=None,
            num_characters=0,
            readable=False,
            problem=exc.message,
            index_key=self._key_of_refused(exc),
            read_at=datetime.now(UTC),
        )
        if known is not None and known.num_characters > PART_CHARACTERS:
            self._long.clear(known.id)
        self._store.delete(self._tables.save([(record, [])]))

    def _key_of_refused(self, exc: DocumentUnreadable) -> str | None:
        if isinstance(exc, TryAgain):
            return None
        return self._index_key + self._ocr_mark if isinstance(exc, WithoutOcr) else self._index_key

    def _record(self, file: CorpusFile, reading: Reading, sha256: str) -> DocumentRecord:
        return DocumentRecord(
            path=file.path,
            sha256=sha256,
            size_bytes=file.size_bytes,
            modified_us=file.modified_us,
            title=reading.title,
            format=reading.format,
            num_pages=reading.num_pages,
            num_characters=reading.offset + len(reading.text),
            readable=True,
            problem="; ".join(reading.lost) or None,
            index_key=self._index_key + (self._ocr_mark if reading.wanted_ocr else ""),
            read_at=datetime.now(UTC),
            tags=reading.tags,
        )

    def _store_waiting(self) -> None:
        """Vectors first, rows after them: see the top of this file."""
        if not self._waiting:
            return
        pairs = [(read.record.path, passage) for read in self._waiting for passage in read.passages]
        self._embed(pairs)
        gone = self._tables.save(
            [(read.record, [passage.record for passage in read.passages]) for read in self._waiting]
        )
        self._store.delete(gone)
        self._report.num_passages += len(pairs)
        for read in self._waiting:
            self._tell_stored(read)
        self._waiting = []

    def _tell_stored(self, read: _Read) -> None:
        (self._report.added if read.is_new else self._report.updated).append(read.record.path)
        if read.record.problem:
            self._report.lost.append((read.record.path, read.record.problem))

    def _embed(self, pairs: list[tuple[str, Prepared]]) -> None:
        """Give every passage a vector that has none yet, some at a time, so that a stop is heard and a crash costs little."""
        there = self._store.existing([passage.record.id for _, passage in pairs])
        missing = [(path, passage) for path, passage in pairs if passage.record.id not in there]
        missing.sort(key=lambda pair: len(pair[1].embedded_text))
        size = self._config.sync_batch_passages
        for start in range(0, len(missing), size):
            self._check_stop()
            part = missing[start : start + size]
            vectors = self._model.embed_documents([passage.embedded_text for _, passage in part])
            self._store.add([passage.record.id for _, passage in part], vectors, [path for path, _ in part])
            self._report.num_embedded += len(part)

    def _remove(self, found: Scan, known: dict[str, StoredDocument]) -> None:
        """Forget documents whose files are gone; below a folder that cannot be listed nothing is."""
        present = {file.path for file in found.files}
        hidden = tuple(folder + "/" for folder in found.unreadable_folders)
        gone = [known[path] for path in known if path not in present and not path.startswith(hidden)]
        for document in gone:
            if document.num_characters > PART_CHARACTERS:
                self._long.clear(document.id)
        if gone:
            self._store.delete(self._tables.remove(document.id for document in gone))
            self._report.removed += [document.path for document in gone]

    def _reconcile(self) -> None:
        """Make the vectors exactly those of the database's passages."""
        wanted, there = self._tables.passage_ids(), self._store.all_ids()
        self._store.delete(sorted(there - wanted))
        if self._report.outdated:
            return  # the vectors of an older model stay until the night has made new ones
        missing = sorted(wanted - there)
        headers = Headers(self._model, self._config.chunk_tokens)
        size = self._config.sync_batch_passages
        for start in range(0, len(missing), size):
            self._check_stop()
            found = list(self._tables.passages(missing[start : start + size]).values())
            texts = [embedded_text(headers.above(row.title, row.heading), row.text) for row in found]
            self._store.add([row.id for row in found], self._model.embed_documents(texts), [row.path for row in found])
            self._report.num_embedded += len(found)
        self._store.drop_others()

    def _check_stop(self) -> None:
        if self._stop():
            raise Stopped


def index_key(config: CorpusConfig, model_key: str) -> str:
    """What a document was indexed with; another key means: read it again."""
    return f"r{READER_VERSION}.{TERMS_VERSION}-c{config.chunk_tokens}.{config.chunk_overlap_tokens}-{model_key}"


def _same_stat(file: CorpusFile, known: StoredDocument) -> bool:
    read_us = int(known.read_at.timestamp() * 1_000_000)
    settled = read_us - known.modified_us > _SETTLED_US
    return file.size_bytes == known.size_bytes and file.modified_us == known.modified_us and settled
