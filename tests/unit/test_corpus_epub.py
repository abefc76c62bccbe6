"""EPUB: chapters in the order of the spine; and what a hostile archive cannot do."""

from __future__ import annotations

import io
import time
import zipfile

import pytest

from corpus.readers import format_of, read_bytes
from corpus.reading import Reading
from monk.errors import DocumentUnreadable

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
CHAPTERS = {
    "two.xhtml": "<html><head><title>x</title></head><body><h1>Second</h1><p>Words of two.</p></body></html>",
    "one%20a.xhtml": "<html><body><h1>First</h1><p>Words of one.</p><h2>Deeper</h2><ul><li>an item</li></ul></body></html>",
    "three.xhtml": "<html><body><p>Words of three, which has no heading.</p></body></html>",
}


def package(chapters: dict[str, str], spine: list[str], extra: str = "") -> str:
    items = "".join(
        f'<item id="{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    order = "".join(f'<itemref idref="{list(chapters).index(name) if name in chapters else name}"/>' for name in spine)
    return (
        '<?xml version="1.0" encoding="utf-8"?><package xmlns="http://www.idpf.org/2007/opf"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Night Book</dc:title></metadata>'
        f"<manifest>{items}{extra}</manifest><spine>{order}</spine></package>"
    )


def epub(files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def book(**changes: str | bytes) -> bytes:
    ncx = (
        '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint><navLabel><text>Third, by the contents</text>'
        '</navLabel><content src="three.xhtml#top"/></navPoint></navMap></ncx>'
    )
    extra = (
        '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
        '<item id="p" href="a.png" media-type="image/png"/>'
    )
    opf = package(CHAPTERS, ["one%20a.xhtml", "two.xhtml", "three.xhtml", "gone"], extra)
    files: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER, "OPS/book.opf": opf, "OPS/toc.ncx": ncx}
    files |= {"OPS/" + name.replace("%20", " "): text for name, text in CHAPTERS.items()}
    return epub(files | {name.replace("__", "/").replace("_", "."): content for name, content in changes.items()})


def headings_over(reading: Reading, words: str) -> tuple[str, ...]:
    offset = reading.text.index(words)
    return next(block.headings for block in reading.blocks if block.start <= offset < block.end)


def test_chapters_come_in_the_order_of_the_spine_under_their_headings() -> None:
    reading = read_bytes("a.epub", book())
    assert reading.title == "The Night Book"
    positions = [reading.text.index(words) for words in ("Words of one", "an item", "Words of two", "Words of three")]
    assert positions == sorted(positions)
    assert headings_over(reading, "an item") == ("First", "Deeper")
    assert headings_over(reading, "Words of two") == ("Second",)
    assert headings_over(reading, "Words of three") == ("Third, by the contents",)


def test_places_count_through_the_book_and_losses_are_named() -> None:
    reading = read_bytes("a.epub", book())
    lines = [reading.place_at(block.start).number for block in reading.blocks]
    assert lines == list(range(1, len(lines) + 1))
    assert reading.lost == ("1 picture", "1 chapter that the archive does not hold, or not whole")


def test_is_known_by_its_bytes_not_by_its_name() -> None:
    assert format_of("book.bin", book()) == "epub"


def test_a_protected_book_is_named_as_one() -> None:
    encryption = '<encryption><EncryptedData><CipherReference URI="OPS/two.xhtml"/></EncryptedData></encryption>'
    with pytest.raises(DocumentUnreadable, match="DRM"):
        read_bytes("a.epub", book(**{"META-INF__encryption_xml": encryption}))


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"META-INF/container.xml": "<not xml"},
        {"META-INF/container.xml": CONTAINER},
        {"META-INF/container.xml": CONTAINER, "OPS/book.opf": "\x00\x01 nonsense"},
        {"META-INF/container.xml": CONTAINER, "OPS/book.opf": package({}, [])},
        {
            "META-INF/container.xml": CONTAINER,
            "OPS/book.opf": package({"../../../etc/passwd": ""}, ["../../../etc/passwd"]),
        },
    ],
)
def test_a_broken_one_is_named_as_one(files: dict[str, str | bytes]) -> None:
    with pytest.raises(DocumentUnreadable, match=r"damaged|without a book|no text|not text|encoding"):
        read_bytes("a.epub", epub(files))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_one_that_is_cut_off_is_named_as_damaged(share: float) -> None:
    whole = book()
    with pytest.raises(DocumentUnreadable, match="damaged"):
        read_bytes("a.epub", whole[: int(len(whole) * share)])


class TestAttacks:
    def test_what_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(self) -> None:
        data = bytearray(book(**{f"OPS__bomb{n}_xhtml": bytes(1 << 20) for n in range(3)}))
        for number in range(3):
            at = data.rindex(b"OPS/bomb%d.xhtml" % number) - 46 + 24  # the size it claims, in the table of contents
            data[at : at + 4] = (400 << 20).to_bytes(4, "little")
        began = time.process_time()
        with pytest.raises(DocumentUnreadable, match="unpacks to 1200 MiB"):
            read_bytes("a.epub", bytes(data))
        assert time.process_time() - began < 5.0

    def test_an_entry_that_lies_about_its_size_is_not_believed(self) -> None:
        data = bytearray(book(OPS__two_xhtml="<p>" + "x" * 100_000))
        at = data.rindex(b"OPS/two.xhtml") - 46 + 24  # its size unpacked, in the table of contents
        data[at : at + 4] = (10).to_bytes(4, "little")
        reading = read_bytes("a.epub", bytes(data))
        assert "xxxxxxxxxxxx" not in reading.text
        assert "2 chapters that the archive does not hold, or not whole" in reading.lost

    @pytest.mark.parametrize("kind", ["epub", "docx"])
    def test_a_hundred_thousand_entries_are_refused_at_once(self, kind: str) -> None:
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for number in range(60_000):
                archive.writestr(str(number), b"")
        with pytest.raises(DocumentUnreadable, match="more than 50000 files"):
            read_bytes(f"a.{kind}", target.getvalue())

    def test_entities_are_refused(self) -> None:
        bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        with pytest.raises(DocumentUnreadable, match="declares entities"):
            read_bytes("a.epub", book(OPS__book_opf=bomb + package(CHAPTERS, []).partition("?>")[2]))

    def test_a_chapter_that_is_named_ten_thousand_times_is_read_once(self) -> None:
        opf = package(CHAPTERS, ["two.xhtml"] * 10_000)
        assert read_bytes("a.epub", book(OPS__book_opf=opf)).text.count("Words of two") == 1

    def test_a_chapter_nested_without_end_is_read(self) -> None:
        deep = "<div>" * 300_000 + "words at the bottom"
        assert "words at the bottom" in read_bytes("a.epub", book(OPS__two_xhtml=deep)).text

    def test_a_table_of_contents_nested_without_end_costs_its_headings_only(self) -> None:
        deep = "<ncx>" + "<navPoint>" * 200_000
        assert "Words of three" in read_bytes("a.epub", book(OPS__toc_ncx=deep)).text
