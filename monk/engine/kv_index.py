"""Which KV blocks are held, what they are worth and which would go first. All in memory: some 500 bytes per block.

Knows no files. Every method is atomic and may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from monk.engine import kv_worth
from monk.engine.kv_worth import Weighed


@dataclass(slots=True)
class Entry:
    """One block on the disk."""

    parent: str
    num_bytes: int  # of its file
    num_tokens: int
    seconds: float
    standing_at: float  # its uses as one moment, see kv_worth.standing_after


class Index:
    """From the key of a block to its entry."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._num_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def num_bytes(self) -> int:
        """Of all files together."""
        return self._num_bytes

    def leading(self, keys: Sequence[str]) -> int:
        """How many of the keys, from the first on, are held."""
        with self._lock:
            return next((index for index, key in enumerate(keys) if key not in self._entries), len(keys))

    def carries(self, parent: str) -> bool:
        """Whether a block could stand on this one; "" is the ground."""
        return not parent or parent in self._entries

    def put(self, key: str, entry: Entry) -> None:
        """Take a block in, parent or no parent."""
        with self._lock:
            self._put(key, entry)

    def put_if_carried(self, key: str, entry: Entry) -> bool:
        """Take a block in unless its parent is gone."""
        with self._lock:
            if carried := self.carries(entry.parent):
                self._put(key, entry)
            return carried

    def forget(self, key: str) -> bool:
        """Whether it was held."""
        with self._lock:
            return self._forget(key)

    def forget_tree(self, key: str) -> list[str]:
        """Forget the block and all that were computed on top of it. Those that were held, each before its own."""
        with self._lock:
            return [one for one in (key, *self._descendants(key)) if self._forget(one)]

    def use(self, key: str, now: float) -> Entry | None:
        """A copy of the entry after one more use; None if it is not held."""
        with self._lock:
            if (entry := self._entries.get(key)) is None:
                return None
            entry.standing_at = kv_worth.standing_after(entry.standing_at, now)
            return Entry(entry.parent, entry.num_bytes, entry.num_tokens, entry.seconds, entry.standing_at)

    def victims(self, excess_bytes: int, now: float, newcomer: Weighed | None = None) -> list[str]:
        """The cheapest blocks that together have that many bytes, in the order in which they go.

        The newcomer is weighed among them but frees nothing: in the result it says that it is not worth its place.
        """
        if excess_bytes <= 0:
            return []
        with self._lock:
            sizes = {key: entry.num_bytes for key, entry in self._entries.items()}
            weighed = [
                Weighed(key, entry.parent, entry.num_bytes, entry.seconds * kv_worth.uses(entry.standing_at, now))
                for key, entry in self._entries.items()
            ]
        victims: list[str] = []
        for key in kv_worth.cheapest_first([*weighed, newcomer] if newcomer else weighed):
            if excess_bytes <= 0:
                break
            victims.append(key)
            excess_bytes -= sizes.get(key, 0)
        return victims

    def _put(self, key: str, entry: Entry) -> None:
        self._forget(key)
        self._entries[key] = entry
        self._num_bytes += entry.num_bytes

    def _forget(self, key: str) -> bool:
        if (entry := self._entries.pop(key, None)) is None:
            return False
        self._num_bytes -= entry.num_bytes
        return True

    def _descendants(self, key: str) -> list[str]:
        children: dict[str, list[str]] = {}
        for other, entry in self._entries.items():
            children.setdefault(entry.parent, []).append(other)
        found = children.pop(key, [])
        for one in found:  # grows while it is walked; popping ends rings
            found.extend(children.pop(one, []))
        return found
