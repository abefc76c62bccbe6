"""What a PDF's page looks like and in what order it is read: columns, running lines, footnotes, tables."""

from __future__ import annotations

import textwrap

import pytest

from corpus.readers import read_bytes
from corpus.reading import Reading
from tests.unit.test_corpus_readers import pdf_of

Lines = list[tuple[float, float, float, str]]
WORDS = "the night is long and the monk reads on without a pause while the city sleeps and nobody asks for anything"


def prose(name: str, count: int) -> list[str]:
    """Lines of about 44 letters, each sentence with its name and number."""
    text = " ".join(f"{name}{number} says that {WORDS[number % 9 : 60 + number % 9]}." for number in range(count))
    return textwrap.wrap(text, 44)


def column(x: float, top: float, lines: list[str], size: float = 10) -> Lines:
    return [(x, top - 12 * number, size, line) for number, line in enumerate(lines)]


def by_rows(*columns: Lines) -> Lines:
    """Drawn row by row over all columns, as some programs do."""
    return sorted((line for column in columns for line in column), key=lambda line: (-line[1], line[0]))


def order_of(reading: Reading, *words: str) -> list[str]:
    flat = " ".join(reading.text.split())
    missing = [word for word in words if word not in flat]
    assert not missing, missing
    return sorted(words, key=flat.index)


@pytest.mark.parametrize("drawn", ["by rows", "by columns"])
def test_two_columns_are_read_one_after_the_other(drawn: str) -> None:
    left, right = column(50, 700, prose("Left", 12)), column(310, 700, prose("Right", 12))
    lines = by_rows(left, right) if drawn == "by rows" else left + right
    reading = read_bytes("a.pdf", pdf_of([[(50, 780, 18, "A Title over both of the columns of it"), *lines]]))
    names = ("A Title", *(f"Left{n} " for n in range(12)), *(f"Right{n} " for n in range(12)))
    assert order_of(reading, *names) == list(names)
    assert "\t" not in reading.text


def test_three_columns_are_too() -> None:
    columns = [
        column(x, 700, textwrap.wrap(" ".join(prose(name, 10)), 28), 9)
        for x, name in ((40, "One"), (220, "Two"), (400, "Three"))
    ]
    reading = read_bytes("a.pdf", pdf_of([by_rows(*columns)]))
    names = [f"{name}{number} " for name in ("One", "Two", "Three") for number in range(10)]
    assert order_of(reading, *names) == names


def test_a_figure_or_heading_over_both_columns_parts_them() -> None:
    above = by_rows(column(50, 760, prose("Upleft", 5)), column(310, 760, prose("Upright", 5)))
    below = by_rows(column(50, 500, prose("Downleft", 5)), column(310, 500, prose("Downright", 5)))
    middle = [(50.0, 560.0, 14.0, "Here a heading stands over the whole width of the page")]
    reading = read_bytes("a.pdf", pdf_of([above + middle + below]))
    names = ["Upleft1 ", "Upright1 ", "Here a heading", "Downleft1 ", "Downright1 "]
    assert order_of(reading, *names) == names


def test_a_paragraph_goes_on_in_the_next_column() -> None:
    left, right = (
        column(50, 700, prose("Left", 8)),
        column(310, 700, ["and goes on in the next column over there", *prose("Right", 8)]),
    )
    left[-1] = (*left[-1][:3], "this sentence begins in the first column")
    reading = read_bytes("a.pdf", pdf_of([by_rows(left, right)]))
    assert "first column\nand goes on" in reading.text


def test_rows_of_a_table_stay_rows() -> None:
    rows: Lines = []
    for number in range(12):
        top = 740 - 42 * number
        rows += [
            (50, top, 10, f"Rule {number} forbids that a password is"),
            (50, top - 12, 10, "shorter than the rule allows it to be"),
        ]
        rows += [
            (310, top, 10, f"Check {number} looks whether the length is"),
            (310, top - 12, 10, "at least what rule and law demand"),
        ]
    reading = read_bytes("a.pdf", pdf_of([by_rows(rows)]))
    for number in range(12):
        assert f"Rule {number} forbids that a password is\tCheck {number} looks" in reading.text


def test_short_cells_are_parted_by_tabs() -> None:
    rows = [[(60.0, 700.0 - 14 * n, 10.0, f"name{n}"), (260.0, 700.0 - 14 * n, 10.0, f"{n} MiB")] for n in range(20)]
    reading = read_bytes("a.pdf", pdf_of([[line for row in rows for line in row]]))
    assert "name7\t7 MiB" in reading.text


def test_a_chapters_title_that_runs_over_its_pages_is_dropped_on_left_and_right_pages() -> None:
    pages: list[Lines] = []
    for number in range(12):
        running = "Handbook of nights" if number % 2 else ("On reading" if number < 6 else "On thinking")
        body = column(60, 740, [f"Item {line + number * number} of words." for line in range(8 + number % 5)])
        pages.append([(60, 810, 9, running), *body, (300, 30, 9, str(number + 1))])
    reading = read_bytes("a.pdf", pdf_of(pages))
    assert not any(words in reading.text for words in ("Handbook", "On reading", "On thinking"))
    assert reading.text.count("Item") == sum(8 + number % 5 for number in range(12))


def test_footnotes_stand_behind_the_paragraph_that_they_interrupt() -> None:
    first = [*column(60, 740, prose("Body", 9)), (60.0, 620.0, 10.0, "This sentence goes over to the next")]
    notes = [
        (60.0, 90.0, 8.0, "1 A note on the first page,"),
        (60.0, 80.0, 8.0, "in two lines of type."),
        (60.0, 70.0, 8.0, "2 Another note."),
    ]
    second = [(60.0, 740.0, 10.0, "page and ends there."), *column(60, 700, prose("Second", 6))]
    reading = read_bytes("a.pdf", pdf_of([first + notes, second]))
    assert "goes over to the next\npage and ends there." in reading.text
    assert "1 A note on the first page,\nin two lines of type.\n\n2 Another note." in reading.text
    assert str(reading.place_at(reading.text.index("2 Another note"))) == "page 1"
    assert str(reading.place_at(reading.text.index("page and ends"))) == "page 2"
