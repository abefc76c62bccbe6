"""Folder, database and vectors in step: whatever changes, and whenever it is killed. Real Chroma, SQLite and files."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import corpus
from corpus.citations import cite
from corpus.config import CorpusConfig
from corpus.embedding import HashingEmbedder
from corpus.library import Library
from corpus.store import VectorStore
from corpus.sync_report import SyncProgress
from db.database import Database
from db.library import DocumentFilter, LibraryTables
from monk.errors import Conflict, DocumentUnreadable, NotFound

LONG_AGO = 1_700_000_000


def write(folder: Path, name: str, source: str, mtime: int = LONG_AGO) -> None:
    """A file that was last changed long ago, so that its time can be trusted."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    os.utime(path, (mtime, mtime))


def body(word: str, num_sections: int = 3) -> str:
    sections = (
        f"## Section {i}\n\nThe {word} of section {i} says what {word} {i} is.\n\n" for i in range(num_sections)
    )
    return f"# About {word}\n\n" + "".join(sections)


@pytest.fixture
def config(tmp_path: Path) -> CorpusConfig:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return CorpusConfig(folder, tmp_path / "chroma", chunk_tokens=16, sync_batch_passages=8)


@pytest.fixture
def open_library(config: CorpusConfig, database: Database) -> Iterator[Callable[..., Library]]:
    opened: list[Library] = []

    def open_one(**changes: object) -> Library:
        values = {name: getattr(config, name) for name in config.__slots__} | changes
        opened.append(Library(CorpusConfig(**values), database, model=HashingEmbedder))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for library in opened:
        library.close()


@pytest.fixture
def library(open_library: Callable[..., Library]) -> Library:
    return open_library()


Row = tuple[str, str, str, int, int, int | None, bytes]  # id, path, text, start, end, line, vector


def stored(tables: LibraryTables, store: VectorStore) -> set[Row]:
    """All passages with their vectors; asserts on the way that none is missing or double, in the search by words too."""
    assert store.all_ids() == tables.passage_ids()
    kept = store._collection.get(include=["embeddings"])
    vectors = {id: vector.round(5).tobytes() for id, vector in zip(kept["ids"], kept["embeddings"], strict=True)}
    found = [passage for document in tables.documents() for passage in tables.passages_of(document.id)]
    assert len({(row.path, row.ordinal) for row in found}) == len({row.id for row in found}) == len(vectors)
    return {(row.id, row.path, row.text, row.start, row.end, row.line, vectors[row.id]) for row in found}


def contents(library: Library) -> set[Row]:
    store, _ = library._open()
    return stored(library.tables, store)


def check_search_index(database: Database) -> None:
    """Fails when the full-text index does not hold exactly the terms of the passages that are there."""
    with database.write() as session:
        session.execute(text("INSERT INTO passage_search(passage_search, rank) VALUES ('integrity-check', 1)"))
        num_terms = session.execute(text("SELECT count(*) FROM passage_terms")).scalar_one()
        assert num_terms == session.execute(text("SELECT count(*) FROM passages")).scalar_one()


def test_adds_updates_and_removes_by_content(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", body("alpha"))
    write(config.folder, "deep/b.txt", body("beta"))
    first = library.sync()
    assert (sorted(first.added), first.updated, first.removed, first.unchanged) == (["a.md", "deep/b.txt"], [], [], 0)

    write(config.folder, "a.md", body("gamma"), LONG_AGO + 9)
    (config.folder / "deep/b.txt").unlink()
    write(config.folder, "c.md", body("delta"))
    second = library.sync()
    assert (second.added, second.updated, second.removed, second.unchanged) == (["c.md"], ["a.md"], ["deep/b.txt"], 0)
    assert {path for _, path, *_ in contents(library)} == {"a.md", "c.md"}
    assert not any("alpha" in hit.text or "beta" in hit.text for hit in library.search("alpha beta", 20))


def test_an_unchanged_file_costs_a_stat_and_a_touched_one_no_embedding(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", body("alpha"))
    library.sync()
    (config.folder / "a.md").chmod(0o000)  # whoever opens it now fails (root may: then its content is compared below)
    again = library.sync()
    assert (again.unchanged, again.num_embedded, again.unreadable) == (1, 0, [])
    (config.folder / "a.md").chmod(0o644)
    os.utime(config.folder / "a.md", (LONG_AGO + 5, LONG_AGO + 5))
    touched = library.sync()
    assert (touched.unchanged, touched.updated, touched.num_embedded) == (1, [], 0)


def test_only_passages_that_changed_are_embedded_again(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", body("alpha", 10))
    first = library.sync()
    write(config.folder, "a.md", body("alpha", 10).replace("says what alpha 7 is", "says nothing"), LONG_AGO + 1)
    second = library.sync()
    assert first.num_embedded >= 10
    assert second.num_embedded == 1
    contents(library)


def test_an_unreadable_file_is_named_and_stops_nothing(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.pdf", "%PDF-1.7 nothing more")
    write(config.folder, "b.md", body("beta"))
    (config.folder / "c.md").symlink_to("/etc/hostname")
    for _ in range(2):
        report = library.sync()
        assert report.complete
        assert [file for file, _ in sorted(report.unreadable)] == ["a.pdf", "c.md"]
    assert library.status().num_unreadable == 2
    assert dict(library.unreadable())["a.pdf"].startswith("is damaged")
    with pytest.raises(DocumentUnreadable, match=r"a\.pdf is damaged"):
        library.read_document("a.pdf")


def test_a_file_that_became_unreadable_gives_up_its_passages(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.html", "<p>alpha words stand here")
    library.sync()
    write(config.folder, "a.html", "<script>only</script>", LONG_AGO + 1)
    assert library.sync().unreadable[0][0] == "a.html"
    assert contents(library) == set()


def test_a_folder_that_vanished_removes_nothing(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", body("alpha"))
    library.sync()
    before = contents(library)
    config.folder.rename(config.folder.parent / "elsewhere")
    with pytest.raises(NotFound, match="nothing was removed"):
        library.sync()
    assert contents(library) == before
    assert library.status().folder_exists is False
    (config.folder.parent / "elsewhere").rename(config.folder)
    assert library.sync().unchanged == 1


def test_an_emptied_folder_removes_everything(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", body("alpha"))
    library.sync()
    (config.folder / "a.md").unlink()
    assert library.sync().removed == ["a.md"]
    assert contents(library) == set()


def test_another_chunk_size_reads_everything_again(config: CorpusConfig, open_library: Callable[..., Library]) -> None:
    write(config.folder, "a.md", body("alpha", 8))
    first = open_library()
    few = len(first.sync().added) and len(contents(first))
    first.close()
    report = open_library(chunk_tokens=64).sync()
    assert report.updated == ["a.md"]
    assert report.num_passages < few


def test_another_model_gets_vectors_of_its_own(config: CorpusConfig, database: Database) -> None:
    write(config.folder, "a.md", body("alpha"))
    first = Library(config, database, model=HashingEmbedder)
    first.sync()
    first.close()
    second = Library(config, database, model=lambda: HashingEmbedder(dim=64))
    assert second.search("alpha section", 3), "the words are still found before the vectors are made anew"
    report = second.sync()
    assert (report.updated, report.num_embedded) == (["a.md"], report.num_passages)
    contents(second)
    second.close()


def test_vectors_that_were_lost_are_made_again(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", body("alpha", 20))
    library.sync()
    before = contents(library)
    library.close()
    shutil.rmtree(config.chroma_dir)
    report = library.sync()
    assert report.unchanged == 1 and report.num_embedded == len(before)
    assert contents(library) == before


def test_stops_when_told_and_goes_on_where_it_was(config: CorpusConfig, library: Library) -> None:
    for number in range(12):
        write(config.folder, f"{number:02}.md", body(f"word{number}"))
    seen: list[SyncProgress] = []
    report = library.sync(seen.append, lambda: len(seen) >= 6)
    assert not report.complete and 0 < len(report.added) < 12
    rest = library.sync()
    assert rest.complete
    assert sorted(report.added + rest.added) == [f"{number:02}.md" for number in range(12)]
    assert (seen[0].done, seen[0].total) == (0, 12)
    contents(library)


def test_a_second_sync_at_the_same_time_is_refused(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", body("alpha"))

    def again(_: SyncProgress) -> None:
        with pytest.raises(Conflict):
            library.sync()
        assert library.status().syncing

    library.sync(again)
    assert not library.status().syncing


def test_finds_passages_by_their_words_and_by_folder(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "one/a.md", body("experts"))
    write(config.folder, "two/b.md", body("эксперты"))
    assert library.search("experts", 3) == []
    library.sync()
    assert library.search("experts", 1)[0].file == "one/a.md"
    assert library.search("что сказано об эксперте", 1)[0].file == "two/b.md"
    assert {hit.file for hit in library.search("experts", 9, DocumentFilter(folder="two"))} == {"two/b.md"}
    best = library.search("experts section", 4)
    assert best == library.search("experts section", 4)
    assert library.passage(best[0].passage_id).text == best[0].text


def test_finds_passages_by_the_tags_that_their_documents_carry(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "a.md", "---\ntags: [Board, experts]\n---\n" + body("experts"))
    write(config.folder, "b.rst", ":tags: board\n\n" + body("experts").replace("#", ""))
    write(config.folder, "c.md", body("experts"))
    library.sync()
    assert {hit.file for hit in library.search("experts", 9, DocumentFilter(tags=("board",)))} == {"a.md", "b.rst"}

    write(config.folder, "a.md", "---\ntags: other\n---\n" + body("experts"))
    library.sync()
    assert {hit.file for hit in library.search("experts", 9, DocumentFilter(tags=("board",)))} == {"b.rst"}
    with pytest.raises(NotFound, match="tag nowhere"):
        library.search("experts", 9, DocumentFilter(tags=("nowhere",)))


def test_a_repeated_passage_is_shown_once(config: CorpusConfig, library: Library) -> None:
    for name in ("a.md", "copy.md"):
        write(config.folder, name, "# Same\n\nThe very same words stand in two files of the corpus.\n")
    library.sync()
    assert len(library.search("very same words", 5)) == 1


def test_reads_a_whole_document_with_its_places(config: CorpusConfig, library: Library) -> None:
    write(config.folder, "deep/a.md", body("alpha"))
    library.sync()
    whole = library.read_document("deep/a.md")
    assert whole.text == body("alpha")
    assert str(whole.place_at(whole.text.index("## Section 1"))) == "line 7"
    assert library.read_document(library.documents()[0].id) == whole
    found = cite(whole.hit(20, len(whole.text)), "The alpha of section 1")
    assert found is not None
    assert (found.file, str(found.place), found.quote) == ("deep/a.md", "line 9", "The alpha of section 1")
    assert whole.text[found.start : found.end] == found.quote
    with pytest.raises(NotFound, match=r"did you mean deep/a\.md"):
        library.read_document("deep/b.md")
    with pytest.raises(NotFound):
        library.read_document("../../etc/passwd")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from corpus.config import CorpusConfig
from corpus.embedding import HashingEmbedder
from corpus.library import Library
from db.database import Database
home = Path(sys.argv[2])
config = CorpusConfig(home / "corpus", home / "chroma", chunk_tokens=16, sync_batch_passages=8)
library = Library(config, Database(home / "monk.sqlite"), model=HashingEmbedder)
library.sync(lambda progress: print(progress.done, flush=True))
print("end", flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_nothing_is_missing_and_nothing_double(
    seed: int, tmp_path: Path, migrated: Path, config: CorpusConfig
) -> None:
    chance = random.Random(seed)
    shutil.copy(migrated, tmp_path / "monk.sqlite")
    for number in range(60):
        write(config.folder, f"{number:02}.md", body(f"word{number}", chance.randint(1, 12)))
    num_kills = 0
    while _killed_after(tmp_path, lines=chance.randint(2, 25), seconds=chance.random() * 0.02):
        num_kills += 1
        for number in chance.sample(range(60), 3):  # meanwhile people go on working
            write(config.folder, f"{number:02}.md", body(f"other{number}", 5), LONG_AGO + num_kills)
    database = Database(tmp_path / "monk.sqlite")
    survivor = Library(config, database, model=HashingEmbedder)
    assert survivor.sync().unchanged == 60
    assert num_kills >= 3
    anew = _made_anew(tmp_path / "anew", migrated, config)
    assert contents(survivor) == anew
    check_search_index(database)
    survivor.close()
    shutil.rmtree(config.chroma_dir)
    assert survivor.sync().unchanged == 60
    assert contents(survivor) == anew, "files and database alone make the same index again"
    survivor.close()
    database.close()


def _killed_after(home: Path, lines: int, seconds: float) -> bool:
    """Run a sync and kill it after some lines of progress; False when it came to its end before."""
    package = str(Path(corpus.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, package, str(home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for count, line in enumerate(process.stdout):
            if line == "end\n":
                return False
            if count == lines:
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL), process.stderr.read()
        return process.returncode != 0


def _made_anew(home: Path, migrated: Path, config: CorpusConfig) -> set[Row]:
    home.mkdir()
    shutil.copy(migrated, home / "monk.sqlite")
    database = Database(home / "monk.sqlite")
    fresh = CorpusConfig(config.folder, home / "chroma", chunk_tokens=16)
    library = Library(fresh, database, model=HashingEmbedder)
    library.sync()
    found = contents(library)
    library.close()
    database.close()
    return found
