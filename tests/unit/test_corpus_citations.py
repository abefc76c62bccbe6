"""A quote is cited only when it stands in the passage, letter by letter; and then with the place where it begins."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.citations import cite, cite_any, find_quote, still_stands
from corpus.retrieval import Hit, hit_from_json


def hit(
    text: str, *, page: int | None = None, line: int | None = None, places: tuple[tuple[int, int], ...] = ()
) -> Hit:
    return Hit("p1", 1.0, "a.md", "A", "H", page, line, None, None, text, 100, 100 + len(text), "markdown", places)


class TestFindQuote:
    @pytest.mark.parametrize(
        ("text", "quote", "found"),
        [
            ("The engine batches thoughts.", "engine batches", "engine batches"),
            ("The engine\n  batches\tthoughts.", "engine batches thoughts", "engine\n  batches\tthoughts"),
            ("It is an exam-\nple of a cut word.", "an example of a cut", "an exam-\nple of a cut"),
            ("A well-\nknown result here.", "well-known result", "well-\nknown result"),
            ("The e\ufb03cient \ufb01le is \ufb02at.", "efficient file is flat", "e\ufb03cient \ufb01le is \ufb02at"),
            ("The file is flat and plain.", "\ufb01le is \ufb02at and", "file is flat and"),
            ("So\u00adft hyphens stand here.", "Soft hyphens stand", "So\u00adft hyphens stand"),
            ("Каждая цитата проверена буква за буквой.", "цитата проверена буква", "цитата проверена буква"),
            ("每一个引用都经过逐字逐句的核对和验证。", "引用都经过逐字逐句的核对", "引用都经过逐字逐句的核对"),
        ],
    )
    def test_finds_the_letters_as_they_stand(self, text: str, quote: str, found: str) -> None:
        span = find_quote(text, quote)
        assert span is not None
        assert text[slice(*span)] == found

    @pytest.mark.parametrize(
        ("text", "quote"),
        [
            ("The engine batches thoughts.", "the engine batches"),  # case
            ("The engine batches thoughts.", "The engine batched thoughts"),  # a letter
            ("The engine batches “thoughts”.", 'batches "thoughts"'),  # typographic quotes
            ("The engine batches thoughts.", "engine  "),  # too short
            ("The engine batches thoughts.", "enginebatches thoughts"),  # a missing space
            ("The engine batches thoughts, slowly.", "The engine thoughts slowly"),  # stitched together
            ("costs 20-40 GB more", "costs 2040 GB more"),  # a hyphen inside a line is a letter
        ],
    )
    def test_finds_nothing_else(self, text: str, quote: str) -> None:
        assert find_quote(text, quote) is None

    @given(st.text(min_size=30, max_size=200), st.integers(0, 100), st.integers(12, 90))
    def test_whatever_is_cut_out_of_a_text_is_found_in_it(self, text: str, start: int, length: int) -> None:
        quote = text[start : start + length]
        if len(" ".join(quote.replace("\u00ad", "").split())) >= 12 and quote.strip() == " ".join(quote.split()):
            assert find_quote(text, quote) is not None

    def test_a_hostile_quote_costs_no_time(self) -> None:
        began = time.thread_time()
        assert find_quote("fi -\n" * 20_000, "f" * 3000 + " - " * 500 + "x") is None
        assert time.thread_time() - began < 2.0


class TestCite:
    def test_names_the_line_on_which_the_quote_begins(self) -> None:
        found = cite(hit("one\ntwo\nthree words stand\nhere", line=10), "three words stand here")
        assert found is not None
        assert found.to_json() == {
            "file": "a.md",
            "line": 12,
            "quote": "three words stand\nhere",
            "verified": True,
            "passage": "p1",
        }
        assert (found.start, found.end) == (108, 130)

    def test_names_the_page_on_which_the_quote_begins(self) -> None:
        text = "words of page three\nwords of page four"
        found = cite(hit(text, page=3, places=((0, 3), (20, 4))), "words of page four")
        assert found is not None and found.to_json()["page"] == 4

    def test_is_made_from_the_passage_that_holds_the_quote(self) -> None:
        hits = [hit("nothing of that kind", line=1), hit("the very words that were said", line=5)]
        found = cite_any(hits, "the very words")
        assert found is not None and found.to_json()["line"] == 5
        assert cite_any(hits, "words never said by anyone") is None

    def test_can_be_checked_again_later(self) -> None:
        found = cite(hit("the very words that were said", line=5), "very words that")
        assert found is not None
        assert still_stands(found.to_json(), "the very words that were said")
        assert not still_stands(found.to_json(), "the words were changed since")

    def test_a_hit_goes_through_json_unchanged(self) -> None:
        one = hit("words", page=3, places=((0, 3), (20, 4)))
        assert hit_from_json(one.to_json()) == one
