"""Which CPUs the engine runs on, and in whose memory its pages lie: chosen from the topology, explained, and done.

    settings numa, cpus ─┐
    topology ────────────┼─ choose ─▶ Binding ─ apply ─▶ this process, and all threads and processes it starts
    bytes of the plan ───┘

llama.cpp knows three strategies that matter here (ggml-cpu.c): distribute binds thread n to node n mod nodes, numactl keeps
every thread to the CPUs of the process, isolate keeps it to one node's. Memory it leaves to the kernel, which puts a page
where it is first touched: KV is cleared by one thread and would all lie on one node. So the memory policy is set here, for
the process, and isolate is numactl on CPUs that were narrowed before.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from monk.engine.topology import Cpus, Node, Topology, parse_cpus, shown
from monk.errors import InvalidInput, SettingsInvalid

Numa = Literal["off", "auto", "distribute", "isolate", "numactl"]
Native = Literal["off", "distribute", "numactl"]
Policy = Literal["default", "prefer", "interleave"]

THREADS = ("threads", "threads_batch", "threads_single")  # the settings
MOST_NODES, MOST_CPUS = 8, 512  # that llama.cpp's strategies look at (GGML_NUMA_MAX_NODES, GGML_NUMA_MAX_CPUS)
MEMORY_POLICIES = {"default": 0, "prefer": 1, "interleave": 3}  # MPOL_* of set_mempolicy(2)
SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "ppc64le": 261}  # the call's number


@dataclass(frozen=True, slots=True)
class Binding:
    """What was chosen. Plain values: it crosses to other processes."""

    native: Native = "off"  # what llama.cpp is told
    cpus: Cpus = ()  # that all threads keep to; empty: as the process was started
    policy: Policy = "default"
    nodes: Cpus = ()  # whose memory, with a policy
    threads: int = 0  # physical cores among the CPUs; 0: not asked for
    reason: str = ""

    def facts(self) -> dict[str, object]:
        """For /status and the log: JSON values."""
        memory = f"{self.policy} {shown(self.nodes)}" if self.nodes else self.policy
        return {"numa": self.native, "cpus": shown(self.cpus), "memory": memory, "reason": self.reason}


# ── what can be said without a machine ────────────────────────────────────────────────────────────────────────────────


def check_settings(numa: Numa, cpus: str, threads: dict[str, int]) -> None:
    """Raises InvalidInput for what fits no machine. `threads` by the names of their settings; 0 is a choice left open."""
    try:
        listed = parse_cpus(cpus)
    except InvalidInput as exc:
        raise InvalidInput(f"cpus: {exc.message}", param="cpus") from exc
    if not listed:
        return
    for name, count in threads.items():
        if count > len(listed):
            raise InvalidInput(
                f"{name} is {count}, and cpus {shown(listed)} are {len(listed)}: threads would wait for each other at every "
                f"step; give more CPUs, or at most {len(listed)} threads",
                param="cpus",
            )
    if numa in ("distribute", "isolate"):
        raise InvalidInput(
            f"numa is {numa}, which binds threads to whole nodes and would undo cpus; set numa to auto or numactl, or leave "
            "cpus out",
            param="numa",
        )


# ── choosing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def choose(
    topology: Topology,
    needed_bytes: int,
    *,
    numa: Numa = "auto",
    cpus: str = "",
    threads: int = 0,
    allowed: Collection[int] | None = None,
) -> Binding:
    """For a plan of so many bytes. `threads`: as set, 0 if they are not; `allowed`: CPUs this process may use, None: all.

    Raises SettingsInvalid with the reason for what this machine cannot do.
    """
    usable = topology.cpus if allowed is None else (topology.cpus & frozenset(allowed)) or topology.cpus
    listed = _checked(topology, parse_cpus(cpus), usable)
    if len(topology.nodes) < 2:
        return _on_one_node(topology, numa, listed, usable)
    if numa == "off":
        return Binding("off", listed, threads=topology.physical_cores(listed or usable), reason="numa is off")
    if listed:
        return _kept_to(topology, listed, f"threads keep to cpus {shown(listed)}")
    if numa == "numactl":
        reason = f"CPUs ({shown(usable)}) and memory are those the process was started with"
        return Binding(_keeping(topology), threads=topology.physical_cores(usable), reason=reason)
    if numa == "isolate":
        return _on_a_node(topology, needed_bytes, usable, threads)
    if numa == "distribute":
        _check_distribute(topology, usable, threads)
        return _spread(topology, usable, "as numa says")
    return _best(topology, needed_bytes, usable, threads)


def _checked(topology: Topology, listed: Cpus, usable: frozenset[int]) -> Cpus:
    if not listed:
        return ()
    if not topology.can_bind:
        raise SettingsInvalid(
            "cpus cannot be kept on this system: macOS lets nobody choose; leave it out", param="cpus"
        )
    if missing := frozenset(listed) - topology.cpus:
        raise SettingsInvalid(
            f"cpus names {shown(missing)}, and this machine has {shown(topology.cpus)}; name some of those (lscpu -e)",
            param="cpus",
        )
    if barred := frozenset(listed) - usable:
        raise SettingsInvalid(
            f"cpus names {shown(barred)}, and this process may only use {shown(usable)}; name some of those, or widen its "
            "cgroup (AllowedCPUs=, CPUAffinity=) or taskset",
            param="cpus",
        )
    return listed


def _on_one_node(topology: Topology, numa: Numa, listed: Cpus, usable: frozenset[int]) -> Binding:
    if numa in ("distribute", "isolate", "numactl"):
        remedy = "cpus alone is enough" if listed else "set numa to auto or off"
        raise SettingsInvalid(
            f"numa is {numa}, and this machine has one memory node to choose from; {remedy}", param="numa"
        )
    cores = topology.physical_cores(listed or usable)
    reason = f"threads keep to cpus {shown(listed)}" if listed else "one memory node, so nothing has to be bound"
    return Binding("off", listed, threads=cores, reason=reason)


def _best(topology: Topology, needed_bytes: int, usable: frozenset[int], threads: int) -> Binding:
    """The whole machine, unless one of several sockets holds it all: bandwidth within a socket is worth more than cores
    across. A node that is only a part of a socket has only a part of its channels, so sockets are what is looked at."""
    if usable != topology.cpus:
        return _kept_to(topology, tuple(sorted(usable)), f"this process may only use CPUs {shown(usable)}")
    if len(topology.sockets) == 1:
        return _spread(topology, usable, "all nodes belong to one socket")
    rooms = [(sum(node.free_bytes for node in topology.nodes_of(cpus)), cpus) for cpus in topology.sockets]
    room, socket = max(rooms, key=lambda pair: pair[0])
    number = topology.sockets.index(socket)
    if threads > len(socket):
        return _spread(topology, usable, f"{threads} threads are more than a socket has")
    if needed_bytes <= room:
        return _kept_to(
            topology, socket, f"{_gib(needed_bytes)} fit in the memory of socket {number} ({_gib(room)} free)"
        )
    return _spread(topology, usable, f"{_gib(needed_bytes)} fit in no one socket's memory (at most {_gib(room)} free)")


def _on_a_node(topology: Topology, needed_bytes: int, usable: frozenset[int], threads: int) -> Binding:
    node = max(topology.nodes_of(usable), key=lambda one: one.free_bytes)
    cpus = tuple(sorted(usable.intersection(node.cpus)))
    if threads > len(cpus):
        raise SettingsInvalid(
            f"numa is isolate, and threads is {threads}: node {node.number} has CPUs {shown(cpus)}, {len(cpus)} in all; set "
            f"numa to distribute, or threads to at most {len(cpus)}",
            param="numa",
        )
    if needed_bytes > node.free_bytes:
        raise SettingsInvalid(
            f"numa is isolate, and the plan needs {_gib(needed_bytes)}: node {node.number}, the roomiest, has "
            f"{_gib(node.free_bytes)} free of {_gib(node.memory_bytes)}; set numa to distribute, or lower slots or context",
            param="numa",
        )
    return _kept_to(topology, cpus, "numa is isolate")


def _kept_to(topology: Topology, cpus: Cpus, why: str) -> Binding:
    """Threads on these CPUs, pages in the memory beside them."""
    nodes = topology.nodes_of(cpus)
    cores = topology.physical_cores(cpus)
    policy: Policy = "interleave" if len(nodes) > 1 else "prefer" if nodes else "default"
    where = {"interleave": "spread over nodes", "prefer": "on node"}.get(policy, "wherever the kernel likes")
    reason = f"{why}: {cores} threads, one per core, pages {where} {_numbers(nodes)}".rstrip()
    return Binding(_keeping(topology), cpus, policy, tuple(node.number for node in nodes), cores, reason)


def _spread(topology: Topology, usable: frozenset[int], why: str) -> Binding:
    """Threads on every node in turn, pages too."""
    nodes = topology.nodes_of(usable)
    cores = topology.physical_cores(usable)
    native: Native = "off" if _beyond(topology) else "distribute"
    turns = "threads run on each in turn" if native == "distribute" else f"threads run anywhere: {_beyond(topology)}"
    reason = f"{why}: pages are spread over nodes {_numbers(nodes)}, and {turns}, {cores} in all"
    return Binding(native, (), "interleave", tuple(node.number for node in nodes), cores, reason)


def _check_distribute(topology: Topology, usable: frozenset[int], threads: int) -> None:
    remedy = "set numa to auto"
    if problem := _beyond(topology):
        raise SettingsInvalid(f"numa is distribute, and {problem}; {remedy}", param="numa")
    if usable != topology.cpus:
        raise SettingsInvalid(
            f"numa is distribute, and this process may only use CPUs {shown(usable)} of "
            f"{shown(topology.cpus)}; {remedy}, or widen its cgroup (AllowedCPUs=, CPUAffinity=) or taskset",
            param="numa",
        )
    if 0 < threads < len(topology.nodes):
        raise SettingsInvalid(
            f"numa is distribute, and threads is {threads}: fewer than the {len(topology.nodes)} nodes; {remedy}, or give "
            f"threads as a multiple of {len(topology.nodes)}",
            param="numa",
        )


def _beyond(topology: Topology) -> str:
    """What of this machine llama.cpp's distribute does not know; empty if nothing."""
    bare = [node.number for node in topology.nodes if not node.cpus]
    if bare:
        return f"llama.cpp would send threads to node {shown(bare)}, which has memory and no CPU"
    if len(topology.nodes) > MOST_NODES or max(topology.cpus) >= MOST_CPUS:
        return f"llama.cpp looks at {MOST_NODES} nodes and {MOST_CPUS} CPUs at most"
    return ""


def _keeping(topology: Topology) -> Native:
    """llama.cpp cuts larger sets of CPUs off: there the process's own affinity must do."""
    return "off" if max(topology.cpus) >= MOST_CPUS else "numactl"


def _numbers(nodes: tuple[Node, ...]) -> str:
    return shown(node.number for node in nodes)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB"


# ── doing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def apply(binding: Binding) -> None:
    """Bind this process. By the thread that will load the model and open its contexts: the memory policy is a thread's, and
    goes on to those it starts. Raises SettingsInvalid when the kernel refuses."""
    if binding.cpus:
        try:
            for task in Path("/proc/self/task").iterdir():
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(int(task.name), binding.cpus)
        except OSError as exc:
            raise SettingsInvalid(
                f"the engine cannot be kept to CPUs {shown(binding.cpus)}: {exc.strerror}; set cpus to others",
                param="cpus",
            ) from exc
    if binding.policy != "default":
        _set_memory_policy(binding)


def _set_memory_policy(binding: Binding) -> None:
    number = SET_MEMPOLICY.get(platform.machine())
    bits = 64 * (max(binding.nodes) // 64 + 1)
    mask = (ctypes.c_ulong * (bits // 64))()
    for node in binding.nodes:
        mask[node // 64] |= 1 << node % 64
    libc = ctypes.CDLL(None, use_errno=True)
    mode = MEMORY_POLICIES[binding.policy]
    if number is None or libc.syscall(number, mode, ctypes.byref(mask), ctypes.c_ulong(bits + 1)) != 0:
        why = "an unknown kind of processor" if number is None else os.strerror(ctypes.get_errno())
        raise SettingsInvalid(
            f"memory cannot be put on nodes {shown(binding.nodes)}: {why}; set numa to off", param="numa"
        )
