"""What runs on documents in the daemon itself takes linear time on the worst of texts."""

from __future__ import annotations

import time

import pytest

from corpus.chunking import chunk
from corpus.readers import read_bytes
from corpus.sentences import sentences
from corpus.terms import terms

SIZE = 300_000
WORST = [
    "." * SIZE,
    "a " + "!" * SIZE,
    "[1]" * (SIZE // 3),
    ".[1" * (SIZE // 3),
    " " * SIZE + "x",
    ("x" + " " * 50 + "\n") * (SIZE // 52),
    "\n \t" * (SIZE // 3) + "x",
    '."' * (SIZE // 2),
    "。" * SIZE,
    "a." * (SIZE // 2),
]


@pytest.mark.parametrize("text", WORST, ids=range(len(WORST)))
def test_reading_and_cutting_takes_seconds_at_most(text: str) -> None:
    began = time.process_time()
    reading = read_bytes("a.txt", ("word\n\n" + text).encode())
    chunk(reading, lambda texts: [len(text) for text in texts], 200)
    sentences(text)
    terms(text)
    assert time.process_time() - began < 5.0
