"""Who is forked from what: arithmetic over tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.grouping import LEAST_SHARED_TOKENS, Candidate, Group, best_group, own_cells, pays

DOCUMENT = np.arange(5000, dtype=np.int32)


def asking(shared: int, own: int = 20, max_new: int = 50, seed: int = 0) -> Candidate:
    tokens = np.concatenate([DOCUMENT[:shared], np.arange(own, dtype=np.int32) + 10_000 * (seed + 1)])
    return Candidate(tokens, max_new)


def test_questions_on_one_document_are_a_group() -> None:
    candidates = [asking(3000, seed=at) for at in range(4)]

    assert best_group(candidates, 8000, 16) == Group(3000, (0, 1, 2, 3))


def test_samples_of_one_prompt_share_all_but_the_last_token() -> None:
    assert best_group([asking(3000, 0)] * 3, 8000, 16) == Group(2999, (0, 1, 2))


def test_strangers_and_short_beginnings_are_left_alone() -> None:
    short = LEAST_SHARED_TOKENS - 1

    assert best_group([], 8000, 16) is None
    assert best_group([asking(3000)], 8000, 16) is None
    assert best_group([asking(short, seed=at) for at in range(4)], 8000, 16) is None
    assert best_group([Candidate(DOCUMENT + 7 * at, 50) for at in range(4)], 8000, 16) is None


def test_the_length_that_spares_most_tokens_wins() -> None:
    few_share_much = [asking(4000, seed=at) for at in range(3)] + [asking(300, seed=9)]
    many_share_little = [asking(4000, seed=0), asking(4000, seed=1)] + [asking(3000, seed=at) for at in range(2, 9)]

    assert best_group(few_share_much, 50_000, 16) == Group(4000, (0, 1, 2))
    assert best_group(many_share_little, 50_000, 16) == Group(3000, tuple(range(9)))


def test_long_answers_of_many_do_not_pay_for_a_short_beginning() -> None:
    short = [asking(400, max_new=2000, seed=at) for at in range(8)]
    long = [asking(4000, max_new=400, seed=at) for at in range(8)]

    assert best_group(short, 50_000, 16) is None
    assert best_group(long, 50_000, 16) is not None
    assert pays(Group(1000, (0, 1)), [asking(1000, 10, 100)] * 2)
    assert not pays(Group(1000, (0, 1)), [asking(1000, 10, 4200)] * 2)


def test_only_as_many_as_fit_get_in() -> None:
    candidates = [asking(3000, own=20, max_new=80, seed=at) for at in range(8)]

    assert best_group(candidates, 3000 + 350, 16) == Group(3000, (0, 1, 2))
    assert best_group(candidates, 8000, 5) == Group(3000, (0, 1, 2, 3, 4))
    assert best_group(candidates, 3000 + 150, 16) is None
    assert best_group(candidates, 0, 0) is None


lengths = st.tuples(st.integers(1, 600), st.integers(0, 60), st.integers(1, 200))


@given(st.lists(lengths, max_size=12), st.integers(0, 3000), st.integers(0, 12))
def test_a_group_always_fits_and_shares_what_it_says(
    sizes: list[tuple[int, int, int]], cells: int, most_members: int
) -> None:
    candidates = [asking(shared, own, new, seed) for seed, (shared, own, new) in enumerate(sizes)]

    group = best_group(candidates, cells, most_members)

    if group is None:
        return
    members = [candidates[place] for place in group.members]
    assert 1 < len(members) <= most_members
    assert group.length >= LEAST_SHARED_TOKENS
    assert group.length + sum(own_cells(member, group.length) for member in members) <= cells
    for member in members:
        assert group.length < len(member.tokens)
        assert (member.tokens[: group.length] == members[0].tokens[: group.length]).all()
