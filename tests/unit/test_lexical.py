"""Search by words: looking for the rare ones first finds what looking for all of them finds, with the same scores."""

from __future__ import annotations

import random

import pytest

from corpus import lexical
from corpus.lexical import completed, look, parted
from db.database import Database
from db.library import DocumentFilter, LibraryTables, PassageRecord
from tests.unit.test_library import document

EVERYWHERE = DocumentFilter()


def passage(id: str, words: str, heading: str = "") -> PassageRecord:
    return PassageRecord(id, words, heading, None, 1, None, 1, 0, len(words), (), "a title", heading, words)


@pytest.fixture
def tables(database: Database) -> LibraryTables:
    """Passages of different lengths; "common" and "usual" stand in every other, "r3" in every third, and so on."""
    dice = random.Random(7)
    found = []
    for number in range(1, 400):
        words = [f"r{step}" for step in (3, 7, 40) if number % step == 0 for _ in range(dice.randint(1, 3))]
        words += [word for word in ("common", "usual") if dice.random() < 0.45 for _ in range(dice.randint(1, 4))]
        found.append(passage(f"p{number:03}", " ".join([*words, *["filler"] * dice.randint(3, 60)]), "a heading"))
    made = LibraryTables(database)
    made.save([(document("a.md"), found)])
    return made


@pytest.mark.parametrize("words", [["r40", "common"], ["r7", "r40", "usual", "common"], ["r40", "r3", "common"]])
def test_common_words_added_afterwards_give_the_scores_of_a_search_for_all(
    tables: LibraryTables, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "LOOKED_FOR", 80)
    counts = tables.num_passages_with(words)
    found, common = look(tables, words, counts, EVERYWHERE, wanted=5)
    assert common, "something was left out of the search"
    best = list(completed(tables, found, common, words, counts, ()).items())[:5]

    whole = tables.search(words, 5, EVERYWHERE)
    assert [id for id, _ in best] == [id for id, _ in whole]
    assert [score for _, score in best] == pytest.approx([score for _, score in whole], rel=1e-9)


def test_where_common_words_may_decide_all_are_looked_for(
    tables: LibraryTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "LOOKED_FOR", 80)
    words = ["r40", "r7", "r3", "common", "usual"]
    found, common = look(tables, words, tables.num_passages_with(words), EVERYWHERE, wanted=100)
    assert common == []
    assert list(found.items()) == tables.search(words, 250, EVERYWHERE)


def test_what_was_found_by_its_meaning_gets_the_score_of_its_words(tables: LibraryTables) -> None:
    words = ["r40", "r3", "common"]
    whole = dict(tables.search(words, 400, EVERYWHERE))
    last = list(whole)[-40:]
    found = dict(list(whole.items())[:5])
    scores = completed(tables, found, [], words, tables.num_passages_with(words), [*last, "p001x"])
    assert {id: scores[id] for id in last} == pytest.approx({id: whole[id] for id in last}, rel=1e-9)
    assert list(scores)[:5] == list(found) and "p001x" not in scores


def test_the_rarest_word_is_always_looked_for_and_unknown_ones_never() -> None:
    assert parted(["b", "a", "none"], {"a": 10**6, "b": 10**6}) == (["a"], ["b"])
    assert parted(["none"], {}) == ([], [])


def test_counts_are_remembered_until_the_index_changes(database: Database) -> None:
    tables = LibraryTables(database)
    assert (tables.index_size().num_passages, tables.num_passages_with(["one"])) == (0, {})
    tables.save([(document("a.md"), [passage("p1", "one two"), passage("p2", "two two")])])
    assert tables.num_passages_with(["one", "two", "none"]) == {"one": 1, "two": 2}
    size = tables.index_size()
    assert (size.num_passages, size.num_terms) == (2, 2 * 2 + 4)
    tables.save([(document("b.md"), [passage("p3", "one two")])])
    assert tables.num_passages_with(["one", "two"]) == {"one": 2, "two": 3}
    stored = tables.document("a.md")
    assert stored is not None
    tables.remove([stored.id])
    assert tables.num_passages_with(["one", "two"]) == {"one": 1, "two": 1}
    assert tables.index_size().num_passages == tables.num_passages() == 1


def test_a_size_beyond_one_byte_is_read_as_sqlite_wrote_it(database: Database) -> None:
    tables = LibraryTables(database)
    tables.save([(document("a.md"), [passage(f"p{i}", "word " * 200) for i in range(300)])])
    assert tables.index_size().num_passages == 300
    assert tables.index_size().num_terms == 300 * 202
