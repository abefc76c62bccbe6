"""HTML: text as a person sees it, block by block, each with the line of the source file it begins on.

Works on the parser's events, not on a tree: unclosed tags and a million nested ones are the same to it. What is hidden from
people (scripts, styles, `hidden`, `display:none`) and navigation is not read. Images and links are never fetched.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

from corpus.places import Anchor, Unit
from corpus.readers.encoding import decode
from corpus.reading import BlockKind, Reading, ReadingBuilder
from corpus.tags import tags_of
from monk.errors import DocumentUnreadable

_NEVER_READ = frozenset(
    {"script", "style", "template", "noscript", "svg", "iframe", "object", "select", "textarea", "button"}
)
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCK_TAGS = """
address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption figure footer form h1 h2 h3 h4
h5 h6 head header hr html legend li main menu nav ol p pre section summary table tbody tfoot thead tr ul
"""
_ENDS_BLOCK = frozenset(_BLOCK_TAGS.split())
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


def read(data: bytes) -> Reading:
    """Blocks with the headings above them; places are lines of the file."""
    declared = _CHARSET.search(data[:4096])
    source = decode(data, declared.group(1).decode("ascii", "replace") if declared else None)
    return read_source(source, "html", "line")


def read_source(
    source: str, format: str, unit: Unit, *, count_blocks: bool = False, lost: tuple[str, ...] = ()
) -> Reading:
    """Read HTML text. `count_blocks`: places number the blocks instead of source lines (a DOCX has no lines)."""
    events = _Events(unit, count_blocks, skip_hidden=True)
    events.read(source)
    if events.skipping:  # something hidden was never closed: better read too much than lose the rest
        events = _Events(unit, count_blocks, skip_hidden=False)
        events.read(source)
    return events.builder.finish(" ".join(events.title.split()), format, lost=lost, tags=tags_of(events.keywords))


class _Events(HTMLParser):
    """Turns parser events into blocks."""

    def __init__(self, unit: Unit, count_blocks: bool, skip_hidden: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.builder = ReadingBuilder(unit)
        self.title = ""
        self.keywords: list[str] = []
        self.skipping: str | None = None  # the tag whose end ends the silence
        self._skip_depth = 0
        self._skip_hidden = skip_hidden
        self._count_blocks = count_blocks
        self._num_blocks = 0
        self._open: dict[str, int] = {"pre": 0, "li": 0, "title": 0, "tr": 0}
        self._heading = 0
        self._text: list[str] = []
        self._length = 0
        self._anchors: list[Anchor] = []

    def read(self, source: str) -> None:
        try:
            self.feed(source)
            self.close()
        except AssertionError as exc:  # html.parser's own word for markup it cannot leave
            raise DocumentUnreadable("is not HTML that can be read; open it in a browser and save it again") from exc
        self._flush()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.skipping is not None:
            self._skip_depth += tag == self.skipping
        elif self._is_hidden(tag, attrs):
            self._flush()
            self.skipping, self._skip_depth = tag, 1
        elif tag == "meta":
            self._note_keywords(dict(attrs))
        elif tag == "br":
            self._add("\n", self.getpos()[0])
        elif tag in ("td", "th"):
            if self._text:
                self._add("\t", self.getpos()[0])
        elif tag in _ENDS_BLOCK or tag == "title":
            self._flush()
            self._enter(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.skipping is not None:
            self._skip_depth -= tag == self.skipping
            if self._skip_depth == 0:
                self.skipping = None
        elif tag in _ENDS_BLOCK or tag == "title":
            self._flush()
            self._leave(tag)

    def handle_data(self, data: str) -> None:
        if self.skipping is not None:
            return
        if self._open["title"]:
            self.title += data[:1000]
            return
        line = self.getpos()[0]
        for number, piece in enumerate(data.split("\n")):
            if number:
                self._add("\n" if self._open["pre"] else " ", line + number)
            if piece:
                self._add(piece if self._open["pre"] else _SPACE.sub(" ", piece), line + number)

    def _note_keywords(self, found: dict[str, str | None]) -> None:
        name = (found.get("name") or found.get("property") or "").lower()
        if name in ("keywords", "article:tag") and found.get("content"):
            self.keywords.append(str(found["content"])[:10_000])

    def _is_hidden(self, tag: str, attrs: list[tuple[str, str | None]]) -> bool:
        if tag in _NEVER_READ:
            return True
        if not self._skip_hidden or tag in _VOID:
            return False
        found = dict(attrs)
        return tag == "nav" or "hidden" in found or bool(_HIDDEN_STYLE.search(found.get("style") or ""))

    def _enter(self, tag: str) -> None:
        if tag in self._open:
            self._open[tag] += 1
        if tag in _HEADINGS:
            self._heading = _HEADINGS[tag]

    def _leave(self, tag: str) -> None:
        if self._open.get(tag):
            self._open[tag] -= 1
        if tag in _HEADINGS:
            self._heading = 0

    def _add(self, piece: str, line: int) -> None:
        if not self._open["pre"]:
            if piece.isspace() and not self._text:
                return
            if piece in ("\n", "\t"):
                self._drop_last_space()
            if self._text and self._text[-1][-1] in " \n\t" and piece[0] == " ":
                piece = piece[1:]
        if not piece:
            return
        if not self._anchors or self._anchors[-1][1] != line:
            self._anchors.append((self._length, line))
        self._text.append(piece)
        self._length += len(piece)

    def _drop_last_space(self) -> None:
        if self._text and self._text[-1].endswith(" "):
            last = self._text.pop()[:-1]
            self._length -= 1
            self._anchors = [(min(offset, self._length), line) for offset, line in self._anchors]
            if last:
                self._text.append(last)

    def _flush(self) -> None:
        text = "".join(self._text)
        lead = len(text) - len(text.lstrip(" \t\n" if not self._open["pre"] else "\n"))
        text = text[lead:].rstrip()
        if text:
            self._num_blocks += 1
            self.builder.add(self._kind(), text, self._places(lead), self._heading)
        self._text, self._length, self._anchors = [], 0, []

    def _places(self, lead: int) -> list[Anchor]:
        if self._count_blocks:
            return [(0, self._num_blocks)]
        return [(max(offset - lead, 0), line) for offset, line in self._anchors]

    def _kind(self) -> BlockKind:
        if self._heading:
            return "heading"
        if self._open["pre"]:
            return "code"
        if self._open["tr"]:
            return "table"
        return "list" if self._open["li"] else "paragraph"
