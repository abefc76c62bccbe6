"""What a forecast asks of the tables: the order of the queue in samples, and how long jobs have taken. Reads only.

The whole order of 100,000 jobs is too much to fetch for every submit, so of a long queue every n-th job is taken: the rank
of any job is then known to within n.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text

from db.database import Database
from db.models import EPOCH, Job, Night

Key = tuple[int, bool, datetime, str]  # sorts as jobs are claimed: priority, then nearest deadline, then age


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job: its place in the order, and what it is."""

    key: Key
    kind: str


@dataclass(frozen=True, slots=True)
class Order:
    """The queue in order. `sample[i]` has exactly i * step jobs before it; step 1: all of them. No job newer than
    `newest_id` is in it."""

    num_queued: int
    step: int
    sample: list[Waiting]
    newest_id: str


@dataclass(frozen=True, slots=True)
class Took:
    """From first claim to end, of one job that is done."""

    kind: str
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Busy:
    """A job that runs now."""

    job_id: str
    kind: str
    started_at: datetime


def key_of(priority: int, deadline: datetime | None, job_id: str) -> Key:
    """The place of a job in the order of claims."""
    return (-priority, deadline is None, deadline or EPOCH, job_id)


class Outlook:
    """Each method is one short look."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def order(self, most: int) -> Order:
        """The queue, in at most about `most` samples."""
        with self._db.read() as session:
            newest_id = session.scalar(select(func.max(Job.id))) or ""
            number = session.scalar(select(func.count()).select_from(Job).where(Job.state == "queued")) or 0
            step = max(1, -(-number // most))
            rank = func.row_number().over(
                order_by=(Job.priority.desc(), text("(deadline IS NULL)"), Job.deadline, Job.id)
            )
            ranked = select(Job.id.label("id"), (rank - 1).label("rank")).where(Job.state == "queued").subquery()
            rows = session.execute(
                select(Job.priority, Job.deadline, Job.id, Job.kind)
                .join(ranked, ranked.c.id == Job.id)
                .where(ranked.c.rank % step == 0)
                .order_by(ranked.c.rank)
            ).tuples()
            sample = [Waiting(key_of(priority, deadline, id_), kind) for priority, deadline, id_, kind in rows]
        return Order(number, step, sample, newest_id)

    def running(self) -> list[Busy]:
        """Jobs that hold a lease."""
        query = select(Job.id, Job.kind, Job.started_at).where(Job.state == "running")
        with self._db.read() as session:
            return [Busy(id_, kind, at) for id_, kind, at in session.execute(query).tuples() if at is not None]

    def took(self, most: int) -> list[Took]:
        """The last jobs that were done, newest first."""
        query = (
            select(Job.kind, Job.started_at, Job.finished_at)
            .where(Job.finished_at.is_not(None), Job.state == "done", Job.started_at.is_not(None))
            .order_by(Job.finished_at.desc())
            .limit(most)
        )
        with self._db.read() as session:
            rows = session.execute(query).tuples()
            return [Took(kind, begun, ended) for kind, begun, ended in rows if begun is not None and ended is not None]

    def nights(self, most: int) -> list[tuple[datetime, datetime | None]]:
        """The last nights as (opened, closed), newest first; closed None: still open."""
        query = select(Night.opened_at, Night.closed_at).order_by(Night.id.desc()).limit(most)
        with self._db.read() as session:
            return [(opened, closed) for opened, closed in session.execute(query).tuples()]
