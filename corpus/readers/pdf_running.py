"""Drops what is printed on every page: running headers and footers, page numbers. Pure geometry."""

from __future__ import annotations

import itertools
import re
from collections import Counter

from corpus.readers.pdf_lines import Line

_EDGE_ROWS = 2  # at the top and at the bottom of a page
_SAME_ROW = 4.0  # points
_NEIGHBOURS = (-4, -3, -2, -1, 1, 2, 3, 4)  # pages; left and right ones may differ, so that every second is alike
_MIN_NEIGHBOURS = 2  # with the same line: a chapter's title runs over its own pages only
_MIN_PAGES = 4
_NUMBER = re.compile(r"\d{1,6}")
_MAX_NUMBERS = 3  # of a line like "Page 3 of 90 - 2026"; of others all are taken as they stand
_ROMAN = re.compile(r"\W*[ivxlc]{1,7}\W*", re.IGNORECASE)

Key = tuple[str, int]  # words with their numbers, height on the page


def without_running_lines(pages: list[list[Line]]) -> list[list[Line]]:
    """The pages without lines that stand at the same edge of their neighbours too. A number in them may count the pages."""
    if len(pages) < _MIN_PAGES:
        return pages
    keys = [{key for line in _edge(lines) for key in _keys(line)} for lines in pages]
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
    edge = {id(line) for line in _edge(lines) if not running.isdisjoint(_keys(line))}
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


def _keys(line: Line) -> set[Key]:
    """The ways in which a line may be the same on another page: each number as it stands, or counting with the pages."""
    height = round(line.bottom / _SAME_ROW)
    if _ROMAN.fullmatch(line.text):
        return {("#", height)}
    words, numbers = _NUMBER.split(line.text), _NUMBER.findall(line.text)
    if len(numbers) > _MAX_NUMBERS:
        return {(line.text, height)}
    choices = ((number, f"page{int(number) - line.page:+d}") for number in numbers)
    ways = itertools.product(*choices)
    return {("".join(part for pair in zip(words, (*way, ""), strict=True) for part in pair), height) for way in ways}
