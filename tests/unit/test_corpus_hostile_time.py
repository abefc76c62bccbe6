"""What runs on documents in the daemon itself takes linear time on the worst of texts."""

from __future__ import annotations

import time

import pytest

from corpus.chunking import chunk
from corpus.readers import read_bytes
from corpus.retrieval import Hit
from corpus.sentences import sentences
from corpus.terms import terms
from jobs.evidence import result

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


HOSTILE_ANSWERS = [
    *WORST,
    "“" * SIZE,
    '"' * SIZE,
    "1 " * (SIZE // 2),
    "1,111" + ",111" * (SIZE // 4),
    "9" * SIZE,
    "word " * (SIZE // 5),
    "not not no never " * (SIZE // 17),
    "ne plus " * (SIZE // 8),
    "A1-" * (SIZE // 3),
    "一万" * (SIZE // 2),
    "documents text " * (SIZE // 15),
    "* - > # 1. " * (SIZE // 11),
    "\n- word 1" * (SIZE // 9),
    "a-\n" + "\n" * SIZE + "!",
]


@pytest.mark.parametrize("text", HOSTILE_ANSWERS, ids=range(len(HOSTILE_ANSWERS)))
def test_holding_an_answer_against_a_document_takes_seconds_at_most(text: str) -> None:
    text = f"The pump stops at 9 bar. {text[:60_000]}"
    hit = Hit("p", 1.0, "a.md", "A", "H", None, 1, None, None, text, 0, len(text), "markdown", ())
    began = time.process_time()

    told = result(f"When does the pump stop? {text[:1000]}", text, [hit])

    assert time.process_time() - began < 5.0
    assert told["answer"]
