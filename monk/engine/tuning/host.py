"""Which host and which llama.cpp this is: what a measurement holds for, and no longer than that."""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monk.engine.machine import STARTED_WITH, physical_cores
from monk.engine.topology import ROOT

# what ggml has kernels for; other flags come and go with the kernel, and must not make a measurement void
KERNELS = frozenset(
    {"avx", "avx2", "fma", "f16c", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "avx512f", "avx512bw", "avx512vl"}
    | {"avx512_vnni", "avx512_bf16", "asimd", "asimddp", "sve", "sve2", "i8mm", "bf16", "fphp"}
)


def host() -> dict[str, Any]:
    """JSON values: the processor and how much of it is ours."""
    model, flags = _cpu(Path("/proc/cpuinfo"))
    return {
        "cpu": model or platform.machine(),
        "kernels": sorted(KERNELS & flags),
        "cores": physical_cores(STARTED_WITH),
        "threads": len(STARTED_WITH),
        "quota": cpu_quota(),
    }


def _cpu(path: Path) -> tuple[str, set[str]]:
    named: dict[str, str] = {}
    try:
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            named.setdefault(name.strip().lower(), value.strip())
    except OSError:
        pass
    arm = " ".join(named[key] for key in ("cpu implementer", "cpu part") if key in named)
    return named.get("model name", arm), set(named.get("flags", named.get("features", "")).split())


def cpu_quota(base: Path = ROOT) -> float | None:
    """Cores that cgroup v2 lets us use at once; None: all."""
    try:
        place = (base / "proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    root = base / "sys/fs/cgroup"
    rooms = []
    for folder in (root / place, *(root / place).parents):
        if not folder.is_relative_to(root):
            break
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            rooms.append(int(quota) / int(period))
    return round(min(rooms), 2) if rooms else None


def build() -> str:
    """The llama.cpp in use: its release, and the size of its kernels, which another way of compiling changes."""
    found = importlib.util.find_spec("llama_cpp")
    kernels = sorted(Path(found.origin).parent.glob("lib/*ggml-cpu*")) if found and found.origin else []
    # under several names, as links or as copies
    sizes = ",".join(sorted({str(file.stat().st_size) for file in kernels}))
    return f"llama-cpp-python {version('llama-cpp-python')} ({sizes or 'one piece'})"


def thread_choices(cores: int, threads: int, quota: float | None) -> tuple[int, ...]:
    """Numbers of threads worth a trial: parts of the cores, all cores, all hyperthreads; fewest last."""
    most = threads if quota is None else max(1, min(threads, int(quota)))
    wanted = {cores, threads, cores * 3 // 4, cores // 2, cores // 4, most}
    return tuple(sorted((count for count in wanted if 1 <= count <= most), reverse=True))
