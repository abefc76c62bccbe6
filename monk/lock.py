"""One daemon per home: an exclusive lock on `monk.lock`, released by the kernel when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from monk.errors import HomeUnusable


def prepare_home(home: Path) -> None:
    """Make the home and its folders. Raises HomeUnusable when that cannot be done or nothing can be written there."""
    try:
        for folder in (home, home / "corpus", home / "reports", home / "jobs"):
            folder.mkdir(parents=True, exist_ok=True)
        probe = home / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        raise HomeUnusable(
            f"the home {home} cannot be written: {exc.strerror}; check its owner and mount, or set MONK_HOME",
            param="home",
        ) from exc


def lock_home(home: Path) -> int:
    """A file descriptor that holds the home until it is closed. Raises HomeUnusable naming the process that has it."""
    path = home / "monk.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise HomeUnusable(
            f"another daemon (process {owner}) runs on the home {home}; stop it, or set another MONK_HOME", param="home"
        ) from exc
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def is_locked(home: Path) -> bool:
    """Whether a daemon runs on this home."""
    try:
        os.close(lock_home(home))
    except HomeUnusable:
        return True
    except FileNotFoundError:
        return False
    return False
