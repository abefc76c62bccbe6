"""How much of a text was recognised: edit distance to what is known to stand there, by characters and by words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of the truth that came out right, 0..1: one less the edits that it takes, divided by its length."""

    characters: float
    words: float
    num_characters: int
    num_words: int


def accuracy(read: str, truth: str) -> Accuracy:
    """White space between words does not count, nor where lines end; hyphens at line ends join their words in both."""
    ours, theirs = _words(read), _words(truth)
    mine, wanted = " ".join(ours), " ".join(theirs)
    return Accuracy(
        characters=_share(edits(list(mine), list(wanted)), len(wanted)),
        words=_share(edits(ours, theirs), len(theirs)),
        num_characters=len(wanted),
        num_words=len(theirs),
    )


def edits(first: Sequence[str], second: Sequence[str]) -> int:
    """The least number of insertions, deletions and replacements that make one of the other (Levenshtein)."""
    numbers = {item: number for number, item in enumerate(dict.fromkeys([*first, *second]))}
    other = np.array([numbers[item] for item in second], np.int64)
    steps = np.arange(len(second) + 1)
    row = steps.copy()
    for item in first:
        best = np.empty_like(row)
        best[0] = row[0] + 1
        best[1:] = np.minimum(row[1:] + 1, row[:-1] + (other != numbers[item]))
        row = np.minimum.accumulate(best - steps) + steps  # insertions: each costs one step to the right
    return int(row[-1])


def _words(text: str) -> list[str]:
    return text.replace("-\n", "").split()


def _share(num_edits: int, length: int) -> float:
    return max(0.0, 1.0 - num_edits / max(1, length))
