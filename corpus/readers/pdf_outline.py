"""The bookmarks of a PDF laid over its lines: what is printed in the outline is a heading, whatever its type looks like."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from corpus.readers.pdf_lines import Line

_MAX_ENTRIES = 5_000
_MAX_LINES = 4  # of one heading


def with_headings(document: Any, pages: list[list[Line]]) -> tuple[list[list[Line]], int]:
    """(the pages, lines of bookmarks marked as headings; how many bookmarks were found on their pages)."""
    pages = list(pages)
    found = 0
    for level, title, number in _entries(document):
        if 0 <= number < len(pages):
            span = _span(pages[number], _plain(title))
            if span is not None:
                found += 1
                mark = (level, found)
                pages[number] = [
                    replace(line, heading=mark) if at in span else line for at, line in enumerate(pages[number])
                ]
    return pages, found


def _entries(document: Any) -> Iterator[tuple[int, str, int]]:
    """(level from 1, title, page from 0) of each bookmark with a page; none when the outline is damaged."""
    import pypdfium2

    try:
        for entry in itertools.islice(document.get_toc(), _MAX_ENTRIES):
            target = entry.get_dest()
            index = target.get_index() if target is not None else None
            if index is not None:
                yield entry.level + 1, entry.get_title(), index
    except (pypdfium2.PdfiumError, ValueError):
        return


def _span(lines: list[Line], title: str) -> range | None:
    """The lines that together are the title."""
    if not title:
        return None
    for start, line in enumerate(lines):
        words, end = _plain(line.text), start + 1
        while words and title.startswith(words) and words != title and end < min(len(lines), start + _MAX_LINES):
            words += _plain(lines[end].text)
            end += 1
        if words == title and line.heading is None:
            return range(start, end)
    return None


def _plain(text: str) -> str:
    """Letters and figures only: bookmarks and print differ in spaces, dots, dashes, and in whether they are numbered."""
    plain = "".join(char for char in text.casefold() if char.isalnum())
    return plain.lstrip("0123456789") or plain
