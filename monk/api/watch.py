"""One ear for all event streams: a thread waits for the ring of a commit and wakes the streams, which then read for
themselves, each from its own cursor. A slow client holds nothing but its cursor; with no client there is no thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from db.bell import ring, wait_for_ring
from db.events import Events

LISTEN_SECONDS = 0.5  # the longest an event without a ring (another thread's forgetting, another process) stays unheard


class Watch:
    """Used from one event loop; `close` may be called from any thread."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._flags: set[asyncio.Event] = set()
        self._listening = False
        self.closed = False

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """A flag that is set after every commit, and when the server closes. Clear it, read, then wait for it."""
        flag = asyncio.Event()
        with self._lock:
            self._flags.add(flag)
            begin, self._listening = not self._listening, True
        if begin:
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._listen, args=(loop,), name="watch", daemon=True).start()
        try:
            yield flag
        finally:
            with self._lock:
                self._flags.discard(flag)

    def close(self) -> None:
        """End all streams, so that the server can stop at once."""
        self.closed = True
        ring()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        rings, newest = -1, -1
        while self._wanted():
            rings = wait_for_ring(rings, LISTEN_SECONDS)
            found = self._newest(newest)
            if found == newest and not self.closed:
                continue
            newest = found
            try:
                loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop has ended, and its streams with it
                return

    def _wanted(self) -> bool:
        with self._lock:
            self._listening = bool(self._flags)
            return self._listening

    def _newest(self, before: int) -> int:
        try:
            return self._events.newest()
        except Exception:  # the rim: what cannot be read now may be readable again; the streams must outlive it
            return before

    def _wake(self) -> None:
        with self._lock:
            flags = list(self._flags)
        for flag in flags:
            flag.set()
