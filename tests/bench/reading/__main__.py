"""A table of every file of a folder: format, characters, pages, seconds, and what was lost or why it cannot be read.

`python -m tests.bench.reading --corpus FOLDER` reads in the real reading process, as the daemon does. `--long MEGABYTES` writes
a text of that size first and tells how much memory both sides needed for it. `--truth FOLDER` holds texts of scans, as a
person typed them: `linn.txt` for `scan_linn.pdf`; then the share of characters and words is told that came out right.
Without `--corpus`, the folder is `mixed_corpus` of the evaluation data (MONK_EVAL_DATA), if that is there.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from corpus.folder import CorpusFile, scan
from corpus.process import ReadingProcess
from corpus.recognition import Recognition, is_installed
from monk.errors import DocumentUnreadable
from tests.bench.reading.accuracy import accuracy

MIB = 1 << 20
COLUMNS = "{:<52} {:<9} {:>11} {:>6} {:>7} {:>8}  {}"
PARAGRAPH = (
    "Paragraph {} says that a night has many hours and that каждый час полезен.\nIt goes on in a second line.\n\n"
)


@dataclass
class Totals:
    """Sums over a folder."""

    formats: Counter[str] = field(default_factory=Counter)
    num_unreadable: int = 0
    characters: int = 0
    pages: int = 0
    headings: int = 0
    seconds: float = 0.0


def main() -> None:
    """Read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder to read")
    parser.add_argument("--long", type=int, metavar="MEGABYTES", help="also read a text of this size")
    parser.add_argument("--languages", default="eng", help="of scans, as tesseract names them")
    parser.add_argument("--memory", type=int, default=4096, metavar="MEBIBYTES", help="limit of the reading process")
    parser.add_argument("--truth", type=Path, metavar="FOLDER", help="what stands on scans, as texts: scores the OCR")
    chosen = parser.parse_args()
    folder = chosen.corpus or Path(os.environ.get("MONK_EVAL_DATA", "")) / "mixed_corpus"
    if chosen.long:
        read_long(chosen.long * 1_000_000, chosen.memory * MIB)
    if chosen.truth:
        score(folder, chosen.truth, Recognition(chosen.languages), chosen.memory * MIB)
    elif folder.is_dir():
        read_folder(folder, Recognition(chosen.languages), chosen.memory * MIB)
    elif not chosen.long:
        sys.exit(f"no folder {folder}: give one with --corpus")


def read_folder(folder: Path, recognition: Recognition, memory_bytes: int) -> None:
    """A line per file, then the sums."""
    print(f"OCR: {'tesseract, ' + recognition.languages if is_installed() else 'no tesseract is installed'}\n")
    print(COLUMNS.format("file", "format", "characters", "pages", "heads", "seconds", "lost"))
    reader = ReadingProcess(folder, 600.0, memory_bytes, recognition)
    totals = Totals()
    for file in scan(folder, 1 << 40).files:
        print(line_of(file, reader, totals), flush=True)
    reader.close()
    num_read = sum(totals.formats.values())
    kinds = ", ".join(f"{count} {name}" for name, count in totals.formats.most_common())
    print(
        f"\n{num_read} of {num_read + totals.num_unreadable} files read ({kinds}); {totals.num_unreadable} named as unreadable"
    )
    print(
        f"{totals.characters:,} characters, {totals.pages:,} pages, {totals.headings:,} headings, {totals.seconds:.1f} s"
    )


def line_of(file: CorpusFile, reader: ReadingProcess, totals: Totals) -> str:
    """What one file gave."""
    began = time.perf_counter()
    try:
        if file.problem is not None:
            raise DocumentUnreadable(file.problem)
        reading, _ = reader.read(file)
    except DocumentUnreadable as exc:
        totals.num_unreadable += 1
        totals.seconds += (seconds := time.perf_counter() - began)
        return COLUMNS.format(file.path[-52:], "-", "-", "-", "-", f"{seconds:.2f}", f"UNREADABLE: {exc.message}")
    totals.seconds += (seconds := time.perf_counter() - began)
    num_headings = sum(block.kind == "heading" for block in reading.blocks)
    totals.formats[reading.format] += 1
    totals.characters += len(reading.text)
    totals.pages += reading.num_pages or 0
    totals.headings += num_headings
    size, pages = f"{len(reading.text):,}", reading.num_pages or ""
    return COLUMNS.format(
        file.path[-52:],
        reading.format,
        size,
        pages,
        num_headings,
        f"{seconds:.2f}",
        "; ".join(reading.lost) or "nothing",
    )


def score(folder: Path, truths: Path, recognition: Recognition, memory_bytes: int) -> None:
    """A line for each document of which a text in `truths` is known: by the end of its name."""
    known = {path.stem: path.read_text(encoding="utf-8") for path in sorted(truths.glob("*.txt"))}
    reader = ReadingProcess(folder, 600.0, memory_bytes, recognition)
    print(f"{'file':<52} {'characters':>11} {'right':>7} {'words':>7} {'right':>7}")
    for file in scan(folder, 1 << 40).files:
        stem = next((stem for stem in known if Path(file.path).stem.endswith(f"_{stem}")), None)
        if stem is not None:
            found = accuracy(reader.read(file)[0].text, known[stem])
            print(
                f"{file.path[-52:]:<52} {found.num_characters:>11,} {found.characters:>7.1%} "
                f"{found.num_words:>7,} {found.words:>7.1%}"
            )
    reader.close()


def read_long(num_bytes: int, memory_bytes: int) -> None:
    """One long text, part by part, and the memory of both sides."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_long(folder / "long.txt", num_bytes)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reader = ReadingProcess(folder, 600.0, memory_bytes)
        began = time.perf_counter()
        num_parts = characters = 0
        for part in reader.parts(scan(folder, 1 << 40).files[0]):
            num_parts, characters = num_parts + 1, characters + len(part.reading.text)
        reader.close()
        seconds = time.perf_counter() - began
    ours = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{num_bytes / 1e6:.0f} MB of text: {characters:,} characters in {num_parts} parts, {seconds:.0f} s; ", end=""
    )
    print(f"reading process {child:.0f} MiB at most, this one {ours:.0f} MiB more than before\n")


def write_long(path: Path, num_bytes: int) -> None:
    """Numbered paragraphs in two alphabets."""
    block = "".join(PARAGRAPH.format(number) for number in range(4000)).encode()
    with path.open("wb") as file:
        while file.tell() < num_bytes:
            file.write(block)


if __name__ == "__main__":
    main()
