"""One reader per format: `read(data: bytes) -> Reading`. They run in the reading process and nowhere else: a document may
hang, crash or bloat whatever parses it. Libraries are imported by the reader that needs them.

A reader raises DocumentUnreadable with a reason that a person understands, and what to do about it. Fetching anything that
a document points to is not possible here: readers see bytes, never a path or an address.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from corpus.reading import Reading
from monk.errors import DocumentUnreadable

READER_VERSION = 1  # raise it when a reader returns other text for the same bytes: every document is read again

_MODULES = {
    "markdown": ("md", "markdown", "mkd"),
    "rst": ("rst", "rest"),
    "html": ("html", "htm", "xhtml"),
    "pdf": ("pdf",),
    "docx": ("docx",),
    "table": ("csv", "tsv"),
}
_BY_SUFFIX = {suffix: module for module, suffixes in _MODULES.items() for suffix in suffixes}


def format_of(name: str, data: bytes) -> str:
    """The reader for a file, by what it is before what it is called: a PDF named `.txt` is still a PDF."""
    if data.startswith(b"%PDF-") or b"%PDF-" in data[:1024]:
        return "pdf"
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    return _BY_SUFFIX.get(suffix, "text")


def read_bytes(name: str, data: bytes) -> Reading:
    """Read a document. Raises DocumentUnreadable when there is nothing to read in it."""
    if not data.strip():
        raise DocumentUnreadable("is empty")
    read: Callable[[bytes], Reading] = import_module(f"corpus.readers.{format_of(name, data)}").read
    reading = read(data).titled(name.rpartition("/")[2])
    if not reading.blocks:
        raise DocumentUnreadable("holds no text")
    return reading
