"""What a reader returns: the text of a document, its blocks, and where each character stands.

Knows no file format. Travels from the reading process as JSON, because what comes out of a hostile document is not trusted
with anything that could run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from corpus.places import Anchor, LineCounter, Place, Places, Unit

_MAX_LEVEL = 12  # headings nested deeper than this are one below the other
_TITLE_BLOCKS = 3  # a heading further down names a part, not the document
BlockKind = Literal["heading", "paragraph", "list", "table", "code"]


@dataclass(frozen=True, slots=True)
class Block:
    """`reading.text[start:end]`, never empty; blocks are in order and do not overlap."""

    kind: BlockKind
    start: int
    end: int
    headings: tuple[str, ...]  # the path above it; a heading's own path ends with itself


@dataclass(frozen=True, slots=True)
class Reading:
    """One document as read, or a part of a long one. `lost` says in words what the file holds and the text does not."""

    title: str
    format: str
    text: str
    blocks: tuple[Block, ...]
    places: Places
    num_pages: int | None = None
    lost: tuple[str, ...] = ()
    offset: int = 0  # characters of the document before this part; blocks and anchors count from the part's beginning
    wanted_ocr: bool = False  # some of it is a picture of text: another result when the OCR program comes or goes
    tags: tuple[str, ...] = ()  # what the document itself says it is about; see tags.py

    def place_at(self, offset: int) -> Place:
        """Page or line of the character at `offset`."""
        return self.places.at(self.text, offset)

    def titled(self, fallback: str) -> Reading:
        """The same with a title: its own, else a heading at its very beginning, else `fallback`; at most 200 characters."""
        first_heading = next((block.headings[-1] for block in self.blocks[:_TITLE_BLOCKS] if block.headings), "")
        title = " ".join((self.title or first_heading or fallback).split())
        return replace(self, title=title[:200])

    def to_json(self) -> dict[str, Any]:
        """JSON values only; `reading_from_json` is the way back."""
        return {
            "title": self.title,
            "format": self.format,
            "text": self.text,
            "blocks": [[block.kind, block.start, block.end, list(block.headings)] for block in self.blocks],
            "unit": self.places.unit,
            "anchors": [list(anchor) for anchor in self.places.anchors],
            "first": self.places.first,
            "num_pages": self.num_pages,
            "lost": list(self.lost),
            "offset": self.offset,
            "wanted_ocr": self.wanted_ocr,
            "tags": list(self.tags),
        }


def reading_from_json(data: dict[str, Any]) -> Reading:
    """The Reading that `to_json` came from."""
    return Reading(
        title=data["title"],
        format=data["format"],
        text=data["text"],
        blocks=tuple(Block(kind, start, end, tuple(headings)) for kind, start, end, headings in data["blocks"]),
        places=Places(data["unit"], tuple((offset, number) for offset, number in data["anchors"]), data["first"]),
        num_pages=data["num_pages"],
        lost=tuple(data["lost"]),
        offset=data["offset"],
        wanted_ocr=data["wanted_ocr"],
        tags=tuple(data["tags"]),
    )


class HeadingPath:
    """The headings above the current block, outermost first."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> tuple[str, ...]:
        """Begin a section of `level` (1 is outermost); returns the path that ends with it."""
        self.leave(level)
        self._open.append((level, " ".join(title.split())[:200]))
        return self.path

    def leave(self, level: int) -> bool:
        """End the sections of `level` and those inside them; whether there were any."""
        before = len(self._open)
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        return len(self._open) < before

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._open if title)


class ReadingBuilder:
    """Collects blocks of formats whose text is made by the reader (PDF, HTML, DOCX). Blocks are parted by empty lines,
    list items and table rows by one newline."""

    def __init__(self, unit: Unit) -> None:
        self._unit: Unit = unit
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._anchors: list[Anchor] = []
        self._headings = HeadingPath()

    def add(self, kind: BlockKind, text: str, anchors: list[Anchor], level: int = 0) -> None:
        """Append a block; `anchors` count from its first character, the first one at 0. Blank text is dropped."""
        if not text.strip():
            return
        if self._blocks:
            self._append("\n" if kind in ("list", "table") and self._blocks[-1].kind == kind else "\n\n")
        start = self._length
        self._append(text)
        for offset, number in anchors:
            if not self._anchors or self._anchors[-1][1] != number:
                self._anchors.append((start + offset if self._anchors else 0, number))
        path = self._headings.enter(level, text) if kind == "heading" else self._headings.path
        self._blocks.append(Block(kind, start, self._length, path))

    def add_reading(self, other: Reading, lines: Callable[[int], int], level: int) -> None:
        """Append the blocks of another document below the current heading; its headings begin at `level` and its places
        are what `lines` makes of them."""
        counter = LineCounter(other.text, other.places.first)
        for block in other.blocks:
            anchors = [(at, lines(number)) for at, number in _anchors_within(other, block, counter)]
            depth = min(level + len(block.headings) - 1, _MAX_LEVEL) if block.kind == "heading" else 0
            self.add(block.kind, other.text[block.start : block.end], anchors, depth)

    @property
    def num_blocks(self) -> int:
        """Blocks so far."""
        return len(self._blocks)

    @property
    def num_characters(self) -> int:
        """Length of the text so far."""
        return self._length

    def finish(
        self,
        title: str,
        format: str,
        *,
        num_pages: int | None = None,
        lost: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
    ) -> Reading:
        """The Reading of all blocks added."""
        places = Places(self._unit, tuple(self._anchors) or ((0, 1),))
        return Reading(title, format, "".join(self._parts), tuple(self._blocks), places, num_pages, lost, tags=tags)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


def _anchors_within(reading: Reading, block: Block, lines: LineCounter) -> list[Anchor]:
    """The places of a block, counted from its first character, whether anchors or newlines tell them."""
    if reading.places.anchors:
        return list(reading.places.within(block.start, block.end))
    first, text = lines.at(block.start), reading.text[block.start : block.end]
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return [(start, first + number) for number, start in enumerate(starts)]
