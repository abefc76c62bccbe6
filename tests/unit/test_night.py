"""The night by the clock and by hand, across restarts and under a clock that jumps. Real SQLite; time is an argument."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from db.database import Database
from db.models import Night as NightRow
from db.records import Facts, Nights
from monk.alarms import Alarms
from monk.errors import InvalidInput
from monk.night import Calendar, Night

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime:
    """A moment of Berlin in November 2026: "22 23:00" is the 22nd, 23:00."""
    return datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=BERLIN).astimezone(UTC)


class Said:
    """What the night called back, in order; and a way to wait for it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.failing = ""
        self._changed = threading.Condition()

    def record(self, what: str) -> Callable[[NightRow], None]:
        def called(night: NightRow) -> None:
            with self._changed:
                self.calls.append((what, night.id))
                self._changed.notify_all()
            if self.failing == what:
                raise RuntimeError("on purpose")

        return called

    def wait_for(self, *calls: tuple[str, int]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= len(calls), timeout=5), self.calls
            assert self.calls == list(calls)


class Run:
    """One life of the daemon's night over a database that outlives it."""

    def __init__(self, database: Database, night: str = "22:00-07:00", days: str = "mon-sun") -> None:
        self.database = database
        self.time = at("22 12:00")
        self.nights, self.facts = Nights(database), Facts(database)
        self.begin(night, days)

    def begin(self, night: str = "22:00-07:00", days: str = "mon-sun") -> None:
        self.said = Said()
        self.night = Night(
            Calendar.parse(night, days, "Europe/Berlin"),
            self.nights,
            self.facts,
            Alarms(),
            on_open=self.said.record("open"),
            on_close=self.said.record("close"),
            on_morning=self.said.record("morning"),
            now=lambda: self.time,
        )

    def restart(self, text: str, night: str = "22:00-07:00", days: str = "mon-sun") -> None:
        """Nothing of the old life is told: as after SIGKILL."""
        self.begin(night, days)
        self.time = at(text)
        self.night.start()

    def go(self, text: str) -> datetime | None:
        """Set the clock, forwards or back, and do what is due."""
        self.time = at(text)
        return self.night.tick()

    def stop(self) -> None:
        assert self.night._callbacks.stop(5)


@pytest.fixture
def run(database: Database) -> Iterator[Run]:
    yield (made := Run(database))
    made.stop()


@pytest.fixture
def always(database: Database) -> Iterator[Run]:
    yield (made := Run(database, "always"))
    made.stop()


# ── by the clock ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_night_opens_and_closes_at_the_edges_of_its_window(run: Run) -> None:
    assert run.go("22 21:59") == at("22 22:00")
    assert run.night.current() is None
    assert run.go("22 22:00") == at("23 07:00")
    opened = run.night.current()
    assert opened is not None and opened.reason == "window" and opened.closes_at == at("23 07:00")
    assert run.go("23 07:00") == at("23 22:00")
    assert run.night.current() is None
    run.said.wait_for(("open", 1), ("close", 1))


def test_the_next_opening_is_told_by_day_and_the_opening_itself_by_night(run: Run) -> None:
    run.go("22 12:00")
    assert run.night.next_open_at() == at("22 22:00")
    run.go("22 22:00")
    run.time = at("23 01:00")
    assert run.night.next_open_at() == at("22 22:00")


def test_a_tick_twice_at_the_same_moment_changes_nothing(run: Run) -> None:
    run.go("22 22:00")
    run.go("22 22:00")
    run.go("23 07:00")
    run.go("23 07:00")
    run.said.wait_for(("open", 1), ("close", 1))


def test_a_late_turn_closes_the_night_as_of_its_end(run: Run) -> None:
    run.go("22 22:00")
    run.go("23 09:30")  # the machine slept
    last = run.nights.last()
    assert last is not None and last.closed_at == at("23 07:00")


def test_a_machine_that_slept_through_a_day_ends_one_night_and_begins_the_next(run: Run) -> None:
    run.go("22 22:00")
    run.go("23 23:00")
    run.said.wait_for(("open", 1), ("close", 1), ("open", 2))
    last = run.nights.last()
    assert last is not None and last.id == 2 and last.opened_at == at("23 23:00")


def test_never_has_no_night_but_a_person_may_open_one(database: Database) -> None:
    run = Run(database, "never")
    assert run.go("22 22:00") is None
    assert run.night.next_open_at() is None
    run.night.open_now(None)
    run.said.wait_for(("open", 1))
    run.stop()


# ── across restarts ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_night_cut_by_a_crash_goes_on_in_the_same_row(run: Run) -> None:
    run.go("22 22:00")
    run.restart("23 03:00")
    run.said.wait_for(("open", 1))
    run.go("23 07:00")
    run.said.wait_for(("open", 1), ("close", 1))


def test_a_night_whose_window_passed_while_nobody_was_there_is_closed_and_reported(run: Run) -> None:
    run.go("22 22:00")
    run.restart("23 12:00")
    run.said.wait_for(("close", 1))
    last = run.nights.last()
    assert last is not None and last.closed_at == at("23 07:00")


def test_a_night_left_from_days_ago_is_closed_before_tonight_s_opens(run: Run) -> None:
    run.go("22 22:00")
    run.restart("25 23:00")
    run.said.wait_for(("close", 1), ("open", 2))


def test_a_crash_between_the_end_and_the_report_repeats_the_report(run: Run) -> None:
    run.go("22 22:00")
    run.said.failing = "close"
    run.go("23 07:00")
    run.said.wait_for(("open", 1), ("close", 1))
    run.restart("23 12:00")
    run.said.wait_for(("close", 1))
    run.stop()
    run.restart("23 13:00")
    run.stop()
    assert run.said.calls == [], "it came to its end the second time"
    run.begin()


def test_a_failing_callback_stops_nothing(run: Run) -> None:
    run.said.failing = "open"
    run.go("22 22:00")
    run.go("23 07:00")
    run.go("23 22:00")
    run.said.wait_for(("open", 1), ("close", 1), ("open", 2))


def test_a_window_made_longer_by_the_settings_goes_on(run: Run) -> None:
    run.go("22 22:00")
    run.restart("23 08:00", "22:00-09:00")
    run.said.wait_for(("open", 1))
    current = run.night.current()
    assert current is not None and current.closes_at == at("23 09:00")


def test_a_window_removed_from_the_settings_closes_its_night(run: Run) -> None:
    run.go("22 22:00")
    run.restart("22 23:00", "never")
    run.said.wait_for(("close", 1))
    last = run.nights.last()
    assert last is not None and last.closed_at == at("22 23:00")


def test_always_after_a_window_takes_the_open_night_over(run: Run) -> None:
    run.go("22 22:00")
    run.restart("22 23:00", "always")
    current = run.night.current()
    assert current is not None and (current.id, current.reason, current.closes_at) == (1, "always", None)


# ── by hand ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_night_opened_by_a_person_outlives_the_edges_of_the_window(run: Run) -> None:
    run.time = at("22 15:00")
    assert run.night.open_now(None).reason == "now"
    for moment in ("22 22:00", "23 07:01", "23 22:00", "24 12:00"):
        run.go(moment)
        assert run.night.current() is not None, moment
    closed = run.night.close_now()
    assert closed is not None and closed.closed_at == at("24 12:00")


def test_a_night_opened_until_a_moment_closes_then(run: Run) -> None:
    run.time = at("22 15:00")
    run.night.open_now(at("22 16:30"))
    assert run.go("22 15:01") == at("22 16:30")
    assert run.go("22 16:30") == at("22 22:00")
    run.said.wait_for(("open", 1), ("close", 1))


def test_an_open_night_gets_the_new_end(run: Run) -> None:
    run.time = at("22 15:00")
    first = run.night.open_now(None)
    second = run.night.open_now(at("22 18:00"))
    assert (second.id, second.closes_at) == (first.id, at("22 18:00"))


def test_a_persons_end_inside_a_window_that_began_later_goes_on_as_the_window_s_night(run: Run) -> None:
    run.time = at("22 20:00")
    run.night.open_now(at("22 23:00"))
    run.go("22 23:00")
    current = run.night.current()
    assert current is not None and (current.reason, current.closes_at) == ("window", at("23 07:00"))
    run.go("23 07:00")
    run.said.wait_for(("open", 1), ("close", 1))


def test_a_person_may_shorten_the_window_that_is_on(run: Run) -> None:
    run.go("22 22:00")
    run.night.open_now(at("23 05:00"))
    assert run.go("23 05:00") == at("23 22:00")
    run.said.wait_for(("open", 1), ("close", 1))


def test_a_night_closed_by_a_person_stays_closed_until_the_next_window(run: Run) -> None:
    run.go("22 22:00")
    run.time = at("22 23:00")
    assert run.night.close_now() is not None
    assert run.go("22 23:01") == at("23 22:00")
    assert run.night.next_open_at() == at("23 22:00")
    run.restart("23 02:00")
    assert run.night.current() is None, "also after a restart"
    run.go("23 22:00")
    assert run.night.current() is not None


def test_a_closed_window_can_be_opened_again_by_hand(run: Run) -> None:
    run.go("22 22:00")
    run.night.close_now()
    run.time = at("22 23:30")
    run.night.open_now(None)
    run.go("23 03:00")
    assert run.night.current() is not None


def test_closing_by_day_says_that_there_is_nothing_to_close(run: Run) -> None:
    assert run.night.close_now() is None
    run.go("22 22:00")
    assert run.night.current() is not None


def test_an_end_in_the_past_is_refused_and_changes_nothing(run: Run) -> None:
    run.time = at("22 15:00")
    with pytest.raises(InvalidInput, match="has passed"):
        run.night.open_now(at("22 14:59"))
    with pytest.raises(InvalidInput, match="no offset"):
        run.night.open_now(datetime(2026, 11, 22, 18, 0))  # noqa: DTZ001
    assert run.night.current() is None


# ── without an end ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_always_is_one_night_with_a_report_every_morning(always: Run) -> None:
    always.go("22 22:00")
    assert always.go("23 06:59") == at("23 07:00")
    assert always.go("23 07:00") == at("24 07:00")
    always.go("23 07:01")
    always.go("24 07:00")
    always.said.wait_for(("open", 1), ("morning", 1), ("morning", 1))
    current = always.night.current()
    assert current is not None and (current.id, current.reason, current.closes_at) == (1, "always", None)


def test_a_morning_that_was_slept_through_is_reported_late_and_once(always: Run) -> None:
    always.go("22 22:00")
    always.restart("24 09:00", "always")
    always.go("24 09:01")
    always.said.wait_for(("open", 1), ("morning", 1))


def test_a_morning_already_reported_is_not_reported_again_after_a_restart(always: Run) -> None:
    always.go("22 22:00")
    always.go("23 07:00")
    always.said.wait_for(("open", 1), ("morning", 1))
    always.stop()
    always.restart("23 07:30", "always")
    always.said.wait_for(("open", 1))


def test_always_closed_by_a_person_opens_again_at_seven(always: Run) -> None:
    always.go("22 22:00")
    always.night.close_now()
    assert always.go("22 22:01") == at("23 07:00")
    always.go("23 07:00")
    assert always.night.current() is not None


def test_a_weekday_long_window_is_reported_every_morning_too(database: Database) -> None:
    run = Run(database, "always", "mon-fri")
    run.go("23 00:00")
    run.go("23 07:00")
    run.go("24 07:00")
    run.said.wait_for(("open", 1), ("morning", 1), ("morning", 1))
    run.go("28 00:00")
    run.said.wait_for(("open", 1), ("morning", 1), ("morning", 1), ("close", 1))
    run.stop()


# ── a clock that jumps ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_set_back_over_the_opening_neither_closes_nor_opens_twice(run: Run) -> None:
    run.go("22 22:05")
    run.go("22 21:05")
    assert run.night.current() is not None
    run.go("22 22:00")
    run.go("23 07:00")
    run.said.wait_for(("open", 1), ("close", 1))


def test_a_clock_set_back_over_the_end_does_not_open_the_night_again(run: Run) -> None:
    run.go("22 22:00")
    run.go("23 07:00")
    assert run.go("23 06:10") == at("23 22:00")
    run.go("23 07:00")
    run.said.wait_for(("open", 1), ("close", 1))


def test_a_night_closed_by_a_person_stays_closed_when_the_clock_is_set_back_over_its_opening(run: Run) -> None:
    run.go("22 22:00")
    run.time = at("22 22:10")
    run.night.close_now()
    assert run.go("22 21:10") == at("23 22:00")
    run.go("22 22:00")
    assert run.night.current() is None


def test_a_person_may_close_a_night_while_the_clock_is_set_back_before_it(run: Run) -> None:
    run.go("22 22:10")
    run.time = at("22 21:20")
    closed = run.night.close_now()
    assert closed is not None and closed.closed_at == closed.opened_at
    run.go("22 22:00")
    assert run.night.current() is None


def test_a_clock_that_was_wrongly_ahead_does_not_cost_the_real_night(run: Run) -> None:
    run.go("22 22:00")
    run.go("23 12:00")
    assert run.night.current() is None
    run.go("22 23:00")
    assert run.night.current() is not None


def test_a_night_opened_under_a_clock_far_ahead_is_closed_once_the_clock_is_right(run: Run) -> None:
    run.time = datetime(2038, 1, 19, 22, 30, tzinfo=UTC)
    run.night.tick()
    run.go("22 12:00")
    assert run.night.current() is None
    run.go("22 22:00")
    run.said.wait_for(("open", 1), ("close", 1), ("open", 2))


# ── threads ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_callback_may_ask_and_change_the_night(run: Run) -> None:
    asked: list[NightRow | None] = []
    done = threading.Event()

    def close_at_once(_: NightRow) -> None:
        asked.append(run.night.current())
        asked.append(run.night.close_now())
        done.set()

    run.night._on_open = close_at_once
    run.go("22 22:00")
    assert done.wait(5)
    run.said.wait_for(("close", 1))
    assert all(asked)


def test_people_and_the_clock_at_once_leave_one_night_and_callbacks_in_order(run: Run) -> None:
    run.time = at("22 23:00")

    def one(number: int) -> None:
        for _ in range(10):
            (run.night.tick if number % 2 else lambda: run.night.open_now(None))()
            run.night.close_now()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    run.stop()
    opened = [night for what, night in run.said.calls if what == "open"]
    expected = [(what, night) for night in opened for what in ("open", "close")]
    assert run.said.calls == expected
    assert run.night.current() is None


def test_the_alarms_open_and_close_a_real_night(database: Database) -> None:
    said, alarms = Said(), Alarms()
    shift = at("22 21:59:58") - datetime.now(UTC)
    window = Calendar.parse("22:00-22:01", "mon-sun", "Europe/Berlin")
    records = Nights(database), Facts(database)
    alarms._now = lambda: datetime.now(UTC)
    night = Night(
        window,
        *records,
        alarms,
        on_open=said.record("open"),
        on_close=said.record("close"),
        on_morning=said.record("morning"),
        now=lambda: datetime.now(UTC) + shift,
    )
    real_tick = night.tick

    def shifted() -> datetime | None:
        moment = real_tick()
        return None if moment is None else moment - shift

    night.start()
    alarms.keep("night", shifted)
    alarms.start()
    try:
        said.wait_for(("open", 1))
    finally:
        alarms.stop()
        night.stop()
    assert timedelta(0) <= datetime.now(UTC) + shift - at("22 22:00") < timedelta(seconds=3)
