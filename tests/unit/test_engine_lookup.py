"""Guessing the next tokens from those that were there before: on plain numbers, without a model."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine import lookup
from monk.engine.lookup import LEAST_MATCH, LONGEST_MATCH, NO_DRAFT, Draft, Lookup

TEXTS = st.lists(st.integers(0, 5), max_size=300)


def ids(*tokens: int) -> npt.NDArray[np.int32]:
    return np.array(tokens, np.int32)


def draft_of(*tokens: int, longest: int = 4) -> Draft:
    return Lookup().open(ids(*tokens)).draft(longest)


def test_what_followed_the_last_tokens_before_is_guessed_again() -> None:
    assert draft_of(1, 2, 3, 4, 5, 6, 7, 9, 2, 3, 4) == Draft((5, 6, 7, 9), 3)


def test_nothing_is_guessed_without_a_match_of_three() -> None:
    assert LEAST_MATCH == 3
    assert draft_of(1, 2, 3, 4, 9, 2, 3) == NO_DRAFT
    assert draft_of() == draft_of(1) == draft_of(1, 1) == NO_DRAFT


def test_the_longer_match_beats_the_newer_one() -> None:
    long_ago = (1, 2, 3, 4, 5, 60)
    newer = (9, 3, 4, 5, 70)

    assert draft_of(*long_ago, *newer, 8, 1, 2, 3, 4, 5, longest=1) == Draft((60,), 5)


def test_of_equal_matches_the_newest_counts() -> None:
    assert draft_of(3, 4, 5, 60, 8, 3, 4, 5, 70, 9, 3, 4, 5, longest=1) == Draft((70,), 3)


def test_a_text_that_repeats_itself_is_guessed_to_go_on_so() -> None:
    draft = draft_of(9, 1, 2, 3, 1, 2, 3, 1, 2, 3, longest=7)

    assert draft.ids == (1, 2, 3, 1, 2, 3, 1)


def test_a_guess_is_no_longer_than_asked() -> None:
    trail = Lookup().open(ids(*range(20), 0, 1, 2))

    assert len(trail.draft(5).ids) == 5
    assert trail.draft(0) == NO_DRAFT


def test_an_answer_learns_from_a_sibling_that_went_ahead() -> None:
    group = Lookup()
    first, second = group.open(ids(1, 2, 3)), group.open(ids(1, 2, 3))
    for token in (10, 11, 12, 13):
        first.append(token)

    second.append(10)

    assert second.draft(8) == Draft((11, 12, 13), LONGEST_MATCH)


def test_siblings_that_parted_find_each_others_words_again() -> None:
    group = Lookup()
    first, second = group.open(ids(1, 2, 3)), group.open(ids(1, 2, 3))
    for token in (10, 11, 12, 13, 14):
        first.append(token)
    for token in (20, 21, 11, 12, 13):
        second.append(token)

    assert second.draft(1) == Draft((14,), 3)


def test_a_shared_prompt_is_kept_once() -> None:
    group = Lookup()
    prompt = np.arange(5000, dtype=np.int32)
    for number in range(8):
        question = group.open(np.append(prompt, ids(9000 + number, 9001)))
        assert question.draft(1) == NO_DRAFT

    assert len(group) == 5000 + 8 * 2


def test_questions_on_one_document_quote_it() -> None:
    group = Lookup()
    document = np.arange(1000, dtype=np.int32)
    group.open(np.append(document, ids(5000, 5001)))
    second = group.open(np.append(document, ids(6000, 6001, 6002)))

    for token in (400, 401, 402):
        second.append(token)

    assert second.draft(3).ids == (403, 404, 405)


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_filing_a_text_at_once_or_token_by_token_guesses_the_same(prompt: list[int], rest: list[int]) -> None:
    whole, steps = Lookup(), Lookup()
    at_once = whole.open(ids(*prompt, *rest))
    one_by_one = steps.open(ids(*prompt))
    for token in rest:
        one_by_one.append(token)

    assert at_once.draft(8) == one_by_one.draft(8)


@given(TEXTS)
@settings(deadline=None)
def test_a_guess_is_what_really_followed_an_equal_stretch(text: list[int]) -> None:
    draft = Lookup().open(ids(*text)).draft(6)

    if draft == NO_DRAFT:
        return
    tail = text[-draft.matched :]
    endless = [*text, *draft.ids]  # a guess may run on into itself
    places = [at for at in range(draft.matched, len(text)) if text[at - draft.matched : at] == tail]
    assert any(tuple(endless[at : at + len(draft.ids)]) == draft.ids for at in places)


@given(TEXTS)
@settings(deadline=None)
def test_a_match_among_few_places_is_always_found(text: list[int]) -> None:
    draft = Lookup().open(ids(*text)).draft(1)

    tail = text[-LEAST_MATCH:]
    places = [at for at in range(LEAST_MATCH, len(text)) if text[at - LEAST_MATCH : at] == tail]
    if len(text) >= LEAST_MATCH and 0 < len(places) < lookup.MOST_CANDIDATES / 4:  # others may share a bucket
        assert draft.matched >= LEAST_MATCH


@pytest.mark.parametrize("kind", ["random", "one token", "two tokens"])
def test_a_prompt_of_128k_tokens_is_filed_in_a_moment_and_small(kind: str) -> None:
    random = np.random.default_rng(0)
    text = {
        "random": random.integers(0, 150_000, 131_072),
        "one token": np.full(131_072, 7),
        "two tokens": random.integers(0, 2, 131_072),
    }[kind].astype(np.int32)

    started = time.perf_counter()
    trail = (group := Lookup()).open(text)
    filed_seconds = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(100):
        trail.draft(16)
    guess_seconds = (time.perf_counter() - started) / 100

    assert filed_seconds < 1.0  # about 0.02 on a quiet machine
    assert guess_seconds < 0.005  # about 5 to 50 microseconds
    assert group.num_bytes / len(group) < 40


def test_a_full_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MOST_NODES", 100)
    group = Lookup()
    trail = group.open(np.arange(99, dtype=np.int32))
    assert not group.full

    trail.append(1)

    assert group.full
