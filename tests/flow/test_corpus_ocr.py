"""Scans: read where the OCR program is installed, named with the way out where it is not."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pypdfium2
import pytest
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from corpus import recognition
from corpus.config import CorpusConfig
from corpus.embedding import HashingEmbedder
from corpus.folder import find
from corpus.library import Library
from corpus.process import Abandoned, ReadingProcess
from corpus.recognition import Recognition, WithoutOcr
from db.database import Database
from tests.unit.test_corpus_readers import pdf_of

needs_ocr = pytest.mark.skipif(not recognition.is_installed(), reason="tesseract is not installed")
WORDS = ["The monk reads all through the night", "and writes down every morning", "what he has found in old books."]


def scan_of(pages: list[list[str]], turned: int = 0) -> bytes:
    """A PDF whose pages are pictures of text and nothing else."""
    target = io.BytesIO()
    canvas = Canvas(target, pagesize=(595, 842))
    for words in pages:
        lines = [(60.0, 760.0 - 24 * number, 16.0, line) for number, line in enumerate(words)]
        with pypdfium2.PdfDocument(pdf_of([lines])) as drawn:
            picture = drawn[0].render(scale=2, grayscale=True).to_pil().rotate(turned, expand=True)
        canvas.drawImage(ImageReader(picture), 0, 0, 595, 842)
        canvas.showPage()
    canvas.save()
    return target.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "corpus"
    made.mkdir()
    (made / "scan.pdf").write_bytes(scan_of([WORDS, ["A second page with other words on it"]]))
    os.utime(made / "scan.pdf", (1_700_000_000, 1_700_000_000))
    return made


@pytest.fixture
def library(tmp_path: Path, folder: Path, database: Database) -> Iterator[Library]:
    opened = Library(CorpusConfig(folder, tmp_path / "chroma"), database, model=HashingEmbedder)
    yield opened
    opened.close()


@needs_ocr
def test_a_scan_is_read_found_and_told_to_be_one(library: Library) -> None:
    report = library.sync()
    assert report.added == ["scan.pdf"]
    assert report.lost == [("scan.pdf", "pages 1-2: read by OCR (eng), some letters may be wrong")]
    best = library.search("what has the monk found in old books", 1)[0]
    assert "reads all through the night" in best.text and best.page == 1
    assert library.sync().unchanged == 1


@needs_ocr
def test_only_the_pages_that_are_pictures_are_recognised(folder: Path) -> None:
    mixed = pypdfium2.PdfDocument(pdf_of([[(60, 700, 11, "Words that were typed and need no reading of pictures.")]]))
    mixed.import_pages(pypdfium2.PdfDocument(scan_of([WORDS])))
    mixed.save(str(folder / "mixed.pdf"))
    file = find(folder, "mixed.pdf", 1 << 30)
    assert file is not None
    reader = ReadingProcess(folder, 60.0, 4 << 30)
    reading, _ = reader.read(file)
    reader.close()
    assert "need no reading of pictures" in reading.text and "found in old books" in reading.text
    assert reading.lost == ("page 2: read by OCR (eng), some letters may be wrong",)


def test_without_the_program_a_scan_is_named_and_read_as_soon_as_it_is_there(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = recognition.SEARCH_PATH
    monkeypatch.setattr("corpus.process.SEARCH_PATH", str(tmp_path))
    for module in ("corpus.recognition", "corpus.process"):
        monkeypatch.setattr(f"{module}.SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr("corpus.process._START", _START_WITHOUT_PROGRAM.format(str(tmp_path)))
    for _ in range(2):
        report = library.sync()
        assert report.unreadable == [
            ("scan.pdf", "is a scan, and no tesseract is installed: apt-get install tesseract-ocr")
        ]
    assert report.unchanged == 1, "nothing changed, so it was not opened again"
    monkeypatch.undo()
    if not recognition.is_installed():
        pytest.skip(f"no tesseract in {there}: that it is read later cannot be shown")
    assert library.sync().updated == ["scan.pdf"]


_START_WITHOUT_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); import corpus.recognition as r; r.SEARCH_PATH = {!r}; "
    "from corpus.readers.child import main; main(int(sys.argv[2]))"
)


@needs_ocr
def test_a_language_that_is_not_there_is_told_with_its_package(folder: Path) -> None:
    file = find(folder, "scan.pdf", 1 << 30)
    assert file is not None
    reader = ReadingProcess(folder, 60.0, 4 << 30, Recognition("zzz"))
    with pytest.raises(WithoutOcr, match="does not know the language zzz: apt-get install tesseract-ocr-zzz"):
        reader.read(file)
    reader.close()


@needs_ocr
def test_a_page_that_takes_too_long_is_given_up(folder: Path) -> None:
    file = find(folder, "scan.pdf", 1 << 30)
    assert file is not None
    reader = ReadingProcess(folder, 60.0, 4 << 30, Recognition("eng", page_seconds=0.01))
    with pytest.raises(WithoutOcr, match="took too long on"):
        reader.read(file)
    reader.close()


@needs_ocr
def test_a_stop_is_heard_between_two_pages_and_leaves_no_process_behind(folder: Path) -> None:
    (folder / "many.pdf").write_bytes(scan_of([WORDS] * 30))
    file = find(folder, "many.pdf", 1 << 30)
    assert file is not None
    began = time.monotonic()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    reader = ReadingProcess(folder, 60.0, 4 << 30, stop=lambda: time.monotonic() > began)
    with pytest.raises(Abandoned):
        reader.read(file)
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert [child for child in left if child.status() != psutil.STATUS_ZOMBIE] == []
