"""The limit of the folder of KV blocks: what saves least goes first."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monk.engine import kv_file
from monk.engine.kv_block import chunk_digest, pack_head
from monk.engine.kv_store import Block, KvStore
from monk.engine.kv_worth import HALF_LIFE_SECONDS
from tests.small_kv import (
    DAY,
    FILE,
    PLENTY,
    Clock,
    harm,
    keys_of,
    on_disk,
    opened,
    text,
    write_all,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_limit_is_kept_by_giving_up_what_saves_least(tmp_path: Path, clock: Clock) -> None:
    dear, cheap, newer = text(1, 1, seconds=50), text(2, 1, seconds=5), text(3, 1, seconds=20)
    with opened(tmp_path / "kv", clock, limit=2 * FILE) as store:
        for blocks in (dear, cheap, newer):
            write_all(store, blocks)

        assert on_disk(tmp_path / "kv").keys() == {dear[0].key, newer[0].key}
        assert (store.counters.collected, store.counters.bytes_held) == (1, 2 * FILE)


def test_a_newcomer_that_saves_less_than_all_others_is_declined(tmp_path: Path, clock: Clock) -> None:
    dear, cheap = text(1, 2, seconds=50), text(2, 1, seconds=5)
    with opened(tmp_path / "kv", clock, limit=2 * FILE) as store:
        write_all(store, [*dear, *cheap])

        assert on_disk(tmp_path / "kv").keys() == set(keys_of(dear))
        assert (store.counters.collected, store.counters.declined) == (0, 1)


def test_a_text_longer_than_the_limit_keeps_its_beginning_and_stops_writing(tmp_path: Path, clock: Clock) -> None:
    blocks = text(1, 10)
    with opened(tmp_path / "kv", clock, limit=4 * FILE + 100) as store:
        write_all(store, blocks)

        assert store.longest(keys_of(blocks)) == 4
        assert store.counters.blocks_written == 4


def test_a_block_used_often_outlives_a_newer_one_and_that_is_known_after_a_restart(
    tmp_path: Path, clock: Clock
) -> None:
    often, once, last = text(1, 1), text(2, 1), text(3, 1)
    with opened(tmp_path / "kv", clock, limit=2 * FILE) as store:
        write_all(store, often)
        for _ in range(5):
            clock.now += DAY
            store.used(keys_of(often), 1.0)
        clock.now += DAY
        write_all(store, once)
    clock.now += HALF_LIFE_SECONDS
    with opened(tmp_path / "kv", clock, limit=2 * FILE) as store:
        write_all(store, last)

    assert on_disk(tmp_path / "kv").keys() == {often[0].key, last[0].key}


def test_a_block_larger_than_the_limit_displaces_nothing_and_the_owner_is_told(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    small = text(1, 1)
    large = Block("e" * 64, "", 0, 16, np.zeros(3 * FILE, np.uint8), small[0].proof, 1e9)
    with opened(tmp_path / "kv", clock, limit=2 * FILE) as store:
        write_all(store, [*small, large])

        assert on_disk(tmp_path / "kv").keys() == {small[0].key}
    assert [record.message for record in caplog.records] == ["kv blocks find no room"]


@pytest.mark.parametrize(("limit", "left"), [(2 * FILE, 2), (FILE - 1, 0), (0, 0)])
def test_a_lowered_limit_is_kept_from_the_start(tmp_path: Path, clock: Clock, limit: int, left: int) -> None:
    with opened(tmp_path / "kv", clock) as store:
        write_all(store, text(1, 5))
    with opened(tmp_path / "kv", clock, limit=limit) as store:
        assert store.longest(keys_of(text(1, 5))) == left
        assert len(on_disk(tmp_path / "kv")) == left


def test_the_disks_last_bytes_are_left_to_others(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "kv", clock, min_free=PLENTY) as store, caplog.at_level(logging.WARNING):
        write_all(store, text(1))

        assert (store.counters.declined, store.counters.write_errors) == (3, 0)
    assert [record.message for record in caplog.records] == ["kv blocks find no room"]
    assert on_disk(tmp_path / "kv") == {}


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["text", "text", "text", "use", "harm", "distrust", "restart"]),
        st.integers(0, 5),
        st.integers(1, 4),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS, st.integers(0, 7))
def test_whatever_happens_the_limit_holds_and_only_right_blocks_are_read(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, int]], limit_blocks: int
) -> None:
    folder, clock, limit = tmp_path_factory.mktemp("kv"), Clock(), limit_blocks * FILE + 99
    trunk = text(200, 1)
    texts = [text(seed, 4, after=trunk if seed % 2 else None, seconds=seed + 1) for seed in range(6)]
    payload_of = {block.key: block.payload for blocks in texts for block in blocks}
    harmed = False
    store = KvStore(folder, limit, 0, clock)
    for operation, which, amount in operations:
        clock.now += DAY
        blocks = texts[which][:amount]
        if operation == "text":
            write_all(store, blocks)
        elif operation == "use":
            store.used(keys_of(blocks[: store.longest(keys_of(blocks))]), 1.0)
        elif operation == "harm" and kv_file.path_of(folder, blocks[-1].key).exists():
            harm(folder, blocks[-1].key)
            harmed = True
        elif operation == "distrust":
            store.distrust(blocks[-1].key)
        elif operation == "restart":
            store.close()
            store = KvStore(folder, limit, 0, clock)
        assert sum(on_disk(folder).values()) == store.counters.bytes_held <= limit
        assert harmed or all(
            store.longest(keys_of(blocks)) == sum(store.holds(block.key) for block in blocks) for blocks in texts
        ), "no block is held without those before it"
    for key, payload in payload_of.items():
        found = store.read(key)
        assert found is None or (found.payload == payload).all()
    store.close()


def test_what_another_process_deleted_already_makes_room_too(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path / "kv", clock, limit=FILE) as store:
        write_all(store, text(1, 1))
        kv_file.path_of(tmp_path / "kv", text(1, 1)[0].key).unlink()
        clock.now += DAY
        write_all(store, text(2, 1))

        assert (store.counters.write_errors, store.counters.blocks_held) == (0, 1)


# --- how many


def test_ten_thousand_blocks_are_counted_in_a_moment(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "kv"
    kv_file.make_folder(folder)
    blocks = text(1, 10_000)
    digest = chunk_digest(blocks[0].payload.data)
    for block in blocks:
        path = kv_file.path_of(folder, block.key)
        path.write_bytes(pack_head(block, [digest], clock.now) + block.payload.tobytes())
    began = time.process_time()

    with opened(folder, clock) as store:
        assert store.longest(keys_of(blocks)) == 10_000
    assert time.process_time() - began < 10
