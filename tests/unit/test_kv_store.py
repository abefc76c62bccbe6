"""The folder of KV blocks: what is written comes back right or not at all, whatever the disk does."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from monk.engine import kv_file
from monk.engine.kv_store import Block, KvStore
from tests.small_kv import (
    FILE,
    Clock,
    forged,
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


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[KvStore]:
    with opened(tmp_path / "kv", clock) as made:
        yield made


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


def test_blocks_of_another_version_make_room_and_are_no_failure(tmp_path: Path, clock: Clock) -> None:
    with opened(tmp_path / "kv", clock) as first:
        write_all(first, text(1, 1))
    forged(kv_file.path_of(tmp_path / "kv", text(1, 1)[0].key), 8, "<I", 2)
    with opened(tmp_path / "kv", clock) as second:
        assert (second.counters.failures, second.counters.collected, second.counters.blocks_held) == (0, 1, 0)
    assert on_disk(tmp_path / "kv") == {}


def test_a_thousand_wrong_files_are_counted_one_by_one_and_told_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    kv_file.make_folder(tmp_path / "kv")
    for block in text(1, 1000):
        kv_file.path_of(tmp_path / "kv", block.key).touch()
    with opened(tmp_path / "kv", clock) as store:
        assert store.counters.failures == 1000
    assert len(caplog.records) == 1


@pytest.mark.parametrize("trouble", [MemoryError(), RuntimeError("can't start new thread")])
def test_want_of_memory_or_threads_costs_a_prefill_and_neither_block_nor_engine(
    store: KvStore, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    block = text(1)[0]
    write_all(store, [block])

    def unable(*_: object) -> None:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(kv_file, "_fill", unable)
        assert store.read(block.key) is None

    assert store.read(block.key) is not None
    assert store.counters.failures == 1


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


def test_a_block_whose_parent_is_distrusted_while_it_is_written_does_not_stay(
    store: KvStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = text(1, 2)
    write_all(store, blocks[:1])
    really_write = kv_file.write

    def meanwhile(folder: Path, block: Block, now: float) -> None:
        store.distrust(blocks[0].key)
        really_write(folder, block, now)

    monkeypatch.setattr(kv_file, "write", meanwhile)
    write_all(store, blocks[1:])

    assert not store.holds(blocks[1].key)
    assert on_disk(tmp_path / "kv") == {}


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
