"""CSV and TSV: the source is the text; every line is a row, and the first one heads all passages."""

from __future__ import annotations

import re

from corpus.places import Places
from corpus.readers.encoding import decode
from corpus.reading import Block, Reading

_ROW = re.compile(r"\S[^\n]*")


def read(data: bytes) -> Reading:
    """One block per line, headed by the first line's columns."""
    text = decode(data)
    rows = list(_ROW.finditer(text))
    columns = " ".join(rows[0].group().split())[:200] if rows else ""
    blocks = tuple(Block("table", row.start(), row.end(), (columns,)) for row in rows)
    return Reading("", "table", text, blocks, Places("line"))
