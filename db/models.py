"""The tables, and what each of them refuses. Times are UTC, stored as microseconds since 1970 (an integer sorts, compares
and indexes exactly); JSON is text; token ids are little-endian int32 in a blob."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy import (
    text as sql,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FINAL_STATES = ("done", "failed", "cancelled")
STATES = ("waiting", "queued", "running", *FINAL_STATES)
VERDICTS = ("useful", "wrong")


class Moment(TypeDecorator[datetime]):
    """An aware datetime as integer microseconds UTC. A naive one is refused: it would be an hour wrong twice a year."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: every moment carries its offset")
        return (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class Base(DeclarativeBase):
    """Names for all constraints, so that a later migration can address each."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: Moment,
        dict[str, Any]: JSON,
        list[str]: JSON,
        bytes: LargeBinary,
        str: Text,
    }


class Job(Base):
    """One question. Never deleted by the program: its input and results stay readable."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String, primary_key=True)  # job_ + 26 characters that sort by time
    kind: Mapped[str]
    input: Mapped[dict[str, Any]]
    state: Mapped[str]
    priority: Mapped[int]  # higher runs first, -100..100
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime]  # not before this: not_before, or the end of a backoff
    not_before: Mapped[datetime | None]
    deadline: Mapped[datetime | None]
    adapter: Mapped[str | None]
    budget: Mapped[dict[str, Any]]  # tokens, minutes, samples, thinking; absent: the kind's own
    seed: Mapped[int]
    tags: Mapped[list[str]]
    idempotency_key: Mapped[str | None] = mapped_column(String, unique=True)
    request_hash: Mapped[str]  # tells a repeated submit from another one under the same key
    schedule_id: Mapped[str | None] = mapped_column(ForeignKey("schedules.id"))
    late_by_seconds: Mapped[float | None]  # a schedule's missed run, made up for this much later
    attempt: Mapped[int]  # claims so far
    errors: Mapped[int]  # attempts that ended in an error of the job's own
    max_attempts: Mapped[int]
    crashes: Mapped[int]  # claims in a row that a crash ended before anything was saved
    lease_token: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    started_at: Mapped[datetime | None]  # first claim
    finished_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True)
    )  # code, message, facts of the last error
    model: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'"))  # experts and rope, where it wants others
    used_seconds: Mapped[float] = mapped_column(server_default=sql("0"))  # it has run, in all attempts

    __table_args__ = (
        CheckConstraint(_one_of("state", STATES), name="state_known"),
        CheckConstraint("priority BETWEEN -100 AND 100", name="priority_range"),
        CheckConstraint(
            f"({_one_of('state', FINAL_STATES)}) = (finished_at IS NOT NULL)", name="final_has_finished_at"
        ),
        CheckConstraint(
            "(state = 'running') = (lease_token IS NOT NULL) AND (lease_token IS NULL) = (lease_until IS NULL)",
            name="running_has_lease",
        ),
        CheckConstraint("state != 'done' OR result IS NOT NULL", name="done_has_result"),
        CheckConstraint("state != 'failed' OR error IS NOT NULL", name="failed_has_error"),
        CheckConstraint("attempt >= 0 AND errors >= 0 AND crashes >= 0 AND max_attempts >= 1", name="counts"),
        CheckConstraint("length(kind) > 0 AND length(id) > 4", name="named"),
        Index(  # the order of claims: priority, then the nearest deadline, then age
            "ix_jobs_queue",
            sql("priority DESC"),
            sql("(deadline IS NULL)"),
            "deadline",
            "id",
            sqlite_where=sql("state = 'queued'"),
        ),
        Index("ix_jobs_ready_at", "ready_at", sqlite_where=sql("state = 'waiting'")),
        Index("ix_jobs_state_id", "state", "id"),
        Index("ix_jobs_finished_at", "finished_at", sqlite_where=sql("finished_at IS NOT NULL")),
        Index("ix_jobs_deadline", "deadline", sqlite_where=sql("deadline IS NOT NULL AND finished_at IS NULL")),
    )


class Step(Base):
    """A finished step and its result. Written once, in the transaction that ends it; its key forbids a second time."""

    __tablename__ = "steps"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String, primary_key=True)
    result: Mapped[Any] = mapped_column(JSON)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]

    __table_args__ = (CheckConstraint("length(name) > 0 AND finished_at >= started_at", name="sane"),)


class Thought(Base):
    """One call of the model. `prompt` and `token_ids` are the truth a cut thought goes on from; text is set when it ends."""

    __tablename__ = "thoughts"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    name: Mapped[str]  # step name; samples of one step share it
    sample: Mapped[int]
    request_hash: Mapped[str]  # prompt, sampling, limits, model: a changed template begins a new thought
    model_sha256: Mapped[str]
    sampling: Mapped[dict[str, Any]]
    max_tokens: Mapped[int]
    prompt_ids: Mapped[bytes]
    token_ids: Mapped[bytes | None]  # all of them, once finished; before that they are in token_runs
    reason: Mapped[str | None]  # stop, length, minutes
    text: Mapped[str | None]
    reasoning: Mapped[str | None]  # the <think> part, kept apart from the answer
    answer: Mapped[str | None]
    num_prompt_tokens: Mapped[int]
    num_tokens: Mapped[int]  # saved so far
    num_prefilled: Mapped[int]  # computed over all runs, so a resume shows what it cost
    num_resumes: Mapped[int]
    prefill_seconds: Mapped[float]
    decode_seconds: Mapped[float]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("job_id", "name", "sample", "request_hash"),
        CheckConstraint(
            "num_tokens >= 0 AND num_prompt_tokens >= 0 AND max_tokens >= 1 AND sample >= 0", name="counts"
        ),
        CheckConstraint(
            "(finished_at IS NULL) = (reason IS NULL) AND (finished_at IS NULL) = (text IS NULL)"
            " AND (finished_at IS NULL) = (token_ids IS NULL)",
            name="finished_whole",
        ),
        CheckConstraint("token_ids IS NULL OR length(token_ids) = 4 * num_tokens", name="ids_match_count"),
        Index("ix_thoughts_finished_at", "finished_at"),
    )


class TokenRun(Base):
    """Tokens of an unfinished thought, appended as they come. The key makes an overlap impossible; `db/steps.py` refuses
    a gap. `text` is for people watching; ids are the truth."""

    __tablename__ = "token_runs"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    thought_id: Mapped[str] = mapped_column(ForeignKey("thoughts.id", ondelete="CASCADE"))
    first_index: Mapped[int]
    ids: Mapped[bytes]

    __table_args__ = (
        UniqueConstraint("thought_id", "first_index"),
        CheckConstraint("first_index >= 0 AND length(ids) > 0 AND length(ids) % 4 = 0", name="whole_ids"),
        {"sqlite_autoincrement": True},
    )


class Event(Base):
    """What happened, in order; `id` is the cursor of the event stream. `progress` events of a thought are folded into its
    end, so a long night does not leave a row per second behind."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))  # NULL: about the daemon, the night or the corpus
    thought_id: Mapped[str | None] = mapped_column(ForeignKey("thoughts.id"))
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("length(type) > 0", name="typed"),
        Index("ix_events_job_id_id", "job_id", "id"),
        Index("ix_events_at", "at"),
        Index("ix_events_progress", "thought_id", sqlite_where=sql("type = 'progress'")),
        {"sqlite_autoincrement": True},
    )


class Verdict(Base):
    """What a person thinks of a done job's answer. One for each job: a later one replaces it."""

    __tablename__ = "feedback"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    verdict: Mapped[str]  # useful, wrong
    correction: Mapped[str | None]  # what should have been answered
    note: Mapped[str | None]  # why, for people
    at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint(_one_of("verdict", VERDICTS), name="verdict_known"),
        CheckConstraint("correction IS NULL OR verdict = 'wrong'", name="corrects_what_is_wrong"),
        CheckConstraint("length(correction) > 0 AND length(note) > 0", name="says_something"),  # NULL passes
    )


class Night(Base):
    """A window in which jobs ran: opened and closed by the clock, or by a person."""

    __tablename__ = "nights"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    opened_at: Mapped[datetime]
    closes_at: Mapped[datetime | None]  # planned; NULL: until told
    closed_at: Mapped[datetime | None]
    reason: Mapped[str]  # window, always, now

    __table_args__ = (
        CheckConstraint(_one_of("reason", ("window", "always", "now")), name="reason_known"),
        CheckConstraint("closed_at IS NULL OR closed_at >= opened_at", name="forward"),
        Index("uq_nights_open", sql("(closed_at IS NULL)"), unique=True, sqlite_where=sql("closed_at IS NULL")),
        {"sqlite_autoincrement": True},
    )


class Document(Base):
    """A file of the corpus as last read. `path` is relative to the corpus folder, with forward slashes."""

    __tablename__ = "documents"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    path: Mapped[str] = mapped_column(String, unique=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    modified_at: Mapped[datetime]
    title: Mapped[str]
    format: Mapped[str]
    num_pages: Mapped[int | None]
    num_characters: Mapped[int]
    state: Mapped[str]  # indexed, unreadable
    problem: Mapped[str | None]  # why it could not be read, or what was lost
    index_key: Mapped[str | None]  # reader version, embedding model and chunk size it was indexed with
    read_at: Mapped[datetime]
    tags: Mapped[list[Any]] = mapped_column(JSON, server_default=sql("'[]'"))  # what it says of itself

    __table_args__ = (
        CheckConstraint(_one_of("state", ("indexed", "unreadable")), name="state_known"),
        CheckConstraint("state != 'unreadable' OR problem IS NOT NULL", name="unreadable_has_problem"),
        CheckConstraint("length(path) > 0 AND size_bytes >= 0 AND num_characters >= 0", name="sane"),
        {"sqlite_autoincrement": True},
    )


class Passage(Base):
    """A stretch of a document with its place. A row's id is also its id in the vector store."""

    __tablename__ = "passages"

    id: Mapped[str] = mapped_column(
        String, primary_key=True
    )  # from document, place and text: the same text is the same id
    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    text: Mapped[str]
    heading: Mapped[str]  # path of headings, " > " between
    page: Mapped[int | None]  # 1-based; for paged formats
    line: Mapped[int | None]  # 1-based; for text formats
    end_page: Mapped[int | None]
    end_line: Mapped[int | None]
    start: Mapped[int]  # characters in the document's extracted text
    end: Mapped[int]
    places: Mapped[list[Any]] = mapped_column(JSON, server_default=sql("'[]'"))  # (offset, page or line) inside it

    __table_args__ = (
        UniqueConstraint("document_id", "ordinal"),
        CheckConstraint("length(text) > 0 AND start >= 0 AND end > start", name="sane"),
        CheckConstraint("page IS NOT NULL OR line IS NOT NULL", name="has_place"),
    )


class PassageTerms(Base):
    """The search terms of a passage; the full-text index `passage_search` of migration 0002 hangs on these rows."""

    __tablename__ = "passage_terms"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    passage_id: Mapped[str] = mapped_column(ForeignKey("passages.id", ondelete="CASCADE"), unique=True)
    title: Mapped[str]
    heading: Mapped[str]
    text: Mapped[str]

    __table_args__ = ({"sqlite_autoincrement": True},)


class Report(Base):
    """A written report: the data it was made from, so that every format can be made again."""

    __tablename__ = "reports"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    night_id: Mapped[int | None] = mapped_column(ForeignKey("nights.id"))
    since: Mapped[datetime]
    until: Mapped[datetime]
    created_at: Mapped[datetime]
    data: Mapped[dict[str, Any]]

    __table_args__ = (CheckConstraint("until >= since", name="forward"), Index("ix_reports_created_at", "created_at"))


class Schedule(Base):
    """A job that comes back by the clock. `next_at` is the run that is due; a missed one runs once, late, and says so."""

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str] = mapped_column(String, unique=True)
    cron: Mapped[str]
    job: Mapped[dict[str, Any]]  # the job to submit: kind, input, priority, tags ...
    active: Mapped[bool]
    created_at: Mapped[datetime]
    last_at: Mapped[datetime | None]
    next_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("length(cron) > 0 AND length(name) > 0", name="named"),)


class Fact(Base):
    """Small things the daemon must remember by name: the model's first-seen hash, the instance that holds the leases."""

    __tablename__ = "facts"

    key: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
