"""A judged collection in the library's own tables and vectors, made once and kept in a cache folder.

Vectors of single texts are kept beside it, so that an index of the same passages costs no second embedding.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from corpus.config import CorpusConfig
from corpus.embedding import EmbeddingModel, SentenceModel, SharedModel
from corpus.passages import prepared
from corpus.places import Places
from corpus.reading import Block, Reading
from corpus.store import VectorStore
from corpus.sync import index_key
from db.database import Database
from db.library import DocumentRecord, LibraryTables
from tests.bench.retrieval.judged import Collection

if TYPE_CHECKING:
    from corpus.embedding import Vectors

DOCUMENTS_AT_ONCE = 64
WHOLE_TOKENS = 4096  # a passage of this size is a whole abstract; the model cuts it at what it can read
_TITLE_TOKENS = 512


class RememberingModel:
    """A model whose vectors are kept in a file, by the text's hash. Counting goes to the model itself."""

    def __init__(self, model: EmbeddingModel, file: Path, max_tokens: int | None = None) -> None:
        self._model = model
        self._max_tokens = max_tokens
        self._known = sqlite3.connect(file, check_same_thread=False)
        self._known.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        self._known.execute("PRAGMA synchronous = OFF")  # a cache: what a crash loses is computed again

    @property
    def key(self) -> str:
        """The model's."""
        return self._model.key

    @property
    def name(self) -> str:
        """The model's."""
        return self._model.name

    @property
    def max_tokens(self) -> int:
        """The model's, or as given."""
        return self._max_tokens or self._model.max_tokens

    def count(self, texts: list[str]) -> list[int]:
        """Tokens of each text."""
        return self._model.count(texts)

    def embed_documents(self, texts: list[str]) -> Vectors:
        """Rows in the order of `texts`; only those never seen before are computed."""
        keys = [_key(self._model.key, "document", text) for text in texts]
        found = [self._recall(key) for key in keys]
        missing = [i for i, vector in enumerate(found) if vector is None]
        if missing:
            made = self._model.embed_documents([texts[i] for i in missing])
            for i, vector in zip(missing, made, strict=True):
                found[i] = vector
                self._keep(keys[i], vector)
            self._known.commit()
        return np.stack([vector for vector in found if vector is not None])

    def embed_query(self, text: str) -> Vectors:
        """Computed once."""
        key = _key(self._model.key, "query", text)
        vector = self._recall(key)
        if vector is None:
            vector = self._model.embed_query(text)
            self._keep(key, vector)
            self._known.commit()
        return vector

    def close(self) -> None:
        """Close the file."""
        self._known.close()

    def _recall(self, key: bytes) -> Vectors | None:
        row = self._known.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], np.float32)

    def _keep(self, key: bytes, vector: Vectors) -> None:
        self._known.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, vector.astype(np.float32).tobytes()))


@dataclass(frozen=True, slots=True)
class Index:
    """A collection that can be searched. Documents' paths are their ids."""

    collection: Collection
    tables: LibraryTables
    store: VectorStore
    model: RememberingModel
    plain_model: SharedModel


@contextmanager
def indexed(collection: Collection, cache: Path, *, whole: bool, threads: int = 2) -> Iterator[Index]:
    """The index of a collection, from the cache or made now. `whole`: one passage for each document, as published figures
    have it; otherwise passages as a sync cuts them."""
    cache.mkdir(parents=True, exist_ok=True)
    plain = SharedModel(SentenceModel(None, threads=threads, batch=32), 32)
    model = RememberingModel(plain, cache / "vectors.sqlite", WHOLE_TOKENS + _TITLE_TOKENS if whole else None)
    config = CorpusConfig(cache, cache, chunk_tokens=WHOLE_TOKENS) if whole else CorpusConfig(cache, cache)
    folder = cache / f"{collection.name}-{_fingerprint(collection, index_key(config, model.key))}"
    folder.mkdir(exist_ok=True)
    database = Database(folder / "monk.sqlite")
    database.migrate()
    store = VectorStore(folder / "chroma", model.key)
    index = Index(collection, LibraryTables(database), store, model, plain)
    try:
        _fill(index, config)
        yield index
    finally:
        store.close()
        database.close()
        model.close()


def _fill(index: Index, config: CorpusConfig) -> None:
    """Store every document that is not there yet, vectors first as a sync does."""
    known = {document.path for document in index.tables.documents()}
    missing = [id for id in index.collection.documents if id not in known]
    for start in range(0, len(missing), DOCUMENTS_AT_ONCE):
        part = missing[start : start + DOCUMENTS_AT_ONCE]
        pairs = [(_record(id, index.collection), _reading(*index.collection.documents[id])) for id in part]
        cut = [
            (record, prepared(record.path, reading, index.model, config.chunk_tokens, config.chunk_overlap_tokens))
            for record, reading in pairs
        ]
        passages = [(record.path, passage) for record, found in cut for passage in found]
        vectors = index.model.embed_documents([passage.embedded_text for _, passage in passages])
        index.store.add([passage.record.id for _, passage in passages], vectors, [path for path, _ in passages])
        index.tables.save([(record, [passage.record for passage in found]) for record, found in cut])
        if os.isatty(2):
            print(f"\r{index.collection.name}: {start + len(part)} of {len(missing)}", end="", flush=True)


def _reading(title: str, text: str) -> Reading:
    text = text or title
    return Reading(title, "text", text, (Block("paragraph", 0, len(text), ()),), Places("line", ()))


def _record(id: str, collection: Collection) -> DocumentRecord:
    title, text = collection.documents[id]
    return DocumentRecord(
        path=id,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        size_bytes=len(text),
        modified_us=0,
        title=title,
        format="text",
        num_pages=None,
        num_characters=len(text),
        readable=True,
        problem=None,
        index_key="bench",
        read_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _fingerprint(collection: Collection, key: str) -> str:
    facts = json.dumps([sorted(collection.documents.items()), key])
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


def _key(model: str, use: str, text: str) -> bytes:
    return hashlib.sha256(f"{model}\0{use}\0{text}".encode()).digest()
