"""A citation is printed only if the program itself found its quote in the passage, letter by letter. No model is asked.

What may differ between a quote and the document: white space, a hyphen at a line end, ligatures (ﬁ) and soft hyphens. Nothing
else: not case, not punctuation, not one letter. What is returned is the text as it stands in the document, with the page or
line on which the quote begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from corpus.places import Place
from corpus.retrieval import Hit
from corpus.sentences import Span

MIN_QUOTE_CHARACTERS = 12  # shorter ones stand everywhere and prove nothing
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st"}  # fmt: skip
_EXPANDED = sorted(_LIGATURES.items(), key=lambda pair: -len(pair[1]))
_CUT = "(?:\u00ad\\s*|[-\u2010]\\s*\n\\s*)?"  # between two letters: a soft hyphen, or a hyphen at a line end
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote that stands in `file` at `place`, word for word."""

    file: str
    place: Place
    quote: str  # as it stands there
    passage_id: str
    start: int  # characters in the document's text
    end: int

    def to_json(self) -> dict[str, Any]:
        """{file, page or line, quote, verified, passage}; `verified` is always true: others are never made."""
        return {
            "file": self.file,
            self.place.unit: self.place.number,
            "quote": self.quote,
            "verified": True,
            "passage": self.passage_id,
        }


def find_quote(passage_text: str, quote: str) -> Span | None:
    """Where `quote` stands in the passage, first occurrence; None when it does not, or has under 12 characters."""
    plain = _SPACE.sub(" ", quote.replace("\u00ad", "")).strip()
    if len(plain) < MIN_QUOTE_CHARACTERS or len(plain) > 2 * len(passage_text) + MIN_QUOTE_CHARACTERS:
        return None
    exact = passage_text.find(plain)
    if exact >= 0:
        return exact, exact + len(plain)
    match = _pattern(plain).search(passage_text)
    return match.span() if match else None


def cite(hit: Hit, quote: str) -> Citation | None:
    """The citation of a quote from a hit's passage; None when the quote does not stand there."""
    span = find_quote(hit.text, quote)
    return None if span is None else citation_at(hit, span)


def cite_any(hits: Sequence[Hit], quote: str) -> Citation | None:
    """The citation of a quote from the first of several passages that holds it."""
    return next((found for hit in hits if (found := cite(hit, quote)) is not None), None)


def citation_at(hit: Hit, span: Span) -> Citation:
    """The citation of a stretch of a hit's passage."""
    start, end = span
    return Citation(
        hit.file, hit.place_at(start), hit.text[start:end], hit.passage_id, hit.start + start, hit.start + end
    )


def still_stands(citation: dict[str, Any], passage_text: str) -> bool:
    """Whether a stored citation's quote still stands in a passage: a report checks before it prints."""
    return find_quote(passage_text, str(citation["quote"])) is not None


@lru_cache(maxsize=256)
def _pattern(plain: str) -> re.Pattern[str]:
    """Finds `plain` whatever its white space, line-end hyphens, ligatures and soft hyphens look like in the document.

    Nothing in it repeats within a repetition, so its time is linear in the passage for every quote.
    """
    for ligature, letters in _LIGATURES.items():
        plain = plain.replace(ligature, letters)
    parts: list[str] = []
    position = 0
    while position < len(plain):
        part, length = _matching(plain, position)
        if parts and plain[position] != " " and plain[position - 1] != " ":
            parts.append(_CUT)
        parts.append(part)
        position += length
    return re.compile("".join(parts))


def _matching(plain: str, position: int) -> tuple[str, int]:
    """(pattern, characters of the quote it stands for) at a position."""
    char = plain[position]
    if char == " ":
        return r"\s+", 1
    if char in "-\u2010":
        return f"{re.escape(char)}(?:\\s*\n\\s*)?", 1
    for ligature, letters in _EXPANDED:
        if plain.startswith(letters, position):
            spelled = _CUT.join(map(re.escape, letters))
            return f"(?:{ligature}|{spelled})", len(letters)
    return re.escape(char), 1
