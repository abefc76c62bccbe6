"""Where a character of an extracted text stands in its document: page or line, both counted from 1.

Two ways to know. Text formats keep their source as it is, so every newline begins the next line and nothing needs storing.
Elsewhere (pages of a PDF, lines of an HTML file, paragraphs of a DOCX) anchors `(offset, number)` say from which character
on a number holds.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal, NamedTuple

Unit = Literal["page", "line"]
Anchor = tuple[int, int]  # (offset in characters, page or line from there on)


class Place(NamedTuple):
    """`Place("page", 3)`; `str()` gives "page 3"."""

    unit: Unit
    number: int

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Places:
    """Looks up places in one text. `anchors` sorted by offset; empty: newlines count, from line `first`."""

    unit: Unit
    anchors: tuple[Anchor, ...] = ()
    first: int = 1

    def at(self, text: str, offset: int) -> Place:
        """The place of `text[offset]`. An offset at the very end has the place of the last character."""
        if not self.anchors:
            return Place(self.unit, self.first + text.count("\n", 0, offset))
        index = bisect_right(self.anchors, (offset, 1 << 62)) - 1
        return Place(self.unit, self.anchors[max(index, 0)][1])

    def within(self, start: int, end: int) -> tuple[Anchor, ...]:
        """The anchors of `text[start:end]`, counted from `start`; empty where newlines count."""
        if not self.anchors:
            return ()
        first = max(bisect_right(self.anchors, (start, 1 << 62)) - 1, 0)
        last = bisect_right(self.anchors, (end - 1, 1 << 62))
        return tuple((max(offset - start, 0), number) for offset, number in self.anchors[first:last])


class LineCounter:
    """Line numbers for offsets that only grow: counts each newline once, so a long text costs one pass."""

    def __init__(self, text: str, first: int = 1) -> None:
        self._text = text
        self._offset = 0
        self._line = first

    def at(self, offset: int) -> int:
        """The line of `text[offset]`; `offset` must not be below the one asked before by more than the text allows."""
        if offset >= self._offset:
            self._line += self._text.count("\n", self._offset, offset)
        else:
            self._line -= self._text.count("\n", offset, self._offset)
        self._offset = offset
        return self._line
