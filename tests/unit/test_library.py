"""Documents and passages in the database: whole or not at all, and the search index always in step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import text

from db.database import Database
from db.library import DocumentFilter, DocumentRecord, LibraryTables, PassageRecord

READ_AT = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)


def document(path: str, *, readable: bool = True) -> DocumentRecord:
    return DocumentRecord(
        path=path,
        sha256="00",
        size_bytes=10,
        modified_us=1_700_000_000_123_456,
        title=path,
        format=path.rpartition(".")[2],
        num_pages=None,
        num_characters=100,
        readable=readable,
        problem=None if readable else "is damaged",
        index_key="k",
        read_at=READ_AT,
    )


def passage(id: str, words: str, start: int = 0) -> PassageRecord:
    return PassageRecord(id, words, "H", None, 1, None, 1, start, start + len(words), (), "", "h", words)


def matches(database: Database, term: str) -> int:
    with database.read() as session:
        found = session.execute(
            text("SELECT count(*) FROM passage_search WHERE passage_search MATCH :term"), {"term": term}
        )
        return int(found.scalar_one())


def test_a_document_comes_back_as_it_was_stored(database: Database) -> None:
    tables = LibraryTables(database)
    tables.save([(document("a/b.md"), [passage("p1", "one"), passage("p2", "two", 5)])])
    stored = tables.document("a/b.md")
    assert stored is not None
    assert (stored.path, stored.modified_us, stored.read_at) == ("a/b.md", 1_700_000_000_123_456, READ_AT)
    assert [found.text for found in tables.passages_of(stored.id)] == ["one", "two"]
    assert tables.document_by_id(stored.id) == stored


def test_places_come_back_as_they_were_stored(database: Database) -> None:
    tables = LibraryTables(database)
    paged = PassageRecord("p1", "words", "", 3, None, 4, None, 0, 5, ((0, 3), (2, 4)), "", "", "words")
    tables.save([(document("a.pdf"), [paged])])
    assert tables.passages(["p1"])["p1"].places == ((0, 3), (2, 4))


def test_saving_again_replaces_all_passages_and_tells_which_went(database: Database) -> None:
    tables = LibraryTables(database)
    tables.save([(document("a.md"), [passage("p1", "old"), passage("p2", "same")])])
    gone = tables.save([(document("a.md"), [passage("p2", "same"), passage("p3", "new")])])
    assert gone == ["p1"]
    assert tables.passage_ids() == {"p2", "p3"}
    assert [matches(database, word) for word in ("old", "same", "new")] == [0, 1, 1]


def test_removing_a_document_removes_its_passages_and_their_terms(database: Database) -> None:
    tables = LibraryTables(database)
    tables.save([(document("a.md"), [passage("p1", "one")]), (document("b.md"), [passage("p2", "one")])])
    stored = tables.document("a.md")
    assert stored is not None
    assert tables.remove([stored.id]) == ["p1"]
    assert matches(database, "one") == 1
    assert [found.path for found in tables.documents()] == ["b.md"]


def test_a_cascade_from_anywhere_keeps_the_search_index_in_step(database: Database) -> None:
    tables = LibraryTables(database)
    tables.save([(document("a.md"), [passage("p1", "one")])])
    with database.write() as session:
        session.execute(text("DELETE FROM documents"))
    assert matches(database, "one") == 0
    with database.write() as session:
        session.execute(text("INSERT INTO passage_search(passage_search) VALUES ('integrity-check')"))


def test_search_ranks_the_rarer_word_higher_and_breaks_ties_by_id(database: Database) -> None:
    tables = LibraryTables(database)
    rows = [passage("p2", "common words"), passage("p1", "common words", 20), passage("p3", "common rare", 40)]
    rows += [passage(f"x{i}", "other things", 60 + 20 * i) for i in range(9)]
    tables.save([(document("a.md"), rows)])
    assert [id for id, _ in tables.search(["common", "rare"], 10, DocumentFilter())] == ["p3", "p1", "p2"]
    assert tables.search([], 10, DocumentFilter()) == []
    assert tables.search(['"; DROP', "NEAR(", "*"], 10, DocumentFilter()) == []


def test_search_and_paths_respect_the_filter(database: Database) -> None:
    tables = LibraryTables(database)
    for number, path in enumerate(("notes/a.md", "notes/b.pdf", "notes_old/c.md", "100%/d.md")):
        tables.save([(document(path), [passage(f"p{number}", "words")])])
    tables.save([(document("notes/broken.pdf", readable=False), [])])

    def found(only: DocumentFilter) -> list[str]:
        ids = {id for id, _ in tables.search(["words"], 10, only)}
        paths = tables.paths(only)
        assert sorted(passage.path for passage in tables.passages(ids).values()) == paths
        return paths

    assert found(DocumentFilter(folder="notes/")) == ["notes/a.md", "notes/b.pdf"]
    assert found(DocumentFilter(formats=("md",))) == ["100%/d.md", "notes/a.md", "notes_old/c.md"]
    assert found(DocumentFilter(folder="Notes")) == [], "another folder on a file system that tells the two apart"
    assert found(DocumentFilter(folder="100%")) == ["100%/d.md"]
    changed = datetime.fromtimestamp(1_700_000_000, UTC)
    assert len(found(DocumentFilter(since=changed))) == 4
    assert found(DocumentFilter(until=changed)) == []
    assert found(DocumentFilter(paths=("notes/b.pdf",), folder="notes")) == ["notes/b.pdf"]


def test_a_type_is_what_a_reader_calls_it_or_how_the_name_ends(database: Database) -> None:
    tables = LibraryTables(database)
    for path, format in (("a.md", "markdown"), ("b.MD", "markdown"), ("c.txt", "pdf"), ("d.rs", "code")):
        tables.save([(replace(document(path), format=format), [])])
    assert tables.paths(DocumentFilter(formats=("md",))) == ["a.md", "b.MD"]
    assert tables.paths(DocumentFilter(formats=("markdown", "rs"))) == ["a.md", "b.MD", "d.rs"]
    assert tables.paths(DocumentFilter(formats=("pdf",))) == ["c.txt"]


def test_a_tag_finds_the_documents_that_carry_it_and_no_others(database: Database) -> None:
    tables = LibraryTables(database)
    tagged = {"a.md": ("board", "2026"), "b.md": ("board room",), "c.md": ()}
    for number, (path, tags) in enumerate(tagged.items()):
        tables.save([(replace(document(path), tags=tags), [passage(f"p{number}", "words")])])

    assert tables.paths(DocumentFilter(tags=("board",))) == ["a.md"]
    assert tables.paths(DocumentFilter(tags=("board", "board room"))) == ["a.md", "b.md"]
    assert tables.paths(DocumentFilter(tags=('"board', "boar_"))) == []
    assert [id for id, _ in tables.search(["words"], 9, DocumentFilter(tags=("2026",)))] == ["p0"]
    stored = tables.document("a.md")
    assert stored is not None and stored.tags == ("board", "2026")


def test_counts_tell_the_readable_from_the_unreadable(database: Database) -> None:
    tables = LibraryTables(database)
    assert tables.counts().num_documents == 0
    tables.save([(document("a.md"), [passage("p1", "one")]), (document("b.pdf", readable=False), [])])
    counts = tables.counts()
    assert (counts.num_documents, counts.num_unreadable, counts.num_passages, counts.num_characters) == (1, 1, 1, 200)
    assert counts.last_read_at == READ_AT


def test_word_counts_tell_how_rare_a_term_is(database: Database) -> None:
    tables = LibraryTables(database)
    tables.save([(document("a.md"), [passage("p1", "one two"), passage("p2", "two two", 10)])])
    assert tables.num_passages_with(["one", "two", "three"]) == {"one": 1, "two": 2}
