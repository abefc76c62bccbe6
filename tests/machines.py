"""Machines written as files, as /sys and /proc show them: the figures are those of published listings of real ones.

EPYC_NPS1   2 x EPYC 9654. CPUs of sockets and nodes, siblings and caches: the "amd-epyc-9654" snapshot in the tests of
            ydb-platform/ydb (nodes 0-95,192-287 and 96-191,288-383; cpu104: siblings 104,296, cache 104-111,296-303).
            Memory and distances: `numactl --hardware` of 2 x EPYC 9375F, egandro/proxmox-cpu-affinity issue 58
EPYC_NPS4   the same processor with four nodes a socket. CPUs of nodes: the table for a 96-core machine in
            scene_rdl2 (OpenMoonRay), lib/common/grid_util; distances: `numactl --hardware` of 2 x EPYC 7413 and others, all
            10, 12 within a socket, 32 across
XEON        2 x Xeon Platinum 8480C, SNC off: `lscpu` of a DGX H100 (0-55,112-167 and 56-111,168-223, 210 MiB L3 in 2
            instances, 2,063,425 MB); distances 10 and 21 as of two-socket Xeons, ggml-org/llama.cpp pull request 1556
XEON_MAX    2 x Xeon Max, flat HBM, SNC4: 16 nodes, eight without a CPU; oneapi-src/unified-memory-framework issue 1289
EMPTY_NODES 2 x EPYC 7551 with memory at two of eight nodes only: WyvernTKC/cpuminer-gr-avx2 issue 22
DESKTOP     one socket of 8 cores, 16 threads, one node: `lscpu` in ggml-org/llama.cpp issue 1437
M2_ULTRA    `sysctl hw` by the keys of Apple's "Determining system capabilities"; 16 fast cores and 8 slow ones, 192 GB:
            antirez/ds4 pull request 88
M3_ULTRA    20 fast cores and 8 slow ones, 96 GB: a published `sysctl` listing of this machine
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from monk.engine.topology import parse_cpus, shown

MIB = 1 << 20


@dataclass(frozen=True)
class Machine:
    sockets: tuple[str, ...]
    nodes: tuple[tuple[str, int, int], ...]  # CPUs, MB in all, MB free
    distances: tuple[tuple[int, ...], ...]
    threads_apart: int = 0  # a core's second thread is so many numbers further; 0: there is none
    cores_per_cache: int = 8

    def roomier(self, node: int, free: int) -> Machine:
        """With so many MB free at one node."""
        nodes = [(cpus, total, free if at == node else old) for at, (cpus, total, old) in enumerate(self.nodes)]
        return replace(self, nodes=tuple(nodes))


def grid(*rows: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(word) for word in row.split()) for row in rows)


TWO_SOCKETS = grid(*["10 12 12 12 32 32 32 32"] * 4, *["32 32 32 32 10 12 12 12"] * 4)

EPYC_NPS1 = Machine(
    ("0-95,192-287", "96-191,288-383"),
    (("0-95,192-287", 773271, 678823), ("96-191,288-383", 774028, 684984)),
    grid("10 32", "32 10"),
    192,
)
EPYC_NPS4 = replace(
    EPYC_NPS1,
    nodes=tuple((f"{at}-{at + 23},{at + 192}-{at + 215}", 193317, 170000) for at in range(0, 192, 24)),
    distances=TWO_SOCKETS,
)
XEON = Machine(
    ("0-55,112-167", "56-111,168-223"),
    (("0-55,112-167", 1031712, 1000000), ("56-111,168-223", 1031713, 1010000)),
    grid("10 21", "21 10"),
    112,
    56,
)
XEON_MAX = Machine(
    ("0-47,96-143", "48-95,144-191"),
    (
        *((f"{at}-{at + 11},{at + 96}-{at + 107}", 64505, 62000) for at in range(0, 96, 12)),
        *[("", 16384, 16280)] * 8,
    ),
    (),
    96,
    48,
)
EMPTY_NODES = Machine(
    ("0-31,64-95", "32-63,96-127"),
    tuple(
        (f"{at}-{at + 7},{at + 64}-{at + 71}", 15960 * (at in (8, 40)), 9972 * (at in (8, 40)))
        for at in range(0, 64, 8)
    ),
    grid(*["10 16 16 16 32 32 32 32"] * 4, *["32 32 32 32 10 16 16 16"] * 4),
    64,
)
DESKTOP = Machine(("0-15",), (("0-15", 64000, 40000),), ((10,),), 8)

M2_ULTRA = """\
hw.ncpu: 24
hw.activecpu: 24
hw.memsize: 206158430208
hw.nperflevels: 2
hw.perflevel0.physicalcpu: 16
hw.perflevel0.logicalcpu: 16
hw.perflevel0.name: Performance
hw.perflevel1.physicalcpu: 8
hw.perflevel1.logicalcpu: 8
hw.perflevel1.name: Efficiency
hw.physicalcpu: 24
hw.logicalcpu: 24
hw.pagesize: 16384
"""
M3_ULTRA = """\
hw.memsize: 103079215104
hw.ncpu: 28
hw.physicalcpu: 28
hw.perflevel0.physicalcpu: 20
hw.perflevel0.cpusperl2: 5
hw.perflevel1.physicalcpu: 8
hw.perflevel1.cpusperl2: 4
"""


def write(root: Path, machine: Machine) -> Path:
    """The files of this machine below `root`, which is returned."""
    folder = root / "sys/devices/system"
    everything = parse_cpus(",".join(machine.sockets))
    put(folder / "cpu/online", shown(everything))
    package = {cpu: at for at, cpus in enumerate(machine.sockets) for cpu in parse_cpus(cpus)}
    apart = machine.threads_apart or len(everything)
    for cpu in everything:
        core = cpu % apart
        siblings = [other for other in (core, core + apart) if other in package]
        group = range(core // machine.cores_per_cache * machine.cores_per_cache, apart)[: machine.cores_per_cache]
        shared = [other for first in group for other in (first, first + apart) if other in package]
        place = folder / f"cpu/cpu{cpu}"
        put(place / "topology/thread_siblings_list", shown(siblings))
        put(place / "topology/physical_package_id", str(package[cpu]))
        put(place / "cache/index0/level", "1")
        put(place / "cache/index3/level", "3")
        put(place / "cache/index3/shared_cpu_list", shown(shared))
    for at, (cpus, total, free) in enumerate(machine.nodes):
        place = folder / f"node/node{at}"
        put(place / "cpulist", cpus)
        rows = {
            "MemTotal": total,
            "MemFree": free // 2,
            "Active(file)": free // 4,
            "Inactive(file)": free - free // 2 - free // 4,
        }
        put(place / "meminfo", "\n".join(f"Node {at} {name}:   {mb * 1024} kB" for name, mb in rows.items()))
        if machine.distances:
            put(place / "distance", " ".join(str(far) for far in machine.distances[at]))
    total, free = (sum(node[at] for node in machine.nodes) for at in (1, 2))
    put(
        root / "proc/meminfo",
        f"MemTotal: {total * 1024} kB\nMemAvailable: {free * 1024} kB\nSwapTotal: 0 kB\nSwapFree: 0 kB",
    )
    return root


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
