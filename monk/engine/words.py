"""Prompt segments to token ids and back. The rule that keeps people's text out of the control tokens lives here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

from monk.engine.client import Segment


class Vocabulary(Protocol):
    """What is needed of a model; safe to call from any thread."""

    adds_bos: bool

    def tokenize(self, text: str, *, control: bool, add_special: bool) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def bos_text(self) -> str: ...


def tokenize(
    vocabulary: Vocabulary, segments: Iterable[Segment], control_tokens: tuple[str, ...], add_bos: bool
) -> list[int]:
    """Ids of the segments in a row, with the begin token in front if the model wants one and the text has none."""
    ids: list[int] = []
    for segment in _joined(segments):
        first = not ids
        special = add_bos and first and vocabulary.adds_bos and not _has_bos(vocabulary, segment)
        parts = [segment.text] if segment.control else broken_up(segment.text, control_tokens)
        for number, part in enumerate(parts):
            ids += vocabulary.tokenize(part, control=segment.control, add_special=special and number == 0)
    return ids


def broken_up(text: str, control_tokens: tuple[str, ...]) -> list[str]:
    """The text cut behind the first character of every control token it spells.

    Tokenisers match tokens of type USER_DEFINED in any text; split in two, none of them can be matched.
    """
    if not control_tokens:
        return [text]
    cuts = [match.start() + 1 for match in _spelling(control_tokens).finditer(text)]
    borders = [0, *cuts, len(text)]
    return [text[start:end] for start, end in pairwise(borders) if start < end]


@lru_cache(maxsize=8)
def _spelling(control_tokens: tuple[str, ...]) -> re.Pattern[str]:
    """Finds every place where one begins, overlapping ones too."""
    return re.compile("(?=" + "|".join(re.escape(token) for token in control_tokens) + ")")


def detokenize(vocabulary: Vocabulary, ids: Iterable[int]) -> str:
    return b"".join(vocabulary.piece(token) for token in ids).decode("utf-8", "replace")


def _joined(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbours of the same sort as one: a border inside a word would change its tokens."""
    out: list[Segment] = []
    for segment in segments:
        if not segment.text:
            continue
        if out and out[-1].control == segment.control:
            out[-1] = Segment(out[-1].text + segment.text, segment.control)
        else:
            out.append(segment)
    return out


def _has_bos(vocabulary: Vocabulary, segment: Segment) -> bool:
    bos = vocabulary.bos_text()
    return bool(bos) and segment.control and segment.text.startswith(bos)
