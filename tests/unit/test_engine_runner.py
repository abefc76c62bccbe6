"""The engine loop on a model that is a table: sharing, recovery and order, without llama.cpp.

The model says a sum of all tokens before, modulo the vocabulary: any mistake in what a slot holds changes the answer.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine.client import Finished, NewTokens, PrefillProgress
from monk.engine.native import ABORTED, NO_ROOM
from monk.errors import EngineFailed
from tests.engine_house import House, assert_right, expected, request, unlike, words_of


def test_many_thoughts_over_few_slots_each_say_their_own() -> None:
    house = House(slots=3)
    asked = [request(f"t{at}", range(at, at + 5 + 7 * at), 4 + at) for at in range(9)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.runner.counters.active == 0 or all(
        slot.owner is None for slot in house.runner._lanes._streams._slots.values()
    )


def test_tokens_and_progress_are_told_in_order() -> None:
    house = House(chunk=16)
    asked = request("t", range(40), 5)

    house.ask(asked)
    house.work()

    heard = house.heard["t"]
    assert heard[:3] == [PrefillProgress(16, 40), PrefillProgress(32, 40), PrefillProgress(40, 40)]
    ids = [token for message in heard if isinstance(message, NewTokens) for token in message.ids]
    text = "".join(message.text for message in heard if isinstance(message, NewTokens))
    assert words_of(ids) == text == expected(asked)[1]


def test_identical_prompts_are_computed_once() -> None:
    house = House(slots=4)
    asked = [unlike(request(f"t{at}", range(200), 1)) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed == 200


def test_a_shared_beginning_is_computed_once() -> None:
    house = House(slots=4)
    asked = [request(f"t{at}", [*range(300), *range(at * 7, at * 7 + 10)], 3) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed < 310 + 3 * 20 + 4 * 3


def test_a_conversation_goes_on_in_the_slot_it_left() -> None:
    house = House(slots=2)
    first = request("first", range(100), 3)
    house.ask(first)
    house.work()
    computed = house.model.computed
    second = request("second", [*range(100), *range(50, 60)], 3)

    house.ask(second)
    house.work()

    assert_right(house, first, second)
    assert house.model.computed - computed <= 10 + 3


def test_memory_that_cannot_be_cut_is_still_right_and_still_shares_twins() -> None:
    house = House(slots=4, can_trim=False)
    asked = [unlike(request(f"t{at}", range(200), 5)) for at in range(3)]
    asked += [request("longer", [*range(200), 1, 2, 3], 5), request("other", range(5, 90), 5)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed < 200 + 90 + 3 + 5 * 6


def test_a_source_that_is_cancelled_frees_its_followers() -> None:
    for can_trim in (True, False):
        house = House(slots=2, chunk=8, can_trim=can_trim)
        asked = [request("gone", range(100), 50), request("stays", range(100), 5)]
        house.ask(*asked)
        for _ in range(3):
            house.runner.turn()

        house.runner.cancel("gone")
        house.runner._read_inbox()
        house.work()

        end = house.end_of("gone")
        assert isinstance(end, Finished) and end.reason == "cancelled"
        assert_right(house, asked[1])


def test_an_aborted_step_is_done_again() -> None:
    house = House()
    asked = [request("a", range(40), 6), request("b", range(3, 20), 6)]
    house.model.codes = [0, ABORTED, 0, 0, ABORTED, ABORTED, 0, ABORTED]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)


def test_a_refused_batch_is_taken_apart_and_only_the_culprit_fails() -> None:
    house = House(slots=3, stream_bytes=1 << 40)  # moving a thought is never worth it
    asked = [request(f"t{at}", range(at, at + 9), 8) for at in range(3)]
    house.ask(*asked)
    for _ in range(4):
        house.runner.turn()
    house.model.streams.poison = 1

    house.work()

    assert isinstance(house.end_of("t1"), EngineFailed)
    assert_right(house, asked[0], asked[2])


def test_a_prefill_without_room_fails_its_own_thought_only() -> None:
    house = House()
    asked = [request("full", range(30), 3), request("fine", range(50, 80), 3)]
    house.model.codes = [NO_ROOM]

    house.ask(*asked)
    house.work()

    assert isinstance(house.end_of("full"), EngineFailed)
    assert_right(house, asked[1])


def test_saved_tokens_are_continued() -> None:
    whole = request("whole", range(30), 12)
    ids = [int(word) for word in expected(whole)[1].split()]
    rest = replace(whole, id="rest", saved=tuple(ids[:5]))
    house = House()

    house.ask(rest)
    house.work()

    end = house.end_of("rest")
    assert isinstance(end, Finished)
    assert end.text == expected(whole)[1]
    assert end.num_decoded == len(ids) - 5


def test_a_gap_is_closed_when_nobody_waits() -> None:
    house = House(slots=4)
    asked = [request(f"t{at}", range(at * 11, at * 11 + 20), 3 if at < 2 else 200) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)


def test_stopping_pauses_everything_and_loses_no_token() -> None:
    house = House(slots=1)
    asked = [request("running", range(30), 500), request("waiting", range(40, 60), 5)]
    house.ask(*asked)
    for _ in range(6):
        house.runner.turn()

    house.runner.stop()
    house.runner.run()

    for name in ("running", "waiting"):
        end = house.end_of(name)
        assert isinstance(end, Finished) and end.reason == "paused"
    told = [token for message in house.heard["running"] if isinstance(message, NewTokens) for token in message.ids]
    assert expected(asked[0])[1].startswith(words_of(told))
    assert told


def test_the_same_id_twice_is_refused() -> None:
    house = House()

    house.ask(request("t", range(9)), request("t", range(9)))

    assert isinstance(house.end_of("t"), EngineFailed)


prompts = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(prompts, st.integers(1, 8), st.booleans()), min_size=1, max_size=12),
    st.lists(st.sampled_from([0, 0, 0, ABORTED]), max_size=30),
    st.booleans(),
    st.integers(1, 5),
)
def test_whatever_is_shared_aborted_or_cancelled_nobody_gets_anothers_words(
    thoughts: list[tuple[list[int], int, bool]], codes: list[int], can_trim: bool, slots: int
) -> None:
    house = House(slots=slots, chunk=16, can_trim=can_trim)
    house.model.codes = list(codes)
    asked = [request(f"t{at}", [5] * 30 + prompt, length) for at, (prompt, length, _) in enumerate(thoughts)]
    for item, (_, _, cancelled) in zip(asked, thoughts, strict=True):
        house.ask(item)
        house.runner.turn()
        if cancelled:
            house.runner.cancel(item.id)
            house.runner._read_inbox()
    house.work()

    for item in asked:
        end = house.end_of(item.id)
        assert isinstance(end, Finished)
        if end.reason == "cancelled":
            assert expected(item)[1].startswith(end.text)
        else:
            assert (end.reason, end.text) == expected(item)


@pytest.mark.parametrize("max_tokens", [1, 2])
def test_a_prompt_of_one_token_works(max_tokens: int) -> None:
    house = House()
    asked = request("t", [5], max_tokens)

    house.ask(asked)
    house.work()

    assert_right(house, asked)


def test_short_prompts_of_neighbours_are_computed_in_one_call() -> None:
    house = House(slots=4, chunk=64)
    asked = [request(f"t{number}", range(number, number + 12), 3) for number in range(4)]

    house.ask(*asked)
    house.runner.turn()

    assert house.model.computed == 4 * 12
    house.work()
    assert_right(house, *asked)
