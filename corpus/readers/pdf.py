"""PDF: pdfium gives letters and boxes, the lines become paragraphs and headings, every block knows its page.

Columns are read one after the other, running headers and footers dropped, footnotes put behind the paragraph they interrupt.
Words cut at line ends keep their hyphen and line break (a quotation is found all the same, see citations). Pages that are
pictures of text go to the OCR program, if there is one.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

from corpus.places import Anchor
from corpus.readers.encoding import clean
from corpus.readers.ocr import Recogniser
from corpus.readers.pdf_columns import in_reading_order
from corpus.readers.pdf_lines import Line, gathered
from corpus.readers.pdf_outline import with_headings
from corpus.readers.pdf_running import without_running_lines
from corpus.readers.pdf_scan import ScannedPages
from corpus.reading import BlockKind, Reading, ReadingBuilder
from corpus.tags import tags_of
from monk.errors import DocumentUnreadable

_HEADING_SIZE = 1.12  # times the size of the body text
_MAX_HEADING_LENGTH = 160
_PARAGRAPH_GAP = 1.35  # times the usual distance of two lines
_SHORT_LINE = 0.86  # of the column: a sentence that ends here ends the paragraph
_NOTE_SIZE = 0.93  # times the size of the body text: smaller type at the end of a page may be footnotes
_SENTENCE_END = re.compile(r"[.!?:;…。!?]['\"”»)\]]*$")
_BULLET = re.compile(r"(?:[•●▪‣◦○■–—*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s")
_PAGE_NUMBER = re.compile(r"\W*(?:page|seite|стр\w*)\W{0,3}\d+\b.{0,12}$", re.IGNORECASE)
_MIN_BOOKMARKS = 3  # an outline of fewer says nothing about the document's structure ...
_BELOW_BOOKMARKS = 10  # ... one of more says all: large type is then a heading inside its sections
_NOTE_MARK = re.compile(r"(?:\[?\d{1,3}[\].)]?|[*†‡§¶])\s{0,2}[^\W\d_]")
_WORD = re.compile(r"\w{2,}")


class _Layout(NamedTuple):
    """What is usual on a page, in points: distance of lines, size of type, right edge."""

    pitch: float
    size: float
    right: float


def read(data: bytes, recogniser: Recogniser | None = None) -> Reading:
    """Blocks with headings by size of type; places are pages. Pages that are pictures go to `recogniser`.

    Raises DocumentUnreadable for what has no text, WithoutOcr where only the OCR program is missing.
    """
    with _opened(data) as document:
        title = clean(document.get_metadata_value("Title")).strip()
        tags = tags_of(clean(document.get_metadata_value("Keywords")))
        has_form = bool(document.get_formtype())
        pages = [_lines(document, number) for number in range(len(document))]
        if not pages:
            raise DocumentUnreadable("has no pages")
        scanned = ScannedPages(document, pages)
        lost = scanned.recognise(recogniser)
        outlined, num_bookmarks = with_headings(document, pages)
    builder = ReadingBuilder("page")
    for kind, level, lines in _paragraphs(without_running_lines(outlined), _body_size(pages)):
        text, anchors = _joined(lines)
        below = _BELOW_BOOKMARKS if num_bookmarks >= _MIN_BOOKMARKS and lines[0].heading is None else 0
        builder.add(kind, text, anchors, below + level)
    if has_form:
        lost += ("what was filled into form fields",)
    reading = builder.finish(title, "pdf", num_pages=len(pages), lost=lost, tags=tags)
    return replace(reading, wanted_ocr=scanned.wanted_ocr)


class _opened:
    """A pdfium document that is closed at the end. Raises DocumentUnreadable when it cannot be opened."""

    def __init__(self, data: bytes) -> None:
        import pypdfium2

        try:
            self._document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as exc:
            if "assword" in str(exc):
                raise DocumentUnreadable("is encrypted; remove the password (qpdf --decrypt) and put it back") from exc
            raise DocumentUnreadable("is damaged: not a PDF that can be opened; make or download it again") from exc

    def __enter__(self) -> Any:  # pypdfium2 has no types
        return self._document

    def __exit__(self, *exc: object) -> None:
        self._document.close()


def _lines(document: Any, number: int) -> list[Line]:
    """The lines of one page in pdfium's order; none when the page is damaged."""
    import pypdfium2

    try:
        page = document[number]
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError:
        return []
    try:
        return in_reading_order(gathered(text_page, number + 1))
    finally:
        text_page.close()
        page.close()


def _body_size(pages: list[list[Line]]) -> float:
    """The size most letters have."""
    sizes: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0]


def _paragraphs(pages: list[list[Line]], body_size: float) -> Iterator[tuple[BlockKind, int, list[Line]]]:
    """(kind, heading level, lines) in order; a paragraph may go on over the end of a page, past the footnotes there."""
    current: list[Line] = []
    waiting: list[list[Line]] = []  # footnotes
    for page in pages:
        lines, notes = _parted(page, body_size)
        layout = _layout(lines)
        for line in lines:
            if current and _begins(current[-1], line, layout):
                yield _classified(current, body_size)
                yield from (("paragraph", 0, note) for note in waiting)
                current, waiting = [], []
            current.append(line)
        waiting += notes
    if current:
        yield _classified(current, body_size)
    yield from (("paragraph", 0, note) for note in waiting)


def _parted(lines: list[Line], body_size: float) -> tuple[list[Line], list[list[Line]]]:
    """(the page without its footnotes, the footnotes): small type at its end that begins with a mark."""
    small = list(itertools.takewhile(lambda line: line.size < _NOTE_SIZE * body_size, reversed(lines)))[::-1]
    first = next((number for number, line in enumerate(small) if _NOTE_MARK.match(line.text)), None)
    if first is None or len(small) == len(lines):
        return lines, []
    notes: list[list[Line]] = []
    for line in small[first:]:
        if _NOTE_MARK.match(line.text) or not notes:
            notes.append([])
        notes[-1].append(line)
    return lines[: len(lines) - len(small) + first], notes


def _layout(lines: list[Line]) -> _Layout:
    steps = [above.bottom - below.bottom for above, below in itertools.pairwise(lines)]
    down = [step for step, line in zip(steps, lines, strict=False) if 0 < step < 4 * line.size]
    return _Layout(
        pitch=median(down) if down else 0.0,
        size=median(line.size for line in lines) if lines else 0.0,
        right=max((line.right for line in lines), default=0.0),
    )


def _begins(above: Line, line: Line, layout: _Layout) -> bool:
    """Whether `line` begins a new paragraph after `above`."""
    if line.heading != above.heading:
        return True
    if line.begins is not None and line.page == above.page:
        return line.begins
    if abs(line.size - above.size) > 0.1 * max(line.size, above.size) or _BULLET.match(line.text):
        return True
    ended = bool(_SENTENCE_END.search(above.text))
    if line.page != above.page or line.bottom > above.bottom:  # next page or next column
        return ended or not line.text[:1].islower()
    scale = max(1.0, line.size / layout.size) if layout.size else 1.0  # large type stands further apart
    if layout.pitch and above.bottom - line.bottom > _PARAGRAPH_GAP * layout.pitch * scale:
        return True
    return ended and above.right < _SHORT_LINE * (above.edge or layout.right)


def _classified(lines: list[Line], body_size: float) -> tuple[BlockKind, int, list[Line]]:
    if lines[0].heading is not None:
        return "heading", lines[0].heading[0], lines
    size = lines[0].size
    length = sum(len(line.text) for line in lines)
    is_number = bool(_PAGE_NUMBER.match(lines[0].text))
    if (
        not is_number
        and size > _HEADING_SIZE * body_size
        and length <= _MAX_HEADING_LENGTH
        and _WORD.search(lines[0].text)
    ):
        return "heading", _level(size / body_size), lines
    return ("list" if _BULLET.match(lines[0].text) else "paragraph"), 0, lines


def _level(ratio: float) -> int:
    """1 for the largest type; three steps are enough to nest a report."""
    return 1 if ratio > 1.7 else 2 if ratio > 1.3 else 3


def _joined(lines: list[Line]) -> tuple[str, list[Anchor]]:
    """The text of a paragraph, its lines kept, and the pages it stands on."""
    anchors: list[Anchor] = []
    offset = 0
    for line in lines:
        if not anchors or anchors[-1][1] != line.page:
            anchors.append((offset, line.page))
        offset += len(line.text) + 1
    return "\n".join(line.text for line in lines), anchors
