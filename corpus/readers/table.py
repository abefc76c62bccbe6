"""CSV and TSV: the source is the text; every line is a row, and the first one heads all passages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from corpus.readers.text import in_parts
from corpus.reading import Block, Reading

_MAX_HEADING = 200  # characters
_ROW = re.compile(r"\S[^\n]*")


def parts(file: BinaryIO) -> Iterator[Reading]:
    """One block per line, headed by the first line's columns."""
    heading: list[str] = []

    def blocks_of(text: str) -> list[Block]:
        rows = list(_ROW.finditer(text))
        if rows and not heading:
            heading.append(" ".join(rows[0].group()[:_MAX_HEADING].split()))
        return [Block("table", row.start(), row.end(), tuple(heading)) for row in rows]

    return in_parts(file, "table", blocks_of)
