"""A night of thirty jobs that wear one of two adapters, or none: each says what it says alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from corpus.embedding import HashingEmbedder
from db.database import Database
from db.models import Thought
from db.queue import NewJob
from monk.daemon import Daemon, assemble, start, stop
from monk.engine import embedded
from monk.engine.client import AdapterUse, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.services import utc_now
from monk.settings import load
from tests.lora_models import random_lora, shelved
from tests.same_text import assert_same_greedy, said

pytestmark = pytest.mark.real

SECONDS = 200.0
TOKENS, PARTED = 12, 3  # near ties that may fall otherwise in a batch
QUESTIONS = [
    f"{asked} {what}?"
    for asked in ("What is", "Where does one find")
    for what in ("a lighthouse", "salt", "a glacier", "copper", "an owl")
]


def engine(slots: int) -> EngineProcess:
    model = embedded.model_path()
    pinned = {"model_sha256": embedded.SHA256, "name": embedded.NAME}
    return EngineProcess(EngineConfig(model, context=512, slots=slots, threads=1, **pinned))  # type: ignore[arg-type]


@contextmanager
def alone() -> Iterator[EngineProcess]:
    made = engine(1)
    yield made
    made.stop()


def night_of(daemon: Daemon, wishes: list[tuple[str, str | None]]) -> list[Thought]:
    """What came of each question with its adapter; all were in the queue before the night opened."""
    queue, kinds = daemon.services.queue, daemon.services.kinds
    ids = []
    for question, adapter in wishes:
        turns = [{"role": "user", "content": question}]
        input_ = kinds.validate("chat", {"messages": turns, "temperature": 0.0, "max_tokens": TOKENS})
        ids.append(queue.submit(NewJob(kind="chat", input=input_, adapter=adapter), utc_now())[0].id)
    daemon.services.night.open_now(None)
    deadline = time.monotonic() + SECONDS
    while {queue.get(each).state for each in ids} & {"queued", "running"} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [queue.get(each).state for each in ids] == ["done"] * len(ids)
    return [daemon.services.steps.of_job(each)[1][0] for each in ids]


def tokens(ids: bytes | None) -> tuple[int, ...]:
    return tuple(np.frombuffer(ids or b"", "<i4").tolist())


def test_thirty_jobs_with_two_adapters_and_none_say_what_each_says_alone(home: Path, database: Database) -> None:
    (home / "corpus").mkdir()
    settings = load({}, home=home, night="never", timezone="UTC", jobs_at_once=16)
    daemon = assemble(settings, database, engine(8), HashingEmbedder)
    worn: dict[str | None, tuple[AdapterUse, ...]] = {None: ()}
    for seed, name in enumerate(("lawyer", "poet")):
        lora = random_lora(embedded.model_path(), seed, ("attn_q", "attn_v", "ffn_down"), size=0.008)
        worn[name] = (shelved(daemon.services.shelf, name, lora, embedded.model_path()),)
    wishes = [(question, name) for question in QUESTIONS for name in ("lawyer", None, "poet")]
    start(daemon)
    try:
        thoughts = night_of(daemon, wishes)
    finally:
        stop(daemon, 10.0)

    parted = 0
    with alone() as single:
        for (_, name), thought in zip(wishes, thoughts, strict=True):
            asked = ThoughtRequest(thought.id, tokens(thought.prompt_ids), TOKENS, adapters=worn[name])
            wanted = said(single, asked)
            assert_same_greedy(single, asked, wanted, tokens(thought.token_ids))
            parted += wanted != tokens(thought.token_ids)
    assert parted <= PARTED
    for first in range(0, len(thoughts), 3):
        texts = {thought.text for thought in thoughts[first : first + 3]}
        assert len(texts) == 3, f"{QUESTIONS[first // 3]} must be answered otherwise with each adapter"
