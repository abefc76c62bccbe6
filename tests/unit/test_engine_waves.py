"""Thoughts with different adapters in one night, on a model that is a table: each says what it would have said alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine.client import AdapterUse, ThoughtRequest, wave_of
from monk.engine.kv_store import KvStore
from monk.errors import AdapterUnusable
from tests.engine_house import House, assert_right, request

LAWYER = AdapterUse("lawyer", "a" * 8)
POET = AdapterUse("poet", "b" * 12)
WAVES: tuple[tuple[AdapterUse, ...], ...] = ((), (LAWYER,), (POET,), (LAWYER, POET), (replace(LAWYER, scale=0.5),))


def wearing(one: ThoughtRequest, *adapters: AdapterUse) -> ThoughtRequest:
    return replace(one, adapters=adapters)


def test_thoughts_of_one_wave_run_together_and_each_change_comes_once() -> None:
    house = House(slots=4)
    asked = [wearing(request(f"t{at}", range(at, at + 30), 6), *WAVES[at % 3]) for at in range(12)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert len(house.model.worn) == 2, "the base first, as the model wears nothing, then each adapter once"
    assert house.runner.counters.waves == 2


def test_the_same_prompt_in_another_wave_takes_over_nothing() -> None:
    house = House(slots=2)
    bare = request("bare", range(200), 4)
    worn = wearing(request("worn", range(200), 4), LAWYER)
    again = request("again", range(200), 4)

    for item in (bare, worn, again):
        house.ask(item)
        house.work()

    assert_right(house, bare, worn, again)
    assert house.model.computed >= 3 * 200


def test_blocks_on_disk_are_kept_apart_by_wave_and_found_again(tmp_path: Path) -> None:
    store = KvStore(tmp_path, 1 << 30)
    for turn in range(2):
        house = House(slots=2, store=store)
        asked = [wearing(request(f"{turn}-{at}", range(400), 4), *wave) for at, wave in enumerate(WAVES[:3])]
        for item in asked:
            house.ask(item)
            house.work()
        assert_right(house, *asked)
        assert store.flush(10)

    assert house.model.computed < 3 * 150, "the second night reads every wave's blocks from the disk"


def test_an_adapter_that_cannot_be_worn_fails_its_thoughts_alone() -> None:
    house = House(slots=2)
    bad = [wearing(request(f"bad{at}", range(20), 4), AdapterUse("broken", "c")) for at in range(3)]
    good = [request("good", range(30), 4), wearing(request("worn", range(30), 4), POET)]

    house.ask(bad[0], good[0], bad[1], good[1], bad[2])
    house.work()

    assert_right(house, *good)
    for item in bad:
        assert isinstance(house.end_of(item.id), AdapterUnusable)


def test_order_and_scale_tell_waves_apart_only_where_they_matter() -> None:
    assert wave_of((LAWYER, POET)) == wave_of((POET, LAWYER)) != wave_of((LAWYER,))
    assert wave_of((LAWYER,)) != wave_of((replace(LAWYER, scale=0.5),))
    assert wave_of((LAWYER,)) == wave_of((replace(LAWYER, path="elsewhere"),))


def test_twins_that_wear_different_things_are_no_twins() -> None:
    house = House(slots=4)
    asked = [request("bare", range(20), 8), wearing(request("worn", range(20), 8), LAWYER)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.runner.counters.deduplicated == 0


def test_a_pressing_thought_of_another_wave_is_not_kept_waiting_for_ever() -> None:
    """Newcomers of the running wave queue behind a thought of higher priority with another adapter."""
    house = House(slots=2)
    house.ask(*[request(f"base{at}", range(at, at + 10), 30) for at in range(2)])
    for _ in range(5):
        house.runner.turn()
    urgent = replace(wearing(request("urgent", range(10), 4), LAWYER), priority=50)
    house.ask(urgent, *[request(f"late{at}", range(at + 40, at + 50), 30) for at in range(8)])
    house.work()

    assert_right(house, urgent)
    spoke = list(house.heard)  # in the order in which each was first heard of
    assert spoke.index("urgent") < min(spoke.index(f"late{at}") for at in range(8))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 120), st.integers(1, 12)),
        min_size=1,
        max_size=14,
    ),
    st.booleans(),
    st.sampled_from([0, 600]),
)
def test_any_mixture_says_what_each_would_say_alone(
    wanted: list[tuple[int, int, int, int]], can_trim: bool, fork_cells: int
) -> None:
    house = House(slots=3, can_trim=can_trim, fork_cells=fork_cells)
    asked = [
        wearing(request(f"t{at}", range(family * 10, family * 10 + length), tokens), *WAVES[wave])
        for at, (wave, family, length, tokens) in enumerate(wanted)
    ]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    waves = [wave for wave, _ in groupby(house.model.worn)]
    assert len(waves) <= len(house.model.worn) <= len(asked) + 1


@pytest.mark.parametrize("can_trim", [True, False])
def test_what_is_held_under_one_wave_is_forgotten_in_every_lane(can_trim: bool) -> None:
    house = House(slots=3, can_trim=can_trim, fork_cells=600)
    first = [request(f"a{at}", [*range(300), at], 3) for at in range(4)]
    second = [wearing(request(f"b{at}", [*range(300), at], 3), LAWYER) for at in range(4)]

    house.ask(*first)
    house.work()
    house.ask(*second)
    house.work()

    assert_right(house, *first, *second)
