"""Writes reports and shows kept ones. A report is kept in the database first; its files can be made again at any time."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Protocol

from db.database import Database
from db.events import Events
from db.models import Report
from db.records import Reports
from db.reporting import Reporting, Told, Window
from monk.engine.client import EngineClient
from monk.errors import HomeUnusable, InvalidInput
from monk.report.compose import view
from monk.report.files import FORMATS, ReportFolder
from monk.report.gather import Surroundings, gather
from monk.report.html import to_page
from monk.report.markdown import to_text
from monk.report.scrub import one_line
from monk.report.words import from_json
from monk.services import Forecaster, NightKeeper, utc_now

logger = logging.getLogger(__name__)


class Embedded(Protocol):
    """What the report names of the library; `corpus.library.LibraryStatus` has it."""

    @property
    def embedding_model(self) -> str: ...


class Shelf(Protocol):
    """The library, as far as the report looks at it."""

    def status(self) -> Embedded: ...


class MorningReporter:
    """A Reporter (`services.py`). Safe from any thread; one report is written at a time."""

    def __init__(
        self,
        database: Database,
        *,
        folder: Path,
        zone: tzinfo,
        engine: EngineClient,
        library: Shelf,
        forecaster: Forecaster,
        night: NightKeeper,
        links: str | None = None,
        take_notes: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`folder` holds the files; `zone` is the night's; `links`: what a link to `/corpus/passages` begins with.

        `take_notes` is called before a report: what the database does not know yet is written down now.
        """
        self._take_notes = take_notes
        self._reporting = Reporting(database)
        self._reports = Reports(database)
        self._events = Events(database)
        self._folder = ReportFolder(folder)
        self._zone = zone
        self._engine = engine
        self._forecaster = forecaster
        self._library = library
        self._night = night
        self._links = links
        self._now = now
        self._writing = threading.Lock()

    def write(self, since: datetime | None, until: datetime | None) -> Report:
        """Gather, keep, and write the files.

        since None: go on where the last such report stopped, so that each end of a job is told exactly once; the first
        begins at the beginning. A given `since` makes a report beside that chain. until None: now. Files that cannot be
        written are a warning and no error: the report is kept. Raises HomeUnusable when it cannot be kept.
        """
        with self._writing:
            self._take_notes()
            now = self._now()
            window, told = self._window(since, until)
            data = gather(self._reporting, window, told, self._surroundings(now))
            name = self._folder.free_name(from_json(data["until"]).date())
            data["files"] = [f"{name}.{format_}" for format_ in FORMATS]
            report = self._reports.save(data, from_json(data["since"]), from_json(data["until"]), _night_id(data), now)
            self._deliver(report, name, now)
        logger.info("report written", extra={"report_id": report.id, "name_": name, "empty": data["empty"]})
        return report

    def render(self, report: Report, format_: str) -> str:
        """A kept report as "md", "html" or "json", ending in a newline. Raises InvalidInput for another format."""
        if format_ == "json":
            return json.dumps({"id": report.id, **report.data}, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        if format_ == "md":
            return to_text(view(report.data))
        if format_ == "html":
            return to_page(view(report.data))
        raise InvalidInput(f"format {one_line(format_, 40)!r} is unknown; use md, html or json", param="format")

    def _window(self, since: datetime | None, until: datetime | None) -> tuple[Window, Told | None]:
        told = self._reporting.last_told()
        if since is not None:
            return Window(0, since, until, chained=False), told
        if told is None:
            return Window(0, None, until), None
        return Window(told.last_event, told.until, until), told

    def _deliver(self, report: Report, name: str, now: datetime) -> None:
        try:
            self._folder.deliver(name, {format_: self.render(report, format_) for format_ in FORMATS})
        except HomeUnusable as exc:
            logger.error("the report's files cannot be written", extra={"report_id": report.id, "reason": exc.message})
            self._events.tell("warning", {"what": "report", "message": exc.message}, now)

    def _surroundings(self, now: datetime) -> Surroundings:
        embedding_model = one_line(self._library.status().embedding_model, 200)
        opens_at = self._night.next_open_at()
        return Surroundings(
            self._zone, now, opens_at, self._engine_facts(), embedding_model, self._forecaster, self._links
        )

    def _engine_facts(self) -> dict[str, Any]:
        status = self._engine.status()
        card = status.model
        return {
            "state": status.state,
            "model": one_line(card.name, 200) if card else None,
            "context_tokens": card.context if card else None,
            "slots": card.slots if card else None,
            "memory_bytes": status.rss_bytes or None,
            "last_error": one_line(status.last_error) or None,
        }


def _night_id(data: dict[str, Any]) -> int | None:
    return data["night"]["id"] if data["night"] else None
