"""Keeps what happens to the engine, for the report: when it started, died, came back, and how much memory it had at most."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from db.events import Events
from monk.engine.client import EngineClient, EngineStatus


class EngineDiary:
    """`look` is called now and then; counts make sure that nothing between two looks is missed."""

    def __init__(self, engine: EngineClient, events: Events, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._events = events
        self._now = now
        self._last = engine.status()
        self._peak_bytes = 0

    def look(self) -> None:
        """Write down what changed since the last look."""
        status = self._engine.status()
        self._peak_bytes = max(self._peak_bytes, status.rss_bytes)
        for what, more in self._changes(self._last, status):
            self._events.tell("engine", {"what": what, **more}, self._now())
        self._last = status

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
