"""From a Reading to the passages that are stored: their ids, places, search terms, and the text that is embedded.

A passage's id comes from its document, headings and words, not from its position: what did not change keeps its id when
something above it did, and is not embedded again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass

from corpus.chunking import Chunk, chunk
from corpus.embedding import EmbeddingModel
from corpus.places import LineCounter, Place
from corpus.reading import Reading
from corpus.terms import terms
from db.library import PassageRecord

HEADING_SEPARATOR = " > "
_MODEL_MARKS = 2  # tokens a model adds around a text
_MAX_HEADING = 400  # characters


@dataclass(frozen=True, slots=True)
class Prepared:
    """A passage and the text that its vector is made of."""

    record: PassageRecord
    embedded_text: str


def prepared(
    path: str,
    reading: Reading,
    model: EmbeddingModel,
    chunk_tokens: int,
    overlap_tokens: int,
    seen: Counter[bytes] | None = None,
) -> list[Prepared]:
    """All passages of a document in order, or of a part of one; `seen` goes along from part to part."""
    limit = min(chunk_tokens, model.max_tokens - _MODEL_MARKS)
    headers = Headers(model, chunk_tokens)
    place = _PlaceFinder(reading)
    seen = Counter() if seen is None else seen
    found: list[Prepared] = []
    for piece in chunk(reading, model.count, limit, overlap_tokens):
        text, heading = reading.text[piece.start : piece.end], HEADING_SEPARATOR.join(piece.headings)[:_MAX_HEADING]
        same = hashlib.blake2b(f"{heading}\0{text}".encode(), digest_size=12).digest()  # millions of texts are too many
        id = _id(path, reading.title, heading, text, seen[same])
        seen[same] += 1
        record = _record(id, piece, reading, text, heading, place)
        found.append(Prepared(record, embedded_text(headers.above(reading.title, heading), text)))
    return found


def embedded_text(header: str, text: str) -> str:
    """What the model sees of a passage: where it stands, then what it says, words cut at line ends made whole."""
    joined = " ".join(text.replace("-\n", "").split()) if "\n" in text else text
    return f"{header}\n{joined}" if header else joined


class Headers:
    """The line above a passage when it is embedded: title and headings, as far as they fit beside `chunk_tokens`."""

    def __init__(self, model: EmbeddingModel, chunk_tokens: int) -> None:
        self._model = model
        self._room = max(0, model.max_tokens - _MODEL_MARKS - chunk_tokens)
        self._known: dict[tuple[str, str], str] = {}

    def above(self, title: str, heading: str) -> str:
        """Title and headings; the outermost are left out first when there is no room."""
        known = self._known.get((title, heading))
        if known is None:
            known = self._known[title, heading] = self._fitting(title, heading)
        return known

    def _fitting(self, title: str, heading: str) -> str:
        parts = heading.split(HEADING_SEPARATOR) if heading else []
        if parts[:1] != [title]:
            parts = [title, *parts]
        while parts and self._model.count([HEADING_SEPARATOR.join(parts)])[0] > self._room:
            parts.pop(0)
        return HEADING_SEPARATOR.join(parts)


class _PlaceFinder:
    """Places of offsets that grow, each newline counted once."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._lines = None if reading.places.anchors else LineCounter(reading.text, reading.places.first)

    def __call__(self, offset: int) -> Place:
        if self._lines is None:
            return self._reading.place_at(offset)
        return Place(self._reading.places.unit, self._lines.at(offset))


def _record(id: str, piece: Chunk, reading: Reading, text: str, heading: str, place: _PlaceFinder) -> PassageRecord:
    first, last = place(piece.start), place(piece.end - 1)
    paged = first.unit == "page"
    return PassageRecord(
        id=id,
        text=text,
        heading=heading,
        page=first.number if paged else None,
        line=None if paged else first.number,
        end_page=last.number if paged else None,
        end_line=None if paged else last.number,
        start=reading.offset + piece.start,
        end=reading.offset + piece.end,
        places=reading.places.within(piece.start, piece.end),
        title_terms=" ".join(terms(reading.title)),
        heading_terms=" ".join(terms(heading)),
        text_terms=" ".join(terms(text.replace("-\n", ""))),
    )


def _id(path: str, title: str, heading: str, text: str, number: int) -> str:
    facts = json.dumps([path, title, heading, text, number])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]
