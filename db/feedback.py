"""What people think of the answers, and what can be learned from that. Changes neither jobs nor thoughts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db.database import Database
from db.events import record
from db.models import Job, Thought, Verdict
from db.steps import unpack
from monk.errors import Conflict, NotFound

_CITED = re.compile(r"[ \t]*\[(\d{1,3})\]")


@dataclass(frozen=True, slots=True)
class Example:
    """What was asked in a job, and what should be answered."""

    job_id: str
    kind: str
    input: dict[str, Any]
    prompt_ids: tuple[int, ...] | None  # of the job's only finished thought; None: it has none, or several
    model_sha256: str | None  # of that thought
    target: str


@dataclass(frozen=True, slots=True)
class _Said:
    """The only finished thought of a job."""

    prompt_ids: bytes
    model_sha256: str


class Feedback:
    """Verdicts on jobs that are done, one for each."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def give(
        self, job_id: str, verdict: str, correction: str | None, note: str | None, now: datetime
    ) -> tuple[Verdict, bool]:
        """Keep a verdict; on disk when this returns. (verdict, True), or (verdict, False) when it replaces an earlier one.

        Raises NotFound; Conflict when the job is not done.
        """
        with self._db.write() as session:
            _check_done(session, job_id)
            created = session.get(Verdict, job_id) is None
            given = session.merge(Verdict(job_id=job_id, verdict=verdict, correction=correction, note=note, at=now))
            record(session, "feedback", {"verdict": verdict, "corrected": correction is not None}, now, job_id=job_id)
        return given, created

    def of(self, job_id: str) -> Verdict | None:
        """The verdict on a job, or None."""
        with self._db.read() as session:
            return session.get(Verdict, job_id)

    def examples(self, since: datetime | None = None) -> list[Example]:
        """All that can be learned from, in the order in which it was given; `since`: only what was given then or later.

        The target of a useful answer is what was printed, which may be less than the model said, without the numbers of its
        citations; of a wrong one its correction. Left out: what is wrong without a correction, and answers that are no text.
        """
        query = (
            select(Verdict, Job)
            .join(Job, Job.id == Verdict.job_id)
            .where(or_(Verdict.verdict == "useful", Verdict.correction.is_not(None)))
            .order_by(Verdict.at, Verdict.job_id)
        )
        if since is not None:
            query = query.where(Verdict.at >= since)
        with self._db.read() as session:
            said = _only_thoughts(session)
            found = [_example(given, job, said.get(job.id)) for given, job in session.execute(query)]
        return [example for example in found if example is not None]


def teaches(given: Verdict) -> bool:
    """Whether a training can learn from it."""
    return given.verdict == "useful" or given.correction is not None


def _check_done(session: Session, job_id: str) -> None:
    state = session.scalar(select(Job.state).where(Job.id == job_id))
    if state is None:
        raise NotFound(f"there is no job {job_id!r}; `monk jobs` lists them", param="id")
    if state != "done":
        raise Conflict(f"{job_id} is {state}; only the answer of a job that is done can be useful or wrong")


def _only_thoughts(session: Session) -> dict[str, _Said]:
    """The finished thought of each judged job that has exactly one, by job id."""
    ended = Thought.finished_at.is_not(None) & Thought.job_id.in_(select(Verdict.job_id))
    alone = select(Thought.job_id).where(ended).group_by(Thought.job_id).having(func.count() == 1)
    columns = (Thought.job_id, Thought.prompt_ids, Thought.model_sha256)
    rows = session.execute(select(*columns).where(ended, Thought.job_id.in_(alone)))
    return {job_id: _Said(prompt_ids, model_sha256) for job_id, prompt_ids, model_sha256 in rows}


def _printed(result: dict[str, Any]) -> Any:
    answer, citations = result.get("answer"), result.get("citations") or []
    if not isinstance(answer, str):
        return answer
    return _CITED.sub(lambda mark: "" if 1 <= int(mark[1]) <= len(citations) else mark[0], answer)


def _example(given: Verdict, job: Job, said: _Said | None) -> Example | None:
    target = _printed(job.result or {}) if given.verdict == "useful" else given.correction
    if not isinstance(target, str) or not target.strip():
        return None
    return Example(
        job_id=job.id,
        kind=job.kind,
        input=job.input,
        prompt_ids=None if said is None else unpack(said.prompt_ids),
        model_sha256=None if said is None else said.model_sha256,
        target=target,
    )
