"""The pieces of a page in the order in which a person reads them: column by column where there are columns, else as they
stand in the file. Pure geometry.

A page has columns where all its narrow pieces stand in two or more strips, most of them filling their strip as running text
does. A table looks alike, but its rows begin at the same height in every strip; it is left as rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from corpus.readers.pdf_lines import Line

_BIN = 2.0  # points
_MIN_GUTTER = 8.0  # points
_MIN_PIECES = 6  # of a column
_MIN_WORDS = 3.0  # of a piece, on average: cells of a table hold fewer
_MIN_FILL = 0.7  # of a column's width, by its median piece
_MIN_WIDTH = 0.15  # of the page's type
_NARROW = 0.6  # of the page's type: what is wider stands in no column
_STRAY = 0.04  # share of the pieces that may stick out into a gutter
_SAME_START = 0.5  # share of paragraphs that begin at one height in two strips, from which on they are a table's rows
_COLUMN_GAP = 2.0  # times the size of type: two pieces of a row so far apart are cells


class _Strip(NamedTuple):
    """From left to right, in points."""

    left: float
    right: float

    def holds(self, piece: Line) -> bool:
        return piece.left >= self.left - _BIN and piece.right <= self.right + _BIN


def in_reading_order(pieces: list[Line]) -> list[Line]:
    """All pieces as whole lines, in order."""
    strips = _columns(pieces)
    if not strips:
        return _rows(pieces)
    ordered: list[Line] = []
    band: list[Line] = []
    for piece in sorted(pieces, key=lambda piece: -piece.bottom):
        if any(strip.holds(piece) for strip in strips):
            band.append(piece)
        else:  # a title or a figure over several columns: what stands above it comes first
            ordered += [*_by_strip(band, strips), piece]
            band = []
    return [*ordered, *_by_strip(band, strips)]


def _by_strip(band: list[Line], strips: list[_Strip]) -> Iterator[Line]:
    left = band
    for strip in strips:
        yield from (replace(line, edge=strip.right) for line in _rows([piece for piece in left if strip.holds(piece)]))
        left = [piece for piece in left if not strip.holds(piece)]  # on the border of two strips: read once


def _columns(pieces: list[Line]) -> list[_Strip]:
    """The columns of a page, from left to right; none when it has no more than one."""
    if len(pieces) < 2 * _MIN_PIECES:
        return []
    left, right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    narrow = [piece for piece in pieces if piece.right - piece.left < _NARROW * (right - left)]
    strips = _strips(narrow, left, right)
    if len(strips) < 2 or not all(_is_prose(strip, narrow, right - left) for strip in strips):
        return []
    return [] if _is_table(strips, narrow) else _adjoining(strips)


def _strips(pieces: list[Line], left: float, right: float) -> list[_Strip]:
    """Where pieces stand, parted by gutters that hardly any of them enters."""
    covered = [0] * (int((right - left) / _BIN) + 2)
    for piece in pieces:
        for index in range(int((piece.left - left) / _BIN), int((piece.right - left) / _BIN) + 1):
            covered[index] += 1
    allowed = _STRAY * len(pieces)
    strips: list[_Strip] = []
    start, free = -1, 0
    for index, count in enumerate([*covered, 0]):
        if count > allowed:
            if start >= 0 and free * _BIN >= _MIN_GUTTER:
                strips.append(_Strip(left + start * _BIN, left + (index - free) * _BIN))
                start = index
            start, free = (index if start < 0 else start), 0
        else:
            free += 1
    if start >= 0:
        strips.append(_Strip(left + start * _BIN, right))
    return strips


def _is_prose(strip: _Strip, pieces: list[Line], page_width: float) -> bool:
    inside = [piece for piece in pieces if strip.holds(piece)]
    width = strip.right - strip.left
    if len(inside) < _MIN_PIECES or width < _MIN_WIDTH * page_width:
        return False
    words = sum(len(piece.text.split()) for piece in inside) / len(inside)
    return words >= _MIN_WORDS and median(piece.right - piece.left for piece in inside) >= _MIN_FILL * width


def _is_table(strips: list[_Strip], pieces: list[Line]) -> bool:
    """Whether the paragraphs of the emptiest strip begin where those of its fullest neighbour do."""
    starts = sorted((_starts([piece for piece in pieces if strip.holds(piece)]) for strip in strips), key=len)
    if len(starts[0]) < 2:
        return False
    same = sum(any(abs(height - other) < 2 * _BIN for other in starts[-1]) for height in starts[0])
    return same >= _SAME_START * len(starts[0])


def _starts(column: list[Line]) -> list[float]:
    """Heights at which paragraphs begin after a gap; the first is left out, columns begin at one height anyway."""
    ordered = sorted(column, key=lambda piece: -piece.bottom)
    steps = [above.bottom - below.bottom for above, below in itertools.pairwise(ordered)]
    usual = median(steps) if steps else 0.0
    return [below.bottom for step, below in zip(steps, ordered[1:], strict=True) if step > 1.3 * usual]


def _adjoining(strips: list[_Strip]) -> list[_Strip]:
    """The strips widened to the middle of their gutters, so that what sticks out a little belongs to one."""
    middles = [(one.right + other.left) / 2 for one, other in itertools.pairwise(strips)]
    lefts, rights = [strips[0].left, *middles], [*middles, strips[-1].right]
    return [_Strip(left, right) for left, right in zip(lefts, rights, strict=True)]


def _rows(pieces: list[Line]) -> list[Line]:
    """Pieces that follow each other on one row, joined."""
    lines: list[Line] = []
    for piece in pieces:
        if lines and _same_row(lines[-1], piece):
            lines[-1] = _beside(lines[-1], piece)
        else:
            lines.append(piece)
    return lines


def _same_row(first: Line, second: Line) -> bool:
    overlap = min(first.bottom + first.size, second.bottom + second.size) - max(first.bottom, second.bottom)
    return second.left >= first.right - 1.0 and overlap > 0.5 * min(first.size, second.size)


def _beside(first: Line, second: Line) -> Line:
    """Two pieces of one row. A wide gap is a column of a table."""
    wide = second.left - first.right > _COLUMN_GAP * first.size
    larger = first if len(first.text) >= len(second.text) else second
    text = first.text + ("\t" if wide else " ") + second.text
    return replace(larger, text=text, left=first.left, right=max(first.right, second.right))
