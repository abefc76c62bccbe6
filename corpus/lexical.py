"""The half of a search that goes by words: BM25 scores of the passages that hold some of the question's words.

SQLite scores every passage that holds any word, a few microseconds each; a word that stands in every tenth passage costs
more than all others together and decides least. So the rare words are looked for first, and the common ones are only added
to the passages those found, by the formula of SQLite's bm25(). That is as good as looking for all of them where even all the
common words together cannot lift a passage without a rare one among the best (the idea of MaxScore, H. Turtle and J. Flood,
"Query evaluation: strategies and optimizations", 1995); where they could, all are looked for.

2026-11-25, 100,000 passages, medians of 60 questions in turns, a busy machine: 74 ms by the clock and 47 of the processor
against 181 and 80 for all words at once; 99.4 % of the first eight passages are the same. Looking for fewer than 6,000 saved
nothing: half of the searches had to be done again for all words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from db.library import DocumentFilter, LibraryTables
from db.words import IndexSize

LOOKED_FOR = 10_000  # passages with a rare word, at most, as long as there is another word
_FOUND = 250  # by the rare words: those behind could not come before the first hundred by the common ones
_K1, _B = 1.2, 0.75  # SQLite's


def look(
    tables: LibraryTables, words: Sequence[str], counts: Mapping[str, int], only: DocumentFilter, wanted: int
) -> tuple[dict[str, float], list[str]]:
    """(scores by passage id, best first; words that are still to be added). `counts`: passages with each word.

    With the common words added, the first `wanted` are those that SQLite finds by all words.
    """
    rare, common = parted(words, counts)
    found = tables.search(rare, _FOUND, only)
    if common:
        total = tables.index_size().num_passages
        reach = sum(idf(counts[word], total) for word in common)
        if len(found) < wanted or found[wanted - 1][1] < reach:
            return dict(tables.search(words, _FOUND, only)), []
    return dict(found), common


def completed(
    tables: LibraryTables,
    found: Mapping[str, float],
    common: Sequence[str],
    words: Sequence[str],
    counts: Mapping[str, int],
    others: Iterable[str],
) -> dict[str, float]:
    """The scores with the common words' share, best first; and of `others`, found by their meaning, those with any word."""
    size, scores = tables.index_size(), dict(found)
    unknown = [id for id in others if id not in found]
    texts = tables.terms_of([*found, *unknown] if common else unknown)
    for id, text in texts.items():
        if id in found:
            scores[id] += added(text, common, counts, size)
        elif score := added(text, [word for word in words if counts.get(word)], counts, size):
            scores[id] = score
    return dict(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0])))


def parted(words: Sequence[str], counts: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """(words to look for, words to add): the rarest first, as long as they stand in few enough passages; at least one."""
    ranked = sorted((word for word in words if counts.get(word)), key=lambda word: (counts[word], word))
    rare: list[str] = []
    total = 0
    for word in ranked:
        total += counts[word]
        if rare and total > LOOKED_FOR:
            break
        rare.append(word)
    return rare, ranked[len(rare) :]


def added(text: str, words: Sequence[str], counts: Mapping[str, int], size: IndexSize) -> float:
    """What `words` add to the score of a passage, given all of its terms."""
    there = text.split()
    average = size.num_terms / max(1, size.num_passages)
    scale = _K1 * (1.0 - _B + _B * len(there) / average) if average else _K1
    found = ((there.count(word), word) for word in words)
    return sum(
        idf(counts[word], size.num_passages) * number * (_K1 + 1.0) / (number + scale)
        for number, word in found
        if number
    )


def idf(num_with: int, total: int) -> float:
    """As SQLite has it: next to nothing for a word in every other passage."""
    return max(1e-6, math.log((total - num_with + 0.5) / (num_with + 0.5)))
