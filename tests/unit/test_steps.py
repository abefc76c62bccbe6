"""Steps and thoughts: saved once, never again, and tokens that only grow."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from db.database import Database
from db.events import Events
from db.models import Job, Thought
from db.queue import NewJob, Queue
from db.steps import NewThought, Open, Steps, ThoughtEnd, TokenBatch, pack, unpack
from monk.errors import LeaseLost

END = ThoughtEnd("stop", "<think>hm</think>Yes.", "hm", "Yes.", 12, 0.5, 1.5)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def steps(database: Database) -> Steps:
    return Steps(database)


@pytest.fixture
def running(queue: Queue, now: datetime) -> Job:
    queue.submit(NewJob(kind="think", input={"question": "?"}), now)
    job = queue.claim(now, 60.0)
    assert job is not None
    return job


def thought(sample: int = 0, request_hash: str = "h") -> NewThought:
    return NewThought("sample", sample, request_hash, "m" * 64, {"temperature": 0.0}, 64, (1, 2, 3))


def opened(steps: Steps, job: Job, now: datetime, new: NewThought | None = None) -> Open:
    found = steps.open_thought(job, new or thought(), now)
    assert isinstance(found, Open)
    return found


def batch(job: Job, thought_id: str, first: int, *ids: int) -> TokenBatch:
    return TokenBatch(job.id, str(job.lease_token), thought_id, first, ids, "x")


def test_a_step_is_read_back_and_cannot_be_saved_twice(steps: Steps, running: Job, now: datetime) -> None:
    steps.save_step(running, "retrieve", [{"file": "é"}], now, now)

    assert steps.find_step(running.id, "retrieve").result == [{"file": "é"}]  # type: ignore[union-attr]
    assert steps.find_step(running.id, "other") is None
    with pytest.raises(IntegrityError):
        steps.save_step(running, "retrieve", [], now, now)


def test_without_the_lease_nothing_is_saved(steps: Steps, queue: Queue, running: Job, now: datetime) -> None:
    place = opened(steps, running, now)
    queue.cancel(running.id, now)

    with pytest.raises(LeaseLost):
        steps.save_step(running, "vote", 1, now, now)
    with pytest.raises(LeaseLost):
        steps.finish_thought(running, place.id, END, now)
    assert steps.append([batch(running, place.id, 0, 5)], now) == {running.id}
    assert steps.saved_ids(place.id) == ()


def test_a_cut_thought_goes_on_from_its_saved_tokens(steps: Steps, running: Job, now: datetime) -> None:
    first = opened(steps, running, now)
    steps.append([batch(running, first.id, 0, 7, 8), batch(running, first.id, 2, 9)], now)

    again = opened(steps, running, now)

    assert (again.id, again.saved) == (first.id, (7, 8, 9))
    assert steps.of_job(running.id)[1][0].num_resumes == 1


def test_gaps_and_overlaps_of_tokens_are_refused(steps: Steps, running: Job, now: datetime) -> None:
    place = opened(steps, running, now)
    steps.append([batch(running, place.id, 0, 7, 8)], now)

    for first_index in (0, 1, 3):
        with pytest.raises(AssertionError):
            steps.append([batch(running, place.id, first_index, 9)], now)
    assert steps.saved_ids(place.id) == (7, 8)


def test_a_finished_thought_is_given_back_whole(steps: Steps, running: Job, now: datetime) -> None:
    place = opened(steps, running, now)
    steps.append([batch(running, place.id, 0, 7, 8)], now)
    steps.finish_thought(running, place.id, END, now)

    found = steps.open_thought(running, thought(), now)

    assert isinstance(found, Thought)
    assert (found.reasoning, found.answer, found.num_tokens, unpack(found.token_ids or b"")) == (
        "hm",
        "Yes.",
        2,
        (7, 8),
    )
    assert (found.num_prefilled, found.prefill_seconds, found.decode_seconds) == (12, 0.5, 1.5)


def test_a_changed_request_is_another_thought(steps: Steps, running: Job, now: datetime) -> None:
    first = opened(steps, running, now)

    assert opened(steps, running, now, thought(request_hash="other")).id != first.id
    assert opened(steps, running, now, thought(sample=1)).id != first.id


def test_progress_is_folded_into_the_end_of_a_thought(
    steps: Steps, database: Database, running: Job, now: datetime
) -> None:
    place = opened(steps, running, now)
    steps.append([batch(running, place.id, 0, 7)], now)
    assert "progress" in [event.type for event in Events(database).after(0)]

    steps.finish_thought(running, place.id, END, now)

    assert [event.type for event in Events(database).after(0)] == ["submitted", "claimed", "thinking", "thought"]


def test_saving_something_clears_the_memory_of_crashes(steps: Steps, queue: Queue, running: Job, now: datetime) -> None:
    queue.recover(now)
    job = queue.claim(now, 60.0)
    assert job is not None
    assert job.crashes == 1

    steps.save_step(job, "retrieve", [], now, now + timedelta(seconds=1))

    assert queue.get(job.id).crashes == 0


def test_token_ids_survive_packing() -> None:
    assert unpack(pack([0, 1, 2**31 - 1])) == (0, 1, 2**31 - 1)
