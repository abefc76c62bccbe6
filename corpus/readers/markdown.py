"""Markdown: the source is the text, so a line number is the file's own; markdown-it tells the blocks."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from corpus.places import Places
from corpus.readers.encoding import decode
from corpus.reading import Block, BlockKind, HeadingPath, Reading
from corpus.tags import tags_of

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_MAX_FRONT_MATTER = 1 << 16  # characters; more is no front matter, and its parser is slow
_FOOTNOTE = re.compile(r"^( {0,3})\[(?=\^)", re.MULTILINE)
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[`*]+|<[^<>]*>|\\(?=[^\w\s])")
_KINDS: dict[str, BlockKind] = {
    "paragraph_open": "paragraph",
    "heading_open": "heading",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
    "html_block": "paragraph",
}


def read(data: bytes) -> Reading:
    """Blocks with their headings; front matter gives title and tags and is otherwise left in the text unread."""
    text = decode(data)
    front = _FRONT_MATTER.match(text)
    title = _TITLE.search(front.group(1)) if front else None
    blocks = _blocks(text, _line_starts(text), front.end() if front else 0)
    tags = _tags(front.group(1)) if front else ()
    return Reading(title.group(1) if title else "", "markdown", text, tuple(blocks), Places("line"), tags=tags)


def _tags(front_matter: str) -> tuple[str, ...]:
    """`tags` and `keywords`, a list or a line with commas; none where the front matter is no YAML."""
    import yaml

    if len(front_matter) > _MAX_FRONT_MATTER:
        return ()
    try:
        fields = yaml.load(front_matter, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return ()
    named = {str(name).lower(): value for name, value in fields.items()} if isinstance(fields, dict) else {}
    return tags_of(named.get("tags"), named.get("keywords"))


def _blocks(text: str, starts: list[int], body: int) -> list[Block]:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": 40}).enable("table")
    parser.disable("inline")  # only the blocks are wanted
    skipped = bisect_right(starts, body) - 1
    headings = HeadingPath()
    blocks: list[Block] = []
    source = _FOOTNOTE.sub(r"\1(", text[body:])  # a footnote is text; the parser would take it for a link's address
    for kind, first, last, token in _leaves(parser.parse(source)):
        start, end = _trimmed(text, starts[first + skipped], _line_end(text, starts, last + skipped))
        if start >= end or (blocks and start < blocks[-1].end):
            continue
        if kind == "heading":
            headings.enter(int(token.tag[1]), _plain(text[start:end]))
        blocks.append(Block(kind, start, end, headings.path))
    return blocks


def _leaves(tokens: list[Token]) -> list[tuple[BlockKind, int, int, Token]]:
    """Blocks that hold text themselves, with their first line and the line after their last."""
    leaves: list[tuple[BlockKind, int, int, Token]] = []
    list_depth = 0
    for token in tokens:
        if token.type == "list_item_open":
            list_depth += 1
        elif token.type == "list_item_close":
            list_depth -= 1
        kind = _KINDS.get(token.type)
        if kind is None or token.map is None:
            continue
        if list_depth and kind == "paragraph":
            kind = "list"
        leaves.append((kind, token.map[0], token.map[1], token))
    return leaves


def _plain(heading: str) -> str:
    """A heading without its marks: `## The *one*` is "The one"."""
    lines = [line for line in heading.split("\n") if line.strip("=- ")]
    return _MARKUP.sub(r"\1", " ".join(lines).strip("# \t")).strip()


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _line_end(text: str, starts: list[int], line: int) -> int:
    return starts[line] if line < len(starts) else len(text)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
