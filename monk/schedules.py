"""Jobs that come back by the clock. A schedule is a row with the moment of its next run; this file submits what is due.

A run that was missed, because the daemon was down or the clock was set, is made up for once, late, however many were missed
meanwhile; the job carries `late_by_seconds` and an event says it. Submitting and moving the clock on are one transaction, so
a crash neither loses a run nor repeats one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from db.models import Schedule
from db.queue import NewJob
from db.records import Schedules
from jobs.registry import Kinds
from monk.alarms import Alarms
from monk.cron import count_runs, next_run
from monk.engine.client import ModelUse
from monk.engine.model_use import check_ranges
from monk.errors import InvalidInput, MonkError
from monk.lora.shelf import Shelf
from monk.windows import named_zone

__all__ = ["Clockwork", "next_run"]

logger = logging.getLogger(__name__)

CheckModel = Callable[[ModelUse], None]
LATE_SECONDS = 60.0  # below this a run is on time: cron has minutes
CLOCK_SLACK = timedelta(hours=2)
MOST_COUNTED = 1000  # missed runs beyond this are told as "1000"
MOMENTS = ("not_before", "deadline", "idempotency_key")  # true of one job, never of those that come back


class Clockwork:
    """Fires due schedules. Safe from any thread."""

    def __init__(
        self,
        schedules: Schedules,
        kinds: Kinds,
        shelf: Shelf,
        alarms: Alarms,
        *,
        zone: str | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_fire: Callable[[], None] = lambda: None,
        check_model: CheckModel = check_ranges,
    ) -> None:
        """`zone`: the night's, None for the system's. `on_fire`: there is a new job. Raises SettingsInvalid."""
        self._check_model = check_model
        self._schedules = schedules
        self._kinds = kinds
        self._shelf = shelf
        self._alarms = alarms
        self._zone = named_zone(zone)
        self._now = now
        self._on_fire = on_fire
        self._lock = threading.Lock()

    def start(self) -> None:
        """Make up for what was missed; from now on the alarms keep the schedules."""
        self._alarms.keep("schedules", self.tick)

    def changed(self) -> None:
        """Somebody changed the rows: look at them soon."""
        self._alarms.poke()

    def add(self, name: str, cron: str, job: dict[str, Any]) -> Schedule:
        """Keep a job and when it comes. Raises InvalidInput, UnknownKind, or Conflict when the name is taken."""
        now = self._now()
        if not name.strip() or len(name) > 100:
            raise InvalidInput(f"name {name[:100]!r}: give the schedule 1 to 100 characters", param="name")
        for field in MOMENTS:
            if job.get(field) is not None:
                raise InvalidInput(
                    f"{field} belongs to one job, not to one that comes back; leave it out", param=f"job.{field}"
                )
        _check(job, self._kinds, self._shelf, now, self._check_model)
        first = next_run(cron, now, self._zone)
        if first is None:
            raise InvalidInput(f"cron {cron!r} never comes in the next nine years; check day and month", param="cron")
        schedule = self._schedules.add(name.strip(), cron, job, first, now)
        self.changed()
        return schedule

    def remove(self, name: str) -> Schedule:
        """Stop a schedule; its jobs stay. Raises NotFound."""
        removed = self._schedules.remove(name)
        self.changed()
        return removed

    def listing(self) -> list[Schedule]:
        """All that are active, by name."""
        return self._schedules.listing()

    def tick(self) -> datetime | None:
        """Submit what is due. Returns when the next run comes; None: there is none."""
        with self._lock:
            now = self._now()
            coming = [self._turn(schedule, now) for schedule in self._schedules.listing()]
            return min((moment for moment in coming if moment is not None), default=None)

    def _turn(self, schedule: Schedule, now: datetime) -> datetime | None:
        if schedule.next_at is None or (schedule.next_at > now and not _planned_too_far(schedule, now)):
            return schedule.next_at
        try:
            following = next_run(schedule.cron, now, self._zone)
            self._fire(schedule, following, now)
        except MonkError:  # one broken row must not keep the others from their time
            logger.exception("a schedule could not be run", extra={"schedule": schedule.name})
            return None
        return following

    def _fire(self, schedule: Schedule, following: datetime | None, now: datetime) -> None:
        due_at = schedule.next_at
        assert due_at is not None
        late = (now - due_at).total_seconds()
        new = replace(self._job_of(schedule, now), schedule_id=schedule.id)
        told = None
        if late >= LATE_SECONDS:
            new = replace(new, late_by_seconds=late)
            told = self._lateness(schedule, due_at, now)
        job_id = self._schedules.fire(schedule, new, following, now, told)
        if job_id is None:
            return
        self._on_fire()
        logger.info(
            "schedule submitted its job", extra={"job_id": job_id, "schedule": schedule.name, "late_seconds": late}
        )

    def _lateness(self, schedule: Schedule, due_at: datetime, now: datetime) -> dict[str, Any]:
        return {
            "schedule": schedule.name,
            "due_at": due_at.isoformat(),
            "late_by_seconds": (now - due_at).total_seconds(),
            "runs_missed": count_runs(schedule.cron, due_at, now, self._zone, MOST_COUNTED),
        }

    def _job_of(self, schedule: Schedule, now: datetime) -> NewJob:
        """The job of this run. One that no longer fits its kind is submitted as it is: it fails in sight, in the report."""
        try:
            return _read(schedule.job, self._kinds, self._shelf, now, self._check_model)
        except MonkError as exc:
            logger.warning("a schedule's job no longer fits", extra={"schedule": schedule.name, "why": exc.message})
            return NewJob(kind=str(schedule.job.get("kind") or "answer"), input=dict(schedule.job.get("input") or {}))


def _read(job: dict[str, Any], kinds: Kinds, shelf: Shelf, now: datetime, check_model: CheckModel) -> NewJob:
    """The job as POST /jobs would take it. Raises InvalidInput or UnknownKind."""
    from monk.api.requests import job_from  # late: the web framework is loaded after the home has been checked

    return job_from(job, kinds, shelf, now, check_model)


def _check(job: dict[str, Any], kinds: Kinds, shelf: Shelf, now: datetime, check_model: CheckModel) -> None:
    """As `_read`, naming the field as it stands in the schedule."""
    try:
        _read(job, kinds, shelf, now, check_model)
    except InvalidInput as exc:
        raise type(exc)(f"job: {exc.message}", param=f"job.{exc.param}" if exc.param else "job") from exc


def _planned_too_far(schedule: Schedule, now: datetime) -> bool:
    """Whether the plan was made under a clock that was far ahead: then the run comes now, rather than in years."""
    return (schedule.last_at or schedule.created_at) > now + CLOCK_SLACK
