"""What happened, in order. The row id is the cursor by which a watcher goes on where it was cut off."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from db.database import Database
from db.models import Event


def record(
    session: Session,
    type_: str,
    data: dict[str, Any],
    now: datetime,
    *,
    job_id: str | None = None,
    thought_id: str | None = None,
) -> None:
    """Append one event inside the caller's transaction: it happened exactly if that transaction did."""
    row = {"job_id": job_id, "thought_id": thought_id, "type": type_, "data": data, "at": now}
    session.execute(insert(Event), [row])


def fold_progress(session: Session, thought_id: str) -> None:
    """Drop a thought's progress events once its end is told: the end says all they said."""
    session.execute(delete(Event).where(Event.thought_id == thought_id, Event.type == "progress"))


class Events:
    """Reading the stream."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def after(self, cursor: int, *, job_id: str | None = None, limit: int = 500) -> list[Event]:
        """Events with id > cursor, oldest first; of one job, or all."""
        query = select(Event).where(Event.id > cursor).order_by(Event.id).limit(limit)
        if job_id is not None:
            query = query.where(Event.job_id == job_id)
        with self._db.read() as session:
            return list(session.scalars(query))

    def newest(self) -> int:
        """The cursor of the last event; 0 before the first."""
        with self._db.read() as session:
            return session.scalar(select(func.max(Event.id))) or 0

    def tell(self, type_: str, data: dict[str, Any], now: datetime, job_id: str | None = None) -> None:
        """Append one event in a transaction of its own."""
        with self._db.write() as session:
            record(session, type_, data, now, job_id=job_id)
