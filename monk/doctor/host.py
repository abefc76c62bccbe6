"""The machine under the model: cores and memory nodes, pages, locks, swap, and what kernel and control groups allow.

Each check reads files below `root` and compares them with the plan; a remedy is the command that mends it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monk.doctor.finding import Finding, gib
from monk.engine.topology import text_at
from monk.settings import Settings

if TYPE_CHECKING:
    from monk.engine.binding import Binding
    from monk.engine.topology import Topology

ROOT = Path("/")
USED_SWAP_SHARE = 0.05  # of the memory, that may be swapped out
CALM_SWAPPINESS = 10
CLOSE_SHARE = 0.75  # of the memory: a plan above it makes the kernel look for pages to swap out
SAVING = ("power", "balance_power")
KEPT = "/etc/sysctl.d/90-night-monk.conf"
GOVERNOR_COMMAND = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
EPP_COMMAND = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/energy_performance_preference"


@dataclass(frozen=True, slots=True)
class Need:
    """What the plan takes where no control group limits it."""

    total_bytes: int
    private_bytes: int  # of it, what is no file: it counts for swap and overcommit
    threads: int
    text: str  # slots and context, for people


def topology(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """What there is, and which of it the engine will use, and why."""
    machine = _machine(root)
    yield Finding("processor", "ok", machine.sentence())
    yield Finding("numa", "ok", _binding(settings, machine, root).reason)


def huge_pages(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """To whom the kernel gives pages of 2 MiB, and whether that is what is wanted."""
    from monk.engine.pages import HUGE_COMMAND, check_huge_pages, huge_mode

    mode = huge_mode(root)
    check_huge_pages(settings.huge_pages, root)
    if settings.huge_pages == "off":
        yield Finding("huge pages", "ok", "none for the engine: huge_pages is off")
    elif mode == "never":
        text = "the kernel gives none, so each GiB of KV takes 262,144 pages"
        yield Finding("huge pages", "warn", text, f"{HUGE_COMMAND}, and MONK_HUGE_PAGES=on")
    elif mode == "madvise" and settings.huge_pages == "auto":
        text = "the kernel gives them to those who ask, and nobody does: huge_pages is auto"
        yield Finding("huge pages", "ok", text, "MONK_HUGE_PAGES=on asks for KV and buffers")
    else:
        mapped = "; mapped weights keep those of their file system" if settings.mmap else ""
        told = {"always": "the kernel gives them to all", "madvise": f"the engine asks for them{mapped}"}
        yield Finding("huge pages", "ok", told.get(mode, "this system has none of Linux's"))


def memory_lock(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """With mlock: may the weights be locked? Asked of the running engine, or of this shell."""
    from monk.daemon import engine_config
    from monk.engine.gguf_file import read
    from monk.engine.pages import UNLIMITED, check_lock, lock_limit, lock_limit_of

    if not settings.mlock:
        return
    model = read(engine_config(settings).model_path)
    needed = sum(part.stat().st_size for part in model.parts) + model.repacked_bytes
    pid = (_engine(settings) or {}).get("pid")
    limit = lock_limit_of(pid, root) if pid else lock_limit(root)
    whose = "the engine" if pid else "a process of this shell"
    check_lock(needed, limit)
    told = "all there is" if limit == UNLIMITED else gib(limit)
    yield Finding("memory lock", "ok", f"{gib(needed)} are to be locked, {whose} may lock {told}")


def swap(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """Swapping makes a model a hundred times slower without an error."""
    memory = _meminfo(root)
    total, swapped = memory.get("MemTotal", 0), memory.get("SwapTotal", 0) - memory.get("SwapFree", 0)
    swappiness = _number(root / "proc/sys/vm/swappiness")
    if swapped > USED_SWAP_SHARE * total:
        yield Finding(
            "swap",
            "warn",
            f"{gib(swapped)} are swapped out",
            "end what takes the memory, then: sudo swapoff -a && sudo swapon -a; MONK_MLOCK=true keeps the weights out of it",
        )
        return
    need = _need(settings, root)
    close = need is not None and need.total_bytes > CLOSE_SHARE * total
    if memory.get("SwapTotal", 0) and close and swappiness > CALM_SWAPPINESS and not settings.mlock:
        assert need is not None
        yield Finding(
            "swap",
            "warn",
            f"the plan takes {gib(need.total_bytes)} of {gib(total)}, and vm.swappiness is {swappiness}: the kernel will swap "
            "out KV to keep files in memory",
            _sysctl("vm.swappiness", 1),
        )
        return
    yield Finding("swap", "ok", f"{gib(swapped)} used" if memory.get("SwapTotal") else "there is none")


def overcommit(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """A strict kernel refuses memory that is promised beyond its limit, however much is free."""
    if _number(root / "proc/sys/vm/overcommit_memory") != 2:
        yield Finding("overcommit", "ok", "the kernel promises more memory than it counts")
        return
    memory, need = _meminfo(root), _need(settings, root)
    room = memory.get("CommitLimit", 0) - memory.get("Committed_AS", 0)
    private = need.private_bytes if need is not None else 0
    if private > room:
        yield Finding(
            "overcommit",
            "fail",
            f"vm.overcommit_memory is 2 and leaves {gib(max(0, room))} to promise; KV and buffers need {gib(private)}",
            _sysctl("vm.overcommit_memory", 0),
        )
    else:
        yield Finding(
            "overcommit", "ok", f"strict, and {gib(room)} may still be promised; the plan needs {gib(private)}"
        )


def numa_kernel(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """On several nodes: two habits of the kernel that move or drop what was put in its place."""
    machine = _machine(root)
    if len(machine.nodes) < 2:
        return
    if reclaim := _number(root / "proc/sys/vm/zone_reclaim_mode"):
        yield Finding(
            "zone reclaim",
            "warn",
            f"vm.zone_reclaim_mode is {reclaim}: a full node drops the model's pages while others are empty",
            _sysctl("vm.zone_reclaim_mode", 0),
        )
    if _is_bound(settings, machine, root) and (balancing := _number(root / "proc/sys/kernel/numa_balancing")):
        yield Finding(
            "numa balancing",
            "warn",
            f"kernel.numa_balancing is {balancing}: it unmaps pages to see who uses them, and the threads are pinned anyway",
            _sysctl("kernel.numa_balancing", 0),
        )


def control_group(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """Memory and processor time that a container or a unit leaves us."""
    from monk.engine.machine import cgroup_limit
    from monk.engine.tuning.host import cpu_quota

    need, limit, quota = _need(settings, root), cgroup_limit(root), cpu_quota(root)
    if limit is not None and need is not None and need.total_bytes > limit[0]:
        yield Finding(
            "control group",
            "warn",
            f"{limit[1]} allows {gib(limit[0])}; {need.text} would take {gib(need.total_bytes)}, so fewer will be planned",
            _group_command(
                limit[1].parent,
                f"MemoryMax={_whole_gib(need.total_bytes)}G",
                f"--memory {_whole_gib(need.total_bytes)}g",
            ),
        )
    if quota is not None and need is not None and need.threads > quota:
        yield Finding(
            "control group",
            "warn",
            f"cpu.max allows {quota:g} cores at once, and {need.threads} threads wait for each other at every step",
            _group_command(None, f"CPUQuota={100 * need.threads}%", f"--cpus {need.threads}")
            + f", or MONK_THREADS={max(1, int(quota))}",
        )


def governor(settings: Settings, root: Path = ROOT) -> Iterator[Finding]:
    """Processors that save power while they should work."""
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    if not folders:
        yield Finding("governor", "ok", "the clock is not this system's to set")
        return
    governors = Counter(text_at(folder / "scaling_governor") for folder in folders)
    drivers = {text_at(folder / "scaling_driver") for folder in folders}
    steered = bool(
        drivers & {"intel_pstate", "amd-pstate-epp"}
    )  # there "powersave" goes up with the load, as a hint says
    hints = Counter(text_at(folder / "energy_performance_preference") for folder in folders)
    if not steered and governors["powersave"]:
        text = f"powersave on {governors['powersave']} of {len(folders)} CPUs: they stay at their lowest clock"
        yield Finding("governor", "warn", text, GOVERNOR_COMMAND)
    elif steered and (saving := sum(hints[hint] for hint in SAVING)):
        text = f"{saving} of {len(folders)} CPUs are told to save power (energy_performance_preference)"
        yield Finding("governor", "warn", text, EPP_COMMAND)
    else:
        yield Finding("governor", "ok", ", ".join(sorted(filter(None, governors))) or "none")


# ── what they ask ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _machine(root: Path) -> Topology:
    from monk.engine.topology import read, this_machine

    return this_machine() if root == ROOT else read(root)


def _binding(settings: Settings, machine: Topology, root: Path) -> Binding:
    """Raises SettingsInvalid."""
    from monk.engine.binding import THREADS, choose
    from monk.engine.machine import allowed_cpus

    need = _need(settings, root)
    return choose(
        machine,
        need.total_bytes if need is not None else 0,
        numa=settings.numa,
        cpus=settings.cpus or "",
        threads=max(getattr(settings, name) for name in THREADS),
        allowed=allowed_cpus() if root == ROOT else None,
    )


def _is_bound(settings: Settings, machine: Topology, root: Path) -> bool:
    from monk.errors import SettingsInvalid

    try:
        return bool(settings.cpus or _binding(settings, machine, root).nodes)
    except SettingsInvalid:  # another check tells
        return False


def _need(settings: Settings, root: Path) -> Need | None:
    """None when the model cannot be read, which another check tells."""
    from monk.daemon import engine_config
    from monk.engine.gguf_file import read
    from monk.engine.memory import fit
    from monk.errors import MemoryTooSmall, ModelUnusable

    config = engine_config(settings)
    running = _engine(settings) or {}
    available = _meminfo(root).get("MemAvailable", 1 << 50) + int(running.get("rss_bytes") or 0)
    try:
        plan = fit(read(config.model_path), config, available)
        facts, text = plan.facts(), f"{plan.slots} slots of {plan.context} tokens"
    except MemoryTooSmall as exc:
        facts, text = exc.facts, "the model"
    except ModelUnusable:
        return None
    total, weights, copied = (int(str(facts[name])) for name in ("total_bytes", "weight_bytes", "repack_bytes"))
    private = total if not settings.mmap else total - weights + copied
    return Need(total, private, int(str(facts["threads"])), text)


def _engine(settings: Settings) -> dict[str, Any] | None:
    """Of a running daemon."""
    from monk.client import Client
    from monk.doctor.net import answers
    from monk.errors import MonkError

    if not answers(settings):
        return None
    try:
        with Client(settings) as daemon:
            return dict(daemon.get("/status")["engine"])
    except MonkError:  # a token that we do not have
        return None


def _meminfo(root: Path) -> dict[str, int]:
    """Bytes by name."""
    rows = re.findall(r"^(\S+):\s+(\d+)", text_at(root / "proc/meminfo"), re.M)
    return {name: int(kib) * 1024 for name, kib in rows}


def _sysctl(name: str, value: int) -> str:
    """Now, and after the next boot."""
    return f"sudo sysctl {name}={value} && echo '{name} = {value}' | sudo tee -a {KEPT}"


def _group_command(folder: Path | None, of_a_unit: str, of_a_container: str) -> str:
    unit = (
        folder.name
        if folder is not None and folder.suffix in (".service", ".slice", ".scope")
        else "night-monk.service"
    )
    return f"sudo systemctl set-property {unit} {of_a_unit} (in a container: docker update {of_a_container} NAME)"


def _whole_gib(num_bytes: int) -> int:
    return -(-num_bytes // (1 << 30))


def _number(path: Path) -> int:
    text = text_at(path)
    return int(text) if text.isdigit() else 0
