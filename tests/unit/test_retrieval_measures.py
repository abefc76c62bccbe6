"""The measures of the reading and retrieval benches, against values worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.bench.reading.accuracy import accuracy, edits
from tests.bench.retrieval.judged import collection, halves
from tests.bench.retrieval.measures import ndcg, recall


def test_ndcg_is_one_for_the_ideal_order_and_falls_with_the_rank() -> None:
    assert ndcg(["a", "b", "x"], {"a": 2, "b": 1}, 10) == 1.0
    assert ndcg(["x", "a"], {"a": 1}, 10) == pytest.approx(1 / math.log2(3))
    assert ndcg(["x"] * 10 + ["a"], {"a": 1}, 10) == 0.0


def test_recall_is_the_share_of_the_judged_that_was_found() -> None:
    assert recall(["a", "x", "b"], {"a": 1, "b": 1}, 2) == 0.5


def test_a_collection_is_read_with_one_set_of_judgements_or_several(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "T", "text": "x"}\n{"_id": "d2", "text": "y"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "what"}\n')
    judged = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n"
    (tmp_path / "qrels").mkdir()
    for split in ("train", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").write_text(judged)
    assert collection(tmp_path).splits == {"train": {"q1": {"d1": 1}}, "test": {"q1": {"d1": 1}}}
    (tmp_path / "qrels.tsv").write_text(judged)
    assert collection(tmp_path).splits == {"judged": {"q1": {"d1": 1}}}
    assert collection(tmp_path).documents == {"d1": ("T", "x"), "d2": ("", "y")}


def test_halves_share_no_question_and_leave_none_out() -> None:
    judgements = {f"q{i}": {"d": 1} for i in range(5)}
    first, second = halves(judgements)
    assert first | second == judgements and not first.keys() & second.keys()


def test_a_recognised_text_is_scored_by_the_edits_that_mend_it() -> None:
    assert edits(list("kitten"), list("sitting")) == 3
    assert edits([], list("abc")) == edits(list("abc"), []) == 3
    assert edits(["the", "same"], ["the", "same"]) == 0
    found = accuracy("The n1ght is\nlong and qu-\niet.", "The night is long and quiet.")
    assert (found.num_words, found.words) == (6, pytest.approx(5 / 6))
    assert (found.num_characters, found.characters) == (28, pytest.approx(27 / 28))
    assert accuracy("nothing of it " * 50, "x").characters == 0.0
