"""Keeps the index in step with the corpus folder: one sync at a time, in a thread of its own, asked for by anyone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from corpus.library import Library
from corpus.sync_report import SyncProgress
from db.events import Events
from monk.errors import HomeUnusable, MonkError

logger = logging.getLogger(__name__)


class Reader:
    """`request_sync` from any thread; `progress` says where it is."""

    def __init__(self, library: Library, events: Events, now: Callable[[], datetime]) -> None:
        self._library = library
        self._events = events
        self._now = now
        self._changed = threading.Condition()
        self._asked = False
        self._rebuild = False
        self._stopped = threading.Event()
        self._progress: dict[str, Any] = {
            "state": "idle",
            "files_done": 0,
            "files_total": 0,
            "passages": 0,
            "error": None,
            "code": None,
            "last": None,
        }
        self._thread = threading.Thread(target=self._loop, name="reader", daemon=True)

    def start(self) -> None:
        """Begin waiting for requests."""
        self._thread.start()

    def request_sync(self, *, rebuild: bool = True) -> None:
        """Begin a sync soon; a running one is followed by another, because the folder may have changed behind it.

        Without `rebuild`, what only an older embedding model has read waits for the next request with it: the night's.
        """
        with self._changed:
            self._asked = True
            self._rebuild |= rebuild
            self._progress["state"] = "reading"
            self._changed.notify_all()

    def progress(self) -> dict[str, Any]:
        """A copy of where the sync is; `last` is the report of the newest one that ended."""
        with self._changed:
            return dict(self._progress)

    def wait_idle(self, seconds: float) -> bool:
        """Whether no sync is asked for or running, within `seconds`."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: self._progress["state"] != "reading", timeout=seconds))

    def stop(self) -> None:
        """End the running sync at its next file; it goes on at the next one."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                rebuild, self._asked, self._rebuild = self._rebuild, False, False
            self._sync(rebuild)

    def _sync(self, rebuild: bool) -> None:
        try:
            report = self._library.sync(self._note, self._stopped.is_set, rebuild=rebuild).to_json()
            if any(report.get(key) for key in ("added", "updated", "removed", "unreadable")):
                self._events.tell("corpus", report, self._now())
            self._ended(error=None, code=None, last=report)
        except MonkError as exc:
            logger.error("the corpus cannot be read", extra={"reason": exc.message})
            self._warn(exc.message)
            self._ended(error=exc.message, code=exc.code)
        except Exception as exc:
            logger.exception("reading the corpus failed")
            self._ended(error=f"{type(exc).__name__}: {exc}", code="internal")

    def _warn(self, message: str) -> None:
        """Put it into the report; a full disk, which may be the very reason, must not end this thread."""
        try:
            self._events.tell("warning", {"what": "corpus", "message": message}, self._now())
        except HomeUnusable as exc:
            logger.error("a warning cannot be written", extra={"reason": exc.message})

    def _note(self, at: SyncProgress) -> None:
        with self._changed:
            self._progress.update(files_done=at.done, files_total=at.total, passages=at.num_passages)

    def _ended(self, *, error: str | None, code: str | None, **more: Any) -> None:
        with self._changed:
            state = "reading" if self._asked else "failed" if error else "idle"
            self._progress.update(state=state, error=error, code=code, **more)
            self._changed.notify_all()
