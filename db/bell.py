"""Tells watchers of this process that something was committed, so that nobody polls for news. A leaf: knows no tables."""

from __future__ import annotations

import threading

_changed = threading.Condition()
_rings = 0


def ring() -> None:
    """Something was committed. `Database.write` rings; a missed ring costs a watcher its polling interval."""
    global _rings
    with _changed:
        _rings += 1
        _changed.notify_all()


def wait_for_ring(seen: int, seconds: float) -> int:
    """Sleep until something was committed after ring number `seen`, at most `seconds`. Returns the newest number."""
    with _changed:
        _changed.wait_for(lambda: _rings != seen, timeout=seconds)
        return _rings
