"""What happens when a night opens, closes, or sees a morning go by. The night says when; nothing here looks at a clock.

Opening reads what is new in the corpus first, so that no answer misses what was put there by day; the model loads meanwhile.
Closing saves and pauses every job, gives the model's memory back, and writes the report. So does holding, when others need
the machine, but without a report; what was paused goes on when the machine is free again, if the night is still open.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from db.models import Night as NightRow
from monk.engine.client import EngineClient
from monk.reading import Reader
from monk.services import Reporter
from monk.workers import Workers

logger = logging.getLogger(__name__)
LOOK_SECONDS = 1.0


class Turns:
    """The night's callbacks, in the order they come."""

    def __init__(
        self,
        workers: Workers,
        reader: Reader,
        engine: EngineClient,
        pause_seconds: float,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`warn`: puts a line into the report."""
        self._warn = warn
        self._workers = workers
        self._reader = reader
        self._engine = engine
        self._reporter: Reporter | None = None
        self._pause_seconds = pause_seconds
        self._open = threading.Event()
        self._turning = threading.Lock()  # the clock and the pressure watch call from threads of their own
        self.held: str | None = None  # why the jobs pause in the middle of a night

    def report_with(self, reporter: Reporter) -> None:
        """Who writes the report; it needs the night, which needs these callbacks."""
        self._reporter = reporter

    def opened(self, night: NightRow) -> None:
        """Read, load, then let jobs run. Returns at once: reading a new corpus may take hours, and the night may close."""
        logger.info("night opened", extra={"night": night.id, "reason": night.reason, "closes_at": night.closes_at})
        with self._turning:
            self._open.set()
            self._reader.request_sync()
            if self.held is None:
                self._begin()

    def closed(self, night: NightRow) -> None:
        """Pause, unload, report."""
        with self._turning:
            self._open.clear()
            self._pause("the night closed")
        logger.info("night closed", extra={"night": night.id})
        self._report()

    def hold(self, why: str) -> None:
        """Save and pause all jobs and give the model's memory back until `release`."""
        with self._turning:
            self.held = why
            if self._open.is_set():
                logger.warning("jobs are held", extra={"reason": why})
                self._warn(f"the jobs were paused and the model's memory given back: {why}")
                self._pause(why)

    def release(self) -> None:
        """The machine is free again."""
        with self._turning:
            self.held = None
            if self._open.is_set():
                logger.info("jobs go on")
                self._begin()

    def morning(self, night: NightRow) -> None:
        """A report in the middle of a night that lasts for days."""
        self._report()

    def abandoned(self) -> None:
        """The daemon stops: whatever was about to begin does not."""
        self._open.clear()

    def _report(self) -> None:
        if self._reporter is not None:
            self._reporter.write(None, None)

    def _begin(self) -> None:
        self._engine.start()
        threading.Thread(target=self._let_run, name="opening", daemon=True).start()

    def _pause(self, why: str) -> None:
        self._workers.close(self._pause_seconds, why)
        self._engine.stop()

    def _let_run(self) -> None:
        while self._open.is_set() and self.held is None:
            if not self._reader.wait_idle(LOOK_SECONDS):
                continue
            with self._turning:
                if self._open.is_set() and self.held is None:
                    self._workers.open()
            return
