"""Tags come from where each format keeps them, and a hostile document cannot make them a burden."""

from __future__ import annotations

import io
import zipfile

import docx
import pytest
from reportlab.pdfgen.canvas import Canvas

from corpus.parts import joined, parted
from corpus.readers import read_bytes
from corpus.reading import reading_from_json
from corpus.tags import MAX_TAGS, normal, tags_of
from tests.unit.test_corpus_epub import book


def a_pdf() -> bytes:
    target = io.BytesIO()
    canvas = Canvas(target)
    canvas.setKeywords("Night, KV Cache")
    canvas.drawString(72, 700, "Words of a page.")
    canvas.save()
    return target.getvalue()


def a_docx() -> bytes:
    document = docx.Document()
    document.add_paragraph("Words of a letter.")
    document.core_properties.keywords = "Night; KV Cache"
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


SOURCES = {
    "list.md": b"---\ntitle: x\ntags: [Night, 'KV Cache']\n---\nWords.\n",
    "lines.md": b"---\ntags:\n  - night\n  - '#kv cache'\n---\nWords.\n",
    "line.md": b"---\nkeywords: Night, KV Cache\n---\nWords.\n",
    "a.rst": b"Title\n=====\n\n:Tags: night,\n  KV   cache\n\nWords.\n",
    "a.html": b"<head><meta name=Keywords content='night, KV cache'></head><p>Words.</p>",
    "a.eml": b"From: a@b.example\nSubject: s\nKeywords: Night, KV cache\n\nWords.\n",
    "a.pdf": a_pdf(),
    "a.docx": a_docx(),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_document_says_its_own_tags(name: str) -> None:
    reading = read_bytes(name, SOURCES[name])
    assert reading.tags == ("night", "kv cache")
    assert reading_from_json(reading.to_json()).tags == reading.tags


def test_the_subjects_of_a_book_are_its_tags() -> None:
    with zipfile.ZipFile(io.BytesIO(book())) as archive:
        opf = archive.read("OPS/book.opf").decode()
    subjects = "<dc:subject>Night</dc:subject><dc:subject>KV Cache</dc:subject></metadata>"
    reading = read_bytes("a.epub", book(OPS__book_opf=opf.replace("</metadata>", subjects)))
    assert reading.tags == ("night", "kv cache")


def test_case_white_space_and_a_leading_hash_make_no_other_tag() -> None:
    assert tags_of("#Board  Papers", ["board papers"], "СОВЕТ; совет") == ("board papers", "совет")
    assert normal(" #Board\tPapers ") == "board papers"


@pytest.mark.parametrize(
    "front",
    [
        "tags: [a, b",
        "tags: {a: b}",
        "tags: !!python/object/apply:os.system [id]",
        "a: &a [x, x]\nb: &b [*a, *a]\ntags: *b",
        "- tags",
        "tags: " + "[" * 5000,
    ],
)
def test_front_matter_that_is_no_list_of_tags_gives_none_and_costs_nothing_else(front: str) -> None:
    reading = read_bytes("a.md", f"---\n{front}\n---\n# Night\n\nWords.\n".encode())
    assert reading.tags in ((), ("a: b",), ("id",))
    assert [block.headings for block in reading.blocks] == [("Night",), ("Night",)]


def test_a_glossary_in_the_properties_is_cut() -> None:
    assert len(tags_of(",".join(str(number) for number in range(10_000)))) == MAX_TAGS
    assert tags_of("x" * 1000, "\x1b[31mred", "fine") == ("fine",)


def test_all_parts_of_a_long_document_carry_its_tags() -> None:
    reading = read_bytes("a.md", b"---\ntags: night\n---\n" + b"A paragraph of words.\n\n" * 50)
    parts = list(parted(reading, 200))
    assert len(parts) > 2
    assert {part.tags for part in parts} == {("night",)} == {joined(parts).tags}
