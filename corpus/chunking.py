"""Cuts a Reading into chunks along its structure: whole blocks where they fit, whole sentences where they do not.

Pure: sizes are counted by the function that is passed in. Every chunk is an exact slice of the document's text, chunks are
in order, and together they cover every block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from corpus.reading import Block, Reading
from corpus.sentences import sentences

Count = Callable[[list[str]], list[int]]  # texts → number of tokens of each

_LINE = re.compile(r"\S[^\n]*")
_CHARACTERS_PER_TOKEN = (
    12  # no tokenizer yields fewer tokens than one per this many, over a stretch of text; a window only
)
_SMALL = 4  # a section below 1/4 of the limit shares its chunk with the next one under the same heading


@dataclass(frozen=True, slots=True)
class Chunk:
    """`reading.text[start:end]` under the headings that all of it shares."""

    start: int
    end: int
    headings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is never cut any further: a sentence, a line of code or a row, and its tokens."""

    start: int
    end: int
    num_tokens: int
    headings: tuple[str, ...]
    opens_section: bool  # a heading: what stands before it does not belong to it
    apart: bool  # text that no block holds stands before it: nobody counted that, so no chunk may span it


def chunk(reading: Reading, count: Count, max_tokens: int, overlap_tokens: int = 0) -> list[Chunk]:
    """The chunks of a document, each of at most `max_tokens` as `count` counts them."""
    chunks: list[Chunk] = []
    open_units: list[_Unit] = []
    for unit in _units(reading, count, max_tokens):
        size = _size(open_units)
        if open_units and (size + unit.num_tokens > max_tokens or _parts(open_units, unit, size, max_tokens)):
            kept, carried = _closed(open_units, unit, max_tokens, overlap_tokens)
            chunks.append(_chunk_of(kept))
            open_units = carried
        open_units.append(unit)
    if open_units:
        chunks.append(_chunk_of(open_units))
    return chunks


def _closed(units: list[_Unit], following: _Unit, max_tokens: int, overlap: int) -> tuple[list[_Unit], list[_Unit]]:
    """(what the chunk keeps, what the next one begins with). Headings at its end move on to what they head, if they fit."""
    if following.apart:
        return units, []
    room = max_tokens - following.num_tokens
    last = len(units)
    while last > 1 and units[last - 1].opens_section and not following.opens_section:
        last -= 1
    if last < len(units) and _size(units[last:]) <= room:
        return units[:last], units[last:]
    return units, [] if following.opens_section else _tail(units, min(overlap, room))


def _size(units: list[_Unit]) -> int:
    return sum(unit.num_tokens for unit in units)


def _tail(units: list[_Unit], overlap_tokens: int) -> list[_Unit]:
    """The last units of a chunk that together have at most `overlap_tokens`; never all of it."""
    kept: list[_Unit] = []
    for unit in reversed(units[1:]):
        overlap_tokens -= unit.num_tokens
        if overlap_tokens < 0:
            break
        kept.insert(0, unit)
    return kept


def _parts(units: list[_Unit], unit: _Unit, size: int, max_tokens: int) -> bool:
    """Whether `unit` begins a new chunk although it would fit: it is apart, or begins a section of its own."""
    if unit.apart or not unit.opens_section:
        return unit.apart
    if units[-1].opens_section:
        return False  # a heading right below a heading
    related = bool(_common(units[0].headings, unit.headings))
    return not related or size * _SMALL > max_tokens


def _chunk_of(units: list[_Unit]) -> Chunk:
    shared = units[0].headings
    for unit in units[1:]:
        shared = _common(shared, unit.headings)
    return Chunk(units[0].start, units[-1].end, shared)


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    same = 0
    while same < min(len(first), len(second)) and first[same] == second[same]:
        same += 1
    return first[:same]


def _units(reading: Reading, count: Count, max_tokens: int) -> Iterator[_Unit]:
    """The blocks of a document, those that are too long cut into sentences, lines, and last of all pieces."""
    texts = [reading.text[block.start : block.end] for block in reading.blocks]
    previous_end = 0
    for block, text, size in zip(reading.blocks, texts, _sizes(texts, count, max_tokens), strict=True):
        apart = bool(reading.text[previous_end : block.start].strip())
        previous_end = block.end
        if size <= max_tokens:
            yield _Unit(block.start, block.end, size, block.headings, block.kind == "heading", apart)
            continue
        for start, end, size_of_part in _parts_of(block, text, count, max_tokens):
            yield _Unit(block.start + start, block.start + end, size_of_part, block.headings, False, apart)
            apart = False


def _sizes(texts: list[str], count: Count, max_tokens: int) -> list[int]:
    """Tokens of each text; of one that is far too long only that it is, because counting a gigabyte takes many."""
    long = _CHARACTERS_PER_TOKEN * max_tokens
    counted = iter(count([text for text in texts if len(text) <= long]))
    return [next(counted) if len(text) <= long else max_tokens + 1 for text in texts]


def _parts_of(block: Block, text: str, count: Count, max_tokens: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, tokens) of what a long block is cut into, counted from its beginning."""
    spans = _split(block, text)
    sizes = _sizes([text[start:end] for start, end in spans], count, max_tokens)
    for (start, end), size in zip(spans, sizes, strict=True):
        yield from _fitting(text, start, end, size, count, max_tokens)


def _split(block: Block, text: str) -> list[tuple[int, int]]:
    if block.kind in ("code", "table", "list"):
        return [match.span() for match in _LINE.finditer(text)]
    return sentences(text)


def _fitting(
    text: str, start: int, end: int, size: int, count: Count, max_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Pieces of `text[start:end]` that fit: all of it, or cut at white space, or anywhere where there is none."""
    while size > max_tokens:
        high = _longest_prefix(text, start, end, count, max_tokens)
        yield start, high, count([text[start:high]])[0]
        start = high + len(text[high:end]) - len(text[high:end].lstrip())
        size = _sizes([text[start:end]], count, max_tokens)[0]
    if start < end:
        yield start, end, size


def _longest_prefix(text: str, start: int, end: int, count: Count, max_tokens: int) -> int:
    """The end of the longest piece from `start` that fits, moved back to white space when there is some in its second half."""
    low, high = start + 1, min(end, start + _CHARACTERS_PER_TOKEN * max_tokens)
    while low < high:
        middle = (low + high + 1) // 2
        if count([text[start:middle]])[0] <= max_tokens:
            low = middle
        else:
            high = middle - 1
    if low >= end:
        return end
    space = max(text.rfind(" ", start, low), text.rfind("\n", start, low))
    return space if space > start + (low - start) // 2 else low
