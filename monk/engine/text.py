"""From token bytes to text that may be shown: whole characters only, nothing that may still become a stop string.

Works on bytes and strings. Never sees token ids or the model. Replaying the same pieces releases the same text at the
same piece, so a resumed answer goes on exactly where its text was cut.
"""

from __future__ import annotations

import codecs


class TextStream:
    """The text of one answer as it grows. `text` was released so far; `stopped` tells that a stop string came."""

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._stop = tuple(word for word in stop if word)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._released: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        return "".join(self._released)

    def push(self, piece: bytes, *, listens: bool = True) -> str:
        """Add one token's bytes; returns the text this releases, possibly none. `listens`: stop strings count here."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(piece)
        if not listens:
            return self._release(len(self._held))
        end = self._first_stop()
        if end is not None:
            self.stopped = True
            return self._release(end, drop_rest=True)
        return self._release(len(self._held) - self._undecided())

    def finish(self) -> str:
        """Release what was held back. Bytes of a character that never became whole are left out."""
        return self._release(len(self._held))

    def _first_stop(self) -> int | None:
        places = [place for word in self._stop if (place := self._held.find(word)) >= 0]
        return min(places, default=None)

    def _undecided(self) -> int:
        """Length of the longest tail that a stop string may begin with."""
        longest = max((len(word) for word in self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(word.startswith(self._held[-length:]) for word in self._stop):
                return length
        return 0

    def _release(self, end: int, *, drop_rest: bool = False) -> str:
        out = self._held[:end]
        self._held = "" if drop_rest else self._held[end:]
        if out:
            self._released.append(out)
        return out
