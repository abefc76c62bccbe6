"""Plain text and source code: the source is the text; paragraphs are parted by blank lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from corpus.places import Places
from corpus.readers.stream import pieces
from corpus.reading import Block, BlockKind, HeadingPath, Reading

_LINE_ENDS = frozenset("{};|+\\")
_MAX_HEADING = 90  # characters
_MIN_CAPITALS = 4
_NUMBERED = re.compile(r"((?:\d{1,2}\.){0,4}\d{1,2}\.?)[ \t]+[^\W\d_]")
_ADORNMENT = re.compile(r"\n[ \t]*([=\-~])\1{2,}[ \t]*\Z")
_PARAGRAPH = re.compile(r"\S[^\n]*(?:\n[^\S\n]*+\S[^\n]*)*")  # begins at a letter: linear in a sea of spaces


def parts(file: BinaryIO) -> Iterator[Reading]:
    """Blocks are paragraphs, under what looks like a heading; a stretch of source code is one too, and keeps its lines."""
    headings = HeadingPath()
    yield from in_parts(file, "text", lambda text: _blocks(text, headings))


def in_parts(file: BinaryIO, format: str, blocks_of: Callable[[str], list[Block]]) -> Iterator[Reading]:
    """A Reading for each piece of a text file, in order; lines count through."""
    offset, line = 0, 1
    for text in pieces(file):
        yield Reading("", format, text, tuple(blocks_of(text)), Places("line", first=line), offset=offset)
        offset, line = offset + len(text), line + text.count("\n")


def _blocks(text: str, headings: HeadingPath) -> list[Block]:
    blocks: list[Block] = []
    for block in paragraphs(text, 0, len(text), ()):
        level = _heading_level(text[block.start : block.end])
        if level:
            headings.enter(level, _ADORNMENT.sub("", text[block.start : block.end]))
        blocks.append(Block("heading" if level else block.kind, block.start, block.end, headings.path))
    return blocks


def _heading_level(paragraph: str) -> int:
    """1 and up for a paragraph that looks like a heading: numbered, underlined, or one line of capitals; else 0."""
    line = paragraph.strip()
    if _ADORNMENT.search(line):
        return 1 if "=" in line else 2
    if "\n" in line or not line[0].isalnum() or len(line) > _MAX_HEADING or line[-1] in ".,;:!?":
        return 0
    numbered = _NUMBERED.match(line)
    if numbered:
        return len(numbered.group(1).rstrip(".").split("."))
    return 1 if line.isupper() and sum(char.isalpha() for char in line) >= _MIN_CAPITALS else 0


def paragraphs(text: str, start: int, end: int, headings: tuple[str, ...]) -> list[Block]:
    """The paragraphs of `text[start:end]`; those that look like code or tables keep their lines apart."""
    return [
        Block(_kind(match.group()), match.start(), match.end(), headings)
        for match in _PARAGRAPH.finditer(text, start, end)
    ]


def _kind(paragraph: str) -> BlockKind:
    """`code` when many lines end like a statement or a row: then lines, not sentences, are its parts."""
    lines = paragraph.split("\n")
    codelike = sum(line.rstrip()[-1:] in _LINE_ENDS for line in lines)
    return "code" if len(lines) > 1 and codelike * 5 > 2 * len(lines) else "paragraph"
