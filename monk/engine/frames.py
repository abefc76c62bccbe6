"""KV of one sequence as llama.cpp writes it, framed so that any other context takes it.

llama.cpp writes, per memory: u32 number of streams, then for each stream a u32 count of cells and the cells. A unified
context has one stream, a context of streams one for each slot, of which all but one are empty here. Only these few
bytes differ, and they lie before and behind the cells: an image keeps room on both sides, so that changing the frame of
several gigabytes copies nothing.

    u32 magic, i32 sequence | u32 streams, u32 0 for each stream before | cells | u32 0 for each stream behind

Works on bytes (llama-kv-cache.cpp, state_write). Holds for memories that are one cache: no sliding window, not hybrid.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Blob = npt.NDArray[np.uint8]

HEAD_BYTES = 8  # magic and sequence id
COUNT_BYTES = 4
MOST_STREAMS = 256
MARGIN_BYTES = HEAD_BYTES + COUNT_BYTES * (1 + MOST_STREAMS)


def empty_buffer(num_bytes: int) -> Blob:
    """Room for that many bytes from MARGIN_BYTES on, with a margin on both sides."""
    return np.empty(num_bytes + 2 * MARGIN_BYTES, np.uint8)


class Image:
    """The KV of one sequence, or of a stretch of it. `head`: what llama.cpp wrote first."""

    def __init__(self, buffer: Blob, start: int, end: int, head: Blob) -> None:
        self._buffer = buffer
        self._start, self._end = start, end  # the cells
        self._head = head.copy()

    @classmethod
    def read(cls, buffer: Blob, start: int, end: int) -> Image:
        """From what llama.cpp wrote into buffer[start:end]. Raises ValueError when that is no such thing."""
        place = start + HEAD_BYTES
        num_streams = _count(buffer, place, end)
        if not 1 <= num_streams <= MOST_STREAMS:
            raise ValueError(f"KV image with {num_streams} streams")
        head, place = buffer[start:place], place + COUNT_BYTES
        before = 0
        while before < num_streams - 1 and _count(buffer, place, end) == 0:
            before, place = before + 1, place + COUNT_BYTES
        behind = COUNT_BYTES * (num_streams - 1 - before)
        if end - behind < place + COUNT_BYTES:
            raise ValueError(f"KV image of {end - start} bytes is cut off")
        return cls(buffer, place, end - behind, head)

    @classmethod
    def of(cls, payload: Blob) -> Image:
        """From what `payload` of another one gave. Raises ValueError."""
        return cls.read(payload, 0, len(payload))

    @property
    def payload(self) -> Blob:
        """The bytes of a unified context; a view, good until the image is framed again."""
        return self.framed(1)

    @property
    def num_bytes(self) -> int:
        return self._end - self._start

    def framed(self, num_streams: int) -> Blob:
        """The bytes for a context with so many streams; a view, good until the image is framed again."""
        tail = COUNT_BYTES * (num_streams - 1)
        front = HEAD_BYTES + COUNT_BYTES
        if self._start < front or self._end + tail > len(self._buffer) or not self._buffer.flags.writeable:
            self._move_to_roomier_buffer()
        first, last = self._start - front, self._end + tail
        self._buffer[first : first + HEAD_BYTES] = self._head
        self._buffer[first + HEAD_BYTES : self._start] = np.array([num_streams], "<u4").view(np.uint8)
        self._buffer[self._end : last] = 0
        return self._buffer[first:last]

    def _move_to_roomier_buffer(self) -> None:
        roomier = empty_buffer(self.num_bytes)
        roomier[MARGIN_BYTES : MARGIN_BYTES + self.num_bytes] = self._buffer[self._start : self._end]
        self._start, self._end = MARGIN_BYTES, MARGIN_BYTES + self.num_bytes
        self._buffer = roomier


def _count(buffer: Blob, place: int, end: int) -> int:
    if place + COUNT_BYTES > end:
        raise ValueError("KV image is cut off")
    return int(buffer[place : place + COUNT_BYTES].view("<u4")[0])
