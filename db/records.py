"""Small records beside the queue: nights, reports, schedules, and facts remembered by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.database import Database
from db.events import record
from db.ids import new_id
from db.models import Fact, Night, Report, Schedule
from db.queue import NewJob, insert_job
from monk.errors import Conflict, NotFound


class Nights:
    """Windows in which jobs ran. At most one is open; the database refuses a second."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open(self, reason: str, closes_at: datetime | None, now: datetime) -> Night:
        """Open a night, or change the plan of the one that is open (a person's `now` outlives the window's end)."""
        with self._db.write() as session:
            night = _open_night(session)
            if night is None:
                night = Night(opened_at=now, closes_at=closes_at, closed_at=None, reason=reason)
                session.add(night)
                record(session, "night_opened", {"reason": reason, "closes_at": _iso(closes_at)}, now)
            else:
                night.reason, night.closes_at = reason, closes_at
        return night

    def close(self, now: datetime) -> Night | None:
        """Close the open night; None when none is. A clock that jumped back closes it at its own opening."""
        with self._db.write() as session:
            night = _open_night(session)
            if night is not None:
                night.closed_at = max(now, night.opened_at)
                record(session, "night_closed", {"night": night.id}, now)
        return night

    def current(self) -> Night | None:
        """The open night, or None."""
        with self._db.read() as session:
            return _open_night(session)

    def last(self) -> Night | None:
        """The newest night, open or closed."""
        with self._db.read() as session:
            return session.scalars(select(Night).order_by(Night.id.desc()).limit(1)).one_or_none()


class Reports:
    """Written reports."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def save(
        self, data: dict[str, Any], since: datetime, until: datetime, night_id: int | None, now: datetime
    ) -> Report:
        """Keep the data of a report."""
        report = Report(
            id=new_id("report", now), night_id=night_id, since=since, until=max(since, until), created_at=now, data=data
        )
        with self._db.write() as session:
            session.add(report)
            record(session, "report", {"id": report.id}, now)
        return report

    def get(self, report_id: str) -> Report:
        """By id, or the newest for "latest". Raises NotFound."""
        query = select(Report).order_by(Report.id.desc()).limit(1)
        with self._db.read() as session:
            found = session.scalars(
                query if report_id == "latest" else query.where(Report.id == report_id)
            ).one_or_none()
        if found is None:
            raise NotFound(f"there is no report {report_id!r} yet; `monk report --now` writes one", param="id")
        return found

    def listing(self, *, limit: int, cursor: str | None) -> tuple[list[Report], str | None]:
        """Newest first, and the cursor for what follows."""
        query = select(Report).order_by(Report.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(Report.id < cursor)
        with self._db.read() as session:
            found = list(session.scalars(query))
        return found[:limit], found[limit - 1].id if len(found) > limit else None


class Schedules:
    """Jobs that come back by the clock."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, name: str, cron: str, job: dict[str, Any], next_at: datetime | None, now: datetime) -> Schedule:
        """Raises Conflict when the name is taken."""
        with self._db.write() as session:
            if session.scalars(select(Schedule).where(Schedule.name == name)).one_or_none() is not None:
                raise Conflict(
                    f"there is a schedule {name!r} already; remove it first or choose another name", param="name"
                )
            schedule = Schedule(
                id=new_id("schedule", now),
                name=name,
                cron=cron,
                job=job,
                active=True,
                created_at=now,
                last_at=None,
                next_at=next_at,
            )
            session.add(schedule)
        return schedule

    def remove(self, name: str) -> Schedule:
        """Stop a schedule by name or id; its row stays, because its jobs point to it. Raises NotFound."""
        with self._db.write() as session:
            query = select(Schedule).where((Schedule.name == name) | (Schedule.id == name), Schedule.active)
            schedule = session.scalars(query).one_or_none()
            if schedule is None:
                raise NotFound(f"there is no schedule {name!r}; `monk schedule list` shows them", param="name")
            schedule.active, schedule.next_at = False, None
            schedule.name = f"{schedule.name} (removed {schedule.id})"
            return schedule

    def listing(self) -> list[Schedule]:
        """All active ones, by name."""
        with self._db.read() as session:
            return list(session.scalars(select(Schedule).where(Schedule.active).order_by(Schedule.name)))

    def fire(
        self,
        schedule: Schedule,
        new: NewJob,
        next_at: datetime | None,
        now: datetime,
        late: dict[str, Any] | None = None,
    ) -> str | None:
        """Submit the due job and move the clock on, in one transaction. None when another turn was quicker.

        `late`: what to say of a run that comes after its time, as an event of the job.
        """
        with self._db.write() as session:
            moved = session.execute(
                update(Schedule)
                .where(Schedule.id == schedule.id, Schedule.next_at == schedule.next_at, Schedule.active)
                .values(last_at=now, next_at=next_at)
                .execution_options(synchronize_session=False)
            )
            if moved.rowcount != 1:  # type: ignore[attr-defined]
                return None
            job_id = str(insert_job(session, new, now)["id"])
            if late is not None:
                record(session, "late", late, now, job_id=job_id)
        return job_id


class Facts:
    """Things remembered by name."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, key: str) -> Any:
        """The value, or None."""
        with self._db.read() as session:
            fact = session.get(Fact, key)
            return None if fact is None else fact.value

    def put(self, key: str, value: Any) -> None:
        """Remember a JSON value under a name."""
        with self._db.write() as session:
            session.merge(Fact(key=key, value=value))


def _open_night(session: Session) -> Night | None:
    return session.scalars(select(Night).where(Night.closed_at.is_(None))).one_or_none()


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
