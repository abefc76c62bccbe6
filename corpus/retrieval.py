"""A question to passages: dense (vectors) and lexical (BM25), fused by rank, near-duplicates removed, always in the same
order. Reads the database and the vectors, writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.embedding import EmbeddingModel
from corpus.places import Place, Places
from corpus.store import VectorStore
from corpus.terms import query_terms, terms
from db.library import DocumentFilter, FoundPassage, LibraryTables

CANDIDATES = 100  # from each half
_FUSION = 60.0  # reciprocal rank fusion: large enough that the first place does not decide alone
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

    def __init__(self, tables: LibraryTables, store: VectorStore, model: EmbeddingModel) -> None:
        self._tables = tables
        self._store = store
        self._model = model

    def search(self, query: str, k: int, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        """The `k` best passages, best first; fewer when there are no more."""
        words = query_terms(query)
        dense = self._dense(query, only)
        lexical, weights = self._lexical(words, only)
        scores = fused([[id for id, _ in dense], [id for id, _ in lexical]])
        ranked = sorted(scores, key=lambda id: (-scores[id], id))
        found = self._tables.passages(ranked)  # what the database does not know any more is no hit
        similarity = dict(dense)
        kept = without_duplicates((found[id] for id in ranked if id in found), k)
        return [
            hit_of(passage, scores[passage.id], similarity.get(passage.id), coverage(words, weights, passage))
            for passage in kept
        ]

    def _dense(self, query: str, only: DocumentFilter) -> list[tuple[str, float]]:
        paths = self._tables.paths(only) if only else None
        if paths == [] or not query.strip():
            return []
        return self._store.nearest(self._model.embed_query(query), CANDIDATES, paths)

    def _lexical(self, words: Sequence[str], only: DocumentFilter) -> tuple[list[tuple[str, float]], dict[str, float]]:
        """(hits, weight of each word): words that stand everywhere are not searched for while there are others."""
        total = self._tables.num_passages()
        counts = self._tables.num_passages_with(words)
        weights = {word: math.log(1.0 + (total + 1) / (counts.get(word, 0) + 0.5)) for word in words}
        rare = [word for word in words if total < _COMMON_FROM or counts.get(word, 0) <= _COMMON_SHARE * total]
        return self._tables.search(rare or words, CANDIDATES, only), weights


def fused(rankings: Iterable[Sequence[str]]) -> dict[str, float]:
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over the rankings an id stands in."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking, start=1):
            scores[id] = scores.get(id, 0.0) + 1.0 / (_FUSION + rank)
    return scores


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
