"""A long document in parts, so that nobody ever holds all of it: cut between blocks, joined again where it is wanted whole.

Pure. Every part is a Reading of its own; `offset` says how many characters of the document stand before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from corpus.places import Anchor, LineCounter, Places
from corpus.reading import Block, Reading

PART_CHARACTERS = 4 << 20  # passages of this much text fit into some ten megabytes


def parted(reading: Reading, limit: int = PART_CHARACTERS) -> Iterator[Reading]:
    """The reading in parts of about `limit` characters; itself when it is no longer than that."""
    if len(reading.text) <= limit:
        yield reading
        return
    lines = LineCounter(reading.text, reading.places.first)
    start, blocks = 0, list[Block]()
    for block in _bounded(reading, limit):
        if blocks and block.end - start > limit:
            yield _part(reading, start, block.start, blocks, lines)
            start, blocks = block.start, []
        blocks.append(block)
    yield _part(reading, start, len(reading.text), blocks, lines)


def joined(parts: Iterable[Reading]) -> Reading:
    """The document of consecutive parts. There is at least one."""
    collected = list(parts)
    if len(collected) == 1:
        return collected[0]
    first, last = collected[0], collected[-1]
    texts: list[str] = []
    blocks: list[Block] = []
    anchors: list[Anchor] = []
    length = 0
    for part in collected:
        texts.append("\n" * (part.offset - length) + part.text)
        length = part.offset + len(part.text)
        blocks += [
            replace(block, start=part.offset + block.start, end=part.offset + block.end) for block in part.blocks
        ]
        anchors += [(part.offset + offset, number) for offset, number in part.places.anchors]
    places = Places(first.places.unit, tuple(anchors), first.places.first)
    wanted_ocr = any(part.wanted_ocr for part in collected)
    whole = replace(first, text="".join(texts), blocks=tuple(blocks), places=places, wanted_ocr=wanted_ocr)
    return replace(whole, lost=last.lost, num_pages=last.num_pages)


def _part(reading: Reading, start: int, end: int, blocks: list[Block], lines: LineCounter) -> Reading:
    places = reading.places
    first = places.first if places.anchors else lines.at(start)
    return replace(
        reading,
        text=reading.text[start:end],
        blocks=tuple(replace(block, start=block.start - start, end=block.end - start) for block in blocks),
        places=Places(places.unit, places.within(start, end), first),
        offset=reading.offset + start,
    )


def _bounded(reading: Reading, limit: int) -> Iterator[Block]:
    """The blocks, those longer than `limit` cut behind a line or a word."""
    for block in reading.blocks:
        start = block.start
        while block.end - start > limit:
            cut = (
                max(reading.text.rfind(mark, start + limit // 2, start + limit) for mark in "\n ") + 1 or start + limit
            )
            yield replace(block, start=start, end=cut)
            start = cut
        yield replace(block, start=start)
