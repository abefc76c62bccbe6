"""A text file as a stream of clean pieces, each of bounded length and ending at a line's end where there is one.

The encoding is found by looking at all bytes once; nothing but one piece is ever held.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from corpus.parts import PART_CHARACTERS
from corpus.readers.encoding import Encoding, clean, detected

_STEP_BYTES = 1 << 20
_LAST_PARAGRAPH = 4  # a piece ends at an empty line when one stands in its last 1/4


def pieces(file: BinaryIO, size: int = PART_CHARACTERS) -> Iterator[str]:
    """The text of a file, in pieces of at most about `size` characters. Raises DocumentUnreadable when it is no text."""
    encoding = _encoding(file)
    file.seek(encoding.skip_bytes)
    held = ""
    for text in _decoded(file, encoding):
        held += text
        while len(held) >= size:
            cut = _cut(held, size)
            yield clean(held[:cut])
            held = held[cut:]
    if held:
        yield clean(held)


def _encoding(file: BinaryIO) -> Encoding:
    file.seek(0)
    head = file.read(_STEP_BYTES)
    return detected(head, lambda: _is_utf8(file))


def _is_utf8(file: BinaryIO) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(0)
    try:
        while step := file.read(_STEP_BYTES):
            decoder.decode(step)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(file: BinaryIO, encoding: Encoding) -> Iterator[str]:
    """Decoded text with one kind of line end; a line end that falls between two steps stays one."""
    decoder = codecs.getincrementaldecoder(encoding.name)("replace")
    newlines = io.IncrementalNewlineDecoder(decoder, translate=True)
    while step := file.read(_STEP_BYTES):
        yield newlines.decode(step)
    yield newlines.decode(b"", final=True)


def _cut(text: str, size: int) -> int:
    """Where a piece of `text` ends: after an empty line, else after a line, else after a space, else anywhere."""
    blank = text.rfind("\n\n", size - size // _LAST_PARAGRAPH, size)
    if blank >= 0:
        return blank + 2
    for mark in ("\n", " "):
        found = text.rfind(mark, size // 2, size)
        if found >= 0:
            return found + 1
    return size
