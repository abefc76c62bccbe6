"""Which KV blocks go first: arithmetic, compared with trying everything."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.kv_worth import HALF_LIFE_SECONDS, Weighed, cheapest_first, standing_after, uses

NOW = 1_795_000_000.0


def block(key: str, parent: str = "", num_bytes: int = 10, worth: float = 10.0) -> Weighed:
    return Weighed(key, parent, num_bytes, worth)


@st.composite
def forests(draw: st.DrawFn, most: int = 8) -> list[Weighed]:
    """Whole families: every parent is among them."""
    blocks: list[Weighed] = []
    for index in range(draw(st.integers(0, most))):
        parent = draw(st.sampled_from(["", *(one.key for one in blocks)]))
        blocks.append(block(f"b{index}", parent, draw(st.integers(1, 9)), float(draw(st.integers(0, 12)))))
    return draw(st.permutations(blocks))


def closed_sets(blocks: list[Weighed]) -> list[tuple[Weighed, ...]]:
    """All non-empty sets that leave no block without its parent."""
    sets = [each for size in range(1, len(blocks) + 1) for each in combinations(blocks, size)]
    return [each for each in sets if not any(b.parent in {a.key for a in each} and b not in each for b in blocks)]


def density(blocks: tuple[Weighed, ...]) -> float:
    return sum(one.worth for one in blocks) / sum(one.num_bytes for one in blocks)


@given(forests(most=40))
def test_every_block_goes_once_and_before_the_one_it_stands_on(blocks: list[Weighed]) -> None:
    order = cheapest_first(blocks)

    assert sorted(order) == sorted(one.key for one in blocks)
    assert all(order.index(one.key) < order.index(one.parent) for one in blocks if one.parent)


@given(forests())
def test_nothing_that_could_go_first_loses_less_per_byte(blocks: list[Weighed]) -> None:
    by_key = {one.key: one for one in blocks}
    order = [by_key[key] for key in cheapest_first(blocks)]

    prefixes = [tuple(order[:size]) for size in range(1, len(order) + 1)]
    if blocks:
        assert min(map(density, prefixes)) == pytest.approx(min(map(density, closed_sets(blocks))))


@given(forests(), st.randoms())
def test_the_order_does_not_depend_on_the_order_of_asking(blocks: list[Weighed], chance: random.Random) -> None:
    shuffled = list(blocks)
    chance.shuffle(shuffled)

    assert cheapest_first(shuffled) == cheapest_first(blocks)


def test_the_fewest_seconds_per_byte_go_first() -> None:
    small = block("small", num_bytes=1, worth=2)
    assert cheapest_first([block("dear", worth=30), small, block("cheap", worth=10)]) == ["cheap", "small", "dear"]


def test_a_dear_end_does_not_protect_a_cheap_trunk() -> None:
    chain = [block("a1", worth=1), block("a2", "a1", worth=1), block("a3", "a2", worth=16)]  # 18 for 30 bytes
    lone = block("lone", worth=8)  # 8 for 10 bytes; the end of the chain alone is worth 16

    assert cheapest_first([*chain, lone]) == ["a3", "a2", "a1", "lone"]


def test_a_branch_nobody_asks_for_goes_before_the_trunk_it_shares() -> None:
    trunk = block("trunk", worth=100)
    branches = [block("old", "trunk", worth=1), block("fresh", "trunk", worth=50)]

    assert cheapest_first([trunk, *branches]) == ["old", "fresh", "trunk"]


def test_blocks_without_their_ancestors_go_first_of_all() -> None:
    lost = [block("x", "gone", worth=1e9), block("y", "x", worth=1e9)]

    assert cheapest_first([block("a", worth=0), *lost]) == ["y", "x", "a"]


def test_parents_that_name_each_other_do_not_hang_the_night() -> None:
    ring = [block("p", "q"), block("q", "p"), block("on the ring", "p"), block("self", "self")]

    assert sorted(cheapest_first([*ring, block("a")])[:4]) == ["on the ring", "p", "q", "self"]


def test_a_text_of_20000_blocks_is_no_depth_to_fear() -> None:
    deep = [block(f"{index:05}", f"{index - 1:05}" if index else "", worth=index) for index in range(20_000)]

    assert cheapest_first(deep) == [one.key for one in reversed(deep)]


# --- uses


def test_one_use_fades_by_half_in_a_half_life() -> None:
    standing = standing_after(None, NOW)

    assert standing == NOW
    assert uses(standing, NOW) == 1
    assert uses(standing, NOW + HALF_LIFE_SECONDS) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 60 * 86400), min_size=1, max_size=20))
def test_one_moment_remembers_all_uses(ages: list[float]) -> None:
    standing = None
    for age in sorted(ages, reverse=True):
        standing = standing_after(standing, NOW - age)

    assert standing is not None
    assert uses(standing, NOW) == pytest.approx(sum(0.5 ** (age / HALF_LIFE_SECONDS) for age in ages), rel=1e-3)


@pytest.mark.parametrize("standing", [-1e12, 0.0, 1e12, 1e300])
def test_a_files_time_that_is_nonsense_is_a_large_or_small_number_and_no_error(standing: float) -> None:
    assert 0 < uses(standing, NOW) <= 2**20
    assert standing_after(standing, NOW) <= NOW + 21 * HALF_LIFE_SECONDS
