"""Calls back in order: one at a time, on a thread of its own, outside every lock. Knows nothing of what it calls."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class InOrder:
    """A queue of calls. A failing one is logged and the next goes on."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name=name, daemon=True
        )  # daemon: a hung call cannot hold the exit
        self._thread.start()

    def call(self, work: Callable[[], None]) -> None:
        """Soon, after all earlier ones. Returns at once."""
        self._calls.put(work)

    def stop(self, timeout_seconds: float) -> bool:
        """Finish what was asked for. False: it did not end in time and is abandoned with the process."""
        self._calls.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._calls.get()) is not None:
            try:
                work()
            except Exception:  # whoever is called back must not take the caller's thread down
                logger.exception("a callback failed", extra={"callback": getattr(work, "__qualname__", repr(work))})
