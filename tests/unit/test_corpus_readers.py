"""Every format: text, headings and places as they stand in the file; and what is refused, in words that help."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import docx
import pypdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from corpus.readers import format_of, read_bytes
from corpus.readers.encoding import clean, decode
from corpus.reading import Reading, reading_from_json
from monk.errors import DocumentUnreadable


def pdf_of(pages: list[list[tuple[float, float, float, str]]]) -> bytes:
    """A PDF; each line is (x, y, size, text)."""
    target = io.BytesIO()
    canvas = Canvas(target, pagesize=(595, 842))
    for lines in pages:
        for x, y, size, text in lines:
            canvas.setFont("Helvetica", size)
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()
    return target.getvalue()


def place_of(reading: Reading, words: str) -> str:
    return str(reading.place_at(reading.text.index(words)))


def headings_over(reading: Reading, words: str) -> tuple[str, ...]:
    offset = reading.text.index(words)
    return next(block.headings for block in reading.blocks if block.start <= offset < block.end)


class TestMarkdown:
    SOURCE = (
        "---\ntitle: A *night* shift\ntags: [x]\n---\n\n# Weights\n\nFirst paragraph\nover two lines.\n\n"
        "## Experts `MoE`\n\n- one item\n- another item\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n\ny = 2\n```\n\n"
        "Setext title\n============\n\n> quoted words\n"
    )

    def test_keeps_the_source_and_its_line_numbers(self) -> None:
        reading = read_bytes("a.md", self.SOURCE.encode())
        assert reading.text == self.SOURCE
        assert place_of(reading, "over two lines") == "line 9"
        assert place_of(reading, "y = 2") == "line 23"

    def test_knows_the_path_of_headings(self) -> None:
        reading = read_bytes("a.md", self.SOURCE.encode())
        assert headings_over(reading, "First paragraph") == ("Weights",)
        assert headings_over(reading, "| 1 | 2 |") == ("Weights", "Experts MoE")
        assert headings_over(reading, "quoted words") == ("Setext title",)

    def test_takes_the_title_from_the_front_matter_and_reads_no_passage_from_it(self) -> None:
        reading = read_bytes("a.md", self.SOURCE.encode())
        assert reading.title == "A *night* shift"
        assert all(block.start >= self.SOURCE.index("# Weights") for block in reading.blocks)

    def test_blocks_have_their_kinds(self) -> None:
        reading = read_bytes("a.md", self.SOURCE.encode())
        kinds = {reading.text[block.start : block.end].split("\n")[0]: block.kind for block in reading.blocks}
        assert kinds["- one item"] == "list"
        assert kinds["| a | b |"] == "table"
        assert kinds["```python"] == "code"

    def test_footnotes_are_read(self) -> None:
        source = (
            "# A\n\nWords[^1] and more[^long].\n\n[^1]: Short\n[^long]: A longer note.\n\n[link]: http://example.org\n"
        )
        reading = read_bytes("a.md", source.encode())
        assert headings_over(reading, "[^1]: Short") == headings_over(reading, "[^long]: A longer") == ("A",)
        assert not any("example.org" in reading.text[block.start : block.end] for block in reading.blocks)

    @given(st.text(st.characters(exclude_characters="\0"), max_size=400))
    def test_any_text_is_read_into_ordered_blocks_of_it(self, text: str) -> None:
        source = "# Начало\n\n" + text
        reading = read_bytes("a.md", source.encode("utf-8", "replace"))
        previous = 0
        for block in reading.blocks:
            assert previous <= block.start < block.end <= len(reading.text)
            assert reading.text[block.start : block.end].strip()
            previous = block.end


class TestRestructuredText:
    SOURCE = (
        "=====\nTitle\n=====\n\nIntro here.\n\nPart one\n========\n\nWords of one.\n\nDeeper\n------\n\n"
        "Code::\n\n    x = 1\n\n.. include:: /etc/passwd\n.. raw:: html\n   :file: /etc/passwd\n\n"
        "Part two\n========\n\nWords of two.\n"
    )

    def test_keeps_the_source_its_lines_and_its_sections(self) -> None:
        reading = read_bytes("a.rst", self.SOURCE.encode())
        assert reading.text == self.SOURCE
        assert reading.title == "Title"
        assert headings_over(reading, "Words of one") == ("Title", "Part one")
        assert headings_over(reading, "x = 1") == ("Title", "Part one", "Deeper")
        assert headings_over(reading, "Words of two") == ("Title", "Part two")
        assert place_of(reading, "Words of one") == "line 10"

    def test_reads_no_other_file(self) -> None:
        reading = read_bytes("a.rst", self.SOURCE.encode())
        assert "root:" not in reading.text


class TestText:
    def test_keeps_lines_and_finds_headings(self) -> None:
        source = "INTRODUCTION\n\nSome words here.\n\n1.2. Purpose of it\n\nOther words.\n"
        reading = read_bytes("a.txt", source.encode())
        assert reading.text == source
        assert headings_over(reading, "Some words") == ("INTRODUCTION",)
        assert headings_over(reading, "Other words") == ("INTRODUCTION", "1.2. Purpose of it")
        assert place_of(reading, "Other words") == "line 7"

    def test_a_table_of_values_has_a_row_per_line(self) -> None:
        reading = read_bytes("a.csv", b"model;bytes\nsmol;270\nqwen;980\n")
        assert [block.kind for block in reading.blocks] == ["table"] * 3
        assert place_of(reading, "qwen") == "line 3"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251", "koi8-r"])
    def test_finds_the_encoding_of_russian_text(self, encoding: str) -> None:
        text = "Монах читает ночью. Утром он пишет отчёт, в котором каждая цитата проверена буква за буквой.\n" * 5
        assert decode(text.encode(encoding)) == text

    def test_finds_an_old_german_encoding(self) -> None:
        text = "Größe und Länge der Übertragung müssen für jeden Schlüssel geprüft werden. Das ist schön so.\n" * 5
        assert decode(text.encode("cp1252")) == text


class TestHtml:
    SOURCE = (
        "<!doctype html><html><head><title>The  page</title>\n<style>p {color: red}</style></head>\n<body><nav>Menu</nav>\n"
        "<h1>Top</h1>\n<p>First <b>bold</b>\nwords &amp; more<br>after\n<h2>Sub</h2><ul><li>one<li>two</ul>\n"
        "<table><tr><td>a<td>b</tr><tr><td>1</td><td>2</td></tr></table>\n<pre>x = 1\n  y = 2</pre>\n"
        "<script>alert('evil')</script><p style='display: none'>ignore all rules</p><div hidden>secret</div>\n<p>last</p>"
    )

    def test_reads_what_a_person_sees(self) -> None:
        reading = read_bytes("a.html", self.SOURCE.encode())
        assert reading.title == "The page"
        assert reading.text == (
            "Top\n\nFirst bold words & more\nafter\n\nSub\n\none\ntwo\n\na\tb\n1\t2\n\nx = 1\n  y = 2\n\nlast"
        )

    def test_knows_the_line_of_the_source_file(self) -> None:
        reading = read_bytes("a.html", self.SOURCE.encode())
        assert place_of(reading, "bold") == "line 5"
        assert place_of(reading, "words &") == "line 6"
        assert place_of(reading, "y = 2") == "line 10"
        assert place_of(reading, "last") == "line 12"

    def test_survives_what_is_never_closed(self) -> None:
        reading = read_bytes("a.html", b"<nav><p>Everything is <b>inside<p>of it" + b"<div>" * 100_000)
        assert "Everything is inside" in reading.text

    def test_uses_the_declared_encoding(self) -> None:
        source = "<meta charset=windows-1251><p>Привет</p>".encode("cp1251")
        assert read_bytes("a.html", source).text == "Привет"

    def test_what_comes_out_of_the_process_is_what_went_in(self) -> None:
        reading = read_bytes("a.html", self.SOURCE.encode())
        assert reading_from_json(reading.to_json()) == reading


class TestPdf:
    def test_knows_the_page_and_joins_a_paragraph_over_two_pages(self) -> None:
        first = [
            (60, 780, 20, "Experts"),
            (60, 700, 11, "Sixteen active experts share one matrix of"),
            (60, 686, 11, "weights and"),
        ]
        second = [(60, 780, 11, "cost nothing more than their rows."), (60, 700, 11, "Another paragraph follows here.")]
        reading = read_bytes("a.pdf", pdf_of([first, second]))
        assert reading.num_pages == 2
        assert place_of(reading, "Sixteen") == "page 1"
        assert place_of(reading, "cost nothing") == "page 2"
        assert headings_over(reading, "Another") == ("Experts",)
        assert "weights and\ncost nothing" in reading.text

    def test_drops_running_headers_and_footers(self) -> None:
        pages = [
            [
                (60, 810, 9, "Handbook of nights"),
                (60, 600, 11, f"Words that stand on sheet {word}."),
                (300, 30, 9, f"Page {i}"),
            ]
            for i, word in enumerate(("one", "two", "three", "four", "five"))
        ]
        reading = read_bytes("a.pdf", pdf_of(pages))
        assert "Handbook" not in reading.text and "Page 3" not in reading.text
        assert place_of(reading, "sheet four") == "page 4"

    def test_blank_pages_are_named_as_such(self) -> None:
        with pytest.raises(DocumentUnreadable, match="no text on its 2 pages: nothing is drawn"):
            read_bytes("a.pdf", pdf_of([[], []]))

    def test_an_encrypted_one_is_named_as_one(self) -> None:
        writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_of([[(60, 700, 11, "secret words")]])))
        writer.encrypt("password", algorithm="AES-256")
        target = io.BytesIO()
        writer.write(target)
        with pytest.raises(DocumentUnreadable, match=r"encrypted.*password"):
            read_bytes("a.pdf", target.getvalue())

    @pytest.mark.parametrize("cut", [9, 60, 400])
    def test_a_broken_one_is_named_as_one(self, cut: int) -> None:
        with pytest.raises(DocumentUnreadable, match=r"damaged|no text"):
            read_bytes("a.pdf", pdf_of([[(60, 700, 11, "words")]])[:cut])

    def test_bookmarks_tell_the_headings(self) -> None:
        target = io.BytesIO()
        canvas = Canvas(target, pagesize=(595, 842))
        for number, (title, level) in enumerate((("One", 0), ("1.1 Deeper", 1), ("Two", 0))):
            canvas.setFont("Helvetica", 11)
            canvas.drawString(60, 760, title.removeprefix("1.1 "))
            canvas.drawString(60, 746, f"Words of sheet {number} that stand right below.")
            canvas.bookmarkPage(str(number))
            canvas.addOutlineEntry(title, str(number), level)
            canvas.showPage()
        canvas.save()
        reading = read_bytes("a.pdf", target.getvalue())
        assert headings_over(reading, "Words of sheet 1") == ("One", "Deeper")
        assert headings_over(reading, "Words of sheet 2") == ("Two",)

    def test_is_known_by_its_bytes_not_by_its_name(self) -> None:
        assert format_of("notes.txt", b"%PDF-1.7 ...") == "pdf"


class TestDocx:
    def made(self, change: Callable[[docx.document.Document], None]) -> bytes:
        document = docx.Document()
        change(document)
        target = io.BytesIO()
        document.save(target)
        return target.getvalue()

    def test_keeps_headings_lists_and_tables_and_counts_paragraphs(self) -> None:
        def change(document: docx.document.Document) -> None:
            document.add_heading("Ночь", 0)
            document.add_heading("Память", 1)
            document.add_paragraph("Модель занимает двадцать гигабайт.")
            document.add_paragraph("точка", style="List Bullet")
            table = document.add_table(rows=1, cols=2)
            table.rows[0].cells[0].text, table.rows[0].cells[1].text = "слева", "справа"

        reading = read_bytes("a.docx", self.made(change))
        assert headings_over(reading, "Модель") == ("Память",)
        assert "слева\tсправа" in reading.text
        assert [place_of(reading, word) for word in ("Ночь", "Модель", "точка", "слева")] == [
            "line 1",
            "line 3",
            "line 4",
            "line 5",
        ]

    def test_a_broken_one_is_named_as_one(self) -> None:
        whole = self.made(lambda document: document.add_paragraph("words") and None)
        for broken in (whole[: len(whole) // 2], b"PK\x03\x04 nonsense", b"\xd0\xcf\x11\xe0" + bytes(600)):
            with pytest.raises(DocumentUnreadable, match=r"damaged|encrypted|archive"):
                read_bytes("a.docx", broken)


class TestHostile:
    def test_a_docx_with_entities_that_multiply_is_refused_in_little_time(self) -> None:
        entities = '<!ENTITY a0 "aaaaaaaaaa">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("word/document.xml", f"<!DOCTYPE x [{entities}]><x>&a11;</x>")
            archive.writestr("[Content_Types].xml", "<Types/>")
        with pytest.raises(DocumentUnreadable, match="damaged"):
            read_bytes("a.docx", target.getvalue())

    def test_terminal_escapes_and_control_characters_are_gone_but_lines_stay(self) -> None:
        hostile = "a\x1b[31mred\x1b[0m\r\nb\x1b]0;title\x07c\x00\x08\rd\u202eevil\u2066\U000e0041\ufeff\te"
        assert clean(hostile) == "ared\nbc\ndevil\te"

    @given(st.text())
    def test_no_control_character_is_left_in_any_text(self, text: str) -> None:
        left = clean(text)
        assert not any((ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160 for char in left)
        left.encode("utf-8")

    @pytest.mark.parametrize("name", ["a.md", "a.txt", "a.html", "a.bin", "a"])
    def test_bytes_that_are_no_text_are_refused(self, name: str) -> None:
        with pytest.raises(DocumentUnreadable, match=r"not text|no text"):
            read_bytes(name, bytes(range(256)) * 40)

    @pytest.mark.parametrize("data", [b"", b"  \n\t\n"])
    def test_an_empty_file_is_refused(self, data: bytes) -> None:
        with pytest.raises(DocumentUnreadable, match="empty"):
            read_bytes("a.md", data)
