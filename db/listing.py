"""Jobs page by page, light: what may be megabytes in a row (input, result) is not fetched for a line in a list.

Each page costs the same however long the queue is: every state has an index in order of age, so only the newest of each are
looked at and merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, select, text
from sqlalchemy.orm import Session, defer
from sqlalchemy.orm.attributes import set_committed_value

from db.database import Database
from db.models import Job

LONG_CHARACTERS = 20_000  # an input above this is not fetched whole
SHOWN_CHARACTERS = 1999
_WHOLE = func.length(Job.input) <= LONG_CHARACTERS
_QUESTION = func.substr(func.json_extract(Job.input, "$.question"), 1, SHOWN_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a listing; `next` is the cursor to ask for what follows, None at the end."""

    jobs: list[Job]
    next: str | None


class Listing:
    """Reading jobs in bulk. They come detached, without `result`, and with `input` shortened where it is long."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def page(
        self,
        *,
        states: Sequence[str] = (),
        kind: str | None = None,
        tag: str | None = None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Newest first, `limit` at a time; `cursor` is the `next` of the page before."""
        query = _filtered(kind, tag, cursor).order_by(Job.id.desc()).limit(limit + 1)
        with self._db.read() as session:
            ids = [id_ for each in _by_state(query, states) for id_ in session.scalars(each)]
            newest = sorted(ids, reverse=True)[: limit + 1]
            jobs = _jobs(session, newest[:limit])
        return Page(jobs, newest[limit - 1] if len(newest) > limit else None)


def _filtered(kind: str | None, tag: str | None, cursor: str | None) -> Select[Any]:
    query = select(Job.id)
    if kind:
        query = query.where(Job.kind == kind)
    if tag:
        query = query.where(text("EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE value = :tag)").bindparams(tag=tag))
    if cursor:
        query = query.where(Job.id < cursor)
    return query


def _by_state(query: Select[Any], states: Sequence[str]) -> list[Select[Any]]:
    return [query.where(Job.state == state) for state in dict.fromkeys(states)] if states else [query]


def _jobs(session: Session, ids: list[str]) -> list[Job]:
    query = (
        select(Job, case((_WHOLE, Job.input)), case((~_WHOLE, _QUESTION)))
        .options(defer(Job.input, raiseload=True), defer(Job.result, raiseload=True))
        .where(Job.id.in_(ids))
        .order_by(Job.id.desc())
    )
    jobs = []
    for job, whole, question in session.execute(query):
        set_committed_value(job, "input", whole if whole is not None else _shortened(question))
        jobs.append(job)
    return jobs


def _shortened(question: Any) -> dict[str, Any]:
    return {"question": question + "…"} if isinstance(question, str) else {}
