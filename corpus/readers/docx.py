"""DOCX: mammoth turns it into plain HTML (headings, lists, tables, footnotes survive), the HTML reader into blocks.

A DOCX has no pages until somebody lays it out, so a place is a line of the extracted text: the n-th paragraph, list item or
table row that is not empty.
"""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace

from corpus.readers.archive import Archive
from corpus.readers.encoding import clean
from corpus.readers.html import read_source
from corpus.reading import Reading
from corpus.tags import tags_of
from monk.errors import DocumentUnreadable

_STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"
_OLE = b"\xd0\xcf\x11\xe0"
_LOST = (
    (re.compile(r"math}oMath"), "equations"),
    (re.compile(r"\bchart|smartArt|diagram", re.IGNORECASE), "diagrams"),
)
_CELL = re.compile(r"<t[dh]\b.*?</t[dh]>", re.DOTALL)
_KEYWORDS = re.compile(r"<(?:\w+:)?keywords\b[^>]*>([^<]*)</")
_INNER_BLOCK = re.compile(r"</?(?:p|li|ul|ol|h[1-6])\b[^>]*>")


def read(data: bytes) -> Reading:
    """Blocks with the headings above them; pictures and equations are named as lost."""
    source, lost = _to_html(data)
    rows = _CELL.sub(lambda cell: _INNER_BLOCK.sub(" ", cell.group()), source)
    reading = read_source(clean(rows), "docx", "line", count_blocks=True, lost=lost)
    return replace(reading, tags=_tags(Archive(data, "a .docx file")))


def _tags(archive: Archive) -> tuple[str, ...]:
    properties = (archive.read("docProps/core.xml") or b"").decode("utf-8", "replace")
    return tags_of(*(html.unescape(found) for found in _KEYWORDS.findall(properties)))


def _to_html(data: bytes) -> tuple[str, tuple[str, ...]]:
    if data.startswith(_OLE):
        raise DocumentUnreadable("is encrypted or an old .doc; open it, remove the password and save it as .docx")
    _check_archive(data)
    import mammoth

    pictures = 0

    def without_picture(image: object) -> dict[str, str]:
        nonlocal pictures
        pictures += 1
        return {}

    try:
        result = mammoth.convert_to_html(
            io.BytesIO(data), style_map=_STYLES, convert_image=mammoth.images.img_element(without_picture)
        )
    except Exception as exc:  # whatever a broken file makes the library stumble over is the file's fault
        raise DocumentUnreadable("is damaged: Word may repair it (open and save again)") from exc
    messages = " ".join(message.message for message in result.messages)
    lost = [word for pattern, word in _LOST if pattern.search(messages)]
    if pictures:
        lost.append(f"{pictures} picture{'s' if pictures > 1 else ''}")
    return result.value, tuple(lost)


def _check_archive(data: bytes) -> None:
    names = Archive(data, "a .docx file").names
    if "word/document.xml" not in names and not any(name.endswith("document.xml") for name in names):
        raise DocumentUnreadable("is an archive without a Word document in it")
