"""The watch over the corpus folder: real files, real folders that come and go."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monk.watching import Watcher

SETTLE = 0.3
PATIENCE = 30.0


class Heard:
    """Counts calls; `once` waits for the next one."""

    def __init__(self) -> None:
        self._calls: queue.Queue[None] = queue.Queue()

    def __call__(self) -> None:
        self._calls.put(None)

    def once(self) -> None:
        self._calls.get(timeout=PATIENCE)

    def nothing_within(self, seconds: float) -> bool:
        try:
            self._calls.get(timeout=seconds)
        except queue.Empty:
            return True
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "corpus"
    made.mkdir()
    return made


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def watch_over(heard: Heard) -> Iterator[Callable[..., Watcher]]:
    running: list[Watcher] = []

    def start(folder: Path, settle_seconds: float = SETTLE) -> Watcher:
        running.append(Watcher(folder, settle_seconds, heard, look_seconds=0.2))
        running[-1].start()
        return running[-1]

    yield start
    for watcher in running:
        watcher.stop()


def test_a_new_a_changed_and_a_removed_file_are_each_told(
    folder: Path, heard: Heard, watch_over: Callable[..., Watcher]
) -> None:
    watch_over(folder)
    heard.once()  # what was there before the watch began
    (folder / "a.md").write_text("# One\n")
    heard.once()
    (folder / "a.md").write_text("# Two\n")
    heard.once()
    (folder / "a.md").unlink()
    heard.once()


def test_what_happens_deep_inside_a_folder_made_later_is_told(
    folder: Path, heard: Heard, watch_over: Callable[..., Watcher]
) -> None:
    watch_over(folder)
    heard.once()
    (folder / "new" / "deep").mkdir(parents=True)
    heard.once()
    (folder / "new" / "deep" / "a.md").write_text("# One\n")
    heard.once()


def test_hidden_files_and_a_quiet_folder_are_not_told(
    folder: Path, heard: Heard, watch_over: Callable[..., Watcher]
) -> None:
    watch_over(folder)
    heard.once()
    (folder / ".a.md.swp").write_text("draft")
    assert heard.nothing_within(4 * SETTLE)


def test_many_changes_in_a_row_are_told_once_they_stop(
    folder: Path, heard: Heard, watch_over: Callable[..., Watcher]
) -> None:
    watch_over(folder, settle_seconds=1.5)
    heard.once()
    still = threading.Event()
    for number in range(10):
        (folder / "growing.md").write_text("word " * number)
        still.wait(0.1)
    assert heard.nothing_within(0.5), "the folder was not left alone for long enough"
    heard.once()
    assert heard.nothing_within(2.0)


def test_a_file_that_never_stops_growing_is_told_all_the_same(
    folder: Path, heard: Heard, watch_over: Callable[..., Watcher]
) -> None:
    watch_over(folder, settle_seconds=0.25)
    heard.once()
    ended = threading.Event()

    def grow() -> None:
        while not ended.wait(0.02):
            with (folder / "log.txt").open("a") as file:
                file.write("line\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        heard.once()
    finally:
        ended.set()
        writer.join()


def test_a_folder_that_vanishes_and_comes_back_is_watched_again(
    folder: Path, heard: Heard, watch_over: Callable[..., Watcher]
) -> None:
    watch_over(folder)
    heard.once()
    away = folder.parent / "elsewhere"
    folder.rename(away)
    folder.mkdir()  # another one at its place, as after a mount
    heard.once()
    (folder / "a.md").write_text("# One\n")
    heard.once()
    folder.joinpath("a.md").unlink()
    folder.rmdir()
    away.rename(folder)
    heard.once()
    (folder / "b.md").write_text("# Two\n")
    heard.once()


def test_a_folder_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, heard: Heard, watch_over: Callable[..., Watcher]
) -> None:
    watch_over(tmp_path / "later")
    assert heard.nothing_within(0.6)
    (tmp_path / "later").mkdir()
    heard.once()
    (tmp_path / "later" / "a.md").write_text("# One\n")
    heard.once()


def test_it_stops_at_once_and_again(folder: Path, watch_over: Callable[..., Watcher]) -> None:
    watcher = watch_over(folder)
    watcher.stop()
    watcher.stop()
    assert not watcher._thread.is_alive()
