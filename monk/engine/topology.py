"""What the machine is made of: sockets, memory nodes, cores with their hardware threads, shared caches.

Linux tells it as files below /sys/devices/system, macOS as `sysctl hw`; both are read here and nowhere else. What is made
of it (threads, CPUs, memory) is chosen in `binding.py`.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monk.errors import InvalidInput

Cpus = tuple[int, ...]  # numbers as the kernel gives them, ascending

ROOT = Path("/")
MOST_CPUS = 8192  # the kernel's own limit; a list beyond it is a slip of the pen
SYSCTL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of memory, and the CPUs that are near to it: none where it is memory alone (CXL, HBM)."""

    number: int
    cpus: Cpus
    memory_bytes: int
    free_bytes: int  # unused, or files that can be read again
    distances: tuple[int, ...] = ()  # to every node in order; 10 is its own (ACPI SLIT)


@dataclass(frozen=True, slots=True)
class Topology:
    """One machine. Every online CPU is in one core, one socket and at most one node."""

    cores: tuple[Cpus, ...]  # each with its hardware threads
    sockets: tuple[Cpus, ...]
    nodes: tuple[Node, ...]
    caches: tuple[Cpus, ...] = ()  # CPUs behind one last-level cache
    slow_cpus: frozenset[int] = frozenset()  # of efficiency cores, beside faster ones
    can_bind: bool = True  # False where the system lets nobody choose the CPU (macOS)

    @property
    def cpus(self) -> frozenset[int]:
        return frozenset(cpu for core in self.cores for cpu in core)

    @property
    def memory_bytes(self) -> int:
        return sum(node.memory_bytes for node in self.nodes)

    def physical_cores(self, cpus: Collection[int] | None = None) -> int:
        """Cores among these CPUs (None: all), hardware threads counted once. Efficiency cores count only where there are no
        others: a step lasts as long as its slowest thread."""
        among = self.cpus if cpus is None else self.cpus & frozenset(cpus)
        fast = among - self.slow_cpus or among
        return sum(1 for core in self.cores if fast.intersection(core))

    def nodes_of(self, cpus: Collection[int]) -> tuple[Node, ...]:
        """Nodes that have one of these CPUs and memory."""
        among = frozenset(cpus)
        return tuple(node for node in self.nodes if node.memory_bytes and among.intersection(node.cpus))

    def sentence(self) -> str:
        """For people, in a line."""
        cores, threads, sockets = len(self.cores), len(self.cpus), len(self.sockets)
        slow = len([core for core in self.cores if self.slow_cpus.intersection(core)])
        told = [_count(sockets, "socket"), _count(cores, "core") + (f" ({slow} of them slow)" if slow else "")]
        told += [f"{threads} hardware threads"] if threads > cores else []
        told.append(
            f"{_gib(self.memory_bytes)} in {_count(len(self.nodes), 'memory node')}"
            if len(self.nodes) > 1
            else f"one memory node of {_gib(self.memory_bytes)}"
        )
        told += [_count(len(self.caches), "L3 cache")] if len(self.caches) > 1 else []
        return ", ".join(told)


# ── lists of CPUs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_cpus(text: str) -> Cpus:
    """A list as the kernel and taskset write it: "0-31,64-95". Raises InvalidInput."""
    found: set[int] = set()
    for part in filter(None, re.split(r"[,\s]+", text)):
        ends = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last or last >= MOST_CPUS:
            raise InvalidInput(f"{part!r} in {text!r} is no CPU and no range of them; write them as 0-31,64-95")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def shown(cpus: Iterable[int]) -> str:
    """The inverse of `parse_cpus`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def this_machine() -> Topology:
    """Asked now. Where the system tells nothing: every CPU a core, one node."""
    return _of_macos() if platform.system() == "Darwin" else read()


def read(root: Path = ROOT) -> Topology:
    """Linux, from the files below `root`."""
    folder = root / "sys/devices/system"
    online = parse_cpus(text_at(folder / "cpu/online")) or tuple(range(os.cpu_count() or 1))
    cores: set[Cpus] = set()
    caches: set[Cpus] = set()
    sockets: dict[str, list[int]] = {}
    for cpu in online:
        place = folder / f"cpu/cpu{cpu}"
        cores.add(_listed(place / "topology/thread_siblings_list") or (cpu,))
        sockets.setdefault(text_at(place / "topology/physical_package_id"), []).append(cpu)
        caches.add(_last_cache(place / "cache"))
    nodes = _nodes(folder / "node")
    fast = parse_cpus(text_at(root / "sys/devices/cpu_core/cpus"))  # there only where cores differ
    return Topology(
        cores=tuple(sorted(cores)),
        sockets=tuple(sorted(tuple(cpus) for cpus in sockets.values())),
        nodes=nodes if len(nodes) > 1 else (_only_node(root, online),),
        caches=tuple(sorted(cache for cache in caches if cache)),
        slow_cpus=frozenset(online) - frozenset(fast) if fast else frozenset(),
    )


def _last_cache(folder: Path) -> Cpus:
    """CPUs that share the level-3 cache; empty where there is none."""
    for place in sorted(folder.glob("index[0-9]*"), reverse=True):
        if text_at(place / "level") == "3":
            return _listed(place / "shared_cpu_list")
    return ()


def _nodes(folder: Path) -> tuple[Node, ...]:
    numbers = sorted(int(place.name[4:]) for place in folder.glob("node[0-9]*"))
    return tuple(_node(folder / f"node{number}", number) for number in numbers)


def _node(place: Path, number: int) -> Node:
    memory = {}
    for line in text_at(place / "meminfo").splitlines():
        words = line.split()  # Node 0 MemTotal: 791829504 kB
        if len(words) >= 4:
            memory[words[2].rstrip(":")] = int(words[3]) * 1024
    free = sum(memory.get(name, 0) for name in ("MemFree", "Active(file)", "Inactive(file)"))
    distances = tuple(int(word) for word in text_at(place / "distance").split())
    return Node(number, _listed(place / "cpulist"), memory.get("MemTotal", 0), free, distances)


def _only_node(root: Path, cpus: Cpus) -> Node:
    """Of a machine with one, or a kernel that knows none: all that /proc tells, for what was plugged in later is missing
    from the node's own figures."""
    memory = dict(re.findall(r"^(\w+):\s+(\d+)", text_at(root / "proc/meminfo"), re.M))
    total, free = (int(memory.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable"))
    return Node(0, cpus, total, free, (10,))


def _of_macos() -> Topology:
    told = ""
    with suppress(OSError, subprocess.SubprocessError):
        ended = subprocess.run(["sysctl", "hw"], capture_output=True, text=True, timeout=SYSCTL_SECONDS)
        told = ended.stdout
    return of_sysctl(told)


def of_sysctl(text: str) -> Topology:
    """macOS, from what `sysctl hw` prints. Level 0 holds the fastest cores (Apple, "Determining system capabilities").

    Apple silicon has one memory for all cores, and no way to bind a thread to one of them.
    """
    values = {key: int(value) for key, value in re.findall(r"^hw\.([\w.]+)\s*[:=]\s*(\d+)\s*$", text, re.M)}
    threads = values.get("logicalcpu") or values.get("ncpu") or os.cpu_count() or 1
    physical = values.get("physicalcpu", threads)
    each = max(1, threads // physical)
    cores = tuple(tuple(range(first, first + each)) for first in range(0, threads, each))
    fast = values.get("perflevel0.logicalcpu") or values.get("perflevel0.physicalcpu") or threads
    everything = tuple(range(threads))
    total = values.get("memsize", 0)
    return Topology(
        cores=cores,
        sockets=(everything,),
        nodes=(Node(0, everything, total, total, (10,)),),
        slow_cpus=frozenset(everything[fast:]),
        can_bind=False,
    )


def text_at(path: Path) -> str:
    """What the system tells there, without the white space around it; empty where there is nothing."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _listed(path: Path) -> Cpus:
    return parse_cpus(text_at(path))


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.0f} GiB"
