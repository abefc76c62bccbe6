"""Who gets which slot: arithmetic, tested without a model."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.placement import (
    LEAST_SHARED,
    Placement,
    SlotView,
    compaction,
    least_shared_tokens,
    place,
    side_by_side,
)

PROMPT = np.arange(100, dtype=np.int32)


def view(slot: int, *, free: bool, tokens: np.ndarray = PROMPT[:0], computed: int = 0, last_used: int = 0) -> SlotView:
    return SlotView(slot, free, tokens.astype(np.int32), computed, last_used)


def test_the_lowest_empty_slot_is_taken_first() -> None:
    slots = [view(0, free=False, tokens=PROMPT + 500), view(1, free=True), view(2, free=True)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1)
    assert place(PROMPT, slots[:1], can_trim=True) is None


def test_of_used_slots_the_one_forgotten_longest_is_taken() -> None:
    slots = [
        view(0, free=True, tokens=PROMPT + 300, computed=100, last_used=9),
        view(1, free=True, tokens=PROMPT + 500, computed=100, last_used=4),
    ]

    assert place(PROMPT, slots, can_trim=True) == Placement(1)


def test_a_beginning_left_in_a_free_slot_is_kept_but_for_the_last_token() -> None:
    slots = [view(0, free=True), view(1, free=True, tokens=PROMPT, computed=100)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1, kept=99)
    assert place(PROMPT[:60], slots, can_trim=True) == Placement(1, kept=59)


def test_a_beginning_that_a_neighbour_is_computing_is_waited_for() -> None:
    other = np.concatenate([PROMPT[:80], PROMPT[:30] + 700])
    slots = [view(0, free=False, tokens=other, computed=10), view(1, free=True)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1, 0, source=0, shared=80)


def test_an_identical_prompt_is_shared_whole_while_it_is_prefilled() -> None:
    fresh = [view(0, free=False, tokens=PROMPT, computed=0), view(1, free=True)]
    later = [view(0, free=False, tokens=PROMPT, computed=110), view(1, free=True)]

    assert place(PROMPT, fresh, can_trim=True) == Placement(1, 0, source=0, shared=100)
    assert place(PROMPT, later, can_trim=True) == Placement(1, 0, source=0, shared=99)


def test_memory_that_cannot_be_cut_is_shared_only_whole() -> None:
    longer = np.concatenate([PROMPT, PROMPT[:5]])
    partly = [view(0, free=False, tokens=longer, computed=0), view(1, free=True)]
    whole = [view(0, free=False, tokens=PROMPT, computed=0), view(1, free=True)]
    left_behind = [view(0, free=True, tokens=PROMPT, computed=100)]

    assert place(PROMPT, partly, can_trim=False) == Placement(1)
    assert place(longer, whole, can_trim=False) == Placement(1, 0, source=0, shared=100)
    assert place(PROMPT, left_behind, can_trim=False) == Placement(0)
    assert place(longer, left_behind, can_trim=False) == Placement(0, kept=100)


def test_short_beginnings_are_not_worth_a_copy() -> None:
    other = np.concatenate([PROMPT[: LEAST_SHARED - 1], PROMPT + 700])
    slots = [view(0, free=False, tokens=other), view(1, free=True)]

    assert place(PROMPT, slots, can_trim=True) == Placement(1)
    assert least_shared_tokens(2.0, 0.01) == 200
    assert least_shared_tokens(2.0, 0.0) == LEAST_SHARED


def test_a_gap_is_closed_when_its_cost_over_the_rest_is_higher_than_a_move() -> None:
    active = [(0, 500), (3, 400)]

    assert compaction(active, weight_bytes=10**9, stream_bytes=10**9) == (3, 1)
    assert compaction(active, weight_bytes=10**6, stream_bytes=10**9) is None
    assert compaction([(0, 500), (1, 400)], weight_bytes=10**9, stream_bytes=1) is None
    assert compaction([], weight_bytes=1, stream_bytes=1) is None


def test_neighbours_are_computed_in_the_cheapest_call_of_equal_rows() -> None:
    assert side_by_side({0: 110, 1: 110, 2: 110, 3: 110}, 0, 512) == ([0, 1, 2, 3], 110)
    assert side_by_side({0: 110, 1: 20, 2: 110}, 0, 512) == ([0], 110), "a short neighbour would cut the call"
    assert side_by_side({0: 100, 1: 90, 2: 3}, 1, 512) == ([1], 90), "what is left of the longer one is another call"
    assert side_by_side({0: 100, 1: 20, 2: 20, 3: 20}, 1, 512) == ([1, 2, 3], 20)
    assert side_by_side(dict.fromkeys(range(32), 119), 0, 512) == ([0, 1, 2, 3], 119), (
        "whole prompts, not pieces of all"
    )
    assert side_by_side({0: 100, 2: 100}, 0, 512) == ([0], 100), "a gap is another pass"
    assert side_by_side({4: 900, 5: 900}, 4, 512) == ([4], 512)
    assert side_by_side({4: 300, 5: 300}, 4, 512) == ([4], 300)


@given(st.dictionaries(st.integers(0, 12), st.integers(1, 300), min_size=1), st.integers(1, 512), st.data())
def test_a_call_never_takes_more_than_there_is_room_for(
    pending: dict[int, int], most: int, data: st.DataObject
) -> None:
    first = data.draw(st.sampled_from(sorted(pending)))

    slots, each = side_by_side(pending, first, most)

    assert first in slots and slots == list(range(slots[0], slots[-1] + 1))
    assert 1 <= each <= min(pending[slot] for slot in slots)
    assert each * len(slots) <= most
    assert each * len(slots) >= min(pending[first], most)
