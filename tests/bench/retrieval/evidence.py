"""When is what was found evidence? False answers and false refusals of the threshold in `jobs/answer.py`:
`python -m tests.bench.retrieval.evidence [--data FOLDER] [--cache FOLDER]`

Questions come from questions.py, over the starter corpus, and from judged collections where FOLDER holds some: there each
question is asked twice, the second time with every document that is judged to answer it hidden. Their neighbours on the same
matter stay, so that figure is the hard one. Each limit is told on
half of the questions and on the other half.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import corpus
from corpus.config import CorpusConfig
from corpus.embedding import SentenceModel, SharedModel
from corpus.library import Library
from corpus.retrieval import Hit, Retriever
from db.database import Database
from jobs.answer import EVIDENCE, PASSAGES, is_evidence
from tests.bench.retrieval.__main__ import DEFAULT_CACHE
from tests.bench.retrieval.indexed import Index, RememberingModel, indexed
from tests.bench.retrieval.judged import collections, data_folder
from tests.bench.retrieval.questions import ANSWERABLE, UNANSWERABLE

STARTER = Path(corpus.__file__).parent / "starter"
_HIDDEN_AT_MOST = 30
LIMITS = tuple(percent / 100 for percent in range(10, 41, 2))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, whether the documents answer it, and what was found."""

    question: str
    answerable: bool
    hits: list[Hit]


def main() -> int:
    """Print a table for each set of questions."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.retrieval.evidence")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--whole", action="store_true", help="one passage for each document")
    parser.add_argument("--wrong", action="store_true", help="name the questions that are judged wrongly")
    chosen = parser.parse_args()
    tell("starter corpus", asked_of_starter(chosen.cache), chosen.wrong)
    folder = data_folder(chosen.data)
    for collection in collections(folder, chosen.sets) if folder else ():
        with indexed(collection, chosen.cache, whole=chosen.whole) as index:
            tell(collection.name, list(asked_of(index)), False)
    return 0


def asked_of_starter(cache: Path) -> list[Asked]:
    """Both kinds of questions, asked of the library as a daemon has it."""
    with starter_library(cache) as library:
        found = [Asked(question, True, library.search(question, PASSAGES)) for question, _ in ANSWERABLE]
        return found + [Asked(question, False, library.search(question, PASSAGES)) for question in UNANSWERABLE]


@contextmanager
def starter_library(cache: Path) -> Iterator[Library]:
    """The starter corpus, read and indexed as a sync does it."""
    cache.mkdir(parents=True, exist_ok=True)
    database = Database(cache / "starter.sqlite")
    database.migrate()
    plain = SharedModel(SentenceModel(None, threads=1, batch=32), 32)
    model = RememberingModel(plain, cache / "vectors.sqlite")
    library = Library(CorpusConfig(STARTER, cache / "starter-chroma"), database, model=lambda: model)
    try:
        library.sync()
        yield library
    finally:
        library.close()
        database.close()
        model.close()


def asked_of(index: Index) -> Iterator[Asked]:
    """Every judged question, with its documents and without."""
    retriever = Retriever(index.tables, index.store, index.model)
    for judgements in index.collection.splits.values():
        for id, grades in judgements.items():
            question = index.collection.questions[id]
            hits = retriever.search(question, PASSAGES + _HIDDEN_AT_MOST)
            yield Asked(question, True, hits[:PASSAGES])
            yield Asked(question, False, [hit for hit in hits if hit.file not in grades][:PASSAGES])


def tell(name: str, asked: list[Asked], wrong: bool) -> None:
    """The share of false answers and false refusals, for the thresholds in use and for others."""
    print(
        f"\n{name}: {sum(one.answerable for one in asked)} answerable, {sum(not one.answerable for one in asked)} not"
    )
    print(f"{'least':>8} {'false answers':>14} {'false refusals':>15}   (first half, second half)")
    parts = (
        asked,
        [one for i, one in enumerate(asked) if i // 2 % 2 == 0],
        [one for i, one in enumerate(asked) if i // 2 % 2],
    )
    for least in sorted({EVIDENCE, *LIMITS}):
        (answers, refusals), first, second = (_errors(part, least) for part in parts)
        shown = f"({first[0]:.0%} {first[1]:.0%}, {second[0]:.0%} {second[1]:.0%})"
        used = "  <- in use" if least == EVIDENCE else ""
        print(f"{least:8.2f} {answers:14.1%} {refusals:15.1%}   {shown}{used}")
    for one in asked if wrong else ():
        if is_evidence(one.hits) != one.answerable:
            best = max(((hit.similarity or 0.0) * hit.coverage for hit in one.hits), default=0.0)
            print(f"  {'refused' if one.answerable else 'answered'} ({best:.2f}): {one.question}")


def _errors(asked: list[Asked], least: float) -> tuple[float, float]:
    """(share of the unanswerable that are answered, share of the answerable that are refused)."""
    said = [(one.answerable, is_evidence(one.hits, least)) for one in asked]
    unanswerable = [yes for answerable, yes in said if not answerable]
    answerable = [yes for answerable, yes in said if answerable]
    return sum(unanswerable) / max(1, len(unanswerable)), 1 - sum(answerable) / max(1, len(answerable))


if __name__ == "__main__":
    sys.exit(main())
