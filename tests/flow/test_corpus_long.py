"""Documents longer than one part, sections around a hit, and what waits for the night. Real Chroma, SQLite and files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corpus.citations import cite
from corpus.config import CorpusConfig
from corpus.embedding import HashingEmbedder
from corpus.library import Library
from corpus.parts import PART_CHARACTERS, joined, parted
from corpus.readers import read_bytes
from corpus.sync_report import SyncProgress
from db.database import Database

LONG_AGO = 1_700_000_000


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    os.utime(folder / name, (LONG_AGO, LONG_AGO))


def long_text(num_paragraphs: int) -> str:
    return "".join(
        f"Paragraph {i} says that the word of the hour is w{i}x.\nIts end is here.\n\n" for i in range(num_paragraphs)
    )


@pytest.fixture
def open_library(tmp_path: Path, database: Database) -> Iterator[Callable[..., Library]]:
    folder = tmp_path / "corpus"
    folder.mkdir()
    opened: list[Library] = []

    def open_one(model: Callable[[], HashingEmbedder] = HashingEmbedder, chunk_tokens: int = 64) -> Library:
        config = CorpusConfig(folder, tmp_path / "chroma", chunk_tokens=chunk_tokens, sync_batch_passages=512)
        opened.append(Library(config, database, model=model))
        return opened[-1]

    yield open_one
    for library in opened:
        library.close()


@pytest.fixture
def library(open_library: Callable[..., Library]) -> Library:
    return open_library()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.txt", "ONE\n\n" + long_text(300)),
        ("a.md", "# One\n\n" + long_text(200) + "## Two\n\n| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 80),
        ("a.html", "<h1>One</h1>" + "<p>Some words\nover lines</p>\n" * 300),
    ],
)
def test_a_document_in_parts_is_the_same_document(name: str, source: str) -> None:
    whole = read_bytes(name, source.encode())
    pieces = list(parted(whole, 1000))
    assert len(pieces) > 5 and max(len(piece.text) for piece in pieces) < 1500
    again = joined(pieces)
    assert (again.text, again.places, again.lost) == (whole.text, whole.places, whole.lost)
    assert [(b.start, b.end, b.headings) for b in again.blocks] == [(b.start, b.end, b.headings) for b in whole.blocks]
    for piece in pieces:
        for block in piece.blocks:
            assert piece.place_at(block.start) == whole.place_at(piece.offset + block.start)


def test_a_text_of_several_parts_is_found_and_cited_by_its_line(open_library: Callable[..., Library]) -> None:
    library = open_library(chunk_tokens=500)
    source = long_text(75_000)
    assert len(source) > PART_CHARACTERS
    seen: list[SyncProgress] = []
    write(library.config.folder, "long.txt", source)
    write(library.config.folder, "short.txt", "Nothing much stands here.\n")
    library.sync(seen.append, lambda: len(seen) >= 2)
    (stored,) = library.documents()
    assert stored.index_key is None, "an interrupted document counts as unread"
    report = library.sync()
    assert sorted(report.added + report.updated) == ["long.txt", "short.txt"]
    assert 0 < report.num_embedded < report.num_passages, "what was embedded before the stop is not embedded again"
    assert library.sync().unchanged == 2
    best = library.search("w70000x", 1)[0]
    found = cite(best, "the word of the hour is w70000x")
    assert found is not None and found.place.number == 210_001
    document = library.tables.document("long.txt")
    assert document is not None and document.num_characters == len(source)
    assert source[best.start : best.end] == best.text

    (library.config.folder / "long.txt").unlink()
    assert library.sync().removed == ["long.txt"]
    assert library.search("w70000x", 1) == [] or library.search("w70000x", 1)[0].file == "short.txt"


class TestSections:
    SOURCE = "# Book\n\nOpening words.\n\n" + "".join(
        f"## Part {part}\n\n"
        + "".join(
            f"### Chapter {part}.{chapter}\n\n"
            + "".join(
                f"Sentence {part}.{chapter}.{number} tells of q{part}{chapter}{number}z and of other things.\n\n"
                for number in range(6)
            )
            for chapter in range(3)
        )
        for part in range(3)
    )

    def test_a_hit_is_widened_to_the_widest_section_that_fits(self, library: Library) -> None:
        write(library.config.folder, "a.md", self.SOURCE)
        library.sync()
        hit = library.search("q114z", 1)[0]
        chapter = self.SOURCE.index("### Chapter 1.1")
        part, following = self.SOURCE.index("## Part 1"), self.SOURCE.index("## Part 2")
        narrow = library.section_of(hit, 600)
        assert narrow.heading == "Book > Part 1 > Chapter 1.1"
        assert (narrow.text, narrow.start) == (self.SOURCE[chapter : narrow.end], chapter)
        assert self.SOURCE[narrow.end :].lstrip().startswith("### Chapter 1.2")
        wide = library.section_of(hit, 2000)
        assert (wide.heading, wide.text) == ("Book > Part 1", self.SOURCE[part:following].rstrip())
        assert library.section_of(hit, 100_000).text == self.SOURCE.rstrip()

    def test_what_is_cited_from_a_section_has_its_own_line(self, library: Library) -> None:
        write(library.config.folder, "a.md", self.SOURCE)
        library.sync()
        section = library.section_of(library.search("q114z", 1)[0], 2000)
        found = cite(section, "Sentence 1.2.5 tells of q125z")
        assert found is not None
        assert self.SOURCE.split("\n")[found.place.number - 1].startswith("Sentence 1.2.5")

    def test_lines_of_an_html_file_go_along(self, library: Library) -> None:
        source = "<h1>Top</h1>\n" + "".join(f"<p>Words number q{n}z of it\nand more</p>\n\n\n" for n in range(60))
        write(library.config.folder, "a.html", source)
        library.sync()
        section = library.section_of(library.search("q20z", 1)[0], 100_000)
        found = cite(section, "Words number q41z of it")
        assert found is not None and "q41z" in source.split("\n")[found.place.number - 1]

    def test_a_section_that_is_too_long_gives_the_passages_around_the_hit(self, library: Library) -> None:
        source = "# Only\n\n" + long_text(500)
        write(library.config.folder, "a.md", source)
        library.sync()
        hit = library.search("w250x", 1)[0]
        section = library.section_of(hit, 3000)
        assert 2000 < len(section.text) <= 3000
        assert section.start < hit.start and section.end > hit.end
        assert source[section.start : section.end] == section.text

    def test_a_hit_whose_document_changed_stays_as_it_is(self, library: Library) -> None:
        write(library.config.folder, "a.md", self.SOURCE)
        library.sync()
        hit = library.search("q114z", 1)[0]
        write(library.config.folder, "a.md", "# Other\n\nwords.\n")
        library.sync()
        assert library.section_of(hit, 5000) == hit


def test_what_an_older_model_has_indexed_waits_for_the_night_and_stays_searchable(
    open_library: Callable[..., Library],
) -> None:
    first = open_library()
    write(first.config.folder, "old.md", "# Old\n\nalpha words stand in the old file.\n")
    first.sync()
    first.close()
    second = open_library(model=lambda: HashingEmbedder(dim=64))
    write(second.config.folder, "new.md", "# New\n\nbeta words stand in the new file.\n")
    by_day = second.sync(rebuild=False)
    assert (by_day.added, by_day.updated, by_day.outdated, by_day.num_embedded) == (["new.md"], [], 1, 1)
    assert second.search("alpha old file", 1)[0].file == "old.md"
    at_night = second.sync()
    assert (at_night.updated, at_night.outdated, at_night.unchanged) == (["old.md"], 0, 1)
