"""The machine and the versions, and how busy others keep it."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from monk.engine.machine import physical_cores
from tests.bench.engine.peers import REPOSITORY

LISTEN_SECONDS = 1.0
QUIET_PERCENT = 8.0  # of all cores, taken by others


def facts() -> dict[str, Any]:
    """What a reader needs in order to compare with another machine."""
    return {
        "cpu": _cpu_name(),
        "cores": physical_cores(),
        "logical_cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "llama_cpp_python": version("llama-cpp-python"),
        "numpy": version("numpy"),
        "commit": _commit(),
    }


def load_average() -> tuple[float, float, float]:
    return os.getloadavg()


def busy_percent() -> float:
    """Part of all cores that somebody else uses now. Only between two runs: it cannot tell others from ours."""
    return float(psutil.cpu_percent(interval=LISTEN_SECONDS))


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _commit() -> str:
    """Of the code that is measured; with a plus if it was changed since. Empty outside a repository."""
    try:
        found = _git("rev-parse", "--short=12", "HEAD")
        return f"{found}+" if _git("status", "--porcelain", "--untracked-files=no") else found
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
