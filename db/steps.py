"""What a job has finished inside: steps with their results, thoughts with their tokens. Every write needs the lease.

The tokens are the truth: a thought that was cut goes on from `Open.saved`. They are appended run by run, never rewritten,
and a gap or an overlap is refused, so saved tokens only grow.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from db.database import Database
from db.events import fold_progress, record
from db.ids import new_id
from db.models import Job, Step, Thought, TokenRun
from db.queue import held
from monk.errors import LeaseLost


@dataclass(frozen=True, slots=True)
class NewThought:
    """Everything that shapes one call of the model. The same request in the same job is the same thought."""

    name: str
    sample: int
    request_hash: str
    model_sha256: str
    sampling: dict[str, Any]
    max_tokens: int
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Open:
    """A thought to be thought: a new one, or one that was cut after `saved`."""

    id: str
    saved: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Tokens of one thought that follow `first_index` saved ones; `text` is for people watching."""

    job_id: str
    lease_token: str
    thought_id: str
    first_index: int
    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class ThoughtEnd:
    """How a thought ended. `text` is everything said; reasoning and answer are its two parts."""

    reason: str
    text: str
    reasoning: str
    answer: str
    num_prefilled: int
    prefill_seconds: float
    decode_seconds: float


class Steps:
    """The notebook of running jobs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def find_step(self, job_id: str, name: str) -> Step | None:
        """The finished step of this name, or None."""
        with self._db.read() as session:
            return session.get(Step, (job_id, name))

    def save_step(self, job: Job, name: str, result: Any, started_at: datetime, now: datetime) -> None:
        """Write a step's result, once and for all. Raises LeaseLost; IntegrityError for a second time."""
        with self._db.write() as session:
            _progressed(session, job.id, job.lease_token)
            row = {
                "job_id": job.id,
                "name": name,
                "result": result,
                "started_at": started_at,
                "finished_at": max(now, started_at),
            }
            session.execute(insert(Step), [row])
            record(session, "step", {"name": name}, now, job_id=job.id)

    def open_thought(self, job: Job, new: NewThought, now: datetime) -> Thought | Open:
        """The finished thought, or the place to begin or go on. Raises LeaseLost."""
        with self._db.write() as session:
            held(session, job.id, job.lease_token)
            found = session.scalars(
                select(Thought).where(
                    Thought.job_id == job.id,
                    Thought.name == new.name,
                    Thought.sample == new.sample,
                    Thought.request_hash == new.request_hash,
                )
            ).one_or_none()
            if found is None:
                return Open(_insert_thought(session, job.id, new, now), ())
            if found.finished_at is not None:
                return found
            saved = _saved_ids(session, found.id)
            found.num_resumes += 1
            data = {"name": found.name, "sample": found.sample, "saved_tokens": len(saved)}
            record(session, "resumed", data, now, job_id=job.id, thought_id=found.id)
            return Open(found.id, saved)

    def append(self, batches: Sequence[TokenBatch], now: datetime) -> set[str]:
        """Save tokens of many thoughts in one transaction. Returns the ids of jobs whose lease was lost: theirs are dropped."""
        lost: set[str] = set()
        with self._db.write() as session:
            for batch in batches:
                try:
                    _progressed(session, batch.job_id, batch.lease_token)
                except LeaseLost:
                    lost.add(batch.job_id)
                    continue
                _append_run(session, batch, now)
        return lost

    def finish_thought(self, job: Job, thought_id: str, end: ThoughtEnd, now: datetime) -> Thought:
        """Close a thought whose tokens are all saved; its runs become one. Raises LeaseLost."""
        with self._db.write() as session:
            _progressed(session, job.id, job.lease_token)
            thought = session.get_one(Thought, thought_id)
            ids = _saved_ids(session, thought_id)
            thought.token_ids, thought.num_tokens = pack(ids), len(ids)
            thought.reason, thought.text, thought.reasoning, thought.answer = (
                end.reason,
                end.text,
                end.reasoning,
                end.answer,
            )
            _add_costs(thought, end)
            thought.finished_at = now
            session.execute(delete(TokenRun).where(TokenRun.thought_id == thought_id))
            fold_progress(session, thought_id)
            data = {
                "name": thought.name,
                "sample": thought.sample,
                "reason": end.reason,
                "tokens": len(ids),
                "text": end.answer,
            }
            record(session, "thought", data, now, job_id=job.id, thought_id=thought_id)
        return thought

    def pause_thought(self, thought_id: str, end: ThoughtEnd) -> None:
        """Add what a cut run cost; its tokens are saved already."""
        with self._db.write() as session:
            _add_costs(session.get_one(Thought, thought_id), end)

    def of_job(self, job_id: str) -> tuple[list[Step], list[Thought]]:
        """All that is known of a job's inside, in the order it happened."""
        with self._db.read() as session:
            steps = list(session.scalars(select(Step).where(Step.job_id == job_id).order_by(Step.finished_at)))
            thoughts = list(
                session.scalars(
                    select(Thought).where(Thought.job_id == job_id).order_by(Thought.started_at, Thought.id)
                )
            )
        return steps, thoughts

    def saved_ids(self, thought_id: str) -> tuple[int, ...]:
        """Tokens of a thought saved so far, finished or not."""
        with self._db.read() as session:
            thought = session.get_one(Thought, thought_id)
            return unpack(thought.token_ids) if thought.token_ids is not None else _saved_ids(session, thought_id)


def pack(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian int32."""
    return struct.pack(f"<{len(ids)}i", *ids)


def unpack(blob: bytes) -> tuple[int, ...]:
    """The inverse of `pack`."""
    return struct.unpack(f"<{len(blob) // 4}i", blob)


def _insert_thought(session: Session, job_id: str, new: NewThought, now: datetime) -> str:
    thought = Thought(
        id=new_id("thought", now),
        job_id=job_id,
        name=new.name,
        sample=new.sample,
        request_hash=new.request_hash,
        model_sha256=new.model_sha256,
        sampling=new.sampling,
        max_tokens=new.max_tokens,
        prompt_ids=pack(new.prompt_ids),
        num_prompt_tokens=len(new.prompt_ids),
        num_tokens=0,
        num_prefilled=0,
        num_resumes=0,
        prefill_seconds=0.0,
        decode_seconds=0.0,
        started_at=now,
    )
    session.add(thought)
    session.flush()
    data = {"name": new.name, "sample": new.sample, "prompt_tokens": len(new.prompt_ids)}
    record(session, "thinking", data, now, job_id=job_id, thought_id=thought.id)
    return thought.id


def _progressed(session: Session, job_id: str, lease_token: str | None) -> None:
    """The lease holds, and the job has just saved something: whatever crashes it saw before were not its fault."""
    job = held(session, job_id, lease_token)
    if job.crashes:
        job.crashes = 0


def _append_run(session: Session, batch: TokenBatch, now: datetime) -> None:
    moved = session.execute(
        update(Thought)
        .where(Thought.id == batch.thought_id, Thought.num_tokens == batch.first_index, Thought.finished_at.is_(None))
        .values(num_tokens=batch.first_index + len(batch.ids))
        .execution_options(synchronize_session=False)
    )
    assert moved.rowcount == 1, f"tokens of {batch.thought_id} do not follow the saved ones"  # type: ignore[attr-defined]
    row = {"thought_id": batch.thought_id, "first_index": batch.first_index, "ids": pack(batch.ids)}
    session.execute(insert(TokenRun), [row])
    data = {"tokens": batch.first_index + len(batch.ids), "text": batch.text}
    record(session, "progress", data, now, job_id=batch.job_id, thought_id=batch.thought_id)


def _saved_ids(session: Session, thought_id: str) -> tuple[int, ...]:
    runs = session.scalars(select(TokenRun.ids).where(TokenRun.thought_id == thought_id).order_by(TokenRun.first_index))
    return unpack(b"".join(runs))


def _add_costs(thought: Thought, end: ThoughtEnd) -> None:
    thought.num_prefilled += end.num_prefilled
    thought.prefill_seconds += end.prefill_seconds
    thought.decode_seconds += end.decode_seconds
