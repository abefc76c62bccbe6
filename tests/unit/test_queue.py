"""The queue: every arrow of a job's life, and what it refuses."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest

from db.database import Database
from db.listing import Listing
from db.models import Job
from db.queue import CRASHES_ALLOWED, NewJob, Queue
from monk.errors import Conflict, EngineFailed, InvalidInput, LeaseLost, NotFound
from tests.small_house import exact_position

LEASE = 60.0


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


def job(question: str = "Why?", **more: object) -> NewJob:
    return NewJob(kind="answer", input={"question": question}, **more)  # type: ignore[arg-type]


def claim(queue: Queue, now: datetime) -> Job:
    claimed = queue.claim(now, LEASE)
    assert claimed is not None
    return claimed


def test_a_submitted_job_can_be_read_back_whole(queue: Queue, now: datetime) -> None:
    stored, created = queue.submit(job("Сколько?", tags=["ночь"], budget={"tokens": 9}, seed=2**62), now)

    found = queue.get(stored.id)

    assert created
    assert (found.input, found.tags, found.budget, found.seed) == (
        {"question": "Сколько?"},
        ["ночь"],
        {"tokens": 9},
        2**62,
    )
    assert (found.state, found.created_at) == ("queued", now)


def test_a_repeated_idempotency_key_gives_the_earlier_job(queue: Queue, now: datetime) -> None:
    first, _ = queue.submit(job(idempotency_key="k"), now)

    again, created = queue.submit(job(idempotency_key="k"), now + timedelta(hours=1))

    assert (again.id, created) == (first.id, False)
    assert queue.counts()["queued"] == 1


def test_one_key_for_two_questions_is_a_conflict(queue: Queue, now: datetime) -> None:
    queue.submit(job("one", idempotency_key="k"), now)

    with pytest.raises(Conflict, match="another key"):
        queue.submit(job("two", idempotency_key="k"), now)


def test_claims_go_by_priority_then_deadline_then_age(queue: Queue, now: datetime) -> None:
    submitted = [
        job("plain"),
        job("late deadline", deadline=now + timedelta(hours=9)),
        job("near deadline", deadline=now + timedelta(hours=1)),
        job("urgent", priority=5),
        job("plain too"),
        job("unhurried", priority=-5),
    ]
    for new in submitted:
        queue.submit(new, now)

    order = [claim(queue, now).input["question"] for _ in submitted]

    assert order == ["urgent", "near deadline", "late deadline", "plain", "plain too", "unhurried"]


def test_positions_agree_with_the_order_of_claims(database: Database, queue: Queue, now: datetime) -> None:
    ids = [
        queue.submit(job(str(i), priority=i % 3, deadline=now + timedelta(hours=i) if i % 2 else None), now)[0].id
        for i in range(1, 10)
    ]

    positions = {job_id: exact_position(database, queue.get(job_id)) for job_id in ids}

    assert [positions[claim(queue, now).id] for _ in ids] == list(range(9))


def test_a_job_waits_until_its_moment(queue: Queue, now: datetime) -> None:
    later = now + timedelta(minutes=5)
    stored, _ = queue.submit(job(not_before=later), now)

    assert stored.state == "waiting"
    assert queue.claim(now, LEASE) is None
    assert queue.next_ready_at() == later
    assert claim(queue, later).id == stored.id


def test_two_workers_never_claim_the_same_job(queue: Queue, now: datetime) -> None:
    for i in range(40):
        queue.submit(job(str(i)), now)
    claimed: list[str] = []

    def work() -> None:
        while (found := queue.claim(now, LEASE)) is not None:
            claimed.append(found.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == 40 == len(set(claimed))


def test_a_finished_job_has_its_result_and_no_lease(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    running = claim(queue, now)

    queue.finish(running, {"answer": "Because."}, now + timedelta(minutes=1))

    done = queue.get(running.id)
    assert (done.state, done.result, done.lease_token) == ("done", {"answer": "Because."}, None)
    assert done.finished_at == now + timedelta(minutes=1)


def test_a_late_worker_cannot_overwrite(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    late = claim(queue, now)
    queue.expire_leases(now + timedelta(seconds=LEASE + 1))
    newer = claim(queue, now + timedelta(seconds=LEASE + 2))

    with pytest.raises(LeaseLost):
        queue.finish(late, {"answer": "old"}, now)
    with pytest.raises(LeaseLost):
        queue.renew(late, now, LEASE)
    queue.finish(newer, {"answer": "new"}, now)

    assert queue.get(newer.id).result == {"answer": "new"}


def test_a_renewed_lease_does_not_expire(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    running = claim(queue, now)
    queue.renew(running, now + timedelta(seconds=50), LEASE)

    assert queue.expire_leases(now + timedelta(seconds=70)) == []


def test_cancelling_a_running_job_ends_it_at_once(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    running = claim(queue, now)

    queue.cancel(running.id, now)

    assert queue.get(running.id).state == "cancelled"
    with pytest.raises(LeaseLost):
        queue.finish(running, {"answer": "too late"}, now)


def test_cancelling_twice_is_fine_and_cancelling_what_is_done_is_not(queue: Queue, now: datetime) -> None:
    first, _ = queue.submit(job(), now)
    queue.cancel(first.id, now)
    assert queue.cancel(first.id, now).state == "cancelled"
    queue.submit(job("two"), now)
    done = claim(queue, now)
    queue.finish(done, {}, now)

    with pytest.raises(Conflict, match="done"):
        queue.cancel(done.id, now)


def test_an_error_of_the_engine_is_tried_again_with_growing_pauses_up_to_the_limit(queue: Queue, now: datetime) -> None:
    stored, _ = queue.submit(job(max_attempts=3), now)
    moment, pauses = now, []
    for _ in range(2):
        assert queue.fail(claim(queue, moment), EngineFailed("lost"), moment, retryable=True) == "waiting"
        pauses.append((queue.get(stored.id).ready_at - moment).total_seconds())
        moment = queue.get(stored.id).ready_at

    assert queue.fail(claim(queue, moment), EngineFailed("lost"), moment, retryable=True) == "failed"

    assert pauses == [30.0, 60.0]
    assert queue.get(stored.id).error == {"code": "engine_failed", "message": "lost", "param": None}


def test_what_only_a_person_can_mend_is_not_tried_again(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    running = claim(queue, now)

    assert queue.fail(running, InvalidInput("no", param="x"), now, retryable=False) == "failed"


def test_a_failed_job_can_be_retried_by_a_person(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    running = claim(queue, now)
    queue.fail(running, InvalidInput("no"), now, retryable=False)

    again = queue.retry(running.id, now)

    assert (again.state, again.errors, again.error, again.finished_at) == ("queued", 0, None, None)
    with pytest.raises(Conflict):
        queue.retry(running.id, now)


def test_retrying_after_the_deadline_needs_a_new_one(queue: Queue, now: datetime) -> None:
    stored, _ = queue.submit(job(deadline=now + timedelta(hours=1)), now)
    later = now + timedelta(hours=2)
    assert queue.fail_overdue(later) == [stored.id]
    assert queue.get(stored.id).error["code"] == "deadline_passed"  # type: ignore[index]

    with pytest.raises(Conflict, match="new one"):
        queue.retry(stored.id, later)
    assert queue.retry(stored.id, later, later + timedelta(hours=1)).state == "queued"


def test_releasing_gives_a_job_back_unharmed(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    running = claim(queue, now)

    queue.release(running, now, "the night closed")

    back = queue.get(running.id)
    assert (back.state, back.attempt, back.errors, back.lease_token) == ("queued", 0, 0, None)


def test_recovering_after_a_crash_puts_running_jobs_back(queue: Queue, now: datetime) -> None:
    queue.submit(job(), now)
    running = claim(queue, now)

    assert queue.recover(now) == [running.id]
    assert claim(queue, now).id == running.id


def test_a_job_that_kills_everything_each_time_is_ended(queue: Queue, now: datetime) -> None:
    stored, _ = queue.submit(job(), now)
    for _ in range(CRASHES_ALLOWED):
        claim(queue, now)
        queue.recover(now)

    ended = queue.get(stored.id)
    assert (ended.state, ended.error["code"]) == ("failed", "crash_loop")  # type: ignore[index]


def test_listing_pages_through_all_jobs_once_newest_first(database: Database, queue: Queue, now: datetime) -> None:
    ids = [queue.submit(job(str(i), tags=["odd"] if i % 2 else []), now)[0].id for i in range(7)]
    seen, cursor = [], None
    while True:
        page = Listing(database).page(limit=3, cursor=cursor)
        seen += [found.id for found in page.jobs]
        if (cursor := page.next) is None:
            break

    assert seen == ids[::-1]
    assert len(Listing(database).page(tag="odd", limit=50, cursor=None).jobs) == 3
    assert Listing(database).page(states=["done"], limit=50, cursor=None).jobs == []


def test_an_unknown_job_is_named(queue: Queue) -> None:
    with pytest.raises(NotFound, match="job_nowhere"):
        queue.get("job_nowhere")


def test_every_arrow_leaves_an_event(queue: Queue, database: Database, now: datetime) -> None:
    from db.events import Events

    stored, _ = queue.submit(job(), now)
    queue.release(claim(queue, now), now, "the night closed")
    queue.finish(claim(queue, now), {}, now)

    types = [event.type for event in Events(database).after(0, job_id=stored.id)]
    assert types == ["submitted", "claimed", "released", "claimed", "done"]


def test_where_the_first_in_line_may_not_run_nobody_passes_it(queue: Queue, now: datetime) -> None:
    first, _ = queue.submit(NewJob(kind="bench", input={}), now)
    queue.submit(job(), now)
    asked: list[str] = []

    def may_run(kind: str) -> bool:
        asked.append(kind)
        return kind != "bench"

    assert queue.claim(now, LEASE, may_run) is None
    assert asked == ["bench"] and queue.counts()["running"] == 0
    urgent, _ = queue.submit(job(priority=1), now)
    passed = queue.claim(now, LEASE, may_run)
    assert passed is not None and passed.id == urgent.id
    assert claim(queue, now).id == first.id


def test_a_job_is_outranked_by_one_of_a_higher_priority_that_is_due(queue: Queue, now: datetime) -> None:
    later = now + timedelta(hours=1)
    queue.submit(job(priority=5), now)
    queue.submit(job(priority=9, not_before=later), now)

    assert queue.is_outranked(4, now) and not queue.is_outranked(5, now)
    assert queue.is_outranked(5, later) and not queue.is_outranked(9, later)
