"""The scribe: tokens of many thoughts reach the disk together, in order, and a full disk costs none."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import datetime

import pytest

from db.database import Database
from db.models import Job
from db.queue import NewJob, Queue
from db.steps import NewThought, Open, Steps, TokenBatch
from monk.errors import HomeUnusable, LeaseLost
from monk.scribe import Scribe


class FickleSteps(Steps):
    """The real notebook on a disk that is full at first."""

    def __init__(self, database: Database, full_times: int) -> None:
        super().__init__(database)
        self.full_times = full_times
        self.num_writes = 0
        self.was_full = threading.Event()

    def append(self, batches: Sequence[TokenBatch], now: datetime) -> set[str]:
        self.num_writes += 1
        if self.full_times > 0:
            self.full_times -= 1
            self.was_full.set()
            raise HomeUnusable("the disk is full")
        return super().append(batches, now)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def steps(database: Database) -> FickleSteps:
    return FickleSteps(database, 0)


@pytest.fixture
def scribe(steps: FickleSteps, now: datetime) -> Iterator[Scribe]:
    made = Scribe(steps, 0.2, lambda: now)
    made.start()
    yield made
    made.stop()


def running(queue: Queue, now: datetime) -> Job:
    queue.submit(NewJob(kind="think", input={}), now)
    job = queue.claim(now, 60.0)
    assert job is not None
    return job


def opened(steps: Steps, job: Job, now: datetime, sample: int = 0) -> str:
    found = steps.open_thought(job, NewThought("s", sample, "h", "m", {}, 64, (1,)), now)
    assert isinstance(found, Open)
    return found.id


def add(scribe: Scribe, job: Job, thought_id: str, first: int, *ids: int) -> None:
    scribe.add(job.id, str(job.lease_token), thought_id, first, ids, "")


def test_many_thoughts_share_one_write(scribe: Scribe, steps: FickleSteps, queue: Queue, now: datetime) -> None:
    job = running(queue, now)
    thoughts = [opened(steps, job, now, sample) for sample in range(16)]
    for index in range(3):
        for thought_id in thoughts:
            add(scribe, job, thought_id, index, index)

    for thought_id in thoughts:
        scribe.flush(thought_id, str(job.lease_token))

    assert [steps.saved_ids(thought_id) for thought_id in thoughts] == [(0, 1, 2)] * 16
    assert steps.num_writes <= 2


def test_a_full_disk_keeps_tokens_for_later(
    steps: FickleSteps, scribe: Scribe, queue: Queue, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monk.scribe.TRY_AGAIN_SECONDS", 0.05)
    job = running(queue, now)
    thought_id = opened(steps, job, now)
    steps.full_times = 3

    add(scribe, job, thought_id, 0, 1, 2)
    assert steps.was_full.wait(5)
    add(scribe, job, thought_id, 2, 3)
    scribe.flush(thought_id, str(job.lease_token))

    assert steps.saved_ids(thought_id) == (1, 2, 3)
    assert scribe.problem is None


def test_a_lost_job_is_told_and_its_tokens_are_dropped(
    scribe: Scribe, steps: FickleSteps, queue: Queue, now: datetime
) -> None:
    job, other = running(queue, now), running(queue, now)
    lost, kept = opened(steps, job, now), opened(steps, other, now)
    queue.cancel(job.id, now)
    add(scribe, job, lost, 0, 1)
    add(scribe, other, kept, 0, 9)

    with pytest.raises(LeaseLost):
        scribe.flush(lost, str(job.lease_token))
    with pytest.raises(LeaseLost):
        add(scribe, job, lost, 1, 2)
    scribe.flush(kept, str(other.lease_token))

    assert (steps.saved_ids(lost), steps.saved_ids(kept)) == ((), (9,))


def test_stopping_writes_what_is_there(steps: FickleSteps, queue: Queue, now: datetime) -> None:
    scribe = Scribe(steps, 1.0, lambda: now)
    scribe.start()
    job = running(queue, now)
    thought_id = opened(steps, job, now)
    add(scribe, job, thought_id, 0, 4, 5)

    scribe.stop()

    assert steps.saved_ids(thought_id) == (4, 5)
