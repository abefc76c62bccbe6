"""KV blocks on their way from the engine to the thread that writes them: a few, because each is hundreds of megabytes.

Knows no disk. One thread takes, any thread offers.
"""

from __future__ import annotations

import threading
from collections import deque

from monk.engine.kv_block import Block


class BlockQueue:
    """Holds at most `most_blocks` and the one being written. An offer waits once for room; after it waited in vain no
    offer waits until there is room again, so a hanging disk costs the engine `wait_seconds` and not that per block."""

    def __init__(self, most_blocks: int, wait_seconds: float) -> None:
        self._most_blocks = most_blocks
        self._wait_seconds = wait_seconds
        self._waiting: deque[Block] = deque()
        self._busy = ""  # the key of the block taken last, until `done`
        self._behind = False
        self._closed = False
        self._changed = threading.Condition()

    def __contains__(self, key: str) -> bool:
        """Whether the block waits or is being written."""
        with self._changed:
            return self._busy == key or any(block.key == key for block in self._waiting)

    def offer(self, block: Block) -> bool:
        """False if there was no room in time, or the queue is closed."""
        with self._changed:
            if not self._behind:
                self._behind = not self._changed.wait_for(self._answers, self._wait_seconds)
            if self._closed or not self._has_room():
                return False
            self._behind = False
            self._waiting.append(block)
            self._changed.notify_all()
            return True

    def take(self) -> Block | None:
        """Waits for the next block; None when closed and empty. `done` follows."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            block = self._waiting.popleft()
            self._busy = block.key
            self._changed.notify_all()
            return block

    def done(self) -> None:
        """The block taken last is written or given up."""
        with self._changed:
            self._busy = ""
            self._changed.notify_all()

    def wait_empty(self, timeout_seconds: float) -> bool:
        """False if blocks still wait or are being written after that time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_seconds)

    def close(self) -> None:
        """Take no more offers; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return len(self._waiting) < self._most_blocks

    def _answers(self) -> bool:
        return self._closed or self._has_room()
