"""The daemon around the engine: start, idling, progress, overhead. `python -m tests.bench.daemon_bench [--only idle]`

Meant for a quiet machine: other work on its cores is measured too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench import overhead, progress_lag
from tests.bench.figures import Figure, tell
from tests.running import RunningDaemon

HEALTH_SECONDS = 2.0
IDLE_PERCENT = 1.0
STARTS = 5
SETTLE_SECONDS = 15.0  # after the model is loaded: caches are written, threads come to rest
MODEL_SECONDS = 300.0


def main() -> int:
    """Measure what was chosen, print, and fail when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("health", "idle", "progress", "overhead"), action="append")
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="how long the idle daemon is watched")
    parser.add_argument("--jobs", type=int, default=8, help="jobs side by side, for progress and overhead")
    parser.add_argument("--tokens", type=int, default=256, help="tokens each of them may write")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "health": health,
        "idle": lambda: idle(chosen.idle_seconds),
        "progress": lambda: progress_lag.measured(chosen.jobs, chosen.tokens),
        "overhead": lambda: overhead.measured(chosen.jobs, chosen.tokens),
    }
    names = chosen.only or list(parts)
    return tell((figure for name in names for figure in parts[name]()), chosen.json)


def health() -> Iterator[Figure]:
    """From the start of the process to the first 200, in a night, so that the model is on its way too."""
    seconds, loaded = [], 0
    for _ in range(STARTS):
        with housed() as daemon:
            began = time.monotonic()
            daemon.start()
            seconds.append(time.monotonic() - began)
            loaded += daemon.get("/status")["engine"]["state"] == "ready"
    yield Figure(f"/health after the start, worst of {STARTS}", max(seconds), "s", HEALTH_SECONDS)
    yield Figure(f"of {STARTS} starts, model loaded before /health answered", float(loaded), "", 0.0)


def idle(seconds: float) -> Iterator[Figure]:
    """All processes of a daemon whose model is loaded and whose queue is empty, as a share of one core."""
    with housed() as daemon:
        daemon.start()
        daemon.wait_for(lambda: at_rest(daemon), MODEL_SECONDS, "a loaded model and a read corpus")
        time.sleep(SETTLE_SECONDS)
        before, began = ticks_of_all(daemon), time.monotonic()
        time.sleep(seconds)
        after, passed = ticks_of_all(daemon), time.monotonic() - began
    assert before.keys() == after.keys(), "a process came or went while idling"
    hertz = os.sysconf("SC_CLK_TCK")
    for pid, (name, ticks) in after.items():
        yield Figure(f"idle: {name}", 100 * (ticks - before[pid][1]) / hertz / passed, "%")
    used = sum(ticks for _, ticks in after.values()) - sum(ticks for _, ticks in before.values())
    yield Figure(f"idle for {passed:.0f} s: all processes", 100 * used / hertz / passed, "%", IDLE_PERCENT)


def at_rest(daemon: RunningDaemon) -> bool:
    """Whether the model is loaded and nothing is being read."""
    status = daemon.get("/status")
    return bool(status["engine"]["state"] == "ready" and status["corpus"]["state"] == "idle")


def ticks_of_all(daemon: RunningDaemon) -> dict[int, tuple[str, int]]:
    """By process: what it is, and its user and system time so far in clock ticks, from /proc/PID/stat."""
    assert daemon.process is not None
    root = psutil.Process(daemon.process.pid)
    processes = [root, *root.children(recursive=True)]
    return {process.pid: (role(process), ticks(process.pid)) for process in processes}


def role(process: psutil.Process) -> str:
    """What the process does in the house: the module that Python runs."""
    words = process.cmdline()
    return words[words.index("-m") + 1] if "-m" in words else process.name()


def ticks(pid: int) -> int:
    """utime + stime, fields 14 and 15 of proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@contextmanager
def housed() -> Iterator[RunningDaemon]:
    """A daemon that is not started yet, on a new home, in a night without end; stopped afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        daemon = RunningDaemon(home, MONK_NIGHT="always", MONK_CONTEXT="2048")
        try:
            yield daemon
        finally:
            daemon.stop()
            daemon.http.close()


if __name__ == "__main__":
    sys.exit(main())
