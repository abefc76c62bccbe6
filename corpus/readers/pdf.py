"""PDF: pdfium gives letters and boxes, the lines become paragraphs and headings, every block knows its page.

Running headers and footers are dropped, words cut at line ends keep their hyphen and line break (a quotation is found all
the same, see citations). A scan is recognised and named as one.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

from corpus.places import Anchor
from corpus.readers.encoding import clean
from corpus.readers.pdf_lines import Line, gathered
from corpus.reading import BlockKind, Reading, ReadingBuilder
from monk.errors import DocumentUnreadable

_MIN_LETTERS_PER_PAGE = 24  # below this, over the whole file, the text is noise around pictures
_HEADING_SIZE = 1.12  # times the size of the body text
_MAX_HEADING_LENGTH = 160
_PARAGRAPH_GAP = 1.35  # times the usual distance of two lines
_SHORT_LINE = 0.86  # of the column: a sentence that ends here ends the paragraph
_EDGE_LINES = 2  # lines at the top and bottom of a page that may be running headers or footers
_SENTENCE_END = re.compile(r"[.!?:;…。!?]['\"”»)\]]*$")
_BULLET = re.compile(r"(?:[•●▪‣◦○■–—*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s")
_PAGE_NUMBER = re.compile(r"\W*(?:page|seite|стр\w*)\W{0,3}\d+\b.{0,12}$", re.IGNORECASE)
_WORD = re.compile(r"\w{2,}")


class _Layout(NamedTuple):
    """What is usual on a page, in points: distance of lines, size of type, right edge."""

    pitch: float
    size: float
    right: float


def read(data: bytes) -> Reading:
    """Blocks with headings by size of type; places are pages. Raises DocumentUnreadable for what has no text."""
    with _opened(data) as document:
        title = clean(document.get_metadata_value("Title")).strip()
        has_form = bool(document.get_formtype())
        pages = [_lines(document, number) for number in range(len(document))]
        empty = [number + 1 for number, lines in enumerate(pages) if not lines]
    _check_text(pages, len(empty))
    body_size = _body_size(pages)
    builder = ReadingBuilder("page")
    for kind, level, lines in _paragraphs(_without_running_lines(pages), body_size):
        text, anchors = _joined(lines)
        builder.add(kind, text, anchors, level)
    return builder.finish(title, "pdf", num_pages=len(pages), lost=_lost(empty, has_form))


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
        return gathered(text_page, number + 1)
    finally:
        text_page.close()
        page.close()


def _check_text(pages: list[list[Line]], num_empty: int) -> None:
    letters = "".join(line.text for lines in pages for line in lines)
    words = sum(len(word) for word in _WORD.findall(letters))
    if not pages:
        raise DocumentUnreadable("has no pages")
    if not letters or (num_empty and words < _MIN_LETTERS_PER_PAGE * len(pages)):
        raise DocumentUnreadable(
            f"holds no text on its {len(pages)} page{'s' if len(pages) > 1 else ''}: a scan, or drawings only; "
            "run it through OCR (ocrmypdf in.pdf out.pdf) and put the result here"
        )
    if words * 3 < len(letters.replace(" ", "")):
        raise DocumentUnreadable(
            "has letters that cannot be told apart (its fonts carry no mapping to text); run it through OCR "
            "(ocrmypdf --force-ocr in.pdf out.pdf)"
        )


def _lost(empty: list[int], has_form: bool) -> tuple[str, ...]:
    lost = []
    if empty:
        shown = ", ".join(map(str, empty[:8])) + (" ..." if len(empty) > 8 else "")
        lost.append(f"page{'s' if len(empty) > 1 else ''} {shown}: no text (scanned or blank)")
    if has_form:
        lost.append("what was filled into form fields")
    return tuple(lost)


def _body_size(pages: list[list[Line]]) -> float:
    """The size most letters have."""
    sizes: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0]


def _without_running_lines(pages: list[list[Line]]) -> list[list[Line]]:
    """Drops what stands at the same edge of at least half of the pages, whatever number is in it."""
    if len(pages) < 4:
        return pages
    counts = Counter(key for lines in pages for key in {_running_key(line) for line in _edge(lines)})
    running = {key for key, count in counts.items() if count >= max(3, len(pages) // 2)}
    return [_kept(lines, running) for lines in pages]


def _kept(lines: list[Line], running: set[tuple[str, int]]) -> list[Line]:
    edge = {id(line) for line in _edge(lines) if _running_key(line) in running}
    kept = [line for line in lines if id(line) not in edge]
    return kept or lines  # a page of nothing else says something after all


def _edge(lines: list[Line]) -> list[Line]:
    by_height = sorted(lines, key=lambda line: -line.bottom)
    return by_height[:_EDGE_LINES] + by_height[_EDGE_LINES:][-_EDGE_LINES:]


def _running_key(line: Line) -> tuple[str, int]:
    return re.sub(r"\d+", "#", line.text), round(line.bottom / 4)


def _paragraphs(pages: list[list[Line]], body_size: float) -> Iterator[tuple[BlockKind, int, list[Line]]]:
    """(kind, heading level, lines) in order; a paragraph may go on over the end of a page."""
    current: list[Line] = []
    for lines in pages:
        layout = _layout(lines)
        for line in lines:
            if current and _begins(current[-1], line, layout):
                yield _classified(current, body_size)
                current = []
            current.append(line)
    if current:
        yield _classified(current, body_size)


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
    if abs(line.size - above.size) > 0.1 * max(line.size, above.size) or _BULLET.match(line.text):
        return True
    ended = bool(_SENTENCE_END.search(above.text))
    if line.page != above.page or line.bottom > above.bottom:  # next page or next column
        return ended or not line.text[:1].islower()
    scale = max(1.0, line.size / layout.size) if layout.size else 1.0  # large type stands further apart
    if layout.pitch and above.bottom - line.bottom > _PARAGRAPH_GAP * layout.pitch * scale:
        return True
    return ended and above.right < _SHORT_LINE * layout.right


def _classified(lines: list[Line], body_size: float) -> tuple[BlockKind, int, list[Line]]:
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
