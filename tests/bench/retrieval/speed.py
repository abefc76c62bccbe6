"""How long one search takes among many passages: `python -m tests.bench.retrieval.speed --cache FOLDER [--passages 100000]`

Words are drawn by Zipf's law and vectors from a few hundred clusters, seeded: real texts are neither uniform nor random
points. The index is kept in the cache folder. The target is 60 ms for a whole search at 100,000 passages on two cores;
the time to embed the question comes on top and is printed apart. Beside the time by the clock stands the processor's, which
others on the machine change less. The last lines compare with a search that looks for all words at once and counts them anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus import lexical
from corpus.embedding import HashingEmbedder, SentenceModel
from corpus.retrieval import EVERYWHERE, Hit, Retriever
from corpus.store import VectorStore
from corpus.terms import query_terms
from db.database import Database
from db.library import DocumentFilter, DocumentRecord, LibraryTables, PassageRecord
from db.words import WordCounts

if TYPE_CHECKING:
    from corpus.embedding import Vectors

DIM = 384
CLUSTERS = 400
VOCABULARY = 60_000
WORDS_PER_PASSAGE = 120
PASSAGES_PER_DOCUMENT = 50
QUESTIONS = 60
TARGET_MS = 60.0
Took = tuple[float, float]


def main() -> None:
    """Fill once, then time every part of a search."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--cache", type=Path, required=True, help="where the index is kept")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--model", action="store_true", help="also time the embedding of questions")
    chosen = parser.parse_args()
    folder = chosen.cache / f"speed-{chosen.passages}"
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(folder / "monk.sqlite")
    database.migrate()
    tables, store = LibraryTables(database), VectorStore(folder / "chroma", "speed")
    try:
        fill(tables, store, chosen.passages)
        measure(tables, store, chosen.passages)
        if chosen.model:
            model = SentenceModel(None, threads=2, batch=1)
            model.embed_query("warm")
            tell("embedding a question", times(model.embed_query, [question(i)[0] for i in range(20)]))
    finally:
        store.close()
        database.close()


def fill(tables: LibraryTables, store: VectorStore, num_passages: int) -> None:
    """Store what is not there yet, document by document; the same passages every time."""
    there = tables.num_passages()
    began = time.perf_counter()
    for first in range(there, num_passages, 100 * PASSAGES_PER_DOCUMENT):
        last = min(num_passages, first + 100 * PASSAGES_PER_DOCUMENT)
        numbers = list(range(first, last))
        store.add([_id(i) for i in numbers], np.stack([vector(i) for i in numbers]), [_path(i) for i in numbers])
        parts = [numbers[i : i + PASSAGES_PER_DOCUMENT] for i in range(0, len(numbers), PASSAGES_PER_DOCUMENT)]
        tables.save([(_document(part[0]), [_passage(i) for i in part]) for part in parts])
        print(f"\r{last} of {num_passages} passages, {time.perf_counter() - began:.0f} s", end="", flush=True)
    print()


class FixedModel(HashingEmbedder):
    """Answers each question with the vector drawn for it, so that only the search is timed."""

    def __init__(self, questions: list[tuple[str, Vectors]]) -> None:
        super().__init__()
        self.drawn = dict(questions)

    def embed_query(self, text: str) -> Vectors:
        """float32 [384]."""
        return self.drawn[text]


def measure(tables: LibraryTables, store: VectorStore, num_passages: int) -> None:
    """Print the median and the slowest twentieth of each part and of the whole."""
    questions = [question(i, num_passages) for i in range(QUESTIONS)]
    words = [query_terms(text) for text, _ in questions]
    nowhere = DocumentFilter()
    folder = DocumentFilter(folder="folder-3")
    search = Retriever(tables, store, FixedModel(questions)).search
    tell("vectors, nearest 100", times(lambda pair: store.nearest(pair[1], 100), questions))
    tell("words, best 100", times(lambda found: tables.search(found, 100, nowhere), words))
    tell("counting words", times(tables.num_passages_with, words))
    tell("counting passages", times(lambda _: tables.num_passages(), words))
    tell("whole search in one folder of ten", times(lambda pair: search(pair[0], 8, folder), questions))
    search = Retriever(asked_before(tables, num_passages), store, FixedModel(questions)).search
    plain = PlainRetriever(LibraryTables(tables._database), store, FixedModel(questions)).search
    whole, plainly = in_turns(lambda pair: search(pair[0], 8), lambda pair: plain(pair[0], 8), questions)
    tell("whole search, all words at once", plainly)
    tell("whole search", whole)
    ratios = (median(took[i] for took in whole) / median(took[i] for took in plainly) for i in (0, 1))
    print("{:40} {:8.2f}     processor {:8.2f}".format("share of the search for all words at once", *ratios))
    same = [len(ids(search(pair[0], 8)) & ids(plain(pair[0], 8))) / 8 for pair in questions]
    print(f"{'share of the same 8 passages':40} {sum(same) / len(same):8.3f}")
    clock = median(took[0] for took in whole)
    print(f"{'target':40} {TARGET_MS:8.1f} ms  {'met' if clock <= TARGET_MS else 'MISSED'}")
    exact = _exact([pair[1] for pair in questions[:10]], num_passages)
    found = [{id for id, _ in store.nearest(pair[1], 100)} for pair in questions[:10]]
    shares = [len(some & all_) / 100 for some, all_ in zip(found, exact, strict=True)]
    print(f"{'share of the true nearest 100 found':40} {sum(shares) / len(shares):8.3f}")


def ids(hits: list[Hit]) -> set[str]:
    """Which passages were found."""
    return {hit.passage_id for hit in hits}


def asked_before(tables: LibraryTables, num_passages: int) -> LibraryTables:
    """The same tables as a daemon has them that was asked other questions since the last change."""
    fresh = LibraryTables(tables._database)
    for number in range(QUESTIONS, 2 * QUESTIONS):
        fresh.num_passages_with(query_terms(question(number, num_passages)[0]))
    return fresh


class PlainRetriever(Retriever):
    """Looks for all words at once and remembers no count."""

    def search(self, query: str, k: int, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        """As the retriever's."""
        usual, lexical.LOOKED_FOR = lexical.LOOKED_FOR, 1 << 60
        self._tables._words = WordCounts(self._tables._database)
        try:
            return super().search(query, k, only)
        finally:
            lexical.LOOKED_FOR = usual


def times(work: Callable[[Any], object], items: list[Any]) -> list[Took]:
    """What each call took; the first item is tried once before, to warm the caches."""
    work(items[0])
    return [timed(work, item) for item in items]


def in_turns(
    one: Callable[[Any], object], other: Callable[[Any], object], items: list[Any]
) -> tuple[list[Took], list[Took]]:
    """The same for two ways, item by item, so that both meet the machine in the same mood."""
    one(items[0])
    other(items[0])
    pairs = [(timed(one, item), timed(other, item)) for item in items]
    return [first for first, _ in pairs], [second for _, second in pairs]


def timed(work: Callable[[Any], object], item: Any) -> Took:
    """Milliseconds by the clock and of the processor, all threads together."""
    clock, processor = time.perf_counter(), time.process_time()
    work(item)
    return (time.perf_counter() - clock) * 1000, (time.process_time() - processor) * 1000


def tell(name: str, took: list[Took]) -> None:
    """One line."""
    clock, processor = [one[0] for one in took], median(one[1] for one in took)
    print(f"{name:40} {median(clock):8.1f} ms  p95 {quantiles(clock, n=20)[-1]:8.1f} ms  processor {processor:8.1f} ms")


def question(number: int, num_passages: int = 1000) -> tuple[str, Vectors]:
    """Half of its words from one passage, half from anywhere; its vector near that passage's."""
    random = np.random.default_rng(9_000_000 + number)
    near = int(random.integers(num_passages))
    own = random.choice(words_of(near), 4).tolist()
    other = _drawn(random, 4)
    mixed = vector(near) + 0.6 * _unit(random.standard_normal(DIM))
    return " ".join([*own, *other]), _unit(mixed)


def vector(number: int) -> Vectors:
    """Near one of the clusters' centres."""
    random = np.random.default_rng(number)
    centre = np.random.default_rng(5_000_000 + number % CLUSTERS).standard_normal(DIM)
    return _unit(_unit(centre) + 0.8 * _unit(random.standard_normal(DIM)))


def words_of(number: int) -> list[str]:
    """The words of a passage."""
    return _drawn(np.random.default_rng(1_000_000 + number), WORDS_PER_PASSAGE)


def _drawn(random: np.random.Generator, count: int) -> list[str]:
    """Words by Zipf's law: word n has probability 1 / n. Past the hundred commonest, which a question drops."""
    ranks = np.exp(random.random(count) * np.log(VOCABULARY)).astype(int)
    return [f"w{rank}" for rank in ranks]


def _unit(values: np.ndarray) -> Vectors:  # type: ignore[type-arg]
    return np.asarray(values / np.linalg.norm(values), np.float32)


def _exact(queries: list[Vectors], num_passages: int) -> list[set[str]]:
    """The ids of each query's nearest hundred, by looking at every vector."""
    rows = np.stack([vector(i) for i in range(num_passages)])
    return [{_id(int(i)) for i in np.argsort(-(rows @ query))[:100]} for query in queries]


def _id(number: int) -> str:
    return f"{number:032x}"


def _path(number: int) -> str:
    document = number // PASSAGES_PER_DOCUMENT
    return f"folder-{document % 10}/{document}.txt"


def _document(first: int) -> DocumentRecord:
    return DocumentRecord(
        path=_path(first),
        sha256="",
        size_bytes=1,
        modified_us=first * 1_000_000,
        title=_path(first),
        format="text",
        num_pages=None,
        num_characters=1,
        readable=True,
        problem=None,
        index_key="bench",
        read_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _passage(number: int) -> PassageRecord:
    text = " ".join(words_of(number))
    return PassageRecord(_id(number), text, "", None, 1, None, 1, 0, len(text), (), "", "", text)


if __name__ == "__main__":
    main()
