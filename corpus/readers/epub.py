"""EPUB: the chapters of its spine in their order, each by the HTML reader. Nothing but the archive is looked into.

A book without fixed pages has no page numbers, so a place is a line of the extracted text: the n-th paragraph, list item or
table row that is not empty.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from corpus.readers.archive import Archive
from corpus.readers.encoding import decode
from corpus.readers.html import read_source
from corpus.reading import Reading, ReadingBuilder
from corpus.tags import tags_of
from monk.errors import DocumentUnreadable

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "")


class _Item(NamedTuple):
    """A file that the book is made of."""

    path: str
    media_type: str
    properties: str


class _Book(NamedTuple):
    """What the package file says: title, subjects, files by their id, ids of the chapters in order."""

    title: str
    subjects: tuple[str, ...]
    items: dict[str, _Item]
    spine: tuple[str, ...]


def read(data: bytes) -> Reading:
    """Blocks with the headings above them; chapters without a heading get the one of the table of contents."""
    archive = Archive(data, "an EPUB")
    book = _book(archive)
    _check_open(archive, book)
    labels = _labels(archive, book)
    builder = ReadingBuilder("line")
    num_missing = 0
    for id in book.spine:
        item = book.items.get(id)
        if item is not None and (item.media_type not in _CHAPTER_TYPES or "nav" in item.properties.split()):
            continue
        source = archive.read(item.path) if item is not None else None
        if item is None or source is None:
            num_missing += 1
        elif source.strip():
            _add_chapter(builder, source, labels.get(item.path, ""))
    return builder.finish(book.title, "epub", lost=_lost(book, num_missing), tags=tags_of(book.subjects))


def _add_chapter(builder: ReadingBuilder, source: bytes, label: str) -> None:
    chapter = read_source(decode(source), "epub", "line", count_blocks=True)
    before = builder.num_blocks
    if chapter.blocks and not any(block.kind == "heading" for block in chapter.blocks):
        builder.add("heading", label or chapter.title, [(0, before + 1)], 1)
        before = builder.num_blocks
    builder.add_reading(chapter, lambda number: before + number, 1)


def _lost(book: _Book, num_missing: int) -> tuple[str, ...]:
    pictures = sum(item.media_type.startswith("image/") for item in book.items.values())
    lost = [f"{pictures} picture{'s' if pictures > 1 else ''}"] if pictures else []
    if num_missing:
        lost.append(
            f"{num_missing} chapter{'s' if num_missing > 1 else ''} that the archive does not hold, or not whole"
        )
    return tuple(lost)


def _book(archive: Archive) -> _Book:
    container = _xml(archive, _CONTAINER)
    rootfile = next((node.get("full-path") for node in container.iter() if _tag(node) == "rootfile"), None)
    if not rootfile:
        raise DocumentUnreadable("is an archive without a book in it; save it again with the program that made it")
    package = _xml(archive, rootfile)
    title, subjects, items, spine = "", list[str](), dict[str, _Item](), list[str]()
    for node in package.iter():
        tag = _tag(node)
        if tag == "title" and not title:
            title = " ".join((node.text or "").split())
        elif tag == "subject":
            subjects.append(node.text or "")
        elif tag == "item":
            path = _path(rootfile, node.get("href", ""))
            items[node.get("id", "")] = _Item(path, node.get("media-type", ""), node.get("properties", ""))
        elif tag == "itemref":
            spine.append(node.get("idref", ""))
    return _Book(
        title, tuple(subjects), items, tuple(dict.fromkeys(spine))
    )  # a chapter is read once, however often it is named


def _check_open(archive: Archive, book: _Book) -> None:
    """Fonts may be scrambled; chapters that are, nobody can read without the shop's key."""
    if _ENCRYPTION not in archive.names:
        return
    chapters = {book.items[id].path for id in book.spine if id in book.items}
    scrambled = {unquote(node.get("URI", "")) for node in _xml(archive, _ENCRYPTION).iter()}
    if chapters & scrambled:
        raise DocumentUnreadable("is protected by its seller (DRM); put a copy without protection here")


def _labels(archive: Archive, book: _Book) -> dict[str, str]:
    """Path of a chapter → its words in the table of contents (NCX), as far as there is one."""
    path = next((item.path for item in book.items.values() if item.media_type == "application/x-dtbncx+xml"), None)
    if path is None:
        return {}
    labels: dict[str, str] = {}
    words = ""
    try:
        for node in _xml(archive, path).iter():
            if _tag(node) == "text":
                words = " ".join((node.text or "").split())
            elif _tag(node) == "content":
                labels.setdefault(_path(path, node.get("src", "")), words)
    except DocumentUnreadable:
        pass  # a broken table of contents costs the headings of some chapters, not the book
    return labels


def _xml(archive: Archive, name: str) -> ElementTree.Element:
    """An XML entry. One that declares entities is refused: a few lines of them make gigabytes."""
    data = archive.read(name)
    text = decode(data) if data else ""
    if "<!ENTITY" in text:
        raise DocumentUnreadable(f"declares entities in {posixpath.basename(name)}, which no book needs")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as exc:
        raise DocumentUnreadable("is damaged or not an EPUB; save it again with the program that made it") from exc


def _path(base: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(href.partition("#")[0])))


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""
