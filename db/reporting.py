"""What a report asks of the tables, in one consistent look. The only SQL for reporting; writes nothing.

Reports follow each other by event id and not by the clock: each begins after the last event the one before has told. So a
clock that jumps back an hour neither hides a job nor tells it twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, text
from sqlalchemy.orm import Session

from db.database import Database
from db.models import FINAL_STATES, Document, Event, Job, Night, Passage, Report, Step, Thought, Verdict

INCIDENTS = ("resumed", "recovered", "error", "retried", "engine", "corpus", "warning", "late", "feedback")
ENDED_MOST = 1000  # jobs told in full; the rest is counted
LEFT_MOST = 100
EVENTS_MOST = 5000
UNREADABLE_MOST = 200


@dataclass(frozen=True, slots=True)
class Costs:
    """What thoughts cost. Seconds are shares of engine time; `resumes` counts cuts that were survived."""

    thoughts: int = 0
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    decoded_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    resumes: int = 0
    cut_by_limit: int = 0
    cut_by_minutes: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished thought of a job that took several; long texts are cut by the query."""

    name: str
    sample: int
    reason: str
    num_tokens: int
    answer: str
    reasoning: str


@dataclass(frozen=True, slots=True)
class Told:
    """Where the last chained report stopped; what thoughts still open then had cost, and which documents it named as
    unreadable, both as that report wrote them."""

    last_event: int
    until: datetime
    open_costs: dict[str, Any]
    unreadable: list[Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Events with id > after_event; with a time given, only those at or after `since`, at or before `until`."""

    after_event: int = 0
    since: datetime | None = None
    until: datetime | None = None
    chained: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a report needs, as of one commit."""

    last_event: int
    first_at: datetime | None
    ended: list[Job]
    ended_counts: dict[str, int]
    left: list[Job]
    left_counts: dict[str, int]
    costs_by_job: dict[str, Costs]
    steps_by_job: dict[str, int]
    verdicts_by_job: dict[str, Verdict]
    spent: Costs  # thoughts that ended in the window
    uncut: Costs  # those of them that were never cut: tokens and seconds belong together, so speeds come from these
    open: Costs  # thoughts not ended yet
    events: list[Event]
    event_counts: dict[str, int]
    nights: list[Night]
    num_documents: int
    num_passages: int
    num_unreadable: int
    unreadable: list[Document]


class Reporting:
    """Questions of the morning report."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def last_told(self) -> Told | None:
        """Where the next report goes on; None before the first. A report over times a person chose does not count."""
        window = Report.data["window"]
        unreadable = Report.data["corpus"]["unreadable"].as_json()
        query = (
            select(window["last_event"].as_integer(), Report.until, window["open_costs"].as_json(), unreadable)
            .where(window["chained"].as_boolean())
            .order_by(Report.id.desc())
            .limit(1)
        )
        with self._db.read() as session:
            found = session.execute(query).one_or_none()
        return None if found is None else Told(found[0], found[1], found[2] or {}, found[3] or [])

    def look(self, window: Window) -> Snapshot:
        """All of it in one transaction, so that counts and lists agree with each other."""
        with self._db.read() as session:
            last = _last_event(session, window)
            inside = _inside(window, last)
            ended = _ended(session, inside)
            left = _left(session)
            ids = [job.id for job in (*ended, *left)]
            num_unreadable, unreadable = _unreadable(session)
            return Snapshot(
                last_event=last,
                first_at=session.scalar(select(func.min(Event.at)).where(inside)),
                ended=ended,
                ended_counts=_count_states(session, Job.id.in_(_ended_ids(inside)), Job.state.in_(FINAL_STATES)),
                left=left,
                left_counts=_count_states(session, Job.state.in_(("running", "queued", "waiting"))),
                costs_by_job=_costs_by_job(session, ids),
                steps_by_job=_steps_by_job(session, ids),
                verdicts_by_job=_verdicts_by_job(session, ids),
                spent=_costs(session, Thought.id.in_(_finished_ids(inside))),
                uncut=_costs(session, Thought.id.in_(_finished_ids(inside)), Thought.num_resumes == 0),
                open=_costs(session, Thought.finished_at.is_(None)),
                events=_events(session, inside),
                event_counts=_event_counts(session, inside),
                nights=_nights(session, window),
                num_documents=_count(session, Document.id, Document.state == "indexed"),
                num_passages=_count(session, Passage.id),
                num_unreadable=num_unreadable,
                unreadable=unreadable,
            )

    def samples(self, job_ids: Sequence[str], most_characters: int) -> dict[str, list[Sample]]:
        """Finished thoughts of these jobs in order, texts cut to `most_characters` + 1."""
        columns = (Thought.job_id, Thought.name, Thought.sample, Thought.reason, Thought.num_tokens)
        cut = (func.coalesce(func.substr(column, 1, most_characters + 1), "") for column in _TEXTS)
        query = (
            select(*columns, *cut)
            .where(Thought.job_id.in_(job_ids), Thought.finished_at.is_not(None))
            .order_by(Thought.started_at, Thought.id)
        )
        found: dict[str, list[Sample]] = {}
        with self._db.read() as session:
            for job_id, *rest in session.execute(query):
                found.setdefault(job_id, []).append(Sample(*rest))
        return found


_TEXTS = (Thought.answer, Thought.reasoning)


def _last_event(session: Session, window: Window) -> int:
    query = select(func.max(Event.id))
    if window.until is not None:
        query = query.where(Event.at <= window.until)
    return max(session.scalar(query) or 0, window.after_event)


def _inside(window: Window, last: int) -> ColumnElement[bool]:
    conditions = [Event.id > window.after_event, Event.id <= last]
    if not window.chained and window.since is not None:
        conditions.append(Event.at >= window.since)
    if not window.chained and window.until is not None:
        conditions.append(Event.at <= window.until)
    return and_(*conditions)


def _ended_ids(inside: ColumnElement[bool]) -> Any:
    return select(Event.job_id).where(inside, Event.type.in_(FINAL_STATES), Event.job_id.is_not(None))


def _finished_ids(inside: ColumnElement[bool]) -> Any:
    return select(Event.thought_id).where(inside, Event.type == "thought", Event.thought_id.is_not(None))


def _ended(session: Session, inside: ColumnElement[bool]) -> list[Job]:
    """Jobs that ended, once each and as they are now: one that was retried since is left, not failed."""
    query = select(Job).where(Job.id.in_(_ended_ids(inside)), Job.state.in_(FINAL_STATES))
    order = (case((Job.state == "failed", 0), else_=1), Job.priority.desc(), Job.id)  # failures are never the cut ones
    return list(session.scalars(query.order_by(*order).limit(ENDED_MOST)))


def _left(session: Session) -> list[Job]:
    """Running ones, then the queue in the order of claims, then those that wait."""
    state = case((Job.state == "running", 0), (Job.state == "queued", 1), else_=2)
    ready = case((Job.state == "waiting", Job.ready_at), else_=None)
    order = (state, ready, Job.priority.desc(), text("(deadline IS NULL)"), Job.deadline, Job.id)
    query = select(Job).where(Job.state.in_(("running", "queued", "waiting")))
    return list(session.scalars(query.order_by(*order).limit(LEFT_MOST)))


def _count_states(session: Session, *conditions: ColumnElement[bool]) -> dict[str, int]:
    query = select(Job.state, func.count()).where(*conditions).group_by(Job.state)
    return {row[0]: row[1] for row in session.execute(query)}


def _sums() -> tuple[Any, ...]:
    columns = (
        Thought.num_prompt_tokens,
        Thought.num_prefilled,
        Thought.num_tokens,
        Thought.prefill_seconds,
        Thought.decode_seconds,
        Thought.num_resumes,
        case((Thought.reason == "length", 1), else_=0),
        case((Thought.reason == "minutes", 1), else_=0),
    )
    return (func.count(Thought.id), *(func.coalesce(func.sum(column), 0) for column in columns))


def _costs(session: Session, *conditions: ColumnElement[bool]) -> Costs:
    return Costs(*session.execute(select(*_sums()).where(*conditions)).one())


def _costs_by_job(session: Session, ids: list[str]) -> dict[str, Costs]:
    query = select(Thought.job_id, *_sums()).where(Thought.job_id.in_(ids)).group_by(Thought.job_id)
    return {row[0]: Costs(*row[1:]) for row in session.execute(query)}


def _steps_by_job(session: Session, ids: list[str]) -> dict[str, int]:
    query = select(Step.job_id, func.count()).where(Step.job_id.in_(ids)).group_by(Step.job_id)
    return {row[0]: row[1] for row in session.execute(query)}


def _verdicts_by_job(session: Session, ids: list[str]) -> dict[str, Verdict]:
    return {given.job_id: given for given in session.scalars(select(Verdict).where(Verdict.job_id.in_(ids)))}


def _events(session: Session, inside: ColumnElement[bool]) -> list[Event]:
    query = select(Event).where(inside, Event.type.in_(INCIDENTS)).order_by(Event.id).limit(EVENTS_MOST)
    return list(session.scalars(query))


def _event_counts(session: Session, inside: ColumnElement[bool]) -> dict[str, int]:
    query = select(Event.type, func.count()).where(inside, Event.type != "progress").group_by(Event.type)
    return {row[0]: row[1] for row in session.execute(query)}


def _nights(session: Session, window: Window) -> list[Night]:
    query = select(Night).order_by(Night.id)
    if window.since is not None:
        query = query.where(or_(Night.closed_at.is_(None), Night.closed_at > window.since))
    if window.until is not None:
        query = query.where(Night.opened_at <= window.until)
    return list(session.scalars(query))


def _unreadable(session: Session) -> tuple[int, list[Document]]:
    unreadable = Document.state == "unreadable"
    query = select(Document).where(unreadable).order_by(Document.path).limit(UNREADABLE_MOST)
    return _count(session, Document.id, unreadable), list(session.scalars(query))


def _count(session: Session, column: Any, *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count(column)).where(*conditions)) or 0
