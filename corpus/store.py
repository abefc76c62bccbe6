"""Vectors on disk, by passage id. The only import of chromadb; knows no text and no document but its path.

The database is the truth about which passages exist: whoever finds an id here that is not there ignores it, and `sync`
brings the two together. One process may have the folder open (the daemon). Vectors of one embedding model are one collection,
so those of an older model are never mixed in.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monk.errors import HomeUnusable

if TYPE_CHECKING:
    from corpus.embedding import Vectors

_PREFIX = "passages-"
_IDS_PER_PAGE = 10_000
_GRAPH: Any = {"space": "cosine", "ef_construction": 128, "ef_search": 256, "max_neighbors": 24}
_LEAST_FREE_BYTES = 4 << 20  # below this a write may end in the middle
_COPIES = 4  # of the vectors: Chroma's log, its journal, the graph, and the graph while it is written anew


class VectorStore:
    """The collection of one embedding model. Threads may share it."""

    def __init__(self, folder: Path, model_key: str) -> None:
        """Opens or makes it. Other models' collections stay until `drop_others`. Raises HomeUnusable on a full disk."""
        self._folder = folder
        self._name = _PREFIX + model_key
        self._lock = threading.RLock()
        self._client: Any = None  # Any: its types lag behind it
        self._opened: Any = None
        self._batch = 1
        _ = self._collection

    def add(self, ids: list[str], vectors: Vectors, paths: list[str]) -> None:
        """Store vectors, one row per id; an id that is there already gets the new vector. Raises HomeUnusable."""
        with self._writing(vectors.nbytes) as collection:
            for start in range(0, len(ids), self._batch):
                part = slice(start, start + self._batch)
                collection.upsert(
                    ids=ids[part],
                    embeddings=vectors[part],
                    metadatas=[{"path": path} for path in paths[part]],
                )

    def delete(self, ids: Iterable[str]) -> None:
        """Remove vectors; unknown ids are no error. Raises HomeUnusable."""
        for part in _batches(list(ids), self._batch):
            with self._writing() as collection:
                collection.delete(ids=part)

    def existing(self, ids: list[str]) -> set[str]:
        """Those of `ids` that have a vector."""
        found: set[str] = set()
        for part in _batches(ids, self._batch):
            found.update(self._collection.get(ids=part, include=[])["ids"])
        return found

    def all_ids(self) -> set[str]:
        """Every id with a vector."""
        found: set[str] = set()
        for offset in range(0, self.count() + 1, _IDS_PER_PAGE):
            found.update(self._collection.get(limit=_IDS_PER_PAGE, offset=offset, include=[])["ids"])
        return found

    def nearest(self, vector: Vectors, limit: int, paths: list[str] | None = None) -> list[tuple[str, float]]:
        """(id, cosine similarity) of the nearest passages, best first, ties by id; only in documents `paths` if given."""
        if paths == []:
            return []
        answer = self._collection.query(
            query_embeddings=[vector],
            n_results=limit,
            where=None if paths is None else {"path": {"$in": paths}},
            include=["distances"],
        )
        found = zip(answer["ids"][0], answer["distances"][0], strict=True)
        return sorted(((id, 1.0 - float(distance)) for id, distance in found), key=lambda hit: (-hit[1], hit[0]))

    def similarities(self, vector: Vectors, ids: list[str]) -> dict[str, float]:
        """Cosine similarity of each of `ids` that has a vector."""
        import numpy as np

        if not ids:
            return {}
        found = self._collection.get(ids=ids, include=["embeddings"])
        if not found["ids"]:
            return {}
        rows = np.asarray(found["embeddings"], np.float32)  # [found, dim]
        cosines = rows @ vector / np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(vector), 1e-12)
        return {id: float(cosine) for id, cosine in zip(found["ids"], cosines, strict=True)}

    def count(self) -> int:
        """Number of vectors."""
        return int(self._collection.count())

    def drop_others(self) -> list[str]:
        """Delete the collections of other embedding models; returns their keys."""
        _ = self._collection  # opens the client
        names = [collection.name for collection in self._client.list_collections()]
        others = [name for name in names if name.startswith(_PREFIX) and name != self._name]
        for name in others:
            with self._writing():
                self._client.delete_collection(name)
        return [name.removeprefix(_PREFIX) for name in others]

    def close(self) -> None:
        """Close the files. The next use opens them again."""
        with self._lock:
            client, self._client, self._opened = self._client, None, None
        if client is not None:
            client.close()

    @property
    def _collection(self) -> Any:
        with self._lock:
            if self._opened is None:
                with self._told():
                    self._open()
            return self._opened

    def _open(self) -> None:
        import chromadb
        from chromadb.config import Settings

        self._folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(anonymized_telemetry=False, allow_reset=False)
        self._client = chromadb.PersistentClient(str(self._folder), settings=settings)
        self._batch = int(self._client.get_max_batch_size())
        self._opened = self._client.get_or_create_collection(
            self._name, embedding_function=None, configuration={"hnsw": _GRAPH}
        )

    @contextmanager
    def _writing(self, num_bytes: int = 0) -> Iterator[Any]:
        """The collection for one writer, and room for what it writes."""
        with self._lock:
            collection = self._collection
            self._check_room(num_bytes)
            with self._told():
                yield collection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """After a failed write the client is closed: a connection of Chroma's keeps its lock, and the next write would wait
        1000 seconds for it without letting any other thread of Python run (2026-11-24)."""
        try:
            yield
        except Exception:
            self.close()
            self._check_room(0)  # Chroma has no class of its own for a full disk
            raise

    def _check_room(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self._folder if self._folder.exists() else self._folder.parent).free
        if free < _LEAST_FREE_BYTES + _COPIES * num_bytes:
            raise HomeUnusable(f"{self._folder}: the disk is full ({free >> 10} KiB are free); free some space")


def _batches(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
