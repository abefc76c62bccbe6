"""Prefill lane, fork lane and twins on a model that is a table, with a real store: who computes what, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine.client import Finished, NewTokens, PrefillProgress, Sampling
from monk.engine.frames import Image
from monk.engine.kv_store import Block, KvStore, chain
from monk.engine.native import ABORTED, Run
from monk.engine.shelf import proof_of
from monk.errors import EngineFailed
from tests.engine_house import BLOCK, House, assert_right, expected, request, unlike, words_of
from tests.engine_lanes import logits_after

PROMPT = list(range(5 * BLOCK + 10))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KvStore]:
    made = KvStore(tmp_path / "kv", 1 << 30, min_free_bytes=0)
    yield made
    made.close()


def files(store: KvStore) -> int:
    assert store.flush(10)
    return store.counters.blocks_held


# --- blocks


def test_a_long_prompt_leaves_a_block_for_every_whole_stretch(store: KvStore) -> None:
    house = House(store=store)
    asked = request("t", PROMPT, 5)

    house.ask(asked)
    house.work()

    assert_right(house, asked)
    assert files(store) == 5
    assert house.model.computed == len(PROMPT) + 5 - 1


def test_another_process_goes_on_from_the_blocks(store: KvStore) -> None:
    first, second = House(store=store), House(store=store)
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
    assert store.counters.tokens_restored == 5 * BLOCK


def test_a_prompt_that_is_all_blocks_computes_only_its_last_token(store: KvStore) -> None:
    asked = request("t", PROMPT[: 3 * BLOCK], 4)
    first, second = House(store=store), House(store=store)
    first.ask(asked)
    first.work()
    assert files(store) == 3

    second.ask(asked)
    second.work()

    assert_right(second, asked)
    assert second.model.computed == 3 + 1 + 4 - 1


def test_progress_tells_what_was_restored(store: KvStore) -> None:
    first, second = House(store=store), House(store=store)
    first.ask(request("t", PROMPT, 1))
    first.work()
    files(store)

    second.ask(request("t", PROMPT, 1))
    second.work()

    done = [item.done for item in second.heard["t"] if isinstance(item, PrefillProgress)]
    assert done == [BLOCK, 2 * BLOCK, 3 * BLOCK, 4 * BLOCK, 5 * BLOCK, len(PROMPT)]
    end = second.end_of("t")
    assert isinstance(end, Finished) and end.num_prefilled == 10


def test_a_killed_prefill_has_lost_at_most_one_block(store: KvStore) -> None:
    killed, after = House(store=store), House(store=store)
    asked = request("t", PROMPT, 5)
    killed.ask(asked)
    while not killed.heard.get("t") or killed.heard["t"][-1] != PrefillProgress(4 * BLOCK - 16, len(PROMPT)):
        killed.runner.turn()
    assert files(store) == 3

    after.ask(asked)
    after.work()

    assert_right(after, asked)
    assert store.counters.hits == 3


def test_kv_of_another_text_fails_its_proof_and_is_computed_again(store: KvStore) -> None:
    asked = request("t", PROMPT, 5)
    house, after = House(store=store), House(store=store)
    house.ask(asked)
    house.work()
    assert files(store) == 5
    plant_foreign_block(store, asked.prompt, index=2)

    after.ask(asked)
    after.work()

    assert_right(after, asked)
    assert store.counters.hits == 2
    assert store.counters.distrusted == 3
    assert files(store) == 5  # written anew


def plant_foreign_block(store: KvStore, prompt: tuple[int, ...], index: int) -> None:
    """Put KV of other tokens under the right name, checksums and all."""
    keys = chain(bytes(32), np.asarray(prompt, np.int32), BLOCK)
    good = [store.read(key) for key in keys]
    store.distrust(keys[index])
    store._counters.distrusted = 0
    for block in good[index:]:
        assert block is not None
        payload = block.payload.copy()
        if block.start == index * BLOCK:
            pairs = payload[16:].view(np.int32).reshape(-1, 2)
            pairs[:, 1] = (pairs[:, 1] + 1) % 90
        store.write(Block(block.key, block.parent, block.start, BLOCK, payload, block.proof, 1.0))
        assert store.flush(10)


def test_kv_at_other_positions_is_not_taken(store: KvStore) -> None:
    asked = request("t", PROMPT, 5)
    tokens = np.asarray(asked.prompt, np.int32)
    keys = chain(bytes(32), tokens, BLOCK)
    lane = House().model.streams
    lane.decode([Run(0, 0, tokens[:16])], "prefill")
    image: Image = lane.save(0)
    proof = proof_of(logits_after([int(token) for token in tokens[:BLOCK]]))
    store.write(Block(keys[0], "", 0, BLOCK, image.payload.copy(), proof, 1.0))
    assert files(store) == 1
    house = House(store=store)

    house.ask(asked)
    house.work()

    assert_right(house, asked)
    assert store.counters.distrusted == 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:5000] + b"\x55" + data[5001:], lambda _: b""]
)
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: object) -> None:
    asked = request("t", PROMPT[: 2 * BLOCK + 3] * 1, 5)
    # large vocabulary rows make files longer than a page
    first = KvStore(tmp_path, 1 << 30, min_free_bytes=0)
    house = House(store=first)
    house.ask(asked)
    house.work()
    first.close()
    victim = sorted(path for path in tmp_path.rglob("*") if path.is_file())[0]
    data = victim.read_bytes()
    changed = damage(data)  # type: ignore[operator]
    victim.write_bytes(changed if changed != data else data[:-1] + bytes([data[-1] ^ 1]))

    second = KvStore(tmp_path, 1 << 30, min_free_bytes=0)
    after = House(store=second)
    after.ask(asked)
    after.work()

    assert_right(after, asked)
    second.flush(10)
    assert second.counters.failures >= 1
    assert second.counters.blocks_held == 2
    second.close()


def test_a_full_disk_changes_nothing_but_the_next_start(tmp_path: Path) -> None:
    store = KvStore(tmp_path, 1 << 30, min_free_bytes=1 << 60)
    house = House(store=store)
    asked = [unlike(request(f"t{at}", PROMPT, 5)) for at in range(3)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert files(store) == 0
    store.close()


def test_aborts_in_the_prefill_lane_repeat_the_step(store: KvStore) -> None:
    first, second = House(store=store), House(store=store)
    asked = request("t", PROMPT, 5)
    first.model.codes = [0, ABORTED, 0, 0, ABORTED, 0, ABORTED, ABORTED]
    first.ask(asked)
    first.work()
    assert files(store) == 5

    second.model.codes = [ABORTED, 0, ABORTED, ABORTED, 0]
    second.ask(asked)
    second.work()

    assert_right(first, asked)
    assert_right(second, asked)
    assert store.counters.hits == 5


def test_a_prefill_lane_that_refuses_leaves_the_prompt_to_its_slot(store: KvStore) -> None:
    house = House(store=store)
    asked = [request("t", PROMPT, 5), request("other", range(20), 5)]
    house.ask(*asked)
    house.runner.turn()
    house.model.lanes["prefill"].poison = 0

    house.work()

    assert_right(house, *asked)


def test_a_slot_that_takes_no_image_computes_the_prompt_itself(store: KvStore) -> None:
    house = House(store=store)
    house.model.streams.deaf = True
    asked = request("t", PROMPT, 5)

    house.ask(asked)
    house.work()

    assert_right(house, asked)


def test_without_room_for_a_prefill_lane_everything_works_as_before(store: KvStore) -> None:
    house = House(store=store, fork_cells=2000)
    house.model.has_prefill = False
    asked = [unlike(request(f"t{at}", PROMPT, 5)) for at in range(3)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert set(house.model.lanes) == {"stream"}


def test_memory_that_cannot_be_cut_is_neither_kept_nor_forked(store: KvStore) -> None:
    house = House(store=store, fork_cells=2000, can_trim=False)
    asked = [unlike(request(f"t{at}", PROMPT, 5)) for at in range(3)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert set(house.model.lanes) == {"stream"}
    assert files(store) == 0


def test_what_an_earlier_prompt_left_in_the_lane_is_used_in_place(store: KvStore) -> None:
    house = House(slots=1, store=store)
    asked = [request("first", PROMPT, 3), request("second", [*PROMPT[:200], *range(3, 3 + 2 * BLOCK)], 3)]
    house.ask(asked[0])
    house.work()
    before = house.model.computed

    house.ask(asked[1])
    house.work()

    assert_right(house, *asked)
    assert house.model.computed - before == 2 * BLOCK + 3 - 1
    assert store.counters.hits == 0


def test_a_conversation_that_grew_in_its_slot_gets_its_missing_blocks(store: KvStore) -> None:
    house = House(slots=1, store=store)
    grown = PROMPT[: BLOCK - 1]
    for turn in range(4):
        asked = request(f"turn{turn}", grown, 1)
        house.ask(asked)
        house.work()
        grown = [*grown, *range(turn, turn + BLOCK - 1)]
    assert files(store) == 0

    asked = request("long", [*grown, *range(2 * BLOCK)], 3)
    house.ask(asked)
    house.work()

    assert_right(house, asked)
    assert files(store) == (len(grown) + 2 * BLOCK) // BLOCK


def test_a_cancelled_reading_leaves_the_lane_to_the_next(store: KvStore) -> None:
    house = House(slots=2, store=store)
    asked = [request("gone", PROMPT, 5), request("stays", [5, *PROMPT], 5)]
    house.ask(*asked)
    for _ in range(4):
        house.runner.turn()

    house.runner.cancel("gone")
    house.runner._read_inbox()
    house.work()

    end = house.end_of("gone")
    assert isinstance(end, Finished) and end.reason == "cancelled"
    assert_right(house, asked[1])


# --- forks

DOCUMENT = [(at * at) % 89 for at in range(700)]


def questions(count: int, own: int = 9, max_tokens: int = 6) -> list:
    return [request(f"q{at}", [*DOCUMENT, *range(at, at + own)], max_tokens) for at in range(count)]


def test_questions_on_one_document_read_it_once_and_go_on_together() -> None:
    house = House(fork_cells=2000, chunk=64)
    asked = questions(5)

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed == len(DOCUMENT) + sum(9 + len(expected(item)[1].split()) for item in asked) - 5 + (
        sum(expected(item)[0] == "stop" for item in asked)
    )
    assert house.runner.counters.forked_tokens == 5 * len(DOCUMENT)
    assert not any(house.model.streams.held)


def test_a_late_question_joins_a_running_group_and_more_than_fit_take_turns() -> None:
    house = House(fork_cells=760, chunk=64, slots=1)
    asked = questions(7)
    house.ask(*asked[:4])
    for _ in range(14):
        house.runner.turn()

    house.ask(*asked[4:])
    house.work()

    assert_right(house, *asked)
    assert house.runner.counters.forked_tokens >= 6 * len(DOCUMENT)


def test_samples_of_one_long_prompt_are_forked() -> None:
    house = House(fork_cells=2000, chunk=64)
    asked = [unlike(request(f"s{at}", DOCUMENT, 5)) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.computed < len(DOCUMENT) + 4 * 6
    for item in asked:
        assert house.heard[item.id][0] == PrefillProgress(len(DOCUMENT) - 1, len(DOCUMENT)) or isinstance(
            house.heard[item.id][0], PrefillProgress
        )


def test_one_that_began_alone_is_taken_along_while_its_prompt_is_not_computed() -> None:
    house = House(fork_cells=2000, chunk=64)
    asked = questions(4)
    house.ask(asked[0])
    house.runner.turn()
    assert house.runner._lanes.num_seated == 1

    house.ask(*asked[1:])
    house.work()

    assert_right(house, *asked)
    assert house.runner.counters.forked_tokens == 4 * len(DOCUMENT)
    assert house.model.computed < len(DOCUMENT) + 64 + 4 * 20


def test_another_beginning_waits_until_the_last_member_has_left_and_its_thoughts_do_not() -> None:
    house = House(fork_cells=2000, chunk=64, slots=2)
    other = [(at * 7 + 3) % 88 for at in range(700)]
    asked = [*questions(3, max_tokens=20)]
    late = [unlike(request(f"o{at}", [*other, at], 4)) for at in range(4)]
    house.ask(*asked)
    for _ in range(15):
        house.runner.turn()

    house.ask(*late)
    house.work()

    assert_right(house, *asked, *late)


def test_a_beginning_left_by_the_last_group_is_used_again() -> None:
    house = House(fork_cells=2000, chunk=64)
    first, second = questions(2), [replace(item, id=f"again {item.id}") for item in questions(3, own=12)]
    house.ask(*first)
    house.work()
    before = house.model.computed

    house.ask(*second)
    house.work()

    assert_right(house, *first, *second)
    assert house.model.computed - before < 3 * (12 + 7)


def test_those_who_share_more_among_themselves_do_not_join_for_a_short_beginning() -> None:
    house = House(fork_cells=2000, chunk=64)
    running = [request(f"r{at}", [*DOCUMENT[:300], 80 + at], 30) for at in range(2)]
    house.ask(*running)
    for _ in range(10):
        house.runner.turn()
    assert house.runner.counters.forked_tokens == 2 * 300
    before = house.model.computed
    late = [request(f"l{at}", [*DOCUMENT[:300], *[7] * 300, at], 4) for at in range(4)]

    house.ask(*late)
    house.work()

    assert_right(house, *running, *late)
    assert house.model.computed - before < 600 + 4 * 6 + 2 * 30 + 64


def test_the_beginning_is_computed_on_when_the_one_who_asked_first_leaves() -> None:
    house = House(fork_cells=2000, chunk=64)
    asked = questions(3)
    house.ask(*asked)
    for _ in range(4):
        house.runner.turn()

    house.runner.cancel("q0")
    house.runner._read_inbox()
    house.work()

    assert_right(house, *asked[1:])
    assert house.model.computed < len(DOCUMENT) + 64 + 3 * 20


def test_a_group_that_is_cancelled_as_a_whole_frees_the_lane() -> None:
    house = House(fork_cells=2000, chunk=64)
    house.ask(*questions(3))
    house.runner.turn()
    for at in range(3):
        house.runner.cancel(f"q{at}")
    house.runner._read_inbox()
    again = questions(2, own=12)

    house.ask(*again)
    house.work()

    assert_right(house, *again)
    assert house.runner.counters.forked_tokens == 2 * len(DOCUMENT)


def test_a_refused_member_fails_alone_and_an_aborted_step_is_repeated() -> None:
    house = House(fork_cells=2000, chunk=64)
    asked = questions(4, max_tokens=12)
    house.ask(*asked)
    for _ in range(14):
        house.runner.turn()
    victim = next(owner for owner in house.runner._lanes._forks.owners if owner.pending == 1)  # type: ignore[union-attr]
    house.model.codes = [ABORTED, 0, ABORTED]
    house.model.lanes["fork"].poison = victim.slot

    house.work()

    assert isinstance(house.end_of(victim.id), EngineFailed)
    assert_right(house, *(item for item in asked if item.id != victim.id))


def test_a_fork_lane_that_takes_no_image_sends_everybody_to_the_streams() -> None:
    house = House(fork_cells=2000, chunk=64)
    asked = questions(3)
    house.ask(*asked)
    house.runner.turn()
    house.model.lanes["fork"].deaf = True

    house.work()

    assert_right(house, *asked)


# --- twins


def test_identical_thoughts_are_computed_once_and_told_to_all() -> None:
    house = House(slots=4)
    asked = [request(f"t{at}", range(200), 9) for at in range(4)]
    house.ask(*asked[:3])
    for _ in range(16):
        house.runner.turn()

    house.ask(asked[3])
    house.work()

    assert_right(house, *asked)
    assert house.model.computed == 200 + 9 - 1
    assert house.runner.counters.deduplicated == 3
    for item in asked:
        told = [token for message in house.heard[item.id] if isinstance(message, NewTokens) for token in message.ids]
        assert words_of(told) == expected(item)[1]
    ends = [house.end_of(item.id) for item in asked]
    assert [end.num_prefilled for end in ends if isinstance(end, Finished)] == [200, 0, 0, 0]


def test_a_twin_that_is_more_urgent_takes_the_first_one_along() -> None:
    house = House(slots=1)
    asked = [request("now", range(40), 30), request("other", range(50, 90), 3), request("slow", range(20), 3)]
    house.ask(*asked)
    house.runner.turn()

    house.ask(replace(asked[2], id="fast", priority=5))
    house.work()

    assert_right(house, asked[0], asked[1], asked[2], replace(asked[2], id="fast"))
    assert list(house.heard)[1:] in (["fast", "slow", "other"], ["slow", "fast", "other"])


def test_one_of_two_identical_thoughts_may_leave() -> None:
    for gone, stays in (("a", "b"), ("b", "a")):
        house = House()
        asked = {name: request(name, range(50), 30) for name in "ab"}
        house.ask(*asked.values())
        for _ in range(8):
            house.runner.turn()

        house.runner.cancel(gone)
        house.runner._read_inbox()
        house.work()

        end = house.end_of(gone)
        assert isinstance(end, Finished) and end.reason == "cancelled"
        assert expected(asked[gone])[1].startswith(end.text)
        assert_right(house, asked[stays])


def test_a_different_seed_matters_only_where_dice_are_thrown() -> None:
    for temperature, computed_together in ((0.0, True), (0.7, False)):
        house = House()
        asked = [
            replace(request(f"t{seed}", range(50), 4), sampling=Sampling(temperature=temperature, seed=seed))
            for seed in range(2)
        ]

        house.ask(*asked)

        assert bool(house.runner.counters.deduplicated) == computed_together


# --- all of it

parts = st.lists(st.integers(0, 2), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(parts, st.integers(1, 8), st.booleans()), min_size=1, max_size=10),
    st.lists(st.sampled_from([0, 0, 0, ABORTED]), max_size=40),
    st.integers(1, 4),
    st.sampled_from([0, 500, 900]),
    st.booleans(),
)
def test_whatever_is_kept_forked_aborted_or_cancelled_nobody_gets_anothers_words(
    tmp_path_factory: pytest.TempPathFactory,
    thoughts: list[tuple[list[int], int, bool]],
    codes: list[int],
    slots: int,
    fork_cells: int,
    keeps: bool,
) -> None:
    store = KvStore(tmp_path_factory.mktemp("kv"), 1 << 30, min_free_bytes=0) if keeps else None
    house = House(slots=slots, chunk=32, fork_cells=fork_cells, store=store)
    house.model.codes = list(codes)
    asked = []
    for at, (pieces, length, _) in enumerate(thoughts):
        prompt = [5] * 280 + [token for piece in pieces for token in [piece] * 40]
        asked.append(request(f"t{at}", prompt, length))
    for item, (_, _, cancelled) in zip(asked, thoughts, strict=True):
        house.ask(item)
        house.runner.turn()
        if cancelled:
            house.runner.cancel(item.id)
            house.runner._read_inbox()
    house.work()
    if store is not None:
        store.close()

    for item in asked:
        end = house.end_of(item.id)
        assert isinstance(end, Finished)
        if end.reason == "cancelled":
            assert expected(item)[1].startswith(end.text)
        else:
            assert (end.reason, end.text) == expected(item)


# --- waiting for a seat in the fork lane


def test_who_finds_the_fork_lane_full_waits_for_a_seat_instead_of_a_copy_elsewhere() -> None:
    house = House(slots=4, fork_cells=2000, chunk=64)
    asked = questions(20, own=6, max_tokens=4)

    house.ask(*asked)
    seen = set()
    while house.runner._sequences:
        house.runner.turn()
        seen |= {sequence.lane for sequence in house.runner._sequences}

    assert_right(house, *asked)
    assert "stream" not in seen
    assert house.model.computed < len(DOCUMENT) + 64 + 20 * (6 + 4)


def test_who_matters_more_than_all_in_the_fork_lane_need_not_wait_for_them() -> None:
    house = House(slots=4, fork_cells=2000, chunk=64)
    asked = questions(20, own=6, max_tokens=30)
    house.ask(*asked)
    for _ in range(20):
        house.runner.turn()
    (urgent,) = [replace(item, id="urgent", priority=50) for item in questions(1, own=9, max_tokens=3)]

    house.ask(urgent)
    house.runner.turn()

    (sequence,) = [item for item in house.runner._sequences if item.id == "urgent"]
    assert sequence.lane == "stream"
    house.work()
    assert_right(house, *asked, urgent)


def test_strangers_pass_those_who_wait_for_the_fork_lane() -> None:
    house = House(slots=4, fork_cells=2000, chunk=64)
    asked = questions(20, own=6, max_tokens=30)
    house.ask(*asked)
    for _ in range(20):
        house.runner.turn()
    stranger = request("stranger", [5, 5, 5, 9], 3)

    house.ask(stranger)
    for _ in range(12):
        house.runner.turn()

    assert isinstance(house.end_of("stranger"), Finished)
    house.work()
    assert_right(house, *asked, stranger)
