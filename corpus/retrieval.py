"""A question to passages: dense (vectors) and lexical (BM25), their scores combined, near-duplicates removed, always in the
same order. Reads the database and the vectors, writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpus.embedding import EmbeddingModel
from corpus.fusion import combined
from corpus.lexical import completed, look
from corpus.passages import embedded_text
from corpus.places import Place, Places
from corpus.rerank import Reranker
from corpus.store import VectorStore
from corpus.terms import query_terms, terms
from db.library import DocumentFilter, FoundPassage, LibraryTables

if TYPE_CHECKING:
    from corpus.embedding import Vectors

CANDIDATES = 100  # from each half
RERANKED = 30  # a cross-encoder reads about ten passages a second on a core
_SPARE = 8  # passages read beyond those wanted, in case some repeat others
_COMMON_SHARE = 0.3  # a term in more passages than this tells them apart too little to be worth its time ...
_COMMON_FROM = 2000  # ... once there are this many
_DUPLICATE = 0.9  # share of common words from which two passages say the same
EVERYWHERE = DocumentFilter()


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found. `score` orders hits of one search and means nothing beyond it; `similarity` and `coverage` do."""

    passage_id: str
    score: float
    file: str
    title: str
    heading: str
    page: int | None
    line: int | None
    end_page: int | None
    end_line: int | None
    text: str
    start: int  # characters in the document's text
    end: int
    format: str
    places: tuple[tuple[int, int], ...]
    similarity: float | None = None  # cosine with the question, -1..1; None: not among the nearest
    coverage: float = 0.0  # share of the question's words that stand here, rare ones counting more, 0..1

    @property
    def place(self) -> Place:
        """Where the passage begins."""
        return self.place_at(0)

    def place_at(self, offset: int) -> Place:
        """Page or line of `text[offset]`."""
        unit, first = ("page", self.page) if self.page is not None else ("line", self.line)
        assert first is not None, "the database refuses a passage without a place"
        return Places("page" if unit == "page" else "line", self.places, first).at(self.text, offset)

    def to_json(self) -> dict[str, Any]:
        """For the API and for a step's result; `hit_from_json` is the way back."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "places": [list(place) for place in self.places]
        }


def hit_from_json(data: dict[str, Any]) -> Hit:
    """The Hit that `to_json` came from."""
    return Hit(**{**data, "places": tuple((offset, number) for offset, number in data["places"])})


def hit_of(passage: FoundPassage, score: float = 0.0, similarity: float | None = None, coverage: float = 0.0) -> Hit:
    """A stored passage as a hit."""
    return Hit(
        passage_id=passage.id,
        score=score,
        file=passage.path,
        title=passage.title,
        heading=passage.heading,
        page=passage.page,
        line=passage.line,
        end_page=passage.end_page,
        end_line=passage.end_line,
        text=passage.text,
        start=passage.start,
        end=passage.end,
        format=passage.format,
        places=passage.places,
        similarity=similarity,
        coverage=coverage,
    )


class Retriever:
    """Searches one library. Threads may share it as far as they may share its parts."""

    def __init__(
        self, tables: LibraryTables, store: VectorStore, model: EmbeddingModel, reranker: Reranker | None = None
    ) -> None:
        self._tables = tables
        self._store = store
        self._model = model
        self._reranker = reranker

    def search(self, query: str, k: int, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        """The `k` best passages, best first; fewer when there are no more. Raises ModelUnusable when a model fails."""
        words = query_terms(query)
        with ThreadPoolExecutor(1) as other_half:  # neither SQLite nor Chroma keeps other threads of Python waiting
            begun = other_half.submit(self._nearest, query, only)
            counts = self._tables.num_passages_with(words)
            weights, rare = self.weighed(words)
            found, common = look(self._tables, rare or words, counts, only, CANDIDATES)
            vector, nearest = begun.result()
        lexical = completed(self._tables, found, common, rare or words, counts, nearest)
        others = [id for id in list(lexical)[:CANDIDATES] if id not in nearest]
        similarity = nearest | (self._store.similarities(vector, others) if vector is not None else {})
        candidates = dict.fromkeys([*similarity, *list(lexical)[:CANDIDATES]])
        known = {id: lexical[id] for id in candidates if id in lexical}
        scores = combined(similarity, known, weights.values())
        ranked = self._reranked(query, sorted(scores, key=lambda id: (-scores[id], id)), scores)
        return [
            hit_of(passage, scores[passage.id], similarity.get(passage.id), coverage(words, weights, passage))
            for passage in without_duplicates(self._loaded(ranked, k), k)
        ]

    def _reranked(self, query: str, ranked: list[str], scores: dict[str, float]) -> list[str]:
        """The first of them in the reranker's order, ties as they were; their scores become 1 and more, above all others."""
        if self._reranker is None:
            return ranked
        first, rest = ranked[:RERANKED], ranked[RERANKED:]
        found = self._tables.passages(first)
        there = [found[id] for id in first if id in found]
        texts = [embedded_text(passage.heading or passage.title, passage.text) for passage in there]
        for passage, score in zip(there, self._reranker.scores(query, texts), strict=True):
            scores[passage.id] = 1.0 + score
        return sorted(first, key=lambda id: -scores[id]) + rest

    def _nearest(self, query: str, only: DocumentFilter) -> tuple[Vectors | None, dict[str, float]]:
        """(vector of the question, cosines of the passages nearest to it)."""
        paths = self._tables.paths(only) if only else None
        if paths == [] or not query.strip():
            return None, {}
        vector = self._model.embed_query(query)
        return vector, dict(self._store.nearest(vector, CANDIDATES, paths))

    def weighed(self, words: Sequence[str]) -> tuple[dict[str, float], list[str]]:
        """(idf of each word, those worth searching for): words that stand everywhere are left out."""
        total = self._tables.index_size().num_passages
        counts = self._tables.num_passages_with(words)
        weights = {word: _idf(counts.get(word, 0), total) for word in words}
        rare = [word for word in words if total < _COMMON_FROM or counts.get(word, 0) <= _COMMON_SHARE * total]
        return weights, rare

    def _loaded(self, ranked: Sequence[str], k: int) -> Iterator[FoundPassage]:
        """Their texts in that order, read a few at a time: of two hundred candidates seldom more than the first are shown.

        What the database does not know any more is no hit.
        """
        size = k + _SPARE
        for start in range(0, len(ranked), size):
            part = ranked[start : start + size]
            found = self._tables.passages(part)
            yield from (found[id] for id in part if id in found)


def _idf(num_with: int, total: int) -> float:
    """How much a word tells, never negative: nothing when every passage holds it (Robertson and Spärck Jones, plus one)."""
    return math.log(1.0 + max(0.0, total - num_with + 0.5) / (num_with + 0.5))


def coverage(words: Sequence[str], weights: dict[str, float], passage: FoundPassage) -> float:
    """The weighted share of `words` that stand in a passage, its title or its headings."""
    whole = sum(weights[word] for word in words)
    if not whole:
        return 0.0
    there = set(terms(f"{passage.title} {passage.heading} {passage.text}"))
    return sum(weights[word] for word in words if word in there) / whole


def without_duplicates(passages: Iterable[FoundPassage], limit: int) -> list[FoundPassage]:
    """The first `limit` passages that do not nearly repeat one before them."""
    kept: list[FoundPassage] = []
    words: list[frozenset[str]] = []
    for passage in passages:
        if len(kept) >= limit:
            break
        own = frozenset(passage.text.lower().split())
        if any(len(own & other) >= _DUPLICATE * len(own | other) for other in words):
            continue
        kept.append(passage)
        words.append(own)
    return kept
