"""When a job will run: pure arithmetic, then over a real queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from db.database import Database
from db.models import Job, Night
from db.outlook import Outlook, Took
from db.queue import Queue
from db.records import Nights
from monk.forecast import Ahead, Forecast, after_working, median_seconds, working_seconds
from monk.windows import Calendar
from tests.small_house import a_job, exact_position


def at(hour: float, day: int = 22) -> datetime:
    return datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=hour)


class Keeper:
    """Says what it was told."""

    def __init__(self, night: Night | None = None, next_open_at: datetime | None = None) -> None:
        self.night, self.opens_at = night, next_open_at

    def current(self) -> Night | None:
        return self.night

    def next_open_at(self) -> datetime | None:
        return self.opens_at

    def open_now(self, until: datetime | None) -> Night:
        raise NotImplementedError

    def close_now(self) -> Night | None:
        raise NotImplementedError


def test_work_goes_on_in_the_next_night_where_this_one_ends() -> None:
    nights = [(at(5), at(7)), (at(22), at(31))]

    assert after_working(nights, 3600) == at(6)
    assert after_working(nights, 3 * 3600) == at(23)
    assert after_working(nights, 12 * 3600) is None
    assert after_working([(at(5), None)], 1e12) is not None


def test_a_job_that_would_start_when_the_night_ends_starts_in_the_next() -> None:
    assert after_working([(at(5), at(7)), (at(22), at(31))], 2 * 3600) == at(22)


def test_the_day_between_two_nights_is_no_work() -> None:
    nights = [(at(-2), at(7)), (at(22), None)]

    assert working_seconds(at(6), at(23), nights, at(23)) == 2 * 3600
    assert working_seconds(at(10), at(11), [], at(23)) == 3600


def test_the_median_is_by_kind_and_over_all() -> None:
    took = [
        Took(kind, at(0), at(0) + timedelta(seconds=s)) for kind, s in (("a", 10), ("a", 20), ("a", 600), ("b", 50))
    ]

    assert median_seconds(took, [], at(1)) == {"a": 20.0, "b": 50.0, "": 35.0}
    assert median_seconds([], [], at(1)) == {}


def test_nights_ahead_follow_the_open_one_without_overlap() -> None:
    ahead = Ahead(Calendar.parse("22:00-07:00", "mon-sun", "UTC"))
    nights = ahead.nights((at(23), at(30)), None, at(23))

    assert next(nights) == (at(23), at(30))
    assert next(nights) == (at(30), at(31))
    assert next(nights) == (at(46), at(55))


def test_a_night_that_a_person_closed_does_not_come_again_before_the_next() -> None:
    ahead = Ahead(Calendar.parse("22:00-07:00", "mon-sun", "UTC"))

    assert next(ahead.nights(None, at(46), at(23))) == (at(46), at(55))


def test_without_any_night_nothing_is_ahead() -> None:
    assert list(Ahead(Calendar.parse("never", "mon-sun", "UTC")).nights(None, None, at(1))) == []


def test_a_clock_that_was_set_back_finds_its_nights_again() -> None:
    ahead = Ahead(Calendar.parse("22:00-07:00", "mon-sun", "UTC"))
    list(ahead.nights(None, at(70), at(60)))

    assert next(ahead.nights(None, at(22), at(20))) == (at(22), at(31))


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


def forecast(database: Database, keeper: Keeper, now: datetime, lanes: int = 2, night: str = "22:00-07:00") -> Forecast:
    return Forecast(Outlook(database), keeper, Calendar.parse(night, "mon-sun", "UTC"), lanes, lambda: now)


def submit(queue: Queue, now: datetime, **more: object) -> Job:
    return queue.submit(a_job(**more), now)[0]  # type: ignore[arg-type]


def test_a_burst_of_submits_counts_itself(database: Database, queue: Queue, now: datetime) -> None:
    oracle = forecast(database, Keeper(), now)

    jobs = [submit(queue, now) for _ in range(3)]

    assert [oracle.of(job)[0] for job in jobs] == [0, 1, 2]
    later = [submit(queue, now), submit(queue, now, priority=5), submit(queue, now)]
    assert [oracle.of(job)[0] for job in later] == [3, 0, 5]
    assert oracle.of(later[0])[0] == 4, "asked again, it counts the urgent one that came after it"


def test_positions_follow_priority_then_deadline_then_age(database: Database, queue: Queue, now: datetime) -> None:
    plain = submit(queue, now)
    urgent = submit(queue, now, priority=9)
    late = submit(queue, now, deadline=now + timedelta(days=2))
    soon = submit(queue, now, deadline=now + timedelta(days=1))

    oracle = forecast(database, Keeper(), now)

    assert [oracle.of(job)[0] for job in (urgent, soon, late, plain)] == [0, 1, 2, 3]
    assert [exact_position(database, job) for job in (urgent, soon, late, plain)] == [0, 1, 2, 3]


def test_in_a_long_queue_positions_are_right_within_a_step(database: Database, queue: Queue, now: datetime) -> None:
    news = [a_job(priority=i % 3, deadline=now + timedelta(days=1 + i % 7) if i % 2 else None) for i in range(3000)]
    jobs = [outcome[0] for outcome in queue.submit_many(news, now) if isinstance(outcome, tuple)]
    oracle = forecast(database, Keeper(), now)

    wrong = [abs((oracle.of(job)[0] or 0) - exact_position(database, job)) for job in jobs[::97]]

    assert max(wrong) <= 3  # 3000 jobs, 1000 marks
    assert oracle.of(submit(queue, now, priority=-1))[0] == 3000


def test_before_anything_was_measured_only_the_front_of_the_queue_knows_its_start(
    database: Database, queue: Queue, now: datetime
) -> None:
    jobs = [submit(queue, now) for _ in range(3)]
    oracle = forecast(database, Keeper(next_open_at=at(46)), now, lanes=2)

    told = [oracle.of(job)[1] for job in jobs]

    assert told[0] == {"starts_at": at(46).isoformat(), "ends_at": None}
    assert told[2] == {"starts_at": None, "ends_at": None}


def test_what_was_measured_says_when_a_job_starts_and_ends(database: Database, queue: Queue, now: datetime) -> None:
    submit(queue, now)
    first = queue.claim(now, 60)
    assert first is not None
    queue.finish(first, {"answer": "x"}, now + timedelta(minutes=10))
    jobs = [submit(queue, now) for _ in range(5)]
    night = Nights(database).open("window", now + timedelta(minutes=25), now)

    oracle = forecast(database, Keeper(night), now, lanes=1)

    starts = [oracle.of(job)[1]["starts_at"] for job in jobs]
    assert starts[:3] == [(now + timedelta(minutes=m)).isoformat() for m in (0, 10, 20)]
    assert starts[3] == (now + timedelta(minutes=30)).isoformat(), (
        "by the clock the night goes on after its planned end"
    )
    assert oracle.of(jobs[0])[1]["ends_at"] == (now + timedelta(minutes=10)).isoformat()


def test_a_running_job_ends_when_its_like_have_ended(database: Database, queue: Queue, now: datetime) -> None:
    earlier = now - timedelta(minutes=30)
    Nights(database).open("window", None, earlier)
    submit(queue, earlier)
    first = queue.claim(earlier, 60)
    assert first is not None
    queue.finish(first, {"answer": "x"}, earlier + timedelta(minutes=10))
    submit(queue, now)
    running = queue.claim(now, 60)
    assert running is not None
    later = now + timedelta(minutes=4)

    told = forecast(database, Keeper(Nights(database).current()), later).of(running)

    assert told == (None, {"starts_at": now.isoformat(), "ends_at": (now + timedelta(minutes=10)).isoformat()})


def test_an_ended_or_waiting_job_has_no_forecast(database: Database, queue: Queue, now: datetime) -> None:
    waiting = submit(queue, now, not_before=now + timedelta(hours=1))
    cancelled = queue.cancel(submit(queue, now).id, now)
    oracle = forecast(database, Keeper(), now)

    for job in (waiting, cancelled):
        assert oracle.of(job) == (None, {"starts_at": None, "ends_at": None})
