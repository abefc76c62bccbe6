"""How much of the embedding model's own speed a first sync keeps: `python -m tests.bench.reading.indexing [--folder FOLDER]`

The folder is synced as a daemon does it: read in its child process, cut, embedded, stored. Then the very texts that were
embedded go through SentenceTransformer.encode alone, before and after, because the speed of a machine drifts. The target is
85 percent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import corpus
from corpus.config import CorpusConfig
from corpus.embedding import SentenceModel
from corpus.library import Library
from corpus.sync_report import SyncReport
from db.database import Database

if TYPE_CHECKING:
    from corpus.embedding import Vectors

STARTER = Path(corpus.__file__).parent / "starter"
TARGET = 0.85


class TimedModel(SentenceModel):
    """Keeps what it embeds, and the time it takes to."""

    texts: list[str]
    embedding_seconds = 0.0
    counting_seconds = 0.0

    def count(self, texts: list[str]) -> list[int]:
        """Tokens of each text."""
        began = time.perf_counter()
        sizes = super().count(texts)
        self.counting_seconds += time.perf_counter() - began
        return sizes

    def embed_documents(self, texts: list[str]) -> Vectors:
        """One row per text."""
        began = time.perf_counter()
        vectors = super().embed_documents(texts)
        self.embedding_seconds += time.perf_counter() - began
        self.texts += texts
        return vectors

    def encode_alone(self) -> float:
        """Seconds of one bare call over all of them."""
        began = time.perf_counter()
        self._model.encode_document(self.texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)
        return time.perf_counter() - began


def main() -> int:
    """0: the target is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.reading.indexing")
    parser.add_argument("--folder", type=Path, default=STARTER, help="documents; default: the starter corpus")
    parser.add_argument("--threads", type=int, default=2, help="of the embedding model")
    chosen = parser.parse_args()
    model = TimedModel(None, threads=chosen.threads, batch=32)
    model.texts = []
    model.embed_query("loads the model, which is not what is measured")
    with tempfile.TemporaryDirectory() as home:
        first = synced(chosen.folder, Path(home) / "first", model)
        before = model.encode_alone()
        model.texts, model.embedding_seconds, model.counting_seconds = [], 0.0, 0.0
        second = synced(chosen.folder, Path(home) / "second", model)
        after = model.encode_alone()
    alone, seconds = fmean((before, after)), fmean((first.seconds, second.seconds))
    print(f"{second.num_embedded} passages of {len(second.added)} documents")
    print(f"{'bare encoding':28} {second.num_embedded / alone:8.1f} passages/s  ({before:.1f} s, {after:.1f} s)")
    print(
        f"{'sync, all of it':28} {second.num_embedded / seconds:8.1f} passages/s  ({first.seconds:.1f} s, {second.seconds:.1f} s)"
    )
    rest = second.seconds - model.embedding_seconds - model.counting_seconds
    print(
        f"of the second sync: embedding {model.embedding_seconds:.1f} s, counting tokens {model.counting_seconds:.1f} s, ",
        end="",
    )
    print(f"reading, cutting, storing {rest:.1f} s")
    print(f"{'share of bare encoding':28} {alone / seconds:8.1%}  {'met' if alone / seconds >= TARGET else 'MISSED'}")
    return int(alone / seconds < TARGET)


def synced(folder: Path, home: Path, model: SentenceModel) -> SyncReport:
    """A first sync into an empty home."""
    home.mkdir()
    database = Database(home / "monk.sqlite")
    database.migrate()
    library = Library(CorpusConfig(folder, home / "chroma"), database, model=lambda: model)
    try:
        return library.sync()
    finally:
        library.close()
        database.close()


if __name__ == "__main__":
    sys.exit(main())
