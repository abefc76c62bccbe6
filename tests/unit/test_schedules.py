"""Jobs that come back: what cron means, what is missed, and what a changed clock does. Real SQLite; time is an argument."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.database import Database
from db.events import Events
from db.listing import Listing
from db.models import Job
from db.queue import Queue
from db.records import Schedules
from jobs.registry import Kinds
from monk.alarms import Alarms
from monk.cron import count_runs
from monk.errors import Conflict, InvalidInput, NotFound, UnknownKind
from monk.lora.shelf import Shelf
from monk.schedules import Clockwork, next_run

BERLIN = ZoneInfo("Europe/Berlin")
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def at(text: str, fold: int = 0) -> datetime:
    """A moment of Berlin in 2026."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def days_of(cron: str) -> list[str]:
    """The weekdays of its runs in one week."""
    found, moment = [], at("11-22 23:59")
    for _ in range(7):
        run = next_run(cron, moment, BERLIN)
        assert run is not None
        if run > at("11-29 23:59"):
            break
        found.append(WEEKDAYS[run.astimezone(BERLIN).weekday()])
        moment = run
    return found


# ── cron ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 8 * * 0", ["Sun"]),
        ("0 8 * * 7", ["Sun"]),
        ("0 8 * * 1", ["Mon"]),
        ("0 8 * * 1-5", ["Mon", "Tue", "Wed", "Thu", "Fri"]),
        ("0 8 * * mon-fri", ["Mon", "Tue", "Wed", "Thu", "Fri"]),
        ("0 8 * * MON,3", ["Mon", "Wed"]),
        ("0 8 * * 5-7", ["Fri", "Sat", "Sun"]),
        ("0 8 * * fri-mon", ["Mon", "Fri", "Sat", "Sun"]),
        ("0 8 * * */2", ["Tue", "Thu", "Sat", "Sun"]),
        ("0 8 * * 1-5/2", ["Mon", "Wed", "Fri"]),
        ("0 8 * * *", list(WEEKDAYS)),
        ("@weekly", ["Sun"]),
    ],
)
def test_weekdays_are_counted_as_cron_counts_them(cron: str, days: list[str]) -> None:
    assert days_of(cron) == days


def test_a_day_and_a_weekday_together_mean_either() -> None:
    runs, moment = [], at("11-01 00:00")
    for _ in range(5):
        following = next_run("0 8 13 * fri", moment, BERLIN)
        assert following is not None
        runs.append(following.astimezone(BERLIN).day)
        moment = following
    assert runs == [6, 13, 20, 27, 4]  # the 13th is a Friday this month; it runs once


@pytest.mark.parametrize(
    ("cron", "run"),
    [
        ("@hourly", "11-23 01:00"),
        ("@daily", "11-24 00:00"),
        ("@midnight", "11-24 00:00"),
        ("@monthly", "12-01 00:00"),
        ("*/20 * * * *", "11-23 00:20"),
        ("5,35 9-17 * nov mon-fri", "11-23 09:05"),
    ],
)
def test_the_next_run_is_the_first_after_the_moment(cron: str, run: str) -> None:
    assert next_run(cron, at("11-23 00:00"), BERLIN) == at(run)


def test_a_run_that_never_comes_is_none() -> None:
    assert next_run("0 0 30 2 *", at("11-23 00:00"), BERLIN) is None
    leap = next_run("0 0 29 2 *", datetime(2096, 3, 1, tzinfo=UTC), BERLIN)
    assert leap is not None and leap.astimezone(BERLIN).year == 2104


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * *",
        "* * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * * moo",
        "5-1 * * * *",
        "*/0 * * * *",
        "last * * * *",
        "* * last * *",
        "* * * foo *",
        "@reboot",
        "0 21 * * mon-",
        "?",
    ],
)
def test_an_expression_that_cannot_be_read_is_named_with_the_way_out(cron: str) -> None:
    with pytest.raises(InvalidInput, match=r"mon-fri|0 to 7") as caught:
        next_run(cron, at("11-23 00:00"), BERLIN)
    assert caught.value.param == "cron"
    assert repr(cron) in caught.value.message


def test_a_run_in_the_skipped_hour_comes_at_the_jump() -> None:
    assert next_run("30 2 * * *", at("03-28 12:00"), BERLIN) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert next_run("30 2 * * *", at("03-29 12:00"), BERLIN) == at("03-30 02:30")


def test_a_run_in_the_doubled_hour_comes_once() -> None:
    first = next_run("30 2 * * *", at("10-24 12:00"), BERLIN)
    assert first == at("10-25 02:30", fold=0)
    assert next_run("30 2 * * *", first, BERLIN) == at("10-26 02:30")
    assert next_run("30 2 * * *", at("10-25 02:10", fold=1), BERLIN) == at("10-26 02:30")


@settings(max_examples=40, deadline=None)
@given(
    minutes=st.integers(0, 4 * 1440),
    cron=st.sampled_from(["*/15 * * * *", "30 2 * * *", "0 */3 * * *", "7 0,1,2,3 * * *"]),
)
def test_runs_are_later_than_their_moment_and_none_is_left_out(minutes: int, cron: str) -> None:
    for begin in (at("03-27 00:00"), at("10-23 00:00")):
        after = begin + timedelta(minutes=minutes)
        run = next_run(cron, after, BERLIN)
        assert run is not None and run > after
        between = next_run(cron, after + (run - after) / 2, BERLIN)
        assert between == run, "nothing lies between a moment and its next run"


def test_missed_runs_are_counted_to_a_limit() -> None:
    assert count_runs("0 * * * *", at("11-22 00:00"), at("11-22 05:30"), BERLIN, 100) == 6
    assert count_runs("* * * * *", at("11-22 00:00"), at("11-23 00:00"), BERLIN, 10) == 10


# ── the clockwork ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Run:
    """A clockwork over a database, with a clock to set."""

    def __init__(self, database: Database) -> None:
        self.time = at("11-22 12:00")
        self.queue, self.events, self.schedules = Queue(database), Events(database), Schedules(database)
        self.listing = Listing(database)
        self.fired: list[datetime] = []
        self.begin()

    def begin(self) -> None:
        self.clockwork = Clockwork(
            self.schedules,
            Kinds(None),
            Shelf(Path("nowhere")),
            Alarms(),
            zone="Europe/Berlin",
            now=lambda: self.time,
            on_fire=lambda: self.fired.append(self.time),
        )

    def go(self, text: str) -> datetime | None:
        self.time = at(text)
        return self.clockwork.tick()

    def jobs(self) -> list[Job]:
        return self.listing.page(limit=100, cursor=None).jobs

    def late_events(self) -> list[dict[str, Any]]:
        return [event.data for event in self.events.after(0) if event.type == "late"]


@pytest.fixture
def run(database: Database) -> Run:
    return Run(database)


JOB = {"kind": "answer", "input": {"question": "What is new?"}, "priority": 3, "tags": ["weekly"]}


def test_a_schedule_submits_its_job_at_its_time(run: Run) -> None:
    added = run.clockwork.add("evening", "0 21 * * *", JOB)
    assert added.next_at == at("11-22 21:00")
    assert run.go("11-22 20:59") == at("11-22 21:00")
    assert run.jobs() == []
    assert run.go("11-22 21:00") == at("11-23 21:00")
    (job,) = run.jobs()
    assert run.fired == [at("11-22 21:00")]
    assert (job.kind, job.input["question"], job.priority, job.tags) == ("answer", "What is new?", 3, ["weekly"])
    assert (job.schedule_id, job.late_by_seconds) == (added.id, None)
    assert run.late_events() == []


def test_a_turn_twice_submits_once(run: Run) -> None:
    run.clockwork.add("evening", "0 21 * * *", JOB)
    run.go("11-22 21:00")
    run.go("11-22 21:00")
    run.go("11-22 21:01")
    assert len(run.jobs()) == 1


def test_missed_runs_are_made_up_for_once_late_and_said_so(run: Run) -> None:
    run.clockwork.add("evening", "0 21 * * *", JOB)
    run.begin()  # the daemon was down for three evenings
    assert run.go("11-25 09:00") == at("11-25 21:00")
    (job,) = run.jobs()
    late = timedelta(days=2, hours=12).total_seconds()
    assert job.late_by_seconds == late
    assert run.late_events() == [
        {"schedule": "evening", "due_at": at("11-22 21:00").isoformat(), "late_by_seconds": late, "runs_missed": 3}
    ]
    (event,) = [event for event in run.events.after(0) if event.type == "late"]
    assert event.job_id == job.id


def test_a_clock_set_back_does_not_run_it_twice(run: Run) -> None:
    run.clockwork.add("evening", "0 21 * * *", JOB)
    run.go("11-22 21:05")
    run.go("11-22 20:05")
    run.go("11-22 21:00")
    assert len(run.jobs()) == 1


def test_a_clock_that_was_years_ahead_does_not_silence_a_schedule(run: Run) -> None:
    run.clockwork.add("evening", "0 21 * * *", JOB)
    run.time = datetime(2038, 1, 19, tzinfo=UTC)
    run.clockwork.tick()
    assert run.go("11-22 13:00") == at("11-22 21:00")
    run.go("11-22 21:00")
    run.go("11-23 21:00")
    assert len(run.jobs()) == 4  # one in 2038, one when the clock was found wrong, two on time


def test_a_job_that_no_longer_fits_is_submitted_to_fail_in_sight(run: Run) -> None:
    run.schedules.add("song", "0 21 * * *", {"kind": "sing", "input": {"key": "a"}}, at("11-22 21:00"), run.time)
    run.go("11-22 21:00")
    (job,) = run.jobs()
    assert (job.kind, job.input) == ("sing", {"key": "a"})


def test_a_broken_row_does_not_keep_the_others_from_their_time(run: Run) -> None:
    run.schedules.add("a broken one", "not cron", JOB, at("11-22 20:00"), run.time)
    run.clockwork.add("evening", "0 21 * * *", JOB)
    assert run.go("11-22 21:00") == at("11-23 21:00")
    assert len(run.jobs()) == 1


@pytest.mark.parametrize(
    ("name", "cron", "job", "error"),
    [
        ("", "0 21 * * *", JOB, InvalidInput),
        ("x" * 101, "0 21 * * *", JOB, InvalidInput),
        ("a", "nonsense", JOB, InvalidInput),
        ("a", "0 0 30 2 *", JOB, InvalidInput),
        ("a", "0 21 * * *", {"kind": "sing", "input": {}}, UnknownKind),
        ("a", "0 21 * * *", {**JOB, "deadline": "2026-12-01T00:00:00Z"}, InvalidInput),
        ("a", "0 21 * * *", {**JOB, "idempotency_key": "k"}, InvalidInput),
    ],
)
def test_what_cannot_come_back_is_refused_when_it_is_added(
    run: Run, name: str, cron: str, job: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run.clockwork.add(name, cron, job)
    assert run.clockwork.listing() == []


def test_a_name_is_taken_once_and_free_again_after_removal(run: Run) -> None:
    run.clockwork.add("evening", "0 21 * * *", JOB)
    with pytest.raises(Conflict):
        run.clockwork.add("evening", "0 22 * * *", JOB)
    run.clockwork.remove("evening")
    assert run.clockwork.listing() == []
    assert run.go("11-22 21:00") is None
    run.clockwork.add("evening", "0 22 * * *", JOB)
    with pytest.raises(NotFound):
        run.clockwork.remove("morning")
