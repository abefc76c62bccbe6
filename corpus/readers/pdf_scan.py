"""Pages of a PDF that are pictures of text: which they are, and what became of them."""

from __future__ import annotations

import math
import re
from typing import Any

from corpus.readers.ocr import Recogniser
from corpus.readers.pdf_lines import Line
from corpus.recognition import PROGRAM, WithoutOcr
from monk.errors import DocumentUnreadable

_MIN_LETTERS = 24  # of words; a page with fewer, and a picture over most of it, is a scan with a stamp on it
_COVERED = 0.5  # share of the page
_UNMAPPED = 3  # a page whose words are less than 1/3 of its letters has fonts without a mapping to text
_POINTS_PER_INCH = 72.0
_PIXELS_PER_INCH = 300.0  # what the OCR program is made for
_MAX_PIXELS = 36e6  # 300 dots per inch up to A3 and beyond; a poster gets fewer
_WORD = re.compile(r"\w{2,}")


class ScannedPages:
    """The pages, by number from 0, that have something on them and no text that can be used."""

    def __init__(self, document: Any, pages: list[list[Line]]) -> None:
        self._document = document
        self._pages = pages
        self._blank: list[int] = []
        self._unmapped: list[int] = []
        self._scans: list[int] = []
        all_unmapped = _is_unmapped(" ".join(line.text for lines in pages for line in lines))
        for number, lines in enumerate(pages):
            self._sort(number, lines, all_unmapped)

    @property
    def wanted_ocr(self) -> bool:
        """Whether the OCR program makes a difference to this document."""
        return bool(self._scans or self._unmapped)

    def recognise(self, recogniser: Recogniser | None) -> tuple[str, ...]:
        """Put lines in the place of pictures; returns what is lost, and which pages may have wrong letters.

        Raises WithoutOcr and DocumentUnreadable when nothing is left that can be read.
        """
        wanted = sorted(self._scans + self._unmapped)
        why_not = recogniser.why_not if recogniser else f"no {PROGRAM} is used here"
        for number in self._unmapped:
            self._pages[number] = []
        if wanted and recogniser and not why_not:
            return self._recognised(wanted, recogniser)
        self._check_something_left(wanted, why_not)
        what = "fonts without letters" if self._unmapped and not self._scans else "scanned"
        lost = [f"{_named(wanted)}: {what}, and {why_not}"] if wanted else []
        return (*lost, *self._told_blank())

    def _recognised(self, wanted: list[int], recogniser: Recogniser) -> tuple[str, ...]:
        done, failed, late = [], [], []
        for number in wanted:
            lines = self._read(number, recogniser)
            if lines is None:
                late.append(number)
            elif lines:
                self._pages[number] = lines
                done.append(number)
            else:
                failed.append(number)
        if not any(self._pages):
            words = "took too long on" if late else "made out nothing on"
            raise WithoutOcr(f"is a scan, and {PROGRAM} {words} its pages; other languages: set ocr_languages")
        told = (
            (done, f"read by OCR ({'+'.join(recogniser.languages)}), some letters may be wrong"),
            (failed, "a picture without words"),
            (late, "OCR took too long"),
        )
        return (*(f"{_named(numbers)}: {what}" for numbers, what in told if numbers), *self._told_blank())

    def _check_something_left(self, wanted: list[int], why_not: str) -> None:
        if any(self._pages):
            return
        if self._scans:
            raise WithoutOcr(f"is a scan, and {why_not}")
        if wanted:
            raise WithoutOcr(
                f"has letters that cannot be told apart (its fonts carry no mapping to text), and {why_not}"
            )
        number = len(self._pages)
        raise DocumentUnreadable(
            f"holds no text on its {number} page{'s' if number > 1 else ''}: nothing is drawn on them"
        )

    def _told_blank(self) -> tuple[str, ...]:
        return (f"{_named(self._blank)}: blank, or damaged",) if self._blank else ()

    def _sort(self, number: int, lines: list[Line], all_unmapped: bool) -> None:
        text = " ".join(line.text for line in lines)
        letters = sum(len(word) for word in _WORD.findall(text))
        if not lines:
            (self._scans if self._num_objects(number) else self._blank).append(number)
        elif all_unmapped or (len(text) > _MIN_LETTERS and _is_unmapped(text)):
            self._unmapped.append(number)
        elif letters < _MIN_LETTERS and self._is_covered(number):
            self._scans.append(number)

    def _num_objects(self, number: int) -> int:
        import pypdfium2.raw as pdfium

        page = self._page(number)
        return int(pdfium.FPDFPage_CountObjects(page)) if page is not None else 0

    def _is_covered(self, number: int) -> bool:
        import pypdfium2.raw as pdfium

        page = self._page(number)
        if page is None:
            return False
        width, height = page.get_size()
        for found in page.get_objects(filter=(pdfium.FPDF_PAGEOBJ_IMAGE,), max_depth=3):
            left, bottom, right, top = found.get_bounds()
            if (right - left) * (top - bottom) > _COVERED * width * height:
                return True
        return False

    def _read(self, number: int, recogniser: Recogniser) -> list[Line] | None:
        """The lines in a picture of the page; none where it cannot be drawn, None where there is no time."""
        page = self._page(number)
        if page is None:
            return []
        width, height = page.get_size()
        scale = min(_PIXELS_PER_INCH / _POINTS_PER_INCH, math.sqrt(_MAX_PIXELS / max(width * height, 1.0)))
        picture = page.render(scale=scale, grayscale=True)
        try:
            return recogniser.page(_pgm(picture), number + 1, len(self._pages), 1 / scale)
        finally:
            picture.close()
            page.close()

    def _page(self, number: int) -> Any:
        """None when the page is damaged."""
        import pypdfium2

        try:
            return self._document[number]
        except pypdfium2.PdfiumError:
            return None


def _is_unmapped(text: str) -> bool:
    return sum(len(word) for word in _WORD.findall(text)) * _UNMAPPED < len(text.replace(" ", ""))


def _pgm(picture: Any) -> bytes:
    """A grey picture in the plainest format there is."""
    rows = memoryview(picture.buffer).cast("B")
    width, height, stride = picture.width, picture.height, picture.stride
    pixels = b"".join(rows[row * stride : row * stride + width] for row in range(height))
    return f"P5 {width} {height} 255\n".encode() + pixels


def _named(numbers: list[int]) -> str:
    """Pages 0, 1, 2 and 6 are "pages 1-3, 7"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] = number + 1
        else:
            ranges.append([number + 1, number + 1])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"page{'s' if len(numbers) > 1 else ''} {', '.join(shown[:8])}{' ...' if len(shown) > 8 else ''}"
