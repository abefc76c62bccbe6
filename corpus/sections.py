"""A passage widened to the section it stands in, put together from stored passages. Pure.

Everything keeps its place: the gaps between passages, which hold white space or what no reader takes for text, are filled
with as many characters, and as many line ends, as the document has there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from corpus.passages import HEADING_SEPARATOR
from corpus.retrieval import Hit
from db.library import FoundPassage


def section(hit: Hit, around: Sequence[FoundPassage], max_characters: int) -> Sequence[FoundPassage]:
    """The passages of the widest section around `hit` of at most `max_characters`, in order; none when the hit stands there no
    more, or nothing stands around it. `around` are passages of its document in order, at least those within `max_characters`
    of it; see `Library.passages_around`."""
    here = next((at for at, row in enumerate(around) if row.start <= hit.start < row.end), None)
    if here is None or not _stands(hit, around[here]):
        return []
    path = _path(around[here])
    for depth in range(len(path) + 1):
        first, last = _section(around, here, path[:depth])
        if around[last].end - around[first].start <= max_characters:
            return around[first : last + 1]
    first, last = _stretch(around, here, path, max_characters)
    return around[first : last + 1] if first < last else []


def _stands(hit: Hit, row: FoundPassage) -> bool:
    offset = hit.start - row.start
    shared = min(len(hit.text), row.end - hit.start)
    return row.text[offset : offset + shared] == hit.text[:shared]


def _shared(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    alike = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return tuple(names[0] for names in alike)


def _path(row: FoundPassage | Hit) -> tuple[str, ...]:
    return tuple(row.heading.split(HEADING_SEPARATOR)) if row.heading else ()


def _section(rows: Sequence[FoundPassage], here: int, path: tuple[str, ...]) -> tuple[int, int]:
    """First and last of the neighbours of `here` that stand under `path` too."""
    first = last = here
    while first > 0 and _path(rows[first - 1])[: len(path)] == path:
        first -= 1
    while last + 1 < len(rows) and _path(rows[last + 1])[: len(path)] == path:
        last += 1
    return first, last


def _stretch(rows: Sequence[FoundPassage], here: int, path: tuple[str, ...], max_characters: int) -> tuple[int, int]:
    """Neighbours of `here` within its section, one before and one after in turn, as long as they fit."""
    low, high = _section(rows, here, path)
    first = last = here
    grown = True
    while grown:
        grown = False
        if first > low and rows[last].end - rows[first - 1].start <= max_characters:
            first, grown = first - 1, True
        if last < high and rows[last + 1].end - rows[first].start <= max_characters:
            last, grown = last + 1, True
    return first, last


def together(rows: Sequence[Hit]) -> Hit:
    """Neighbouring passages as one hit, under the headings that all of them share; it has no id, because no passage of the
    index is all of it. For reading: which heading a sentence stands under, only its own passage knows."""
    texts: list[str] = []
    places: list[tuple[int, int]] = []
    start = end = rows[0].start
    last_line = rows[0].line or 0
    for row in rows:
        if row.start > end:
            texts.append(_gap(row.start - end, (row.line or 0) - last_line))
            end = row.start
        overlap = end - row.start
        if overlap >= len(row.text):
            continue
        places += [(max(offset - overlap, 0) + end - start, number) for offset, number in _within(row, overlap)]
        texts.append(row.text[overlap:])
        end, last_line = row.end, row.end_line or 0
    return replace(
        rows[0],
        passage_id="",
        heading=HEADING_SEPARATOR.join(_shared([_path(row) for row in rows])),
        text="".join(texts),
        start=start,
        end=end,
        places=tuple(places),
        page=rows[0].page,
        line=rows[0].line,
        end_page=rows[-1].end_page,
        end_line=rows[-1].end_line,
    )


def _gap(size: int, num_lines: int) -> str:
    num_lines = min(max(num_lines, 1), size)
    return "\n" * num_lines + " " * (size - num_lines)


def _within(row: Hit, overlap: int) -> list[tuple[int, int]]:
    """The places of `row` from `overlap` on, the one that holds there first."""
    later = [place for place in row.places if place[0] > overlap]
    at = [place for place in row.places if place[0] <= overlap]
    return [*at[-1:], *later]
