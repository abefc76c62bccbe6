"""Who is forked from what: arithmetic over tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.grouping import (
    LEAST_SHARED_TOKENS,
    Candidate,
    Group,
    Prices,
    best_group,
    best_width,
    own_cells,
    pays,
)

PRICES = Prices(11_700.0, 0.5)  # SmolLM2-135M in F16
DOCUMENT = np.arange(5000, dtype=np.int32)


def asking(shared: int, own: int = 20, max_new: int = 50, seed: int = 0) -> Candidate:
    tokens = np.concatenate([DOCUMENT[:shared], np.arange(own, dtype=np.int32) + 10_000 * (seed + 1)])
    return Candidate(tokens, max_new)


def test_questions_on_one_document_are_a_group() -> None:
    candidates = [asking(3000, seed=at) for at in range(4)]

    assert best_group(candidates, 8000, 16, PRICES) == Group(3000, (0, 1, 2, 3))


def test_samples_of_one_prompt_share_all_but_the_last_token() -> None:
    assert best_group([asking(3000, 0)] * 3, 8000, 16, PRICES) == Group(2999, (0, 1, 2))


def test_strangers_and_short_beginnings_are_left_alone() -> None:
    short = LEAST_SHARED_TOKENS - 1

    assert best_group([], 8000, 16, PRICES) is None
    assert best_group([asking(3000)], 8000, 16, PRICES) is None
    assert best_group([asking(short, seed=at) for at in range(4)], 8000, 16, PRICES) is None
    assert best_group([Candidate(DOCUMENT + 7 * at, 50) for at in range(4)], 8000, 16, PRICES) is None


def test_the_length_that_spares_most_tokens_wins() -> None:
    few_share_much = [asking(4000, seed=at) for at in range(3)] + [asking(300, seed=9)]
    many_share_little = [asking(4000, seed=0), asking(4000, seed=1)] + [asking(3000, seed=at) for at in range(2, 9)]

    assert best_group(few_share_much, 50_000, 16, PRICES) == Group(4000, (0, 1, 2))
    assert best_group(many_share_little, 50_000, 16, PRICES) == Group(3000, tuple(range(9)))


def test_long_answers_of_many_do_not_pay_for_a_short_beginning() -> None:
    short = [asking(400, max_new=2000, seed=at) for at in range(8)]
    long = [asking(4000, max_new=400, seed=at) for at in range(8)]

    assert best_group(short, 50_000, 16, PRICES) is None
    assert best_group(long, 50_000, 16, PRICES) is not None
    assert pays(1000, 60.0, 2, 2, PRICES)
    assert not pays(1000, 2110.0, 4, 4, PRICES)


def test_a_group_is_as_wide_as_is_cheapest_for_each_of_its_members() -> None:
    def cost(members: int, own: float) -> float:
        return PRICES.weight_cells / members + PRICES.cell_ratio * members * own

    for own in (10.0, 56.0, 300.0, 2000.0):
        width = best_width(own, 64, PRICES)
        others = [members for members in range(2, 65) if abs(members - width) > 1]
        assert all(cost(width, own) < cost(members, own) for members in others)
    assert best_width(1e9, 16, PRICES) == 2
    assert best_width(56.0, 8, PRICES) == 8


def test_more_kin_than_is_cheap_are_divided_into_several_rounds() -> None:
    kin = [asking(1700, own=24, max_new=64, seed=at) for at in range(32)]

    group = best_group(kin, 50_000, 32, PRICES)

    assert group is not None
    assert group.members == tuple(range(best_width(56.0, 32, PRICES)))
    assert 8 < len(group.members) < 32


def test_only_as_many_as_fit_get_in() -> None:
    candidates = [asking(3000, own=20, max_new=80, seed=at) for at in range(8)]

    assert best_group(candidates, 3000 + 650, 16, PRICES) == Group(3000, (0, 1, 2, 3, 4, 5))
    assert best_group(candidates, 3000 + 350, 16, PRICES) is None, "eight streams share the weights better than three"
    assert best_group(candidates, 8000, 5, PRICES) == Group(3000, (0, 1, 2, 3, 4))
    assert best_group(candidates, 3000 + 150, 16, PRICES) is None
    assert best_group(candidates, 0, 0, PRICES) is None


lengths = st.tuples(st.integers(1, 600), st.integers(0, 60), st.integers(1, 200))


@given(st.lists(lengths, max_size=12), st.integers(0, 3000), st.integers(0, 12), st.floats(0, 1e6))
def test_a_group_always_fits_and_shares_what_it_says(
    sizes: list[tuple[int, int, int]], cells: int, most_members: int, weights: float
) -> None:
    candidates = [asking(shared, own, new, seed) for seed, (shared, own, new) in enumerate(sizes)]

    group = best_group(candidates, cells, most_members, Prices(weights))

    if group is None:
        return
    members = [candidates[place] for place in group.members]
    assert 1 < len(members) <= most_members
    assert group.length >= LEAST_SHARED_TOKENS
    assert group.length + sum(own_cells(member, group.length) for member in members) <= cells
    for member in members:
        assert group.length < len(member.tokens)
        assert (member.tokens[: group.length] == members[0].tokens[: group.length]).all()
