"""nDCG@10, recall@100 and milliseconds of each half and of both together:
`python -m tests.bench.retrieval --data FOLDER [--sets NAME ...] [--cache FOLDER] [--whole]`

FOLDER holds one folder for each collection in the BEIR layout (see judged.py). Every split is told whole and by halves:
what is chosen on the first half is believed by the second. `--whole` makes one passage of each document, as published figures
do; otherwise documents are cut as a sync cuts them, and a document stands where the best of its passages stands.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from corpus.retrieval import CANDIDATES, EVERYWHERE, Retriever
from corpus.terms import query_terms
from tests.bench.retrieval.indexed import Index, indexed
from tests.bench.retrieval.judged import Judgements, collections, data_folder, halves
from tests.bench.retrieval.measures import ndcg, recall

SLACK = 0.005  # the two together may fall this far below the better of them
DEFAULT_CACHE = Path.home() / ".cache" / "night-monk-bench"


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over the questions of a split."""

    ndcg_at_10: float
    recall_at_100: float
    milliseconds: float


def main() -> int:
    """0: measured, or nothing to measure with; 1: the two together fall behind one of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.retrieval")
    parser.add_argument("--data", type=Path, help="folder of collections; default: MONK_EVAL_DATA")
    parser.add_argument("--sets", nargs="*", default=[], help="only these collections")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where indexes and vectors are kept")
    parser.add_argument("--whole", action="store_true", help="one passage for each document")
    parser.add_argument("--threads", type=int, default=2, help="of the embedding model")
    chosen = parser.parse_args()
    folder = data_folder(chosen.data)
    if folder is None:
        print("skipped: give --data FOLDER, or set MONK_EVAL_DATA to it")
        return 0
    behind = False
    for collection in collections(folder, chosen.sets):
        with indexed(collection, chosen.cache, whole=chosen.whole, threads=chosen.threads) as index:
            behind |= told(index)
    return int(behind)


def told(index: Index) -> bool:
    """Print a collection's table; whether hybrid falls behind."""
    collection, behind = index.collection, False
    print(f"\n{collection.name}: {len(collection.documents)} documents, {index.store.count()} passages")
    print(f"{'questions':24} {'':8} {'nDCG@10':>8} {'recall@100':>11} {'ms':>8}")
    for split, judgements in collection.splits.items():
        for id in judgements:
            index.model.embed_query(collection.questions[id])  # remembered, so that only the search is timed
        runs = {name: ranked(index, judgements, search) for name, search in searches(index).items()}
        first, second = halves(judgements)
        for part, name in ((judgements, split), (first, "first half"), (second, "second half")):
            behind |= _tell(name, part, runs)
    return behind


def searches(index: Index) -> dict[str, Callable[[str], list[str]]]:
    """Each way to search: question to document ids, best first."""
    retriever = Retriever(index.tables, index.store, index.model)

    def words(question: str) -> list[tuple[str, float]]:
        terms = query_terms(question)
        return index.tables.search(retriever.weighed(terms)[1] or terms, CANDIDATES, EVERYWHERE)

    def paths(ids: Iterable[str]) -> list[str]:
        found = index.tables.passages(ids := list(ids))
        return _once(found[id].path for id in ids)

    return {
        "dense": lambda question: paths(
            id for id, _ in index.store.nearest(index.model.embed_query(question), CANDIDATES)
        ),
        "BM25": lambda question: paths(id for id, _ in words(question)),
        "hybrid": lambda question: _once(hit.file for hit in retriever.search(question, CANDIDATES)),
    }


def ranked(
    index: Index, judgements: Judgements, search: Callable[[str], list[str]]
) -> dict[str, tuple[list[str], float]]:
    """Question id → (document ids, milliseconds)."""
    found = {}
    for id in judgements:
        began = time.perf_counter()
        documents = search(index.collection.questions[id])
        found[id] = documents, (time.perf_counter() - began) * 1000
    return found


def measured(judgements: Judgements, run: dict[str, tuple[list[str], float]]) -> Measured:
    """The means of a run over some of its questions."""
    return Measured(
        fmean(ndcg(run[id][0], grades, 10) for id, grades in judgements.items()),
        fmean(recall(run[id][0], grades, 100) for id, grades in judgements.items()),
        fmean(run[id][1] for id in judgements),
    )


def _tell(name: str, judgements: Judgements, runs: dict[str, dict[str, tuple[list[str], float]]]) -> bool:
    results = {way: measured(judgements, run) for way, run in runs.items()}
    for way, result in results.items():
        label = f"{name} ({len(judgements)})" if way == "dense" else ""
        figures = f"{result.ndcg_at_10:8.4f} {result.recall_at_100:11.4f} {result.milliseconds:8.1f}"
        print(f"{label:24} {way:8} {figures}")
    best = max(results["dense"].ndcg_at_10, results["BM25"].ndcg_at_10)
    if results["hybrid"].ndcg_at_10 < best - SLACK:
        print(f"{'':24} hybrid falls behind by {best - results['hybrid'].ndcg_at_10:.4f}")
        return True
    return False


def _once(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(paths))


if __name__ == "__main__":
    sys.exit(main())
