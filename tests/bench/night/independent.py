"""Does a quotation stand where a report says? Answered without the program's own readers: pypdf for PDF, python-docx for DOCX,
the file itself for everything else.

Two texts are the same when they are so without white space, hyphens, soft hyphens and with ligatures spelled out; nothing
else is forgiven. A quotation over the end of a page may be cut there in two.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

LEAST_CHARACTERS = 12
_FORGIVEN = re.compile("[\\s\u00ad\u2010\u200b-]+")
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_TAG = re.compile(r"<(?:script|style)\b.*?</(?:script|style)>|<!--.*?-->|<[^>]*>", re.S | re.I)
STANDS, PLACE, MISSING, PICTURE = "stands", "wrong place", "not there", "a picture"


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one citation: STANDS, PLACE (the words are elsewhere in the file), MISSING or PICTURE."""

    verdict: str
    file: str
    place: str
    quote: str


def look_up(folder: Path, citation: dict[str, Any]) -> Finding:
    """A citation as a report has it: {file, page or line, quote}."""
    page, line = citation.get("page"), citation.get("line")
    quote = squeezed(str(citation["quote"]).removesuffix("…"))
    place = f"page {page}" if page is not None else f"line {line}"
    verdict = _verdict(folder / str(citation["file"]), page, line, quote)
    return Finding(verdict, str(citation["file"]), place, str(citation["quote"]))


def squeezed(text: str) -> str:
    """The letters that count."""
    for ligature, letters in _LIGATURES.items():
        text = text.replace(ligature, letters)
    return _FORGIVEN.sub("", text)


def _verdict(path: Path, page: int | None, line: int | None, quote: str) -> str:
    if len(quote) < LEAST_CHARACTERS * 2 // 3 or not path.is_file():
        return MISSING
    pieces = _pieces(path)
    number = page if page is not None else line
    if number is None or not 1 <= number <= len(pieces):
        return MISSING
    if page is not None and not any(pieces):
        return PICTURE
    if _begins_in(pieces, number, quote):
        return STANDS
    if page is not None and not pieces[number - 1]:
        return PICTURE
    return PLACE if quote in "".join(pieces) else MISSING


def _begins_in(pieces: tuple[str, ...], number: int, quote: str) -> bool:
    """Whether `quote` begins in piece `number` and goes on from there; over a page's end with something between."""
    here = pieces[number - 1]
    after = "".join(pieces[number : number + 400])
    at = (here + after).find(quote)
    if 0 <= at < len(here):
        return True
    cuts = (cut for cut in range(len(quote) - 1, 3, -1) if quote[:cut] in here)
    longest = next(cuts, 0)
    return longest > 0 and quote[longest:] in "".join(pieces[number : number + 1])


@lru_cache(maxsize=64)
def _pieces(path: Path) -> tuple[str, ...]:
    """Pages of a PDF, blocks of a DOCX, lines of everything else, squeezed."""
    readers: dict[str, Callable[[Path], Iterator[str]]] = {".pdf": _pages, ".docx": _blocks}
    if path.suffix.lower() in (".html", ".htm"):
        return tuple(squeezed(line) for line in _visible(path).split("\n"))
    read = readers.get(path.suffix.lower(), _lines)
    return tuple(squeezed(piece) for piece in read(path))


def _pages(path: Path) -> Iterator[str]:
    import pypdf

    for page in pypdf.PdfReader(path).pages:
        yield page.extract_text() or ""


def _blocks(path: Path) -> Iterator[str]:
    """The paragraphs and table rows of a DOCX that hold text, in order."""
    import docx

    for element in docx.Document(str(path)).element.body.iter():
        kind = element.tag.rpartition("}")[2]
        if any(above.tag.endswith("}tr") for above in element.iterancestors()):
            continue
        text = "".join(node.text or "" for node in element.iter() if node.tag.endswith("}t"))
        if kind in ("tr", "p") and text.strip():
            yield text


def _visible(path: Path) -> str:
    """A page without its tags, each line where it was."""
    text = _TAG.sub(lambda tag: "\n" * tag.group().count("\n"), "\n".join(_lines(path)))
    return html.unescape(text)


def _lines(path: Path) -> Iterator[str]:
    data = path.read_bytes()
    for encoding in ("utf-8-sig", "cp1252", "latin-1"):
        try:
            yield from data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").split("\n")
            return
        except UnicodeDecodeError:
            continue
