"""The night's independent look-up and its verdicts: what they would not notice, nobody would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docx
import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.bench.night.__main__ import MIXED
from tests.bench.night.independent import MISSING, PICTURE, PLACE, STANDS, look_up
from tests.bench.night.questions import Known, load
from tests.bench.night.verdicts import (
    FALSE_ANSWER,
    FALSE_REFUSAL,
    PART,
    REFUSED,
    RIGHT,
    WRONG,
    is_loose,
    judged,
    marked,
    sums,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    canvas = Canvas(str(tmp_path / "a.pdf"))
    for lines in (
        ["First page of a night.", "The begin-", "ning of a sen-"],
        ["tence that goes on.", "Second page."],
        [],
    ):
        for number, line in enumerate(lines):
            canvas.drawString(72, 700 - 20 * number, line)
        canvas.showPage()
    canvas.save()
    (tmp_path / "a.txt").write_text("One line here.\nAnother line that is\nlonger than it.\n")
    (tmp_path / "a.html").write_text("<h1\n class=x>Head</h1>\n<p>Caf&eacute; &amp; the\n<b>night</b> shift</p>\n")
    document = docx.Document()
    document.add_paragraph("A first paragraph.")
    document.add_table(1, 2).rows[0].cells[1].text = "a cell of the table"
    document.save(str(tmp_path / "a.docx"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "place", "quote", "verdict"),
    [
        ("a.txt", {"line": 2}, "Another line that is longer", STANDS),
        ("a.txt", {"line": 1}, "Another line that is longer", PLACE),
        ("a.txt", {"line": 2}, "Another line that was longer", MISSING),
        ("a.txt", {"line": 2}, "Another", MISSING),
        ("a.txt", {"line": 99}, "Another line that is longer", MISSING),
        ("gone.txt", {"line": 1}, "Another line that is longer", MISSING),
        ("a.html", {"line": 3}, "Café & the night shift", STANDS),
        ("a.html", {"line": 2}, "Café & the night shift", PLACE),
        ("a.pdf", {"page": 1}, "The beginning of a sentence that goes on.", STANDS),
        ("a.pdf", {"page": 2}, "The beginning of a sentence that goes on.", PLACE),
        ("a.pdf", {"page": 2}, "Second page.", STANDS),
        ("a.pdf", {"page": 3}, "Second page.", PICTURE),
        ("a.docx", {"line": 2}, "a cell of the table", STANDS),
        ("a.docx", {"line": 1}, "a cell of the table", PLACE),
    ],
)
def test_a_quotation_is_looked_up_where_it_is_said_to_stand(
    folder: Path, file: str, place: dict[str, int], quote: str, verdict: str
) -> None:
    assert look_up(folder, {"file": file, "quote": quote, **place}).verdict == verdict


QUOTES = [{"quote": "The cache takes 96 KiB per token."}, {"quote": "A night has nine hours."}]


def test_sentences_are_held_against_the_quotations_whose_numbers_they_carry() -> None:
    answer = "The cache takes 96 KiB. [1] A night has nine hours and a day fifteen. [1] [2]"
    (first, one), (second, both) = marked(answer, QUOTES)
    assert (first, second) == ("The cache takes 96 KiB.", "A night has nine hours and a day fifteen.")
    assert one == QUOTES[0]["quote"] and "nine hours" in both


@pytest.mark.parametrize(
    ("sentence", "loose"),
    [
        ("The cache takes 96 KiB for each token.", False),
        ("The cache takes 192 KiB per token.", True),
        ("The cache takes 192 KiB for two tokens. (computed: 2 x 96 = 192)", False),
        ("Elephants remember everything.", True),
    ],
)
def test_a_number_or_words_that_are_not_in_the_evidence_are_seen(sentence: str, loose: bool) -> None:
    assert is_loose(sentence, QUOTES[0]["quote"]) is loose


def job(answer: str, found: bool, **more: Any) -> dict[str, Any]:
    return {"answer": answer, "found": found, "citations": [], "unsupported": ["x"], **more}


def test_answers_are_right_in_part_or_wrong_and_refusals_true_or_false(folder: Path) -> None:
    asked = Known("q", "across", "?", ("a.txt",), (("96 KiB",), ("nine", "9 hours")))
    hopeless = Known("h", "unanswerable", "??", (), ())
    told = [
        judged(asked, job("96\nKiB in 9 hours.", True), folder),
        judged(asked, job("96 KiB.", True), folder),
        judged(asked, job("None.", True), folder),
        judged(asked, job("96 KiB in 9 hours.", False), folder),
        judged(hopeless, job("96 KiB.", True), folder),
        judged(hopeless, job("Nothing.", False), folder),
    ]
    assert [one.verdict for one in told] == [RIGHT, PART, WRONG, FALSE_REFUSAL, FALSE_ANSWER, REFUSED]
    assert list(sums(told))[-1].startswith("sentences       0 printed as read and not in what they cite; 6 kept apart")


def test_the_questions_at_hand_are_ten_five_and_five() -> None:
    kinds = [one.kind for one in load(MIXED)]
    assert [kinds.count(kind) for kind in ("answerable", "unanswerable", "across")] == [10, 5, 5]
