"""KV blocks on full, read-only and shared disks: no cache, never no night."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from monk.engine import kv_store
from monk.engine.kv_store import KvStore
from tests.small_kv import (
    DAY,
    FILE,
    PLENTY,
    Clock,
    harm,
    keys_of,
    opened,
    small_disk,
    text,
    write_all,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


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
        for seed in (2, 4, 5):
            write_all(store, text(seed, 1))

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
from tests.small_kv import Clock, opened, text, write_all
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
