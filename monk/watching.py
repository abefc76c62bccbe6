"""Watches the corpus folder and asks for a sync when it has changed and come to rest. Reads nothing itself.

The folder may vanish, be replaced or be mounted over at any time: the watch is on what lies at its path now, looked at anew
every few seconds. Where the system cannot tell of changes (no watches left, a network disk), it is looked through every few
minutes; a sync of an unchanged folder costs one stat per file.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from watchfiles import watch
from watchfiles.main import FileChange

logger = logging.getLogger(__name__)
LOOK_SECONDS = 2.0  # between two looks at whether the folder is still the same
_POLL_SECONDS = 300.0
_STEP_MS = 100  # changes this close together are told together
_MAX_SETTLES = 20  # times the settling delay: a file that grows all day is read all the same


class Watcher:
    """A thread that calls `changed` after the folder was quiet for `settle_seconds`."""

    def __init__(
        self, folder: Path, settle_seconds: float, changed: Callable[[], None], look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._folder = folder
        self._changed = changed
        self._settle_seconds = settle_seconds
        self._look_seconds = look_seconds
        self._stopped = threading.Event()
        self._first_at: float | None = None  # of the changes not yet told, on the monotonic clock
        self._last_at = 0.0
        self._thread = threading.Thread(target=self._loop, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin watching; the folder need not be there yet."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; safe to call without `start`."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _loop(self) -> None:
        known: tuple[int, int] | None = None  # so that what changed before the first watch is read as well
        while not self._stopped.is_set():
            try:
                known = self._watch_one(known)
            except FileNotFoundError:  # went away between two looks
                self._rest(self._look_seconds)
            except Exception as exc:  # no watches left, or a file system that has none: go on by looking
                logger.warning(
                    "the corpus folder cannot be watched; it is looked through now and then",
                    extra={"reason": str(exc), "seconds": _POLL_SECONDS},
                )
                self._rest(_POLL_SECONDS)
                self._note()
                self._tell_if_settled(at_once=True)

    def _watch_one(self, known: tuple[int, int] | None) -> tuple[int, int] | None:
        """Watch the folder that is there now until another one is, or none; returns what is there then."""
        now = _identity(self._folder)
        if now != known:
            self._note()
        if now is None:
            self._rest(self._look_seconds)
            self._first_at = None  # nothing can be read while it is away
            return None
        for changes in self._changes():
            if changes:
                self._note()
            self._tell_if_settled()
            if self._stopped.is_set() or _identity(self._folder) != now:
                break
        return now

    def _changes(self) -> Iterator[set[FileChange]]:
        """Sets of changes as they come; an empty one whenever it is time for another look."""
        return watch(
            self._folder,
            watch_filter=_is_read,
            debounce=_STEP_MS,
            step=_STEP_MS,
            rust_timeout=int(1000 * min(self._look_seconds, max(self._settle_seconds, 0.05))),
            yield_on_timeout=True,
            stop_event=self._stopped,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )

    def _note(self) -> None:
        self._last_at = time.monotonic()
        if self._first_at is None:
            self._first_at = self._last_at

    def _tell_if_settled(self, *, at_once: bool = False) -> None:
        if self._first_at is None:
            return
        now = time.monotonic()
        quiet, waiting = now - self._last_at, now - self._first_at
        if at_once or quiet >= self._settle_seconds or waiting >= _MAX_SETTLES * self._settle_seconds:
            self._first_at = None
            self._changed()

    def _rest(self, seconds: float) -> None:
        self._stopped.wait(seconds)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder lies at this path: device and inode; None when there is none."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_read(_: object, path: str) -> bool:
    """Whether a change of this file can matter: hidden files are not read."""
    return not os.path.basename(path).startswith((".", "~$"))
