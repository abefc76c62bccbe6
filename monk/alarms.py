"""The only import of APScheduler: rings at moments of the wall clock, and counts cron fields.

A *duty* does whatever is due and says when it wants to be called next. All duties run on one thread, one after another, and
must be short. They are called when the moment comes (APScheduler rings), when somebody pokes, and every 30 seconds anyway:
a clock that was set, or a machine that slept, makes a ring late by that at most, and never makes one be missed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger

logger = logging.getLogger(__name__)

Duty = Callable[[], datetime | None]

RECHECK_SECONDS = 30.0
SOONEST_SECONDS = 1.0  # a duty that keeps saying "now" costs one turn a second, not a core
JUMP_SECONDS = 5.0  # the wall clock strayed this far from the monotonic one between two turns: worth a line in the log
CRON_YEARS = 9  # 29 February is at most eight years away


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Alarms:
    """Calls duties at their moments. A failing duty is logged and called again at the next turn."""

    def __init__(self, now: Callable[[], datetime] = _utc_now, recheck_seconds: float = RECHECK_SECONDS) -> None:
        self._now = now
        self._recheck_seconds = recheck_seconds
        self._duties: dict[str, Duty] = {}
        self._bell = threading.Event()
        self._stopping = False
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
        self._last_look: tuple[datetime, float] | None = None

    def keep(self, name: str, duty: Duty) -> None:
        """Call this duty from now on, first at once. The same name replaces."""
        self._duties = {**self._duties, name: duty}  # replaced whole: the thread may be walking the old one
        self.poke()

    def start(self) -> None:
        """Begin. Once."""
        self._scheduler.start()
        self._thread.start()

    def poke(self) -> None:
        """Call all duties soon: something they look at has changed."""
        self._bell.set()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """No duty begins after this returns; one in the middle gets this long to end."""
        self._stopping = True
        self._bell.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        if self._scheduler.running:
            self._scheduler.remove_all_jobs()  # one that is just due would otherwise trip over the shutdown
            self._scheduler.shutdown(wait=False)

    def _run(self) -> None:
        while not self._stopping:
            self._bell.clear()  # before the duties: a poke while they run is not forgotten
            self._watch_clock()
            self._plan(self._do_duties())
            self._bell.wait(self._recheck_seconds)

    def _do_duties(self) -> datetime | None:
        wishes = [self._do(name, duty) for name, duty in self._duties.items() if not self._stopping]
        return min((wish for wish in wishes if wish is not None), default=None)

    def _do(self, name: str, duty: Duty) -> datetime | None:
        try:
            return duty()
        except Exception:  # the clock must go on whatever one duty does; the next turn tries again
            logger.exception("a duty of the clock failed", extra={"duty": name})
            return None

    def _plan(self, moment: datetime | None) -> None:
        if moment is None or self._stopping:
            return
        earliest = self._now() + timedelta(seconds=SOONEST_SECONDS)
        self._scheduler.add_job(
            self._bell.set,
            DateTrigger(max(moment, earliest)),
            id="next",
            replace_existing=True,
            misfire_grace_time=None,  # however late, it rings
            coalesce=True,
        )

    def _watch_clock(self) -> None:
        look = (self._now(), time.monotonic())
        if self._last_look is not None:
            jumped = (look[0] - self._last_look[0]).total_seconds() - (look[1] - self._last_look[1])
            if abs(jumped) >= JUMP_SECONDS:
                logger.warning("the clock was set, or the machine slept", extra={"jumped_seconds": round(jumped, 1)})
        self._last_look = look


def next_by_fields(fields: dict[str, str], after: datetime) -> datetime | None:
    """The first wall time, naive, at or after `after` that fits the cron fields (minute, hour, day, month, day_of_week by
    name). None: not within nine years. Raises ValueError for a field that cannot be read."""
    years = f"{after.year}-{min(after.year + CRON_YEARS, 9999)}"
    trigger: Any = CronTrigger(year=years, second="0", timezone=UTC, **fields)
    found = trigger.get_next_fire_time(None, after.replace(tzinfo=UTC))
    return None if found is None else found.replace(tzinfo=None)
