"""What this machine has: memory that may be taken without swapping, cores, and how fast they multiply."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from monk.engine import topology
from monk.engine.topology import ROOT, text_at

UNBOUNDED = 1 << 62
MEASURE_SIZE = 1024  # of the matrices whose product tells the machine's rate


def measured_available_bytes() -> int:
    """What may be taken without swapping: MemAvailable, or less if a cgroup limits this process."""
    return min(_mem_available(), _cgroup_available())


def whole_bytes() -> int:
    """All the memory this process may ever have: the machine's, or a cgroup's limit."""
    limit = cgroup_limit()
    return min(ram_bytes(), UNBOUNDED if limit is None else limit[0])


def ram_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def held_bytes() -> int:
    """What this process has taken of memory and is not counted as available: its own, or what it has locked of that and of
    files, whichever is more. Own memory may be locked too, so the sum of both would count it twice."""
    lines = text_at(Path("/proc/self/status")).splitlines()
    if not lines:  # macOS
        import psutil

        return int(psutil.Process().memory_info().rss)
    return max(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "VmLck:")))


def _mem_available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # macOS
        import psutil

        return int(psutil.virtual_memory().available)
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return UNBOUNDED


def _cgroup_available() -> int:
    """Room under the tightest limit on the way up from our cgroup, v2 and v1. Page cache counts as free."""
    rooms = [UNBOUNDED]
    for folder, limit_name, usage_name in _cgroup_folders(ROOT):
        limit = _read_int(folder / limit_name)
        usage = _read_int(folder / usage_name)
        if limit is not None and usage is not None and limit < UNBOUNDED:
            rooms.append(limit - usage + _cgroup_cache(folder))
    return min(rooms)


def cgroup_limit(root: Path = ROOT) -> tuple[int, Path] | None:
    """The tightest memory limit on the way up from our cgroup, and the file that sets it; None: no limit."""
    limits = [(_read_int(folder / name), folder / name) for folder, name, _ in _cgroup_folders(root)]
    set_ones = [(limit, file) for limit, file in limits if limit is not None and limit < UNBOUNDED]
    return min(set_ones, default=None)


def _cgroup_folders(base: Path) -> list[tuple[Path, str, str]]:
    try:
        lines = (base / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            root, names = base / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif controllers == "memory":
            root, names = base / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        leaf = root / place.lstrip("/")
        folders += [(folder, *names) for folder in (leaf, *leaf.parents) if folder.is_relative_to(root)]
    return folders


def _cgroup_cache(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(maxsplit=1) for line in lines)
    return int(values.get("inactive_file", values.get("total_inactive_file", "0")))


def _read_int(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return None if text == "max" else int(text)


def allowed_cpus() -> frozenset[int]:
    """CPUs this process may run on; all, where the system lets nobody choose."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(range(os.cpu_count() or 1))
    return frozenset(os.sched_getaffinity(0))


STARTED_WITH = allowed_cpus()  # before the engine binds itself to fewer: what a measurement is filed under


def physical_cores(cpus: Collection[int] | None = None) -> int:
    """Cores among these CPUs, by default those this process may run on; hyperthreads counted once."""
    return _cores_among(allowed_cpus() if cpus is None else frozenset(cpus))


@lru_cache(maxsize=16)  # a plan is made a hundred times over, and asks each time
def _cores_among(cpus: frozenset[int]) -> int:
    return max(1, topology.this_machine().physical_cores(cpus))


def measured_gflops() -> float:
    """f32 matrix products a second of this machine now, in units of 10^9 operations; a tenth of a second."""
    import numpy as np

    matrix = np.ones((MEASURE_SIZE, MEASURE_SIZE), np.float32)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return float(2 * MEASURE_SIZE**3 / best / 1e9)
