"""The folder of KV blocks: what is written comes back right or not at all, whatever the disk does."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monk.engine import kv_file, kv_store
from monk.engine.kv_block import HEAD_BYTES
from monk.engine.kv_queue import BlockQueue
from monk.engine.kv_store import Block, KvStore, Proof, chain, model_key
from monk.engine.kv_worth import HALF_LIFE_SECONDS

MODEL = model_key({"model": "a"})
PLENTY = 1 << 40
SIZE = 5000  # payload bytes
FILE = SIZE + HEAD_BYTES
DAY = 86400.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def opened(folder: Path, clock: Clock, limit: int = PLENTY, min_free: int = 0) -> Iterator[KvStore]:
    store = KvStore(folder, limit, min_free, clock)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[KvStore]:
    with opened(tmp_path / "kv", clock) as made:
        yield made


def text(seed: int, num_blocks: int = 3, *, after: list[Block] | None = None, seconds: float = 10.0) -> list[Block]:
    """The blocks of one text of 16-token blocks; it may begin as another one."""
    before = list(after or [])
    tokens = np.concatenate([*(np.full(16, one.payload[0]) for one in before), np.full(16 * num_blocks, seed)])
    keys = chain(MODEL, tokens, 16)
    proof = Proof(np.arange(4, dtype=np.int32), np.full(4, seed, np.float32))
    for index in range(len(before), len(keys)):
        payload = np.full(SIZE, seed, np.uint8)
        before.append(Block(keys[index], keys[index - 1] if index else "", index * 16, 16, payload, proof, seconds))
    return before


def keys_of(blocks: list[Block]) -> list[str]:
    return [block.key for block in blocks]


def write_all(store: KvStore, blocks: list[Block]) -> None:
    for block in blocks:
        store.write(block)
        assert store.flush(30)


def on_disk(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in folder.glob("*.kv")}


# --- there and back


def test_a_text_is_found_as_far_as_it_was_written(store: KvStore) -> None:
    blocks = text(1, 5)
    write_all(store, blocks[:3])

    assert store.longest(keys_of(blocks)) == 3
    assert store.longest(keys_of(text(2))) == 0
    assert store.longest([]) == 0
    found = store.read(blocks[2].key)
    assert found is not None
    assert (found.payload == blocks[2].payload).all()
    assert (found.parent, found.start, found.num_tokens) == (blocks[1].key, 32, 16)
    assert store.read(blocks[3].key) is None


def test_another_process_finds_it_too(tmp_path: Path, clock: Clock) -> None:
    blocks = text(1)
    with opened(tmp_path / "kv", clock) as first:
        write_all(first, blocks)
    with opened(tmp_path / "kv", clock) as second:
        assert second.longest(keys_of(blocks)) == 3
        assert second.read(blocks[2].key) is not None
        assert second.counters.bytes_held == 3 * FILE


def test_closing_writes_what_was_queued_and_takes_nothing_more(tmp_path: Path, clock: Clock) -> None:
    blocks = text(1)
    with opened(tmp_path / "kv", clock) as store:
        for block in blocks[:2]:
            store.write(block)
    store.write(blocks[2])

    assert on_disk(tmp_path / "kv") == {blocks[0].key: FILE, blocks[1].key: FILE}
    assert store.counters.declined == 1
    assert store.read(blocks[1].key) is not None, "reading needs no writer"


def test_the_folder_is_for_its_owners_eyes(store: KvStore, tmp_path: Path) -> None:
    assert (tmp_path / "kv").stat().st_mode & 0o777 == 0o700


def test_what_is_there_is_not_written_again(store: KvStore) -> None:
    block = text(1)[0]
    for _ in range(4):
        store.write(block)
    store.flush(30)
    store.write(block)
    store.flush(30)

    assert store.holds(block.key)
    assert store.counters.blocks_written == store.counters.misses == 1


def test_a_block_without_its_parent_is_not_kept(store: KvStore) -> None:
    write_all(store, text(1)[1:])

    assert store.counters.blocks_held == 0
    assert store.counters.declined == 2


def test_a_folder_that_was_cleared_by_hand_fills_again(store: KvStore, tmp_path: Path) -> None:
    first, second = text(1, 1), text(2, 1)
    write_all(store, first)
    shutil.rmtree(tmp_path / "kv")

    assert store.read(first[0].key) is None
    write_all(store, [*second, *first])

    assert store.counters.blocks_held == 2
    assert (store.counters.failures, store.counters.write_errors) == (0, 0)


def test_everything_is_counted(store: KvStore) -> None:
    blocks = text(1)
    write_all(store, blocks)
    store.used(keys_of(blocks[:2]), 19.5)
    store.used(["f" * 64], 0.5)
    counters = store.counters

    assert (counters.misses, counters.hits, counters.failures) == (3, 3, 0)
    assert (counters.tokens_restored, counters.seconds_saved) == (32, 20.0)
    assert (counters.blocks_written, counters.bytes_written) == (3, 3 * FILE)
    assert (counters.blocks_held, counters.bytes_held) == (3, 3 * FILE)
    assert (counters.write_errors, counters.declined, counters.collected, counters.distrusted) == (0, 0, 0, 0)


# --- wrong files


def harm(folder: Path, key: str, place: int = HEAD_BYTES + 7) -> Path:
    path = kv_file.path_of(folder, key)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))
    return path


def test_a_damaged_block_is_deleted_and_written_again_and_those_behind_it_stay(store: KvStore, tmp_path: Path) -> None:
    blocks = text(1)
    write_all(store, blocks)
    path = harm(tmp_path / "kv", blocks[1].key)

    assert store.read(blocks[1].key) is None
    assert not path.exists()
    assert store.longest(keys_of(blocks)) == 1
    assert store.counters.failures == 1

    write_all(store, [blocks[1]])
    assert store.longest(keys_of(blocks)) == 3
    assert store.read(blocks[1].key) is not None


def test_a_damaged_head_is_found_at_the_start(tmp_path: Path, clock: Clock) -> None:
    blocks = text(1)
    with opened(tmp_path / "kv", clock) as first:
        write_all(first, blocks)
    path = harm(tmp_path / "kv", blocks[1].key, place=30)
    with opened(tmp_path / "kv", clock) as second:
        assert second.longest(keys_of(blocks)) == 1
        assert (second.counters.failures, second.counters.blocks_held) == (1, 2)
        assert not path.exists()


def test_two_files_that_changed_names_are_both_refused(store: KvStore, tmp_path: Path) -> None:
    ours, theirs = text(1, 1)[0], text(2, 1)[0]
    write_all(store, [ours, theirs])
    paths = [kv_file.path_of(tmp_path / "kv", block.key) for block in (ours, theirs)]
    paths[0].rename(tmp_path / "kept")
    paths[1].rename(paths[0])
    (tmp_path / "kept").rename(paths[1])

    assert store.read(ours.key) is store.read(theirs.key) is None
    assert store.counters.failures == 2
    assert on_disk(tmp_path / "kv") == {}


def test_a_distrusted_block_takes_along_all_that_stand_on_it_and_nothing_else(store: KvStore, tmp_path: Path) -> None:
    trunk = text(1, 2)
    branches = [text(seed, 2, after=trunk) for seed in (2, 3)]
    other = text(4)
    for blocks in (*branches, other):
        write_all(store, blocks)

    store.distrust(trunk[1].key)

    assert on_disk(tmp_path / "kv").keys() == {trunk[0].key, *keys_of(other)}
    assert (store.counters.failures, store.counters.distrusted) == (1, 5)
    write_all(store, branches[0])
    assert store.longest(keys_of(branches[0])) == 4


def test_a_file_another_process_deleted_is_a_miss_and_no_failure(store: KvStore, tmp_path: Path) -> None:
    block = text(1)[0]
    write_all(store, [block])
    kv_file.path_of(tmp_path / "kv", block.key).unlink()

    assert store.read(block.key) is None
    assert (store.counters.failures, store.counters.bytes_held) == (0, 0)


def test_a_bad_sector_costs_the_block_and_not_the_night(
    store: KvStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = text(1)[0]
    write_all(store, [block])

    def unreadable(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", unreadable)
        assert store.read(block.key) is None

    assert store.counters.failures == 1
    assert on_disk(tmp_path / "kv") == {}


def test_too_many_open_files_cost_no_block(store: KvStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = text(1)[0]
    write_all(store, [block])

    def too_many(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", too_many)
        assert store.read(block.key) is None

    assert on_disk(tmp_path / "kv") == {block.key: FILE}


def test_foreign_files_are_left_alone_and_left_overs_are_removed(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "kv"
    folder.mkdir()
    foreign = [folder / name for name in ("notes.txt", "abc.kv", f"{'A' * 64}.kv", f"{'a' * 64}.kv.bak", ".hidden")]
    for path in foreign:
        path.write_text("not ours")
    (folder / f"{'b' * 64}.kv").mkdir()
    left_over = folder / f"{'c' * 64}.99-0.kv-new"
    left_over.write_bytes(b"half")

    with opened(folder, clock, limit=0) as store:
        assert store.counters.blocks_held == store.counters.failures == 0

    assert {*foreign, folder / f"{'b' * 64}.kv"} == set(folder.iterdir())


# --- the limit


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


def test_a_block_larger_than_the_limit_displaces_nothing(tmp_path: Path, clock: Clock) -> None:
    small = text(1, 1)
    large = Block("e" * 64, "", 0, 16, np.zeros(3 * FILE, np.uint8), small[0].proof, 1e9)
    with opened(tmp_path / "kv", clock, limit=2 * FILE) as store:
        write_all(store, [*small, large])

        assert on_disk(tmp_path / "kv").keys() == {small[0].key}


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


# --- disks that say no


@contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[Path]:
    """A real file system of that size."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small disk")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_costs_the_block_and_is_tried_again_after_a_pause(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        small_disk(tmp_path / "disk", 256 << 10) as disk,
        opened(disk / "kv", clock, min_free=-PLENTY) as store,  # believes in room until the disk itself says no
        caplog.at_level(logging.WARNING),
    ):
        write_all(store, text(1, 2))
        ballast = disk / "ballast"
        with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        write_all(store, text(2, 3))

        assert (store.counters.write_errors, store.counters.declined) == (1, 2), "after the error the disk has peace"
        assert sorted(path.name for path in (disk / "kv").iterdir()) == sorted(f"{b.key}.kv" for b in text(1, 2))
        assert store.read(text(1)[1].key) is not None

        clock.now += kv_store.RETRY_SECONDS + 1
        write_all(store, text(3, 1))
        assert store.counters.write_errors == 2
        ballast.unlink()
        clock.now += kv_store.RETRY_SECONDS + 1
        write_all(store, text(2, 3))
        assert store.longest(keys_of(text(2, 3))) == 3
        errors = [record for record in caplog.records if record.message == "kv blocks cannot be written"]
        assert len(errors) == 1, "one line per kind of error"


def test_a_disk_that_others_fill_makes_the_store_exchange_blocks_instead_of_failing(
    tmp_path: Path, clock: Clock
) -> None:
    with small_disk(tmp_path / "disk", 128 << 10) as disk, opened(disk / "kv", clock) as store:
        for seed in range(30):
            clock.now += DAY
            write_all(store, text(seed, 2))

        assert store.counters.write_errors == 0
        assert store.counters.collected > 30
        assert store.longest(keys_of(text(29, 2))) == 2


def test_a_read_only_disk_can_be_read(tmp_path: Path, clock: Clock) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        with opened(disk / "kv", clock) as store:
            write_all(store, text(1))
        harm(disk / "kv", text(1)[2].key)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with opened(disk / "kv", clock) as store:
            assert store.read(text(1)[1].key) is not None
            assert store.read(text(1)[2].key) is None
            assert store.longest(keys_of(text(1))) == 2, "what cannot be deleted is not used either"
            store.used(keys_of(text(1))[:2], 5.0)
            write_all(store, text(2))
            assert store.counters.write_errors == 1
        with opened(disk / "kv", clock, limit=FILE) as store:
            assert store.counters.blocks_held == 3, "what cannot be deleted still takes its place"


def test_a_folder_that_cannot_be_made_is_no_cache_and_no_error(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "kv", clock) as store:
        write_all(store, text(1))

        assert store.longest(keys_of(text(1))) == 0
        assert store.counters.write_errors == 1


def test_a_clock_set_back_does_not_prolong_the_pause(tmp_path: Path, clock: Clock) -> None:
    obstacle = tmp_path / "kv"
    with opened(obstacle, clock) as store:
        obstacle.rmdir()
        obstacle.write_text("in the way")
        write_all(store, text(1, 1))
        obstacle.unlink()
        clock.now -= 30 * DAY
        write_all(store, text(1, 1))

        assert store.longest(keys_of(text(1, 1))) == 1


LIMITED = """
import resource, sys
from pathlib import Path
from tests.unit.test_kv_store import Clock, opened, text, write_all
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
with opened(Path(sys.argv[1]), Clock()) as store:
    write_all(store, text(1))
    print(store.counters.write_errors, store.counters.declined, store.counters.blocks_held)
"""


def test_a_limit_on_file_sizes_costs_the_blocks_and_not_the_process(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "kv")], capture_output=True, text=True, check=True, timeout=60
    )

    assert ended.stdout.split() == ["1", "2", "0"]
    assert list((tmp_path / "kv").iterdir()) == []


# --- two at once


def test_an_old_engine_that_still_writes_and_a_new_one_do_each_other_no_harm(tmp_path: Path, clock: Clock) -> None:
    folder, limit = tmp_path / "kv", 6 * FILE
    with opened(folder, clock, limit=limit) as old, opened(folder, clock, limit=limit) as new:
        threads = [threading.Thread(target=churn, args=(store, seed)) for seed, store in enumerate((old, new))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        for store in (old, new):
            assert (store.counters.failures, store.counters.write_errors) == (0, 0)
    with opened(folder, clock, limit=limit) as last:
        assert last.counters.failures == 0
        assert last.counters.bytes_held <= limit
    assert all(path.suffix == ".kv" for path in folder.iterdir())


def churn(store: KvStore, seed: int) -> None:
    """Write, read and use texts that both engines know."""
    chance = random.Random(seed)
    for _ in range(40):
        blocks = text(chance.randrange(8), 3)
        for block in blocks:
            store.write(block)
        for block in blocks:
            found = store.read(block.key)
            assert found is None or (found.payload == block.payload).all()
        store.used(keys_of(blocks), 1.0)


# --- the queue


def test_a_disk_that_is_behind_holds_the_engine_up_once_and_not_for_every_block() -> None:
    queue = BlockQueue(most_blocks=2, wait_seconds=0.2)
    blocks = text(1, 60)
    assert queue.offer(blocks[0])
    assert queue.offer(blocks[1])
    began = time.monotonic()

    assert not any(queue.offer(block) for block in blocks[2:])

    assert 0.2 <= time.monotonic() - began < 0.2 * 30
    assert queue.take() is blocks[0]
    assert queue.offer(blocks[2]), "there is room again"


def test_an_offer_waits_for_the_writer_rather_than_filling_the_memory() -> None:
    queue = BlockQueue(most_blocks=1, wait_seconds=60)
    blocks = text(1, 2)
    queue.offer(blocks[0])
    waiting = threading.Thread(target=queue.offer, args=(blocks[1],))
    waiting.start()

    assert queue.take() is blocks[0]
    waiting.join(30)
    assert blocks[0].key in queue
    assert blocks[1].key in queue
    queue.done()
    assert blocks[0].key not in queue
    assert not queue.wait_empty(0)


def test_closing_wakes_whoever_waits() -> None:
    queue = BlockQueue(most_blocks=1, wait_seconds=60)
    blocks = text(1, 2)
    queue.offer(blocks[0])
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(queue.offer(blocks[1])))
    waiting.start()
    queue.close()
    waiting.join(30)

    assert answers == [False]
    assert queue.take() is blocks[0]
    queue.done()
    assert queue.take() is None


# --- how many


def test_ten_thousand_blocks_are_counted_in_a_moment(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "kv"
    kv_file.make_folder(folder)
    blocks = text(1, 10_000)
    from monk.engine.kv_block import chunk_digest, pack_head

    digest = chunk_digest(blocks[0].payload.data)
    for block in blocks:
        path = kv_file.path_of(folder, block.key)
        path.write_bytes(pack_head(block, [digest], clock.now) + block.payload.tobytes())
    began = time.process_time()

    with opened(folder, clock) as store:
        assert store.longest(keys_of(blocks)) == 10_000
    assert time.process_time() - began < 10
