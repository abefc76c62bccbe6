"""Documents as they are put before the model: as text between two marks that the text itself cannot write.

Takes out what no reader sees and a model reads all the same (invisible tags, zero-width and direction characters, control
characters of terminals). What a document says stays: that it is no instruction, the prompt says and the checks make true.
Citations are cut from the document itself, never from here.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from corpus.retrieval import Hit

PLAIN_FENCE = '"""'
LONGEST_FENCE = f"{PLAIN_FENCE}00000000"  # for those who count tokens before they know the text
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)  # not U+200C and U+200D, which join and part letters of Persian and of Indian scripts
_QUOTES_ALIKE = str.maketrans(dict.fromkeys("“”„‟″‶〝〞ˮ״", '"'))


def harmless(text: str) -> str:
    """The text without characters that nobody sees. Line ends of every system become newlines."""
    return _UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def shown(hits: Iterable[Hit]) -> list[Hit]:
    """Hits for a prompt: harmless text, file and headings on one line."""
    return [
        replace(
            hit,
            text=harmless(hit.text),
            heading=_one_line(hit.heading),
            title=_one_line(hit.title),
            file=_one_line(hit.file),
        )
        for hit in hits
    ]


def fence(texts: Sequence[str]) -> str:
    """A mark that none of the texts holds, nor anything that looks like it: three quotes, else three quotes and a hash."""
    if not any(PLAIN_FENCE in _folded(text) for text in texts):
        return PLAIN_FENCE
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{PLAIN_FENCE}{digest[:8]}"


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(_QUOTES_ALIKE)


def _one_line(text: str) -> str:
    return " ".join(harmless(text).split())
