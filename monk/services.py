"""What the daemon is made of, handed as one thing to the HTTP side. Assembled in `daemon.py`; tests assemble smaller ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from db.database import Database
from db.events import Events
from db.models import Job, Night, Report, Schedule
from db.queue import NewJob, Queue
from db.records import Nights, Reports
from db.steps import Steps
from jobs.registry import Kinds
from monk.engine.client import EngineClient, ModelUse
from monk.engine.model_use import check_ranges
from monk.lora.shelf import Shelf
from monk.settings import Settings

if TYPE_CHECKING:
    from corpus.library import Library
    from monk.reach.record import Reach


def utc_now() -> datetime:
    """The one clock of the daemon."""
    return datetime.now(UTC)


class NightKeeper(Protocol):
    """Opens and closes the window in which jobs run; `monk/night.py` does it by the clock."""

    def current(self) -> Night | None:
        """The open night, or None by day."""
        ...

    def next_open_at(self) -> datetime | None:
        """When the next night opens by the clock; None: never. An instant in the past or now when one is open."""
        ...

    def open_now(self, until: datetime | None) -> Night:
        """Open a night at once, until a moment or until closed by a person. An open one gets the new end."""
        ...

    def close_now(self) -> Night | None:
        """Close the open night: running thoughts are saved and paused. None when none is open."""
        ...


class Reporter(Protocol):
    """Makes the morning report; `monk/report/` does."""

    def write(self, since: datetime | None, until: datetime | None) -> Report:
        """Gather, keep and write the files (.md, .html, .json). None: since the end of the last night's report, until now."""
        ...

    def render(self, report: Report, format_: str) -> str:
        """A kept report as "md", "html" or "json"."""
        ...


class Reading(Protocol):
    """Keeps the index of the corpus in step with its folder; one run at a time, in a thread of its own."""

    def request_sync(self) -> None:
        """Begin a sync soon; a running one is followed by another."""
        ...

    def progress(self) -> dict[str, Any]:
        """{"state": "idle"|"reading"|"failed", "files_done", "files_total", "passages", "error", "code", "last"}.

        `last` is the SyncReport of the newest sync that ended; `error` and its `code` are of one that failed."""
        ...


class Forecaster(Protocol):
    """Says when a job will run."""

    def of(self, job: Job) -> tuple[int | None, dict[str, str | None]]:
        """(position, {"starts_at", "ends_at"}): RFC 3339 with offset, or None where nothing is known yet."""
        ...


class Timetable(Protocol):
    """Jobs that come back by the clock; `monk/schedules.py` keeps them."""

    def add(self, name: str, cron: str, job: dict[str, Any]) -> Schedule:
        """Keep a job and when it comes. Raises InvalidInput, UnknownKind, or Conflict when the name is taken."""
        ...

    def remove(self, name: str) -> Schedule:
        """Stop a schedule by name or id; its jobs stay. Raises NotFound."""
        ...

    def listing(self) -> list[Schedule]:
        """All that are active, by name."""
        ...


@dataclass(frozen=True)
class Services:
    """The parts of a running daemon."""

    settings: Settings
    database: Database
    queue: Queue
    steps: Steps
    events: Events
    nights: Nights
    reports: Reports
    timetable: Timetable
    kinds: Kinds
    shelf: Shelf
    engine: EngineClient
    library: Library
    night: NightKeeper
    reporter: Reporter
    reading: Reading
    forecaster: Forecaster
    started_at: datetime
    now: Callable[[], datetime] = utc_now
    problem: Callable[[], str | None] = lambda: None  # what keeps jobs from running, in a line
    check_model: Callable[[ModelUse], None] = check_ranges  # raises InvalidInput for settings the model cannot run with
    foresee: Callable[[NewJob], list[str]] = (
        lambda new: []
    )  # warnings of a job that was stored; may wait for the engine
    reach: Callable[[], Reach | None] = lambda: None  # how long a prompt the house's model finds things in
    work_came: Callable[[], None] = lambda: None  # a job was stored: the dispatcher need not wait for its next round
