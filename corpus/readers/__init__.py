"""One reader per format. They run in the reading process and nowhere else: a document may hang, crash or bloat whatever
parses it. Libraries are imported by the reader that needs them.

A reader is `read(data: bytes) -> Reading`; one that can do with less than all the bytes at once is
`parts(file: BinaryIO) -> Iterator[Reading]`. It raises DocumentUnreadable with a reason that a person understands, and what
to do about it. Fetching anything that a document points to is not possible here: readers see bytes, never a path or an
address.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

from corpus.parts import joined, parted
from corpus.reading import Reading
from monk.errors import DocumentUnreadable

if TYPE_CHECKING:
    from corpus.readers.ocr import Recogniser

READER_VERSION = 3  # raise it when a reader returns something else for the same bytes: every document is read again

_CODE = """
py pyi js mjs cjs jsx ts tsx java kt kts scala groovy go rs c h cc cpp cxx hh hpp cs swift rb php pl pm lua r jl sh bash zsh sql
hs ml ex exs erl clj dart m mm f90 pas vb ps1 proto zig nim tf
"""
_MODULES = {
    "markdown": ("md", "markdown", "mkd"),
    "rst": ("rst", "rest"),
    "html": ("html", "htm", "xhtml"),
    "pdf": ("pdf",),
    "docx": ("docx",),
    "epub": ("epub",),
    "eml": ("eml",),
    "mbox": ("mbox", "mbx"),
    "table": ("csv", "tsv"),
    "code": tuple(_CODE.split()),
}
_BY_SUFFIX = {suffix: module for module, suffixes in _MODULES.items() for suffix in suffixes}
_IN_PARTS = frozenset({"text", "code", "table", "mbox"})
_HEAD_BYTES = 4096


def format_of(name: str, data: bytes) -> str:
    """The reader for a file, by what it is before what it is called: a PDF named `.txt` is still a PDF. `data` may be its
    beginning."""
    if data.startswith(b"%PDF-") or b"%PDF-" in data[:1024]:
        return "pdf"
    if data[30:58] == b"mimetypeapplication/epub+zip":
        return "epub"
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    return _BY_SUFFIX.get(suffix, "text")


def read_parts(name: str, file: BinaryIO, recogniser: Recogniser | None = None) -> Iterator[Reading]:
    """Read a document: at least one part. Raises DocumentUnreadable when there is nothing to read in it.

    Without `recogniser` a scan is refused.
    """
    title, tags, num_blocks = "", tuple[str, ...](), 0
    for part in _parts(name, file, recogniser):
        title = title or part.titled(name.rpartition("/")[2]).title
        tags = tags or part.tags
        num_blocks += len(part.blocks)
        yield replace(part, title=title, tags=tags)
    if not num_blocks:
        raise DocumentUnreadable("holds no text")


def read_bytes(name: str, data: bytes) -> Reading:
    """Read a document that is in memory, whole."""
    return joined(read_parts(name, io.BytesIO(data)))


def _parts(name: str, file: BinaryIO, recogniser: Recogniser | None) -> Iterator[Reading]:
    head = file.read(_HEAD_BYTES)
    format = format_of(name, head)
    reader: Any = import_module(f"corpus.readers.{format}")
    if format in _IN_PARTS:
        _check_not_empty(head, file)
        file.seek(0)
        yield from reader.parts(file)
        return
    data = head + file.read()
    if not data.strip():
        raise DocumentUnreadable("is empty")
    yield from parted(reader.read(data, recogniser) if format == "pdf" else reader.read(data))


def _check_not_empty(head: bytes, file: BinaryIO) -> None:
    while not head.strip():
        head = file.read(1 << 20)
        if not head:
            raise DocumentUnreadable("is empty")
