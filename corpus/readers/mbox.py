"""A mailbox: message after message in one file, each a section. Read as a stream: a mailbox of many gigabytes needs the memory
of its longest message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from corpus.parts import PART_CHARACTERS
from corpus.readers.mail import Letters
from corpus.reading import Reading, ReadingBuilder

_MAX_MESSAGE_BYTES = 32 << 20  # of a longer one, mostly pictures, the beginning is read
_STEP_BYTES = 1 << 16  # a line may be endless
_SEPARATOR = re.compile(rb"From \S{1,300}[ \t].{0,200}\d{4}|From ?-")
_ESCAPED = re.compile(rb"^>(>*From )", re.MULTILINE)


def parts(file: BinaryIO) -> Iterator[Reading]:
    """Messages in the order of the file, some at a time; the last part knows what was lost over all."""
    letters = Letters(ReadingBuilder("line"))
    offset, num_cut = 0, 0
    waiting: Reading | None = None
    for data, line, is_cut in _messages(file):
        if letters.builder.num_characters >= PART_CHARACTERS:
            if waiting is not None:
                yield waiting
            waiting = replace(letters.builder.finish("", "email"), offset=offset)
            offset += len(waiting.text) + 2  # the empty line between two parts
            letters.builder = ReadingBuilder("line")
        letters.add(_ESCAPED.sub(rb"\1", data), line)
        num_cut += is_cut
    if waiting is not None:
        yield waiting
    cut = (
        (f"the end of {num_cut} message{'s' if num_cut > 1 else ''} longer than {_MAX_MESSAGE_BYTES >> 20} MiB",)
        if num_cut
        else ()
    )
    yield replace(letters.builder.finish("", "email", lost=letters.lost + cut), offset=offset)


def _messages(file: BinaryIO) -> Iterator[tuple[bytes, int, bool]]:
    """(bytes without the separator, their first line in the file, whether their end is left out) of each message."""
    held: list[bytes] = []
    size, line, first_line = 0, 1, 1
    after_blank, at_start = True, True
    while step := file.readline(_STEP_BYTES):
        if at_start and after_blank and _SEPARATOR.match(step):
            if size:
                yield b"".join(held), first_line, size > _MAX_MESSAGE_BYTES
            held, size, first_line = [], 0, line + 1
        else:
            if size <= _MAX_MESSAGE_BYTES:
                held.append(step)
            size += len(step)
        after_blank = at_start and not step.strip()
        at_start = step.endswith(b"\n")
        line += at_start
    if size:
        yield b"".join(held), first_line, size > _MAX_MESSAGE_BYTES
