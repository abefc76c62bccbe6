"""What a forecast asks of the tables: marks along the queue, and how long jobs have taken. Reads only.

Fetching the whole order of 100,000 jobs for every submit would cost more than the submit. So every n-th job is marked with its
exact rank, by hopping along the index of claims; the rank of any other job lies between two marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import RowMapping, bindparam, func, select, text
from sqlalchemy.orm import Session

from db.database import Database
from db.models import EPOCH, Job, Night

Key = tuple[int, bool, datetime, str]  # sorts as jobs are claimed: priority, then nearest deadline, then age
LATEST = datetime.max.replace(tzinfo=UTC)

_GROUPS = text(
    "SELECT priority, deadline IS NULL AS no_deadline, count(*) AS number FROM jobs INDEXED BY ix_jobs_queue"
    " WHERE state = 'queued' GROUP BY 1, 2 ORDER BY 1 DESC, 2"
)
# Within one priority: first the jobs with a deadline, nearest first, then the others, oldest first. Each hop is one step
# along the index; rows between the marks are never read.
_HOPS = {
    True: """
    WITH RECURSIVE hop(id, rank) AS (
      SELECT min(id), 0 FROM jobs INDEXED BY ix_jobs_queue
       WHERE state = 'queued' AND priority = :priority AND (deadline IS NULL) = 1 AND deadline IS NULL
      UNION ALL
      SELECT (SELECT id FROM jobs INDEXED BY ix_jobs_queue
               WHERE state = 'queued' AND priority = :priority AND (deadline IS NULL) = 1 AND deadline IS NULL
                 AND id > hop.id ORDER BY id LIMIT 1 OFFSET :step - 1), rank + :step
        FROM hop WHERE hop.id IS NOT NULL)""",
    False: """
    WITH RECURSIVE hop(id, rank) AS (
      SELECT (SELECT id FROM jobs INDEXED BY ix_jobs_queue
               WHERE state = 'queued' AND priority = :priority AND (deadline IS NULL) = 0
               ORDER BY deadline, id LIMIT 1), 0
      UNION ALL
      SELECT (SELECT id FROM jobs INDEXED BY ix_jobs_queue
               WHERE state = 'queued' AND priority = :priority AND (deadline IS NULL) = 0
                 AND (deadline, id) > (last.deadline, last.id) ORDER BY deadline, id LIMIT 1 OFFSET :step - 1), rank + :step
        FROM hop JOIN jobs AS last ON last.id = hop.id)""",
}
_MARKS = {
    no_deadline: text(hops + " SELECT rank, jobs.deadline, jobs.id, jobs.kind FROM hop JOIN jobs ON jobs.id = hop.id")
    .bindparams(bindparam("priority"), bindparam("step"))
    .columns(deadline=Job.deadline.type)
    for no_deadline, hops in _HOPS.items()
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A queued job and how many go before it; or the end of a group, where `kind` is empty."""

    key: Key
    rank: int
    kind: str


@dataclass(frozen=True, slots=True)
class Order:
    """Marks along the queue, in order, the last one at its end. No job newer than `newest_id` is counted."""

    marks: list[Mark]
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
        """The queue with about `most` marks: every job of a shorter one, every n-th of a longer one."""
        with self._db.read() as session:
            newest_id = session.scalar(select(func.max(Job.id))) or ""
            groups = session.execute(_GROUPS).mappings().all()
            step = max(1, -(-sum(group["number"] for group in groups) // most))
            return Order(list(_marks(session, groups, step)), newest_id)

    def running(self) -> list[Busy]:
        """Jobs that hold a lease."""
        query = select(Job.id, Job.kind, Job.started_at).where(Job.state == "running")
        with self._db.read() as session:
            return [Busy(id_, kind, at) for id_, kind, at in session.execute(query) if at is not None]

    def took(self, most: int) -> list[Took]:
        """The last jobs that were done, newest first."""
        query = (
            select(Job.kind, Job.started_at, Job.finished_at)
            .where(Job.finished_at.is_not(None), Job.state == "done", Job.started_at.is_not(None))
            .order_by(Job.finished_at.desc())
            .limit(most)
        )
        with self._db.read() as session:
            rows = session.execute(query)
            return [Took(kind, begun, ended) for kind, begun, ended in rows if begun is not None and ended is not None]

    def nights(self, most: int) -> list[tuple[datetime, datetime | None]]:
        """The last nights as (opened, closed), newest first; closed None: still open."""
        query = select(Night.opened_at, Night.closed_at).order_by(Night.id.desc()).limit(most)
        with self._db.read() as session:
            return [(opened, closed) for opened, closed in session.execute(query)]


def _marks(session: Session, groups: Sequence[RowMapping], step: int) -> Iterator[Mark]:
    before = 0
    for group in groups:
        priority, no_deadline = int(group["priority"]), bool(group["no_deadline"])
        values = {"priority": priority, "step": step}
        for rank, deadline, id_, kind in session.execute(_MARKS[no_deadline], values):
            yield Mark(key_of(priority, deadline, id_), before + rank, kind)
        before += group["number"]
        yield Mark((-priority, no_deadline, EPOCH if no_deadline else LATEST, "~"), before, "")
