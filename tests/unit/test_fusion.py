"""Two scores into one: what each half may decide, and when it may not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corpus.fusion import combined

SCORES = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), max_size=6)


def order(scores: dict[str, float]) -> list[str]:
    return sorted(scores, key=lambda id: (-scores[id], id))


def test_cosines_that_hardly_differ_leave_the_order_to_the_words() -> None:
    dense = {"a": 0.40, "b": 0.39, "c": 0.38, "d": 0.37}
    assert order(combined(dense, {"d": 4.0, "c": 1.0}, [2.0])) == ["d", "c", "a", "b"]


def test_a_weak_match_of_one_word_does_not_outweigh_the_meaning() -> None:
    dense = {"a": 0.8, "b": 0.3}
    assert order(combined(dense, {"b": 0.5}, [2.0, 6.0])) == ["a", "b"]


def test_words_that_the_corpus_does_not_know_leave_the_order_to_the_meaning() -> None:
    dense, lexical = {"a": 0.6, "b": 0.4}, {"b": 2.0}
    assert order(combined(dense, lexical, [1.0])) == ["b", "a"]
    assert order(combined(dense, lexical, [1.0, 9.0, 9.0])) == ["a", "b"]


def test_one_half_alone_keeps_its_order() -> None:
    assert order(combined({}, {"a": 1.0, "b": 2.0}, [1.0])) == ["b", "a"]
    assert order(combined({"a": -0.2, "b": 0.1}, {}, [])) == ["b", "a"]
    assert combined({}, {}, []) == {}


def test_a_passage_without_a_vector_counts_as_the_farthest() -> None:
    scores = combined({"a": 0.9, "b": 0.5}, {"c": 0.0}, [1.0])
    assert scores["c"] == scores["b"]


@given(SCORES, SCORES, st.floats(0, 1))
def test_more_of_either_score_never_harms(dense: dict[str, float], lexical: dict[str, float], more: float) -> None:
    before = combined(dense, lexical, [1.0])
    for id in lexical:
        assert combined(dense, {**lexical, id: lexical[id] + more}, [1.0])[id] >= before[id]
    for id in dense:
        assert combined({**dense, id: dense[id] + more}, lexical, [1.0])[id] >= before[id]
