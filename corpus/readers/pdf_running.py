"""Drops what is printed on every page: running headers and footers, page numbers. Pure geometry."""

from __future__ import annotations

import re
from collections import Counter

from corpus.readers.pdf_lines import Line

_EDGE_ROWS = 2  # at the top and at the bottom of a page
_SAME_ROW = 4.0  # points
_NEIGHBOURS = (-2, -1, 1, 2)  # pages; two of them, because left and right pages may differ
_MIN_NEIGHBOURS = 2  # with the same line: a chapter's title runs over its own pages only
_MIN_PAGES = 4
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)

Key = tuple[str, int]


def without_running_lines(pages: list[list[Line]]) -> list[list[Line]]:
    """The pages without lines that stand at the same edge of their neighbours too, whatever number is in them."""
    if len(pages) < _MIN_PAGES:
        return pages
    keys = [{_key(line) for line in _edge(lines)} for lines in pages]
    often = _often(keys)
    return [_kept(lines, _repeated(keys, number) | often) for number, lines in enumerate(pages)]


def _often(keys: list[set[Key]]) -> set[Key]:
    """Keys of half of all pages."""
    counts = Counter(key for page in keys for key in page)
    return {key for key, count in counts.items() if count >= max(3, len(keys) // 2)}


def _repeated(keys: list[set[Key]], number: int) -> set[Key]:
    near = [keys[number + step] for step in _NEIGHBOURS if 0 <= number + step < len(keys)]
    counts = Counter(key for page in near for key in page)
    return {key for key in keys[number] if counts[key] >= _MIN_NEIGHBOURS}


def _kept(lines: list[Line], running: set[Key]) -> list[Line]:
    edge = {id(line) for line in _edge(lines) if _key(line) in running}
    kept = [line for line in lines if id(line) not in edge]
    return kept or lines  # a page of nothing else says something after all


def _edge(lines: list[Line]) -> list[Line]:
    """The lines of the uppermost and the lowest rows; a row may hold several."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: -line.bottom):
        if rows and abs(rows[-1][0].bottom - line.bottom) < _SAME_ROW:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows[:_EDGE_ROWS] + rows[_EDGE_ROWS:][-_EDGE_ROWS:] for line in row]


def _key(line: Line) -> Key:
    return _NUMBER.sub("#", line.text), round(line.bottom / _SAME_ROW)
