"""A daemon's parts without a model: real tables in a real home, small real stand-ins for the rest."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from corpus.retrieval import EVERYWHERE, Hit
from db.database import Database
from db.events import Events
from db.library import DocumentFilter
from db.models import Job, Night, Report
from db.outlook import Outlook
from db.queue import NewJob, Queue
from db.records import Nights, Reports, Schedules
from db.steps import Steps
from jobs.registry import Kinds
from monk.alarms import Alarms
from monk.engine.client import EngineStatus
from monk.forecast import Forecast
from monk.lora.shelf import Shelf
from monk.schedules import Clockwork
from monk.services import Services, utc_now
from monk.settings import Settings, load
from monk.windows import Calendar


class IdleEngine:
    """Is loaded with nothing and asked nothing."""

    def status(self) -> EngineStatus:
        return EngineStatus(
            state="ready",
            pid=4242,
            model=None,
            num_restarts=2,
            last_error=None,
            active=1,
            waiting=3,
            rss_bytes=123_456,
            prefill_tokens=1000,
            decode_tokens=50,
            prefill_seconds=2.0,
            decode_seconds=10.0,
            beat_at=time.monotonic(),
        )


class SmallLibrary:
    """One passage, found for every question that shares a word with it."""

    text = "Decoding is bound by memory bandwidth, not by arithmetic."

    def search(self, query: str, k: int = 8, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        if not set(query.lower().split()) & set(self.text.lower().split()):
            return []
        hit = Hit(
            passage_id="passage_1",
            score=0.75,
            file="handbook.md",
            title="Handbook",
            heading="Decode",
            page=None,
            line=12,
            end_page=None,
            end_line=12,
            text=self.text,
            start=0,
            end=len(self.text),
            format="markdown",
            places=(),
        )
        return [] if only.folder or only.tags else [hit][:k]


class HandNight:
    """Opens and closes when told; by the clock never."""

    def __init__(self, nights: Nights) -> None:
        self._nights = nights

    def current(self) -> Night | None:
        return self._nights.current()

    def next_open_at(self) -> datetime | None:
        return None

    def open_now(self, until: datetime | None) -> Night:
        return self._nights.open("now", until, utc_now())

    def close_now(self) -> Night | None:
        return self._nights.close(utc_now())


class PlainReporter:
    """A report of one line."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def write(self, since: datetime | None, until: datetime | None) -> Report:
        now = utc_now()
        return self._reports.save({"line": "a quiet night"}, since or now - timedelta(hours=9), until or now, None, now)

    def render(self, report: Report, format_: str) -> str:
        line = report.data["line"]
        return {"md": f"# {line}\n", "html": f"<!doctype html><p>{line}</p>", "json": f'{{"line": "{line}"}}'}[format_]


class CountedReading:
    """Counts how often it was asked to read."""

    asked = 0

    def request_sync(self) -> None:
        self.asked += 1

    def progress(self) -> dict[str, Any]:
        state = "reading" if self.asked else "idle"
        return {
            "state": state,
            "files_done": 0,
            "files_total": 0,
            "passages": 0,
            "error": None,
            "code": None,
            "last": None,
        }


def small_house(database: Database, **settings: Any) -> Services:
    """The services over a migrated database; settings as flags."""
    chosen: Settings = load({}, home=database.path.parent, night="always", timezone="UTC", **settings)
    kinds = Kinds(database.path.parent / "jobs")
    shelf = Shelf(database.path.parent / "adapters")
    queue, nights, reports = Queue(database), Nights(database), Reports(database)
    keeper = HandNight(nights)
    calendar = Calendar.parse(chosen.night, chosen.night_days, chosen.timezone)
    return Services(
        settings=chosen,
        database=database,
        queue=queue,
        steps=Steps(database),
        events=Events(database),
        nights=nights,
        reports=reports,
        timetable=Clockwork(Schedules(database), kinds, shelf, Alarms(), zone=chosen.timezone),
        kinds=kinds,
        shelf=shelf,
        engine=IdleEngine(),  # type: ignore[arg-type]  # what HTTP asks of an engine is its status
        library=SmallLibrary(),  # type: ignore[arg-type]  # and of the library a search
        night=keeper,
        reporter=PlainReporter(reports),
        reading=CountedReading(),
        forecaster=Forecast(Outlook(database), keeper, calendar, chosen.jobs_at_once, utc_now),
        started_at=utc_now(),
    )


def a_job(question: str = "What bounds decoding?", **more: Any) -> NewJob:
    """An `answer` job as the queue takes it."""
    return replace(NewJob(kind="answer", input={"question": question, "passages": 6}), **more)


def exact_position(database: Database, job: Job) -> int:
    """How many queued jobs go before this one, by looking at every one of them: what quicker answers are measured by."""

    def turn(one: Job) -> tuple[int, bool, datetime | None, str]:
        return (-one.priority, one.deadline is None, one.deadline, one.id)

    with database.read() as session:
        return sum(turn(other) < turn(job) for other in session.scalars(select(Job).where(Job.state == "queued")))


def run_to_the_end(services: Services, answer: str = "Bandwidth.") -> Job:
    """Claim the next job and finish it, as a worker would."""
    job = services.queue.claim(utc_now(), 60.0)
    assert job is not None
    services.queue.finish(job, {"answer": answer, "citations": []}, utc_now())
    return services.queue.get(job.id)


def opened(home: Path) -> Database:
    """A migrated database in a home."""
    home.mkdir(parents=True, exist_ok=True)
    database = Database(home / "monk.sqlite")
    database.migrate()
    return database
