"""The clock of the house: real APScheduler, real time, a second at most."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from monk.alarms import Alarms


@pytest.fixture
def alarms() -> Iterator[Alarms]:
    yield (made := Alarms())
    made.stop()


def test_a_duty_is_called_at_once_and_again_at_the_moment_it_names(alarms: Alarms) -> None:
    called: list[datetime] = []
    twice = threading.Event()
    moment = datetime.now(UTC) + timedelta(seconds=1.2)

    def duty() -> datetime | None:
        called.append(datetime.now(UTC))
        if len(called) == 2:
            twice.set()
        return moment if len(called) == 1 else None

    alarms.keep("duty", duty)
    alarms.start()
    assert twice.wait(10)
    assert called[1] >= moment


def test_a_poke_calls_every_duty_soon(alarms: Alarms) -> None:
    turns = threading.Semaphore(0)
    alarms.keep("duty", lambda: turns.release())
    alarms.start()
    assert turns.acquire(timeout=5)
    alarms.poke()
    assert turns.acquire(timeout=5)


def test_a_failing_duty_is_logged_and_the_others_go_on(alarms: Alarms, caplog: pytest.LogCaptureFixture) -> None:
    turns = threading.Semaphore(0)

    def failing() -> datetime | None:
        raise RuntimeError("on purpose")

    alarms.keep("broken", failing)
    alarms.keep("sound", lambda: turns.release())
    alarms.start()
    assert turns.acquire(timeout=5)
    alarms.poke()
    assert turns.acquire(timeout=5)
    assert "a duty of the clock failed" in caplog.messages


def test_duties_are_looked_at_again_though_nothing_rings() -> None:
    alarms = Alarms(recheck_seconds=0.05)
    turns = threading.Semaphore(0)
    alarms.keep("duty", lambda: turns.release())
    alarms.start()
    assert all(turns.acquire(timeout=5) for _ in range(3))
    alarms.stop()


def test_a_clock_that_jumps_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    shift = [timedelta(0)]
    turns = threading.Semaphore(0)
    alarms = Alarms(now=lambda: datetime.now(UTC) + shift[0])
    alarms.keep("duty", lambda: turns.release())
    alarms.start()
    assert turns.acquire(timeout=5)
    shift[0] = timedelta(hours=-1)
    alarms.poke()
    assert turns.acquire(timeout=5)
    alarms.stop()
    jumps = [record.__dict__["jumped_seconds"] for record in caplog.records]
    assert jumps == [pytest.approx(-3600, abs=2)]


def test_no_duty_begins_after_the_stop(alarms: Alarms) -> None:
    turns = threading.Semaphore(0)
    alarms.keep("duty", lambda: turns.release())
    alarms.start()
    assert turns.acquire(timeout=5)
    alarms.stop()
    alarms.poke()
    assert not turns.acquire(timeout=0.1)
