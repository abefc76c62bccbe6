"""What the machine says of itself: memory, disk, sizes of files."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil


def daemon_rss_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def memory_bytes() -> tuple[int, int]:
    """(available, total)."""
    memory = psutil.virtual_memory()
    return int(memory.available), int(memory.total)


def disk_bytes(folder: Path) -> tuple[int, int]:
    """(free, total) where a folder is; zeros when it has gone."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return 0, 0
    return usage.free, usage.total


def database_bytes(path: Path) -> int:
    """The database with its write-ahead log."""
    total = 0
    for file in (path, path.with_name(path.name + "-wal")):
        try:
            total += file.stat().st_size
        except OSError:  # no log, or the home has gone
            continue
    return total
