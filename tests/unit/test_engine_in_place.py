"""A single slot whose lane has a scratch: long prompts are computed, kept and restored where they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monk.engine.client import Finished, PrefillProgress
from monk.engine.kv_store import KvStore
from monk.engine.native import ABORTED
from tests.engine_house import BLOCK, House, assert_right, request

PROMPT = list(range(5 * BLOCK + 10))
SCRATCH = 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KvStore]:
    made = KvStore(tmp_path / "kv", 1 << 30, min_free_bytes=0)
    yield made
    made.close()


def files(store: KvStore) -> int:
    assert store.flush(10)
    return store.counters.blocks_held


def house_of(store: KvStore, *, speculates: bool = False) -> House:
    house = House(slots=1, store=store, in_place=True, speculates=speculates)
    house.model.has_prefill = False
    return house


def test_a_long_prompt_is_computed_once_and_leaves_a_block_for_every_whole_stretch(store: KvStore) -> None:
    house = house_of(store)
    asked = request("t", PROMPT, 5)

    house.ask(asked)
    house.work()

    assert_right(house, asked)
    assert files(store) == 5
    assert house.model.computed == len(PROMPT) + 5 - 1
    assert set(house.model.lanes) == {"stream"}, "no other lane was opened"
    assert not house.model.streams.held[SCRATCH]


@pytest.mark.parametrize("in_place", [True, False])
def test_another_process_goes_on_from_its_blocks_and_it_from_those_of_others(store: KvStore, in_place: bool) -> None:
    houses = [house_of(store), House(store=store)]
    first, second = houses if in_place else reversed(houses)
    longer = request("longer", [*PROMPT, 7, 8, 9], 5)
    first.ask(request("t", PROMPT, 5))
    first.work()
    assert files(store) == 5

    second.ask(longer)
    second.work()

    assert_right(second, longer)
    replays = 5
    assert second.model.computed == 10 + 3 + replays + 5 - 1
    assert store.counters.hits == 5


def test_a_killed_prefill_has_lost_at_most_one_block(store: KvStore) -> None:
    killed, after = house_of(store), house_of(store)
    asked = request("t", PROMPT, 5)
    killed.ask(asked)
    while not killed.heard.get("t") or killed.heard["t"][-1] != PrefillProgress(4 * BLOCK - 16, len(PROMPT)):
        killed.runner.turn()
    assert files(store) == 3

    after.ask(asked)
    after.work()

    assert_right(after, asked)
    assert store.counters.hits == 3


def test_the_next_question_behind_the_same_beginning_uses_what_the_slot_holds(store: KvStore) -> None:
    house = house_of(store)
    asked = [request(f"q{number}", [*PROMPT, 80 + number], 4) for number in range(3)]

    house.ask(*asked)
    house.work()

    for one in asked:
        assert_right(house, one)
    assert house.model.computed == len(PROMPT) + 3 * (1 + 4 - 1)


@pytest.mark.parametrize("code", [ABORTED, -1])
def test_an_interrupted_or_refused_chunk_costs_only_itself(store: KvStore, code: int) -> None:
    house = house_of(store)
    asked = request("t", PROMPT, 5)
    house.ask(asked)
    for _ in range(6):
        house.runner.turn()

    house.model.codes = [code]
    house.work()

    assert_right(house, asked)
    assert house.model.computed == len(PROMPT) + 5 - 1


def test_a_cancelled_reader_leaves_what_was_read_to_the_next(store: KvStore) -> None:
    house = house_of(store)
    asked = request("t", PROMPT, 5)
    house.ask(asked)
    for _ in range(6):
        house.runner.turn()
    done = house.model.computed

    house.runner.cancel("t")
    house.runner._read_inbox()
    again = replace(asked, id="again")
    house.ask(again)
    house.work()

    assert isinstance(house.end_of("t"), Finished)
    assert_right(house, again)
    assert 0 < done < len(PROMPT)
    assert house.model.computed == len(PROMPT) + 5 - 1


def test_adapters_take_turns_in_the_only_slot(store: KvStore) -> None:
    from monk.engine.client import AdapterUse

    house = house_of(store)
    asked = [
        replace(request(f"t{scale}", PROMPT, 4), adapters=(AdapterUse("a.gguf", "ab" * 32, scale),) if scale else ())
        for scale in (0.0, 0.5, 1.0)
    ]

    house.ask(*asked)
    house.work()

    for one in asked:
        assert_right(house, one)
    assert files(store) == 15


def test_guesses_are_taken_back_out_of_the_only_slot(store: KvStore) -> None:
    house = house_of(store, speculates=True)
    asked = request("t", [1, 2, 3, 4] * 40, 60)

    house.ask(asked)
    house.work()

    assert_right(house, asked)
