"""Opens and closes the night: by the clock (`windows.py` says when), or by a person. Runs no job itself; it calls back.

    by day ──window begins / open_now──▶ night ──window ends / `until` comes / close_now──▶ by day
                                          │ ▲
                                          └─┘ 07:00 of a night longer than a day: `on_morning`, nothing is paused

What a person says goes before the window:
- A night opened by a person ends at its `until`, or when a person closes it; edges of windows do not touch it. If a window
  is on when its `until` comes, it goes on as that window's night, unless the person had shortened that very window.
- A window whose night was closed, by a person or by its end, is *done*: it is not opened again until the next one begins,
  not after a restart and not because the clock was set back.

The open night is a row, so a crash changes nothing: at the next start it goes on, or, when its end has passed meanwhile, is
closed as of that end. `on_close` and `on_morning` come at least once for each night, in order, also when a crash lay between.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from monk.callbacks import InOrder
from monk.errors import InvalidInput
from monk.windows import Calendar, Span, Window, parse_days, parse_windows

if TYPE_CHECKING:  # the settings read this file for its parsers; that must not cost them a database
    from db.models import Night as NightRow
    from db.records import Facts, Nights
    from monk.alarms import Alarms

__all__ = ["Calendar", "Night", "Span", "Window", "parse_days", "parse_windows"]

logger = logging.getLogger(__name__)

Told = Callable[["NightRow"], None]

CLOCK_SLACK = timedelta(hours=2)  # a clock set back by this much at most is the same night; by more, it had been wrong
LONG = timedelta(hours=24)

DONE = "night_done"  # fact: the last window that is over, {"opened_at", "at", "by_person"}
REPORTED = "night_reported"  # fact: id of the last night whose on_close came to its end
MORNING = "night_morning"  # fact: the last 07:00 for which on_morning came to its end


class Night:
    """A NightKeeper (`services.py`). Safe from any thread; callbacks run in order on a thread of their own."""

    def __init__(
        self,
        calendar: Calendar,
        nights: Nights,
        facts: Facts,
        alarms: Alarms,
        *,
        on_open: Told,
        on_close: Told,
        on_morning: Told,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Does nothing yet. `on_open`: jobs may run, also said of a night that goes on after a restart. `on_close`: pause
        them and report. `on_morning`: report, pause nothing."""
        self._calendar = calendar
        self._nights = nights
        self._facts = facts
        self._alarms = alarms
        self._on_open, self._on_close, self._on_morning = on_open, on_close, on_morning
        self._now = now
        self._lock = threading.RLock()
        self._callbacks = InOrder("night")
        self._announced: int | None = None  # the night that on_open was told
        self._morning_asked: datetime | None = None

    # ── the daemon ────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Look at the calendar and at what an earlier run left; from now on the alarms keep the night."""
        with self._lock:
            self._tell_unreported()
            self.tick()
        self._alarms.keep("night", self.tick)

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """No more edges. An open night stays open in the database. What a callback leaves unfinished is repeated at the
        next start."""
        if not self._callbacks.stop(timeout_seconds):
            logger.warning("a callback of the night did not end in time; it is repeated at the next start")

    def tick(self) -> datetime | None:
        """Do what is due by the clock. Returns when to call again; None: nothing will be due by itself."""
        with self._lock:
            now = self._now()
            night = self._nights.current()
            if night is not None:
                night = self._continued(night, now)
            if night is None:
                night = self._begun(now)
            if night is not None:
                self._announce(night)
                self._look_for_morning(night, now)
            return self._due_at(night, now)

    # ── people ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def current(self) -> NightRow | None:
        """The open night, or None by day."""
        return self._nights.current()

    def next_open_at(self) -> datetime | None:
        """When the next night opens by the clock, or since when one is open; None: never."""
        night = self._nights.current()
        return self._next_opening(self._now()) if night is None else night.opened_at

    def open_now(self, until: datetime | None) -> NightRow:
        """Open a night at once, until a moment or until `close_now`. An open one gets the new end.

        Raises InvalidInput for a moment without offset or one that has passed.
        """
        with self._lock:
            now = self._now()
            _check_until(until, now)
            span = self._running(now)
            if until is not None and span is not None and (span.closes_at is None or until < span.closes_at):
                self._remember_done(span, now, by_person=True)  # the person ends this window's night early
            night = self._nights.open("now", until, now)
            self._announce(night)
        self._alarms.poke()
        return night

    def close_now(self) -> NightRow | None:
        """Close the open night; the window that is on stays shut until the next one begins. None when none is open."""
        with self._lock:
            now = self._now()
            night = self._nights.current()
            if night is None:
                return None
            went_back = _clock_went_back(night, now)
            span = self._calendar.span(night.opened_at if went_back else now)
            closed = self._close(now, done=span, by_person=True)
        self._alarms.poke()
        return closed

    # ── one turn ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _continued(self, night: NightRow, now: datetime) -> NightRow | None:
        """The open night with its plan as of now, or None once it is closed."""
        to_come = night.closes_at is None or now < night.closes_at
        if night.reason == "now" and to_come:
            return night
        if night.reason != "now" and _clock_went_back(night, now):
            return night  # closing it for an hour and opening it again would make two nights of one
        if night.reason != "now" and now < night.opened_at:
            self._close(now, done=None)  # opened under a clock that was far ahead
            return None
        span = self._running(now)
        if span is not None and (night.closes_at is None or to_come or span.opened_at <= night.closes_at):
            return self._planned(night, span, now)
        self._close_by_clock(night, now)
        return None

    def _close_by_clock(self, night: NightRow, now: datetime) -> None:
        if night.closes_at is None or now < night.closes_at:  # the windows were changed, or this one is done
            self._close(now, done=None)
        else:
            last_moment = night.closes_at - timedelta(microseconds=1)
            self._close(night.closes_at, done=self._calendar.span(last_moment))

    def _planned(self, night: NightRow, span: Span, now: datetime) -> NightRow:
        reason = self._reason()
        if (night.reason, night.closes_at) == (reason, span.closes_at):
            return night
        return self._nights.open(reason, span.closes_at, now)

    def _begun(self, now: datetime) -> NightRow | None:
        span = self._running(now)
        if span is None:
            return None
        night = self._nights.open(self._reason(), span.closes_at, now)
        logger.debug("night opened", extra={"night": night.id, "closes_at": span.closes_at})
        return night

    def _close(self, at: datetime, *, done: Span | None, by_person: bool = False) -> NightRow | None:
        """Close the open night as of `at`, and remember that the window `done` is over."""
        if done is not None:
            self._remember_done(done, at, by_person=by_person)  # first: a crash between the two must not open it again
        closed = self._nights.close(at)
        if closed is not None:
            self._announced = None
            logger.debug("night closed", extra={"night": closed.id, "by_person": by_person})
            self._callbacks.call(lambda: self._tell_closed(closed))
        return closed

    def _look_for_morning(self, night: NightRow, now: datetime) -> None:
        morning = self._calendar.last_morning(now)
        if not _is_long(night) or morning <= night.opened_at or morning == self._morning_asked:
            return
        self._morning_asked = morning
        if self._facts.get(MORNING) != morning.isoformat():
            self._callbacks.call(lambda: self._tell_morning(night, morning))

    def _due_at(self, night: NightRow | None, now: datetime) -> datetime | None:
        if night is None:
            return self._next_opening(now)
        due = [night.closes_at] if night.closes_at is not None else []
        return min([*due, self._calendar.next_morning(now)] if _is_long(night) else due)

    def _reason(self) -> str:
        return "always" if self._calendar.endless else "window"

    # ── what is over ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _running(self, now: datetime) -> Span | None:
        """The window that is on and not done."""
        span = self._calendar.span(now)
        return None if span is None or self._is_done(span, now) else span

    def _next_opening(self, now: datetime) -> datetime | None:
        span = self._running(now)
        if span is not None:
            return span.opened_at
        opening = self._calendar.next_open_at(now)
        while opening is not None and (span := self._calendar.span(opening)) is not None and self._is_done(span, now):
            opening = self._calendar.next_open_at(opening)  # a clock that was set back comes to it a second time
        return opening

    def _is_done(self, span: Span, now: datetime) -> bool:
        fact = self._facts.get(DONE)
        if fact is None:
            return False
        opened_at, at = datetime.fromisoformat(fact["opened_at"]), datetime.fromisoformat(fact["at"])
        same = span.opened_at <= opened_at <= span.opened_at + CLOCK_SLACK
        was_wrong = (
            at > now + CLOCK_SLACK
        )  # the clock that ended it had been far ahead: the real night is still to come
        return same and (bool(fact["by_person"]) or not was_wrong)

    def _remember_done(self, span: Span, at: datetime, *, by_person: bool) -> None:
        fact = {"opened_at": span.opened_at.isoformat(), "at": at.isoformat(), "by_person": by_person}
        self._facts.put(DONE, fact)

    # ── callbacks, on their own thread ────────────────────────────────────────────────────────────────────────────────

    def _announce(self, night: NightRow) -> None:
        if night.id != self._announced:
            self._announced = night.id
            self._callbacks.call(lambda: self._on_open(night))

    def _tell_unreported(self) -> None:
        """A crash may lie between the end of a night and the end of its report."""
        last = self._nights.last()
        if last is not None and last.closed_at is None:
            return
        if last is not None and last.id > (self._facts.get(REPORTED) or 0):
            self._callbacks.call(lambda: self._tell_closed(last))

    def _tell_closed(self, night: NightRow) -> None:
        self._on_close(night)
        self._facts.put(REPORTED, night.id)

    def _tell_morning(self, night: NightRow, morning: datetime) -> None:
        self._on_morning(night)
        self._facts.put(MORNING, morning.isoformat())


def _check_until(until: datetime | None, now: datetime) -> None:
    if until is None:
        return
    if until.tzinfo is None:
        raise InvalidInput(
            f"until {until.isoformat()} has no offset; write it like 2026-11-23T07:00:00+03:00", param="until"
        )
    if until <= now:
        raise InvalidInput(
            f"until {until.isoformat()} has passed (it is {now.isoformat(timespec='seconds')}); give a later moment",
            param="until",
        )


def _clock_went_back(night: NightRow, now: datetime) -> bool:
    return now < night.opened_at <= now + CLOCK_SLACK


def _is_long(night: NightRow) -> bool:
    """Whether a morning may pass inside it: without an end, or longer than a day."""
    return night.closes_at is None or night.closes_at - night.opened_at > LONG
