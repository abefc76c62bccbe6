"""The queue: every arrow of the state drawing in `db/__init__.py` is one method here and one transaction.

Time is an argument (`now`), so tests need no clock. Jobs come back detached: read them, and change them only through here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, insert, literal, or_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.database import Database
from db.events import record
from db.ids import new_id
from db.models import FINAL_STATES, Event, Job, Moment
from monk.errors import Conflict, LeaseLost, MonkError, NotFound

BACKOFF_SECONDS = 30.0  # after the first error; doubles with each
BACKOFF_MOST_SECONDS = 3600.0
_NEXT = text(  # left to itself SQLite sorts the whole queue: 46 ms instead of one step along the index (2026-11-23)
    "SELECT id, kind FROM jobs INDEXED BY ix_jobs_queue WHERE state = 'queued'"
    " ORDER BY priority DESC, (deadline IS NULL), deadline, id LIMIT 1"
)
CRASHES_ALLOWED = 10  # in a row without saving anything: then the job itself is what kills us


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a person submits, already validated against its kind."""

    kind: str
    input: dict[str, Any]
    priority: int = 0
    not_before: datetime | None = None
    deadline: datetime | None = None
    adapter: str | None = None
    budget: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    tags: list[str] = field(default_factory=list)
    idempotency_key: str | None = None
    max_attempts: int = 3
    schedule_id: str | None = None
    late_by_seconds: float | None = None
    model: dict[str, Any] = field(default_factory=dict)

    def content_hash(self) -> str:
        """The same for the same question, whatever its key; tells a repeated submit from a different one."""
        told = [self.kind, self.input, self.priority, _iso(self.not_before), _iso(self.deadline)]
        told += [self.adapter, self.budget, self.seed, sorted(self.tags), self.max_attempts]
        told += [self.model] if self.model else []
        return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Queue:
    """All that happens to jobs as wholes. What happens inside one is in `steps.py`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ── people ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, new: NewJob, now: datetime) -> tuple[Job, bool]:
        """Store a job; on disk when this returns. (job, True), or (the earlier job, False) for a repeated idempotency key.

        Raises Conflict when the key belongs to a job that asked something else.
        """
        outcome = self.submit_many([new], now)[0]
        if isinstance(outcome, Conflict):
            raise outcome
        return outcome

    def submit_many(self, news: Sequence[NewJob], now: datetime) -> list[tuple[Job, bool] | Conflict]:
        """Store several jobs in one transaction, each with the outcome `submit` would have had, in the same order.

        A crowd of clients shares one wait for the disk this way. A conflict of one job does not touch its neighbours.
        """
        try:
            with self._db.write() as session:
                return _insert_new(session, news, now)
        except IntegrityError:  # one of them cannot be stored; alone, it does not take the others with it
            return [self._submit_alone(new, now) for new in news]

    def _submit_alone(self, new: NewJob, now: datetime) -> tuple[Job, bool] | Conflict:
        try:
            with self._db.write() as session:
                return _insert_new(session, [new], now)[0]
        except IntegrityError as exc:
            return Conflict(f"the database refuses this job: {exc.orig}")

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        with self._db.read() as session:
            return _existing(session, job_id)

    def cancel(self, job_id: str, now: datetime) -> Job:
        """End a job from any live state, at once: a worker in the middle of it loses its lease. Idempotent.

        Raises NotFound; Conflict when the job is done or failed.
        """
        with self._db.write() as session:
            job = _existing(session, job_id)
            if job.state == "cancelled":
                return job
            if job.state in FINAL_STATES:
                raise Conflict(f"{job_id} is {job.state}; only a waiting, queued or running job can be cancelled")
            job.state, job.finished_at = "cancelled", now
            job.lease_token = job.lease_until = None
            record(session, "cancelled", {}, now, job_id=job_id)
            return job

    def retry(self, job_id: str, now: datetime, deadline: datetime | None = None) -> Job:
        """Put a failed or cancelled job back in the queue. What it had finished is kept and not done again.

        Raises NotFound; Conflict for other states, or when its deadline has passed and no new one is given.
        """
        with self._db.write() as session:
            job = _existing(session, job_id)
            if job.state not in ("failed", "cancelled"):
                raise Conflict(f"{job_id} is {job.state}; only a failed or cancelled job can be retried")
            job.deadline = deadline or job.deadline
            if job.deadline is not None and job.deadline <= now:
                raise Conflict(f"the deadline of {job_id} was {_iso(job.deadline)}; give a new one", param="deadline")
            job.state, job.ready_at, job.finished_at = "queued", now, None
            job.errors = job.crashes = 0
            job.used_seconds = 0.0  # a person asks anew, with the whole budget
            job.error = job.result = None
            record(session, "retried", {}, now, job_id=job_id)
            return job

    # ── workers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(
        self, now: datetime, lease_seconds: float, may_run: Callable[[str], bool] = lambda kind: True
    ) -> Job | None:
        """The next job, leased to the caller: highest priority, then nearest deadline, then oldest. None: nothing is due.

        `may_run` is asked for its kind. Where it says no, nothing is claimed: nobody passes the first in line.
        """
        with self._db.write() as session:
            _promote(session, now)
            first = session.execute(_NEXT).one_or_none()
            if first is None or not may_run(first.kind):
                return None
            job = session.scalars(
                update(Job)
                .where(Job.id == first.id)
                .values(
                    state="running",
                    lease_token=secrets.token_hex(16),
                    lease_until=now + timedelta(seconds=lease_seconds),
                    attempt=Job.attempt + 1,
                    started_at=func.coalesce(Job.started_at, literal(now, Moment())),
                )
                .returning(Job)
            ).one()
            record(session, "claimed", {"attempt": job.attempt}, now, job_id=job.id)
            return job

    def is_outranked(self, priority: int, now: datetime) -> bool:
        """Whether a job of a higher priority is due."""
        due = or_(Job.state == "queued", and_(Job.state == "waiting", Job.ready_at <= now))
        with self._db.read() as session:
            return session.scalar(select(Job.id).where(due, Job.priority > priority).limit(1)) is not None

    def renew(self, job: Job, now: datetime, lease_seconds: float, used_seconds: float = 0.0) -> None:
        """Keep the lease, and what the job has used of its minutes so far: a crash forgets only what came after. Raises
        LeaseLost when the job was cancelled, finished or taken meanwhile."""
        with self._db.write() as session:
            held(session, job.id, job.lease_token)
            _use(session, job, used_seconds)
            session.execute(
                update(Job).where(Job.id == job.id).values(lease_until=now + timedelta(seconds=lease_seconds))
            )

    def finish(self, job: Job, result: dict[str, Any], now: datetime, used_seconds: float = 0.0) -> None:
        """running → done, once. Raises LeaseLost: the result is not written."""
        with self._db.write() as session:
            held(session, job.id, job.lease_token)
            _use(session, job, used_seconds)
            _end(session, job.id, "done", now, result=result, error=None)
            record(session, "done", {}, now, job_id=job.id)

    def fail(self, job: Job, error: MonkError, now: datetime, *, retryable: bool, used_seconds: float = 0.0) -> str:
        """running → waiting (backoff) or failed. Returns the new state. Raises LeaseLost."""
        told = {"code": error.code, "message": error.message, "param": error.param, **_json_facts(error.facts)}
        with self._db.write() as session:
            current = held(session, job.id, job.lease_token)
            _use(session, job, used_seconds)
            errors = current.errors + 1
            if not retryable or errors >= current.max_attempts:
                _end(session, job.id, "failed", now, error=told, errors=errors)
                record(session, "failed", told, now, job_id=job.id)
                return "failed"
            pause = min(BACKOFF_SECONDS * 2 ** (errors - 1), BACKOFF_MOST_SECONDS)
            values = {"state": "waiting", "ready_at": now + timedelta(seconds=pause), "error": told, "errors": errors}
            session.execute(update(Job).where(Job.id == job.id).values(lease_token=None, lease_until=None, **values))
            record(session, "error", {**told, "retry_in_seconds": pause}, now, job_id=job.id)
            return "waiting"

    def release(self, job: Job, now: datetime, why: str, used_seconds: float = 0.0) -> None:
        """running → queued, unharmed: the window closed, the daemon stops, or others go first. Raises LeaseLost."""
        with self._db.write() as session:
            held(session, job.id, job.lease_token)
            _use(session, job, used_seconds)
            _give_back(session, Job.id == job.id)
            record(session, "released", {"why": why}, now, job_id=job.id)

    # ── the sweeper ───────────────────────────────────────────────────────────────────────────────────────────────────

    def recover(self, now: datetime) -> list[str]:
        """At start, when no worker of this home can be alive: every running job goes back to the queue. Returns their ids."""
        return self._take_back(Job.state == "running", now)

    def expire_leases(self, now: datetime) -> list[str]:
        """Jobs whose worker stopped renewing go back to the queue. Returns their ids."""
        return self._take_back(and_(Job.state == "running", Job.lease_until < now), now)

    def fail_overdue(self, now: datetime) -> list[str]:
        """Jobs whose deadline went by end as failed; their steps stay. Returns their ids."""
        with self._db.write() as session:
            overdue = session.execute(
                select(Job.id, Job.deadline).where(Job.finished_at.is_(None), Job.deadline <= now)
            ).all()
            for job_id, deadline in overdue:
                told = {
                    "code": "deadline_passed",
                    "message": f"the deadline {_iso(deadline)} passed before the job could end; retry it with a later one",
                    "param": "deadline",
                }
                _end(session, job_id, "failed", now, error=told)
                record(session, "failed", told, now, job_id=job_id)
            return [job_id for job_id, _ in overdue]

    def _take_back(self, which: Any, now: datetime) -> list[str]:
        with self._db.write() as session:
            jobs = list(session.scalars(select(Job).where(which)))
            for job in jobs:
                job.crashes += 1
                job.lease_token = job.lease_until = None
                if job.crashes >= CRASHES_ALLOWED:
                    told = {
                        "code": "crash_loop",
                        "message": f"the daemon or the engine died {job.crashes} times in a row in this job before anything "
                        "was saved; look into the journal, then retry it",
                    }
                    job.state, job.finished_at, job.error = "failed", now, told
                    record(session, "failed", told, now, job_id=job.id)
                else:
                    job.state, job.ready_at = "queued", now
                    record(session, "recovered", {"crashes": job.crashes}, now, job_id=job.id)
            return [job.id for job in jobs]

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def counts(self) -> dict[str, int]:
        """Jobs by state, every state present."""
        with self._db.read() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
        found = {row[0]: row[1] for row in rows}
        return {state: found.get(state, 0) for state in ("waiting", "queued", "running", *FINAL_STATES)}

    def next_ready_at(self) -> datetime | None:
        """When the first waiting job becomes due; None when none waits."""
        with self._db.read() as session:
            return session.scalar(select(Job.ready_at).where(Job.state == "waiting").order_by(Job.ready_at).limit(1))


def held(session: Session, job_id: str, lease_token: str | None) -> Job:
    """The row, if this lease still holds it. Raises LeaseLost, so that nothing of the caller's transaction is kept."""
    job = session.get(Job, job_id)
    if job is None or lease_token is None or job.lease_token != lease_token:
        raise LeaseLost(f"{job_id} is no longer this worker's: it is {job.state if job else 'gone'}")
    return job


def insert_job(session: Session, new: NewJob, now: datetime) -> dict[str, Any]:
    """Put a job in the queue inside the caller's transaction. Returns its row."""
    return _insert_rows(session, [_row(new, now)])[0]


def _insert_rows(session: Session, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if rows:
        session.execute(insert(Job), rows)
        session.execute(insert(Event), [_submitted(row) for row in rows])
    return rows


def _submitted(row: dict[str, Any]) -> dict[str, Any]:
    """The event of a stored job."""
    data = {"kind": row["kind"]}
    return {"job_id": row["id"], "thought_id": None, "type": "submitted", "data": data, "at": row["created_at"]}


def _insert_new(session: Session, news: Sequence[NewJob], now: datetime) -> list[tuple[Job, bool] | Conflict]:
    by_key = _by_keys(session, [new.idempotency_key for new in news])
    rows: list[dict[str, Any]] = []
    outcomes: list[tuple[Job, bool] | Conflict] = []
    for new in news:
        earlier = by_key.get(new.idempotency_key)
        if earlier is not None:
            outcomes.append(_repeated(new, earlier))
            continue
        rows.append(_row(new, now))
        job = Job(**rows[-1])
        if new.idempotency_key is not None:
            by_key[new.idempotency_key] = job
        outcomes.append((job, True))
    _insert_rows(session, rows)
    return outcomes


def _repeated(new: NewJob, earlier: Job) -> tuple[Job, bool] | Conflict:
    if earlier.request_hash == new.content_hash():
        return earlier, False
    return Conflict(
        f"idempotency_key {new.idempotency_key!r} belongs to {earlier.id}, which asked something else; use another key",
        param="idempotency_key",
        job_id=earlier.id,
    )


def _by_keys(session: Session, keys: Sequence[str | None]) -> dict[str | None, Job]:
    given = {key for key in keys if key is not None}
    if not given:
        return {}
    found = session.scalars(select(Job).where(Job.idempotency_key.in_(given)))
    return {job.idempotency_key: job for job in found}


def _row(new: NewJob, now: datetime) -> dict[str, Any]:
    waits = new.not_before is not None and new.not_before > now
    return {
        "id": new_id("job", now),
        "kind": new.kind,
        "input": new.input,
        "state": "waiting" if waits else "queued",
        "priority": new.priority,
        "created_at": now,
        "ready_at": new.not_before if waits else now,
        "not_before": new.not_before,
        "deadline": new.deadline,
        "adapter": new.adapter,
        "budget": new.budget,
        "model": new.model,
        "seed": new.seed,
        "tags": new.tags,
        "idempotency_key": new.idempotency_key,
        "request_hash": new.content_hash(),
        "schedule_id": new.schedule_id,
        "late_by_seconds": new.late_by_seconds,
        "attempt": 0,
        "errors": 0,
        "max_attempts": new.max_attempts,
        "crashes": 0,
        "used_seconds": 0.0,
        "lease_token": None,
        "lease_until": None,
        "started_at": None,
        "finished_at": None,
        "result": None,
        "error": None,
    }


def _existing(session: Session, job_id: str) -> Job:
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id!r}; `monk jobs` lists them", param="id")
    return job


def _promote(session: Session, now: datetime) -> None:
    session.execute(
        update(Job)
        .where(Job.state == "waiting", Job.ready_at <= now)
        .values(state="queued")
        .execution_options(synchronize_session=False)
    )


def _end(session: Session, job_id: str, state: str, now: datetime, **values: Any) -> None:
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(state=state, finished_at=now, lease_token=None, lease_until=None, **values)
    )


def _use(session: Session, job: Job, used_seconds: float) -> None:
    """Time only grows: what an earlier attempt has used stays used."""
    if used_seconds > 0:
        changed = update(Job).where(Job.id == job.id, Job.used_seconds < used_seconds)
        session.execute(changed.values(used_seconds=used_seconds).execution_options(synchronize_session=False))


def _give_back(session: Session, which: Any) -> None:
    session.execute(
        update(Job).where(which).values(state="queued", lease_token=None, lease_until=None, attempt=Job.attempt - 1)
    )


def _json_facts(facts: dict[str, object]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, str | int | float | bool | None | list | dict) else str(value)
        for key, value in facts.items()
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
