"""A clock that jumps under a running daemon: one night, each job once, in order, and nothing waits an hour too long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.running import RunningDaemon, running
from tests.wrong_clock import WrongClock, why_not

SECONDS = 90.0
HOUR = timedelta(hours=1)
EVENING = datetime(2027, 3, 10, 22, 20, tzinfo=UTC)  # twenty minutes after the night began
STORY = {"messages": [{"role": "user", "content": "Tell a long story about a server."}], "temperature": 0.0}


@pytest.fixture
def clock(tmp_path: Path) -> WrongClock:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    made = WrongClock(tmp_path)
    made.set(EVENING)
    return made


@pytest.fixture
def daemon(home: Path, clock: WrongClock) -> Iterator[RunningDaemon]:
    settings = {"MONK_NIGHT": "22:00-07:00", "MONK_TIMEZONE": "UTC", "MONK_CONTEXT": "1024", "MONK_SLOTS": "2"}
    with running(home, MONK_LEASE_SECONDS="5", **settings, **clock.environ) as made:
        yield made


NOTICED = "the clock was set, or the machine slept"


def jump(daemon: RunningDaemon, clock: WrongClock, to: datetime | timedelta) -> datetime:
    """Set the clock, and wait until the daemon's clockwork has seen it and turned; what time it believes it is."""
    before = len(daemon.reasons(NOTICED))
    if isinstance(to, datetime):
        clock.set(to)
    else:
        clock.turn(to)
    look_at_the_clock(daemon)
    daemon.wait_for(lambda: len(daemon.reasons(NOTICED)) > before, SECONDS, "a look at the clock")
    look_at_the_clock(daemon)  # once more: the duties of the look before have ended when this one begins
    return datetime.fromisoformat(daemon.get("/status")["now"])


def look_at_the_clock(daemon: RunningDaemon) -> None:
    """Let the clockwork turn now, rather than within its thirty seconds: it does when a schedule is added."""
    daemon.http.post("/schedules", json={"name": "poke", "cron": "0 12 1 1 *", "job": {"question": "Why?"}})
    daemon.http.delete("/schedules/poke")


def saved_tokens(daemon: RunningDaemon, job_id: str) -> int:
    (row,) = daemon.rows(
        "SELECT count(*), coalesce(sum(length(r.ids)), 0) FROM thoughts t JOIN token_runs r ON r.thought_id = t.id"
        " WHERE t.job_id = ?",
        job_id,
    )
    return int(row[1])


def nights(daemon: RunningDaemon) -> list[Any]:
    return daemon.rows("SELECT id, closed_at FROM nights ORDER BY id")


@pytest.mark.real
def test_an_hour_back_in_the_middle_of_a_night_neither_ends_it_nor_repeats_anything(
    daemon: RunningDaemon, clock: WrongClock
) -> None:
    first = daemon.submit("chat", {**STORY, "max_tokens": 300})
    daemon.wait_for(lambda: saved_tokens(daemon, first) > 0, SECONDS, "a saved token")

    believed = jump(daemon, clock, -HOUR)
    second = daemon.submit("chat", {**STORY, "max_tokens": 20, "temperature": 0.5})
    jobs = daemon.wait_jobs_ended([first, second], SECONDS)
    open_night = daemon.get("/status")["night"]
    jump(daemon, clock, HOUR)
    third = daemon.submit("chat", {**STORY, "max_tokens": 10})
    jobs |= daemon.wait_jobs_ended([third], SECONDS)

    assert believed < EVENING - timedelta(minutes=50)
    assert open_night["open"] and open_night["closes_at"].startswith("2027-03-11T07:00")
    assert [night[1] for night in nights(daemon)] == [None]
    assert [jobs[job_id]["state"] for job_id in (first, second, third)] == ["done"] * 3
    assert daemon.rows("SELECT DISTINCT attempt, errors, crashes FROM jobs") == [(1, 0, 0)]
    assert [job["id"] for job in daemon.get("/jobs")["jobs"]] == [third, second, first]
    ends = daemon.rows("SELECT job_id, count(*) FROM events WHERE type = 'done' GROUP BY job_id ORDER BY job_id")
    assert ends == [(job_id, 1) for job_id in sorted((first, second, third))]
    assert daemon.reasons("a silent job went back") == []


def test_an_hour_back_over_the_end_of_a_night_does_not_open_it_again(daemon: RunningDaemon, clock: WrongClock) -> None:
    daemon.wait_for(lambda: daemon.get("/status")["night"]["open"], SECONDS, "the night")
    jump(daemon, clock, datetime(2027, 3, 11, 7, 5, tzinfo=UTC))
    daemon.wait_for(lambda: daemon.get("/reports")["reports"], SECONDS, "the report")

    jump(daemon, clock, -HOUR)
    job_id = daemon.submit("chat", {**STORY, "max_tokens": 10})
    look_at_the_clock(daemon)

    night = daemon.get("/status")["night"]
    assert not night["open"] and night["next_open_at"].startswith("2027-03-11T22:00")
    assert len(nights(daemon)) == 1
    assert len(daemon.get("/reports")["reports"]) == 1
    assert daemon.get(f"/jobs/{job_id}")["state"] == "queued"


def test_an_hour_back_does_not_run_a_schedule_twice(daemon: RunningDaemon, clock: WrongClock) -> None:
    job = {"kind": "answer", "input": {"question": "Why?"}}
    added = daemon.http.post("/schedules", json={"name": "half past", "cron": "30 22 * * *", "job": job})
    assert added.status_code == 201, added.text

    def submitted() -> int:
        return int(daemon.rows("SELECT count(*) FROM jobs WHERE schedule_id IS NOT NULL")[0][0])

    jump(daemon, clock, EVENING + timedelta(minutes=11))
    daemon.wait_for(submitted, SECONDS, "the scheduled job")
    for _ in range(2):  # back over it, and over it again
        jump(daemon, clock, -HOUR)
        jump(daemon, clock, HOUR)

    assert submitted() == 1
    daemon.kill()
    clock.turn(-HOUR)
    daemon.start()
    look_at_the_clock(daemon)
    assert submitted() == 1
