"""Keeps what happens to the engine, for the report: when it started, died, came back, how much memory it had at most, and
what it did not have to compute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from db.events import Events
from monk.engine.client import EngineClient, EngineStatus
from monk.engine.spared import Spared

SPARED_SECONDS = 60.0  # while the engine works, what it spared is written down this often: a crash loses no more of it


class EngineDiary:
    """`look` is called now and then; counts make sure that nothing between two looks is missed."""

    def __init__(self, engine: EngineClient, events: Events, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._events = events
        self._now = now
        self._last = engine.status()
        self._peak_bytes = 0
        self._spared = Spared.of(self._last)
        self._spared_at = time.monotonic()
        self._looking = threading.Lock()

    def look(self, *, last: bool = False) -> None:
        """Write down what changed since the last look. `last`: a report is about to be made, nothing may wait."""
        with self._looking:
            self._look(last)

    def _look(self, last: bool) -> None:
        status = self._engine.status()
        self._peak_bytes = max(self._peak_bytes, status.rss_bytes)
        for what, more in self._changes(self._last, status):
            self._events.tell("engine", {"what": what, **more}, self._now())
        self._last = status
        busy = bool(status.active or status.waiting)
        if last or not busy or time.monotonic() - self._spared_at >= SPARED_SECONDS:
            self._note_spared(Spared.of(status))

    def _note_spared(self, spared: Spared) -> None:
        new = spared.since(self._spared)
        self._spared_at = time.monotonic()
        if not new.nothing:
            self._events.tell("engine", {"what": "spared", **asdict(new)}, self._now())
            self._spared = spared

    def _changes(self, before: EngineStatus, after: EngineStatus) -> list[tuple[str, dict[str, Any]]]:
        changes: list[tuple[str, dict[str, Any]]] = []
        deaths = after.num_restarts - before.num_restarts
        if deaths > 0:
            changes.append(("died", {"times": deaths, "error": after.last_error}))
        if after.state == before.state and not deaths:
            return changes
        if after.state == "ready" and after.model is not None:
            told = {"model": after.model.name, "pid": after.pid}
            changes.append(("restarted" if deaths or before.state == "restarting" else "started", told))
        elif after.state == "failed":
            changes.append(("failed", {"error": after.last_error}))
        elif after.state == "off" and before.state != "off":
            changes.append(("stopped", {"peak_rss_bytes": self._peak_bytes}))
            self._peak_bytes = 0
        return changes
