"""Group commit: several jobs in one transaction, each with its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from db.database import Database
from db.listing import Listing
from db.models import Job
from db.queue import NewJob, Queue
from monk.api.submit import Submitter
from monk.errors import Conflict, HomeUnusable, MonkError
from monk.services import Services, utc_now
from tests.small_house import a_job, run_to_the_end, small_house


@pytest.fixture
def services(database: Database) -> Services:
    return small_house(database)


def ids(outcomes: Sequence[Any]) -> list[str]:
    return [outcome[0].id for outcome in outcomes]


def test_jobs_of_one_batch_keep_their_order(services: Services, now: datetime) -> None:
    outcomes = services.queue.submit_many([a_job(str(i)) for i in range(5)], now)

    assert ids(outcomes) == sorted(ids(outcomes))
    assert services.queue.counts()["queued"] == 5
    assert [event.job_id for event in services.events.after(0)] == ids(outcomes)


def test_a_key_twice_in_one_batch_is_one_job_and_a_conflict_touches_no_neighbour(
    services: Services, now: datetime
) -> None:
    news = [
        a_job("a", idempotency_key="k"),
        a_job("a", idempotency_key="k"),
        a_job("b", idempotency_key="k"),
        a_job("c"),
    ]

    first, again, other, last = services.queue.submit_many(news, now)

    assert isinstance(first, tuple) and isinstance(again, tuple) and isinstance(last, tuple)
    assert (first[1], again[1], last[1]) == (True, False, True)
    assert first[0].id == again[0].id
    assert isinstance(other, Conflict) and first[0].id in other.message
    assert services.queue.counts()["queued"] == 2


def test_a_job_the_database_refuses_does_not_take_the_others_with_it(services: Services, now: datetime) -> None:
    outcomes = services.queue.submit_many([a_job("good"), a_job("bad", priority=1000), a_job("good too")], now)

    assert [isinstance(outcome, Conflict) for outcome in outcomes] == [False, True, False]
    assert services.queue.counts()["queued"] == 2


def test_a_crowd_is_stored_whole_and_each_hears_of_its_own(services: Services) -> None:
    submitter = Submitter(services.queue, services.forecaster, utc_now)

    async def crowd() -> list[tuple[dict[str, Any], bool]]:
        return await asyncio.gather(*(submitter.submit(a_job(f"{i}?")) for i in range(450)))

    told = asyncio.run(crowd())

    assert [job["input"]["question"] for job, _ in told] == [f"{i}?" for i in range(450)]
    assert [job["position"] for job, _ in told] == list(range(450))
    assert services.queue.counts()["queued"] == 450


def test_a_client_that_went_away_leaves_its_job(services: Services) -> None:
    submitter = Submitter(services.queue, services.forecaster, utc_now)

    async def impatient() -> None:
        gone = asyncio.create_task(submitter.submit(a_job("gone")))
        await asyncio.sleep(0)
        gone.cancel()
        await submitter.submit(a_job("patient"))

    asyncio.run(impatient())

    assert services.queue.counts()["queued"] == 2


class FullDisk(Queue):
    """Has no room."""

    def submit_many(self, news: Sequence[NewJob], now: datetime) -> list[tuple[Job, bool] | Conflict]:
        raise HomeUnusable("the disk is full")


def test_when_nothing_can_be_stored_every_client_hears_it(database: Database, services: Services) -> None:
    submitter = Submitter(FullDisk(database), services.forecaster, utc_now)

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(submitter.submit(a_job()) for _ in range(3)), return_exceptions=True)

    assert all(isinstance(each, MonkError) for each in asyncio.run(crowd()))


def test_pages_over_several_states_hold_every_job_once_newest_first(database: Database, services: Services) -> None:
    for number in range(9):
        services.queue.submit(a_job(str(number)), utc_now())
        if number % 3 == 0:
            run_to_the_end(services)
    listing, seen, cursor = Listing(database), [], None
    while True:
        page = listing.page(states=["queued", "done", "done"], limit=2, cursor=cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.next
        if cursor is None:
            break

    assert len(seen) == 9 and seen == sorted(set(seen), reverse=True)
