"""What happens when a night opens, closes, or sees a morning go by. The night says when; nothing here looks at a clock.

Opening reads what is new in the corpus first, so that no answer misses what was put there by day; the model loads meanwhile.
Closing saves and pauses every job, gives the model's memory back, and writes the report.
"""

from __future__ import annotations

import logging
import threading

from db.models import Night as NightRow
from monk.engine.client import EngineClient
from monk.reading import Reader
from monk.services import Reporter
from monk.workers import Workers

logger = logging.getLogger(__name__)
LOOK_SECONDS = 1.0


class Turns:
    """The night's callbacks, in the order they come."""

    def __init__(self, workers: Workers, reader: Reader, engine: EngineClient, pause_seconds: float) -> None:
        self._workers = workers
        self._reader = reader
        self._engine = engine
        self._reporter: Reporter | None = None
        self._pause_seconds = pause_seconds
        self._open = threading.Event()

    def report_with(self, reporter: Reporter) -> None:
        """Who writes the report; it needs the night, which needs these callbacks."""
        self._reporter = reporter

    def opened(self, night: NightRow) -> None:
        """Read, load, then let jobs run. Returns at once: reading a new corpus may take hours, and the night may close."""
        logger.info("night opened", extra={"night": night.id, "reason": night.reason, "closes_at": night.closes_at})
        self._open.set()
        self._reader.request_sync()
        self._engine.start()
        threading.Thread(target=self._let_run, name="opening", daemon=True).start()

    def closed(self, night: NightRow) -> None:
        """Pause, unload, report."""
        self._open.clear()
        self._workers.close(self._pause_seconds)
        self._engine.stop()
        logger.info("night closed", extra={"night": night.id})
        self._report()

    def morning(self, night: NightRow) -> None:
        """A report in the middle of a night that lasts for days."""
        self._report()

    def abandoned(self) -> None:
        """The daemon stops: whatever was about to begin does not."""
        self._open.clear()

    def _report(self) -> None:
        if self._reporter is not None:
            self._reporter.write(None, None)

    def _let_run(self) -> None:
        while self._open.is_set():
            if self._reader.wait_idle(LOOK_SECONDS):
                if self._open.is_set():
                    self._workers.open()
                return
