"""The stream of one thought as its reader sees it: what an engine puts in comes out once, in order, to the end."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator

from monk.engine.client import Finished, Message
from monk.errors import MonkError


class Mailbox:
    """A `Stream`. The engine calls `put` from its own thread; one reader iterates; anyone may cancel."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._items: queue.SimpleQueue[Message | MonkError] = queue.SimpleQueue()
        self._ended = False

    def put(self, item: Message | MonkError) -> None:
        self._items.put(item)

    def __iter__(self) -> Iterator[Message]:
        while not self._ended:
            message = self.receive(None)
            if message is not None:
                yield message

    def receive(self, timeout: float | None) -> Message | None:
        """The next message, or None after `timeout` seconds; None at once when the stream has ended."""
        if self._ended:
            return None
        try:
            item = self._items.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, MonkError):
            self._ended = True
            raise item
        self._ended = isinstance(item, Finished)
        return item

    def result(self, timeout: float) -> Finished:
        """Skip to the end. Raises what the stream raises, or TimeoutError."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if isinstance(message, Finished):
                return message
        raise TimeoutError

    def cancel(self) -> None:
        self._cancel()
