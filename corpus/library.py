"""The library: everything the daemon asks of the corpus, behind one object that threads may share.

Nothing heavy is loaded before it is needed: the model and the vectors come with the first sync or search. One sync runs at a
time; searches go on meanwhile and wait for the model one batch at most.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from corpus.config import CorpusConfig
from corpus.embedding import EmbeddingModel, SentenceModel, SharedModel
from corpus.folder import CorpusFile, find
from corpus.places import Place
from corpus.process import ReadingProcess
from corpus.reading import Reading
from corpus.rerank import CrossEncoderModel
from corpus.retrieval import EVERYWHERE, Hit, Retriever, hit_of
from corpus.sections import section, together
from corpus.store import VectorStore
from corpus.sync import Syncer
from corpus.sync_report import Progress, Stop, SyncReport
from db.database import Database
from db.library import DocumentFilter, LibraryTables, StoredDocument
from db.long_documents import LongDocuments
from monk.errors import Conflict, DocumentUnreadable, NotFound

DEFAULT_HITS = 8


@dataclass(frozen=True, slots=True)
class WholeDocument:
    """All of a document's text, and where each character of it stands."""

    path: str
    title: str
    format: str
    text: str
    sha256: str  # of the bytes it was read from
    num_pages: int | None
    lost: tuple[str, ...]
    reading: Reading

    def place_at(self, offset: int) -> Place:
        """Page or line of `text[offset]`."""
        return self.reading.place_at(offset)

    def hit(self, start: int, end: int) -> Hit:
        """`text[start:end]` as if it had been searched for, so that it can be cited. `passage_id` is empty: none is stored."""
        first, last = self.place_at(start), self.place_at(max(start, end - 1))
        paged = first.unit == "page"
        return Hit(
            passage_id="",
            score=1.0,
            file=self.path,
            title=self.title,
            heading="",
            page=first.number if paged else None,
            line=None if paged else first.number,
            end_page=last.number if paged else None,
            end_line=None if paged else last.number,
            text=self.text[start:end],
            start=start,
            end=end,
            format=self.format,
            places=self.reading.places.within(start, end),
        )


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What the library holds and with what it reads. Answered from the database alone, at once."""

    folder: str
    folder_exists: bool
    embedding_model: str
    model_loaded: bool
    num_documents: int
    num_unreadable: int
    num_passages: int
    num_characters: int
    num_pages: int
    last_read_at: datetime | None
    syncing: bool

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        last = self.last_read_at.isoformat() if self.last_read_at else None
        return {name: getattr(self, name) for name in self.__slots__} | {"last_read_at": last}


class Library:
    """One corpus. Threads may share it; `close()` when no thread uses it any more."""

    def __init__(
        self, config: CorpusConfig, database: Database, *, model: Callable[[], EmbeddingModel] | None = None
    ) -> None:
        """`model` makes the embedding model when it is first needed; by default the one of the config."""
        self.config = config
        self.tables = LibraryTables(database)
        self._long_documents = LongDocuments(database)
        self._make_model = model or self._sentence_model
        self._opening = threading.Lock()
        self._syncing = threading.Lock()
        self._reading = threading.Lock()
        self._model: SharedModel | None = None
        self._store: VectorStore | None = None
        self._reranker: CrossEncoderModel | None = None

    def sync(self, progress: Progress | None = None, stop: Stop | None = None, *, rebuild: bool = True) -> SyncReport:
        """Read what is new or changed, forget what is gone. Returns early, incomplete, once `stop()` is true.

        Without `rebuild`, documents that only an older model or reader has read stay as they are, and are counted.

        Raises NotFound when the corpus folder is gone (nothing is changed then), ModelUnusable when there is no embedding
        model, and Conflict while another sync runs.
        """
        if not self._syncing.acquire(blocking=False):
            raise Conflict("the corpus is being read already; wait for it to end")
        try:
            store, model = self._open()
            ignore: Progress = lambda _: None  # noqa: E731
            return Syncer(
                self.config,
                self.tables,
                store,
                model,
                progress or ignore,
                stop or _never,
                long_documents=self._long_documents,
                rebuild=rebuild,
            ).run()
        finally:
            self._syncing.release()

    def search(self, query: str, k: int = DEFAULT_HITS, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        """The `k` best passages for a question, best first; nothing when nothing is there.

        Raises NotFound when `only` leaves no document: a wrong folder must not look like an honest "nothing found".
        """
        if not query.strip() or self.tables.index_size().num_passages == 0:
            return []
        if only and not self.tables.paths(only):
            raise NotFound(
                f"the corpus holds no readable document with {only}; `monk corpus status` says what has been read",
                param="only",
            )
        store, model = self._open()
        return Retriever(self.tables, store, model, self._open_reranker()).search(query, k, only)

    def read_document(self, document: str | int) -> WholeDocument:
        """The whole text of a file of the corpus, read now, by its path or the number of its document.

        Raises NotFound, naming what is near, and DocumentUnreadable.
        """
        file = self._file(document)
        if file.problem is not None:
            raise DocumentUnreadable(f"{file.path} {file.problem}", file=file.path)
        with self._reading:
            config = self.config
            reader = ReadingProcess(
                config.folder, config.reading_timeout_seconds, config.reading_memory_bytes, config.recognition
            )
            try:
                reading, sha256 = reader.read(file)
            except DocumentUnreadable as exc:
                raise DocumentUnreadable(f"{file.path} {exc.message}", file=file.path) from exc
            finally:
                reader.close()
        return WholeDocument(
            path=file.path,
            title=reading.title,
            format=reading.format,
            text=reading.text,
            sha256=sha256,
            num_pages=reading.num_pages,
            lost=reading.lost,
            reading=reading,
        )

    def passage(self, passage_id: str) -> Hit:
        """A stored passage. Raises NotFound when it is there no more."""
        found = self.tables.passages([passage_id]).get(passage_id)
        if found is None:
            raise NotFound(f"no passage {passage_id}; its document has changed or is gone")
        return hit_of(found)

    def passage_at(self, path: str, number: int) -> Hit:
        """The passage of a document that begins last at or before a page or line; its first one before that.

        Raises NotFound when nothing is indexed under this path.
        """
        document = self.tables.document(path)
        passages = self.tables.passages_of(document.id) if document is not None else []
        if not passages:
            raise NotFound(f"nothing is indexed of {path!r}; monk corpus status lists what is", param="file")
        hits = [hit_of(passage) for passage in passages]
        return next((hit for hit in reversed(hits) if hit.place.number <= number), hits[0])

    def sample(self, count: int, seed: int) -> list[Hit]:
        """So many passages, drawn from all of them by the seed, in the order of their ids."""
        ids = sorted(self.tables.passage_ids())
        chosen = random.Random(seed).sample(ids, min(count, len(ids)))  # a choice, not a secret
        return [self.passage(id_) for id_ in sorted(chosen)]

    def section_of(self, hit: Hit, max_characters: int) -> Hit:
        """The widest section around a hit that has at most `max_characters`: the whole document if that fits; where not even
        the innermost section does, the passages around the hit. The hit itself when its document has changed meanwhile.
        """
        rows = self.passages_around(hit, max_characters)
        return hit if rows == [hit] else together(rows)

    def passages_around(self, hit: Hit, max_characters: int) -> list[Hit]:
        """The passages of that section in order, the hit among them as it was found; at least the hit."""
        start, end = hit.start - max_characters, hit.end + max_characters
        rows = section(hit, self._long_documents.passages_within(hit.file, start, end), max_characters)
        return [hit if row.id == hit.passage_id else hit_of(row) for row in rows] or [hit]

    def documents(self) -> list[StoredDocument]:
        """Every document known, readable or not, by path."""
        return self.tables.documents()

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of every file that could not be read."""
        return [
            (document.path, document.problem or "") for document in self.tables.documents() if not document.readable
        ]

    def status(self) -> LibraryStatus:
        """Never waits for a sync or a model."""
        counts = self.tables.counts()
        return LibraryStatus(
            folder=str(self.config.folder),
            folder_exists=self.config.folder.is_dir(),
            embedding_model=self.config.embedding_model or "all-MiniLM-L6-v2",
            model_loaded=self._model is not None,
            num_documents=counts.num_documents,
            num_unreadable=counts.num_unreadable,
            num_passages=counts.num_passages,
            num_characters=counts.num_characters,
            num_pages=counts.num_pages,
            last_read_at=counts.last_read_at,
            syncing=self._syncing.locked(),
        )

    def close(self) -> None:
        """Close the vectors and drop the model. The next use opens them again."""
        with self._opening:
            store, self._store, self._model, self._reranker = self._store, None, None, None
        if store is not None:
            store.close()

    def _open(self) -> tuple[VectorStore, SharedModel]:
        with self._opening:
            if self._model is None:
                self._model = SharedModel(self._make_model(), self.config.embedding_batch)
            if self._store is None:
                self._store = VectorStore(self.config.chroma_dir, self._model.key)
            return self._store, self._model

    def _open_reranker(self) -> CrossEncoderModel | None:
        with self._opening:
            if self._reranker is None and self.config.reranker is not None:
                self._reranker = CrossEncoderModel(self.config.reranker, threads=self.config.embedding_threads)
            return self._reranker

    def _sentence_model(self) -> EmbeddingModel:
        config = self.config
        return SentenceModel(config.embedding_model, threads=config.embedding_threads, batch=config.embedding_batch)

    def _file(self, document: str | int) -> CorpusFile:
        path = self._path(document)
        file = find(self.config.folder, path, self.config.max_file_bytes)
        if file is None:
            known = [stored.path for stored in self.tables.documents()]
            near = get_close_matches(path, known, n=3, cutoff=0.5)
            hint = f"; did you mean {', '.join(near)}?" if near else f"; it is looked for in {self.config.folder}"
            raise NotFound(f"no document {path!r} in the corpus{hint}", param="document")
        return file

    def _path(self, document: str | int) -> str:
        if isinstance(document, int):
            stored = self.tables.document_by_id(document)
            if stored is None:
                raise NotFound(f"no document with number {document}", param="document")
            return stored.path
        return document.strip().removeprefix("./")


def _never() -> bool:
    return False
