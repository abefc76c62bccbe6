"""reStructuredText: the source is the text, so a line number is the file's own; docutils tells the sections.

Directives that read files or pass raw output through are off: a document gets no hands.
"""

from __future__ import annotations

import re

from corpus.places import Places
from corpus.readers.encoding import decode
from corpus.readers.text import paragraphs
from corpus.reading import Block, HeadingPath, Reading
from corpus.tags import tags_of

_TITLE_FIELD = re.compile(r"^:?Title:[ \t]*(\S.*)$", re.MULTILINE)  # of a PEP, or a field list at the top
_TAG_FIELD = re.compile(r"^:(?:tags|keywords):[ \t]*(\S.*(?:\n[ \t]+\S.*)*)", re.MULTILINE | re.IGNORECASE)
_SETTINGS = {
    "report_level": 5,
    "halt_level": 6,
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "_disable_config": True,
    "syntax_highlight": "none",
    "doctitle_xform": False,
    "docinfo_xform": False,
}


def read(data: bytes) -> Reading:
    """Sections as docutils sees them, paragraphs between them as they stand."""
    text = decode(data)
    blocks: list[Block] = []
    headings = HeadingPath()
    position = 0
    for level, title, start, end in _sections(text):
        blocks += paragraphs(text, position, start, headings.path)
        blocks.append(Block("heading", start, end, headings.enter(level, title)))
        position = end
    blocks += paragraphs(text, position, len(text), headings.path)
    field = _TITLE_FIELD.search(text, 0, 4000)
    tags = tags_of(*(found.group(1) for found in _TAG_FIELD.finditer(text, 0, 4000)))
    return Reading(field.group(1) if field else "", "rst", text, tuple(blocks), Places("line"), tags=tags)


def _sections(text: str) -> list[tuple[int, str, int, int]]:
    """(level, title, start, end) of every section title with its underline, in order."""
    from docutils import nodes
    from docutils.core import publish_doctree

    document = publish_doctree(text, settings_overrides=_SETTINGS)
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    found: list[tuple[int, str, int, int]] = []
    for section in document.findall(nodes.section):
        underline = section[0].line  # 1-based line of the adornment below the title
        if underline is None or not 2 <= underline < len(starts):
            continue
        start, end = starts[underline - 2], starts[underline] - 1
        if text[start:end].strip() and (not found or start >= found[-1][3]):
            found.append((_level(section), section[0].astext(), start, end))
    return found


def _level(section: object) -> int:
    level, parent = 1, getattr(section, "parent", None)
    while parent is not None and parent.tagname == "section":
        level, parent = level + 1, parent.parent
    return level
