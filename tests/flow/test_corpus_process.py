"""The reading process: what hangs, crashes or bloats costs one document and nothing else. Real child processes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from corpus.folder import CorpusFile, OutOfReach, TryAgain, find, scan
from corpus.parts import PART_CHARACTERS
from corpus.process import ReadingProcess
from monk.errors import DocumentUnreadable

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "corpus"
    made.mkdir()
    (made / "a.md").write_text("# Title\n\nSome words.\n")
    return made


@pytest.fixture
def reader(folder: Path) -> Iterator[ReadingProcess]:
    made = ReadingProcess(folder, 30.0, 2048 * MIB)
    yield made
    made.close()


def file_of(folder: Path, name: str) -> CorpusFile:
    found = find(folder, name, 1 << 40)
    assert found is not None
    return found


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def test_reads_one_document_after_the_other_in_one_process(folder: Path, reader: ReadingProcess) -> None:
    (folder / "b.html").write_text("<h1>Other</h1><p>words")
    before = {child.pid for child in children()}
    assert reader.read(file_of(folder, "a.md"))[0].title == "Title"
    first = {child.pid for child in children()} - before
    assert reader.read(file_of(folder, "b.html"))[0].title == "Other"
    assert {child.pid for child in children()} - before == first
    reader.close()
    assert {child.pid for child in children()} == before


def test_a_document_that_takes_too_long_is_given_up_and_its_process_killed(folder: Path) -> None:
    reader = ReadingProcess(folder, 0.01, 2048 * MIB)
    before = {child.pid for child in children()}
    with pytest.raises(TryAgain, match="longer than"):
        reader.read(file_of(folder, "a.md"))
    assert {child.pid for child in children()} == before


def test_a_killed_process_is_replaced_and_the_document_read_after_all(folder: Path, reader: ReadingProcess) -> None:
    before = {child.pid for child in children()}
    reader.read(file_of(folder, "a.md"))
    for child in children():
        if child.pid not in before:
            child.kill()
    assert reader.read(file_of(folder, "a.md"))[0].title == "Title"


def test_a_document_that_needs_too_much_memory_is_named_and_the_next_one_read(folder: Path) -> None:
    reader = ReadingProcess(folder, 60.0, 400 * MIB)
    with (folder / "big.html").open("wb") as file:
        file.truncate(500 * MIB)
    with pytest.raises(TryAgain, match="400 MiB"):
        reader.read(file_of(folder, "big.html"))
    assert reader.read(file_of(folder, "a.md"))[0].title == "Title"
    reader.close()


def test_a_text_larger_than_its_memory_is_read_part_by_part(folder: Path) -> None:
    line = "Тысяча слов о ночи and as many about the day, which is shorter.\n"
    with (folder / "long.txt").open("w") as file:
        for _ in range(110):
            file.write(line * 20_000 + "\n")
    size = (folder / "long.txt").stat().st_size
    reader = ReadingProcess(folder, 60.0, 160 * MIB)  # of addresses, the interpreter included
    assert size > 160 * MIB
    num_characters = 0
    for part in reader.parts(file_of(folder, "long.txt")):
        assert len(part.reading.text) <= PART_CHARACTERS and part.reading.offset == num_characters
        num_characters += len(part.reading.text)
    assert num_characters == 110 * (20_000 * len(line) + 1)
    assert part.reading.place_at(len(part.reading.text) - 2).number == 110 * 20_001 - 1
    reader.close()


def test_one_endless_line_is_read_part_by_part(folder: Path) -> None:
    (folder / "line.txt").write_text("word " * 4_000_000)
    reader = ReadingProcess(folder, 60.0, 256 * MIB)
    parts = [part.reading for part in reader.parts(file_of(folder, "line.txt"))]
    assert len(parts) >= 4 and all(part.text.startswith("word") for part in parts)
    reader.close()


def test_asking_for_another_document_in_the_middle_of_a_long_one_is_answered(
    folder: Path, reader: ReadingProcess
) -> None:
    (folder / "long.txt").write_text("many words here\n" * 600_000)
    assert not next(reader.parts(file_of(folder, "long.txt"))).is_last
    assert reader.read(file_of(folder, "a.md"))[0].title == "Title"


def test_a_document_that_crashes_its_reader_is_told_as_such(folder: Path, reader: ReadingProcess) -> None:
    (folder / "slow.md").write_text("- item\n" * 2_000_000)
    before = {child.pid for child in children()}
    killer = threading.Thread(target=_kill_new_child, args=(before,))
    killer.start()
    with pytest.raises(TryAgain, match=r"crash \(SIGKILL\)"):
        reader.read(file_of(folder, "slow.md"))
    killer.join()
    assert reader.read(file_of(folder, "a.md"))[0].title == "Title"


def _kill_new_child(before: set[int]) -> None:
    """Kill the reading process as soon as it works on something."""
    for _ in range(3000):
        for child in children():
            if child.pid not in before and child.cpu_times().user > 0.3:
                child.kill()
                return
        time.sleep(0.01)


def test_the_process_knows_no_secret_of_the_daemon(
    folder: Path, reader: ReadingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONK_TOKEN", "secret")
    before = {child.pid for child in children()}
    reader.read(file_of(folder, "a.md"))
    (child,) = [child for child in children() if child.pid not in before]
    assert not any(name.startswith("MONK_") for name in child.environ())


class TestFolder:
    def test_a_symlink_out_of_the_folder_is_named_and_never_opened(self, folder: Path, reader: ReadingProcess) -> None:
        (folder / "passwd.txt").symlink_to("/etc/passwd")
        (folder / "etc").symlink_to("/etc")
        problems = {file.path: file.problem or "" for file in scan(folder, MIB).files}
        assert "leaves the corpus folder" in problems["passwd.txt"]
        assert "leaves the corpus folder" in problems["etc"]
        with pytest.raises(DocumentUnreadable, match="leaves the corpus folder"):
            reader.read(CorpusFile("passwd.txt", folder / "passwd.txt", 1, 1))

    def test_a_symlink_within_the_folder_is_read_and_a_loop_is_not(self, folder: Path) -> None:
        (folder / "again.md").symlink_to("a.md")
        (folder / "loop.md").symlink_to("loop.md")
        (folder / "nothing.md").symlink_to("no such file")
        (folder / "here").symlink_to(".")
        problems = {file.path: file.problem for file in scan(folder, MIB).files}
        assert problems["again.md"] is None
        assert problems["loop.md"] and problems["nothing.md"]
        assert "here" not in problems

    def test_pipes_and_large_files_are_named_and_hidden_ones_left_out(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe.md")
        (folder / "large.md").write_bytes(bytes(200))
        (folder / ".hidden.md").write_text("x")
        (folder / "~$draft.docx").write_text("x")
        problems = {file.path: file.problem for file in scan(folder, 100).files}
        assert set(problems) == {"a.md", "large.md", "pipe.md"}
        assert "no regular file" in (problems["pipe.md"] or "")
        assert "limit is 100" in (problems["large.md"] or "")

    def test_names_that_could_steer_a_terminal_are_spelled_out(self, folder: Path) -> None:
        (folder / "evil\x1b[2J\n.md").write_text("# words")
        with open(os.fsencode(folder) + b"/\xff\xfe.md", "w") as file:
            file.write("# words")
        paths = [file.path for file in scan(folder, MIB).files]
        assert paths == ["\\xff\\xfe.md", "a.md", "evil\\x1b[2J\\n.md"]
        assert all(path.isprintable() for path in paths)
        assert find(folder, "evil\\x1b[2J\\n.md", MIB) is not None

    @pytest.mark.parametrize("path", ["../outside.md", "/etc/passwd", "no/such.md"])
    def test_nothing_outside_is_found_by_name(self, folder: Path, path: str) -> None:
        (folder.parent / "outside.md").write_text("secret")
        assert find(folder, path, MIB) is None

    def test_a_file_that_went_away_is_out_of_reach(self, folder: Path, reader: ReadingProcess) -> None:
        file = file_of(folder, "a.md")
        file.location.unlink()
        with pytest.raises(OutOfReach):
            reader.read(file)
