"""What the OCR program prints (hOCR, a kind of HTML) to lines. Knows its classes and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from statistics import median

from corpus.readers.encoding import clean
from corpus.readers.pdf_lines import Line

_LINES = frozenset({"ocr_line", "ocr_header", "ocr_caption", "ocr_textfloat"})
_BOX = re.compile(r"bbox (\d{1,6}) (\d{1,6}) (\d{1,6}) (\d{1,6})")
_SIZE = re.compile(r"x_size (\d{1,5}(?:\.\d+)?)")
_CONFIDENCE = re.compile(r"x_wconf (\d{1,3})")
_MIN_CONFIDENCE = 45  # percent, over a line: below that it is a stain or a drawing
_LARGE = 1.5  # times the page's usual size: smaller differences are the program's guesses
_LETTERS = re.compile(r"[^\W\d_]{2,}")


def lines_of(hocr: str, page: int, points_per_pixel: float) -> list[Line]:
    """The lines it is sure enough of, in its order, with the beginnings of paragraphs marked."""
    parser = _Words(page, points_per_pixel)
    parser.feed(hocr)
    parser.close()
    parser.end_line()
    if not parser.lines:
        return []
    usual = median(line.size for line in parser.lines)
    return [_with_plain_size(line, usual) for line in parser.lines]


def _with_plain_size(line: Line, usual: float) -> Line:
    """Large type stays large where it is made of words; what is not may be the edge of a picture, and heads nothing."""
    letters = sum(len(word) for word in _LETTERS.findall(line.text))
    is_heading = line.size > _LARGE * usual and letters * 3 > 2 * len(line.text.replace(" ", ""))
    return line if is_heading else replace(line, size=usual)


class _Words(HTMLParser):
    """Collects words into lines."""

    def __init__(self, page: int, scale: float) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[Line] = []
        self._page = page
        self._scale = scale
        self._begins = True
        self._title = ""
        self._words: list[str] = []
        self._confidences: list[int] = []
        self._height = 0.0
        self._in_word = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        kind, title = found.get("class") or "", found.get("title") or ""
        if kind == "ocr_page":
            box = _BOX.search(title)
            self._height = float(box.group(4)) if box else 0.0
        elif kind == "ocr_par":
            self.end_line()
            self._begins = True
        elif kind in _LINES:
            self.end_line()
            self._title = title
        elif kind == "ocrx_word":
            confidence = _CONFIDENCE.search(title)
            self._confidences.append(int(confidence.group(1)) if confidence else 0)
            self._words.append("")
            self._in_word = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "span":
            self._in_word = False

    def handle_data(self, data: str) -> None:
        if self._in_word:
            self._words[-1] += data

    def end_line(self) -> None:
        """Keep the open line if it is worth it."""
        text = clean(" ".join(word.strip() for word in self._words if word.strip()).replace("\n", " "))
        box, size = _BOX.search(self._title), _SIZE.search(self._title)
        sure = sum(self._confidences) >= _MIN_CONFIDENCE * max(1, len(self._confidences))
        if text and box and sure:
            left, top, right, bottom = (float(value) for value in box.groups())
            self.lines.append(
                Line(
                    text=text,
                    page=self._page,
                    left=left * self._scale,
                    right=right * self._scale,
                    bottom=(self._height - bottom) * self._scale,
                    size=(float(size.group(1)) if size else bottom - top) * self._scale,
                    begins=self._begins,
                )
            )
            self._begins = False
        self._title, self._words, self._confidences = "", [], []
