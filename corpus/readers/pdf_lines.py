"""The letters of one PDF page as pieces of lines, each with a box, a size and a page number. The only file that knows
pdfium's characters."""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from corpus.readers.encoding import clean

_CUT_WORD = "\x02"  # what pdfium puts for a hyphen at a line end, in the place of hyphen and line break
_LEADERS = re.compile(r"(?:\s*[.·…_]){5,}")  # "Contents . . . . . 7"
_WIDE_GAP = 1.0  # times the size of type: wider than the space of a justified line, narrower than between two columns
_SPACES = re.compile(r"[ \t\u00a0]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of type or a piece of one. Lengths in points, `bottom` counts from the page's lower edge."""

    text: str
    page: int
    left: float
    right: float
    bottom: float
    size: float
    edge: float | None = None  # right edge of the column it stands in; None: of the page
    begins: bool | None = None  # whether it begins a paragraph, where that is known
    heading: tuple[int, int] | None = None  # (level, number of the bookmark), where the outline names it


def gathered(text_page: Any, page: int) -> list[Line]:
    """The pieces of a page in the order of the file. A row of type is one piece, or several with wide gaps between them."""
    import pypdfium2.raw as pdfium

    codes = [pdfium.FPDFText_GetUnicode(text_page, index) for index in range(text_page.count_chars())]
    lines: list[Line] = []
    for start, end, cut in _spans(codes):
        bounds = [start, *_gaps(text_page, codes, start, end), end]
        for left, right in itertools.pairwise(bounds):
            line = _line(text_page, codes, left, right, cut and right == end, page)
            if line is not None:
                lines.append(line)
    return lines


def _gaps(text_page: Any, codes: list[int], start: int, end: int) -> list[int]:
    """Where a line is interrupted: spaces between letters that stand far from each other."""
    gaps = []
    for index in range(start + 1, end - 1):
        if codes[index] == 0x20 and codes[index - 1] > 0x20 and codes[index + 1] > 0x20:
            before = text_page.get_charbox(index - 1, loose=True)
            after = text_page.get_charbox(index + 1, loose=True)
            size = max(abs(before[3] - before[1]), abs(after[3] - after[1]))
            if after[0] - before[2] > _WIDE_GAP * size:
                gaps.append(index)
    return gaps


def _spans(codes: list[int]) -> list[tuple[int, int, bool]]:
    """(start, end, ends with a cut word) of each line."""
    spans: list[tuple[int, int, bool]] = []
    start = 0
    for index, code in enumerate(codes):
        cut = chr(code) == _CUT_WORD and 0 < index < len(codes) - 1 and _letters(codes[index - 1], codes[index + 1])
        if code == 0x0A or cut:
            spans.append((start, index, cut))
            start = index + 1
    spans.append((start, len(codes), False))
    return spans


def _letters(before: int, after: int) -> bool:
    return chr(before).isalpha() and chr(after).isalpha()


def _line(text_page: Any, codes: list[int], start: int, end: int, cut: bool, page: int) -> Line | None:
    drawn = [index for index in range(start, end) if codes[index] > 0x20]
    text = _text(codes[start:end]) + ("-" if cut else "")
    if not drawn or not text:
        return None
    boxes = [text_page.get_charbox(index, loose=True) for index in (drawn[0], drawn[len(drawn) // 2], drawn[-1])]
    return Line(
        text=text,
        page=page,
        left=min(box[0] for box in boxes),
        right=max(box[2] for box in boxes),
        bottom=boxes[1][1],
        size=abs(boxes[1][3] - boxes[1][1]),
    )


def _text(codes: list[int]) -> str:
    """Letters as drawn: a soft hyphen that a PDF draws is a hyphen; what has no letter is left out."""
    text = "".join(map(chr, codes)).replace("\u00ad", "-").replace("\ufffe", "-")
    text = clean("".join(char for char in text if unicodedata.category(char) not in ("Co", "Cn")))
    return _SPACES.sub(" ", _LEADERS.sub(" ... ", text.replace("\n", " "))).strip()
