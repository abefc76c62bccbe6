"""Pages of memory: huge ones, locked ones, and where those of a mapped file lie. What can be done for llama.cpp from outside.

*Huge pages.* llama.cpp asks for its buffers by posix_memalign and never advises the kernel. Where the kernel gives huge pages
to all, it has them; where it gives them to those who ask ("madvise", the usual), glibc (2.35 and newer) can ask for every
large buffer, if its tunable is in the environment before the process begins. So KV and buffers get them, and weights where
mmap is off: a mapped file has the pages of its file system.
A decode step over 400 MB of weights and 2 GB of KV took 97 and 101 ms without, 94 and 99 with KV in huge pages, 85 (one run)
with the weights in them too (two cores, busy; 2026-11-26): too little to ask for them unasked, so "auto" does not.

*Locked pages.* llama.cpp only warns when it cannot lock; so the limit is looked at before, and what was locked after.

*Pages of a file.* The page cache is shared by all and stays: a file that was copied or hashed by one thread lies on that
thread's node, and a policy set later moves nothing. So they are dropped, if they lie where they should not.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import resource
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from monk.engine.binding import Binding
from monk.engine.topology import ROOT, shown, text_at
from monk.errors import SettingsInvalid

HugePages = Literal["auto", "on", "off"]

HUGE_COMMAND = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"
TUNABLES = "GLIBC_TUNABLES"
ASK_FOR_HUGE = "glibc.malloc.hugetlb=1"
LEAST_GLIBC = (2, 35)
PR_SET_THP_DISABLE = 41
CAP_IPC_LOCK = 14
UNLIMITED = 1 << 62
LOCK_REMEDY = "write LimitMEMLOCK=infinity under [Service] (systemctl edit night-monk), or as root: ulimit -l unlimited"
LOCKED_SHARE = 0.95  # of the weights; what is less was refused on the way
LEAST_LOCKED = 1 << 20  # smaller pieces of new memory are no weights
MOVE_PAGES = {"x86_64": 279, "aarch64": 239, "riscv64": 239, "ppc64le": 301}  # the call's number
SAMPLES = 512  # pages of a model that are asked where they lie
TELLING = 32  # with fewer of them in memory the file counts as not there
EXCESS = 0.25  # a node may have so much more than its share

# ── huge pages ────────────────────────────────────────────────────────────────────────────────────────────────────────


def huge_mode(root: Path = ROOT) -> str:
    """To whom the kernel gives them: "always", "madvise", "never"; empty where it has none."""
    told = text_at(root / "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.search(r"\[(\w+)\]", told)
    return chosen[1] if chosen else ""


def check_huge_pages(wanted: HugePages, root: Path = ROOT) -> None:
    """Raises SettingsInvalid when they are wanted and cannot be had."""
    mode = huge_mode(root)
    if wanted != "on" or mode == "always":
        return
    if mode != "madvise":
        why = "the kernel gives none" if mode else "this kernel has none"
        remedy = f"`{HUGE_COMMAND}`, or set huge_pages to auto" if mode else "set huge_pages to auto"
        raise SettingsInvalid(f"huge_pages is on, and {why}; {remedy}", param="huge_pages")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < LEAST_GLIBC:
        raise SettingsInvalid(
            f"huge_pages is on, and {name or 'this C library'} {version} cannot ask the kernel for them (glibc 2.35 can); "
            "`echo always | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`, or set huge_pages to auto",
            param="huge_pages",
        )


def huge_environment(wanted: HugePages, known: str = "") -> dict[str, str]:
    """What must be in the environment of a process before it begins. `known`: the tunables that are there."""
    if wanted != "on":
        return {}
    others = [one for one in known.split(":") if one and not one.startswith("glibc.malloc.hugetlb=")]
    return {TUNABLES: ":".join([*others, ASK_FOR_HUGE])}


def forbid_huge_pages() -> None:
    """None for this process, whatever the kernel does for others."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def huge_bytes(pid: int | str = "self") -> int:
    """Of a process's own memory (not of files), what lies in huge pages."""
    found = re.search(r"^AnonHugePages:\s+(\d+)", text_at(Path(f"/proc/{pid}/smaps_rollup")), re.M)
    return int(found[1]) * 1024 if found else 0


# ── locked pages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def lock_limit(root: Path = ROOT) -> int:
    """Bytes that this process may lock; UNLIMITED for who has the right to all. Takes what it may: the soft limit is raised to
    the hard one."""
    if _may_lock_all("self", root):
        return UNLIMITED
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def lock_limit_of(pid: int, root: Path = ROOT) -> int:
    """The same of another process, as it is."""
    if _may_lock_all(pid, root):
        return UNLIMITED
    found = re.search(r"^Max locked memory\s+(\S+)", text_at(root / f"proc/{pid}/limits"), re.M)
    return int(found[1]) if found and found[1].isdigit() else UNLIMITED


def _may_lock_all(pid: int | str, root: Path) -> bool:
    found = re.search(r"^CapEff:\s+([0-9a-f]+)", text_at(root / f"proc/{pid}/status"), re.M)
    return bool(found) and bool(int(found[1], 16) >> CAP_IPC_LOCK & 1)  # type: ignore[index]


def check_lock(needed_bytes: int, limit_bytes: int) -> None:
    """Raises SettingsInvalid with both figures."""
    if needed_bytes > limit_bytes:
        raise SettingsInvalid(
            f"mlock is on and must lock {_size(needed_bytes)}, and RLIMIT_MEMLOCK allows {_size(limit_bytes)}; {LOCK_REMEDY}, "
            "or set mlock to false",
            param="mlock",
            needed_bytes=needed_bytes,
            limit_bytes=limit_bytes,
        )


def locked_bytes(pid: int | str = "self") -> int:
    """What a process has locked."""
    found = re.search(r"^VmLck:\s+(\d+)", text_at(Path(f"/proc/{pid}/status")), re.M)
    return int(found[1]) * 1024 if found else 0


class Locker:
    """Locks what a load brings into memory of its own: weights that were copied into another layout, which llama.cpp's own lock
    on the mapped file does not reach. Made before the load."""

    def __init__(self) -> None:
        self._before = _own_ranges()

    def lock(self, mapped_bytes: int) -> str:
        """After it. `mapped_bytes`: weights that stayed where the file is mapped. Why it is not all locked; empty if it is."""
        if not Path("/proc/self/status").exists():
            return ""  # macOS: llama.cpp's word has to do
        locked = locked_bytes()
        if locked < LOCKED_SHARE * mapped_bytes:
            return f"only {_size(locked)} of {_size(mapped_bytes)} could be locked"
        libc = ctypes.CDLL(None, use_errno=True)
        for first, last in _new_ranges(self._before, _own_ranges()):
            if last - first >= LEAST_LOCKED and libc.mlock(ctypes.c_void_p(first), ctypes.c_size_t(last - first)) != 0:
                return f"{_size(last - first)} of its weights could not be locked: {os.strerror(ctypes.get_errno())}"
        return ""


def _own_ranges() -> list[tuple[int, int]]:
    """Addresses of this process's own writable memory (of no file), ascending."""
    lines = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ 0\s*$", text_at(Path("/proc/self/maps")), re.M)
    return [(int(first, 16), int(last, 16)) for first, last in lines]


def _new_ranges(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of `after` is not in `before`: the kernel joins neighbours, so one range may be both."""
    new = []
    for first, last in after:
        for known_first, known_last in before:
            if known_last <= first or known_first >= last:
                continue
            if known_first > first:
                new.append((first, known_first))
            first = max(first, min(last, known_last))
        if first < last:
            new.append((first, last))
    return new


# ── pages of a file ───────────────────────────────────────────────────────────────────────────────────────────────────


def cached_pages(parts: Sequence[Path], samples: int = SAMPLES) -> Counter[int]:
    """Of so many pages, evenly over the files, those that are in memory, by the node they lie on. Reads nothing from disk."""
    total = sum(part.stat().st_size for part in parts)
    found: Counter[int] = Counter()
    for part in parts:
        size = part.stat().st_size
        if size:
            found += _cached_pages(part, size, max(1, round(samples * size / max(1, total))))
    return found


def _cached_pages(part: Path, size: int, samples: int) -> Counter[int]:
    import numpy as np

    number = MOVE_PAGES.get(platform.machine())
    if number is None or platform.system() != "Linux":
        return Counter()
    libc = ctypes.CDLL(None, use_errno=True)
    page = mmap.PAGESIZE
    with part.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        base = view.ctypes.data
        flags = (ctypes.c_ubyte * 1)()
        addresses, touched = [], 0
        for place in range(samples):
            offset = size * place // samples // page * page
            known = libc.mincore(ctypes.c_void_p(base + offset), ctypes.c_size_t(1), flags) == 0
            if known and flags[0] & 1:
                touched += int(view[offset])  # into our table of pages: only there can the kernel find it
                addresses.append(base + offset)
        nodes = (ctypes.c_int * max(1, len(addresses)))()
        pages = (ctypes.c_void_p * max(1, len(addresses)))(*addresses)
        failed = libc.syscall(number, 0, ctypes.c_ulong(len(addresses)), pages, None, nodes, 0)
        del view
    return Counter() if failed else Counter(node for node in nodes[: len(addresses)] if node >= 0)


def drop_cached(parts: Sequence[Path]) -> None:
    """Give the cached pages of these files back; what is mapped or locked by somebody stays."""
    for part in parts:
        with suppress(OSError), part.open("rb") as file:
            os.fdatasync(file.fileno())  # a page that is not on the disk yet cannot be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def misplaced(found: Counter[int], binding: Binding) -> str:
    """Why mapping these pages would undo the binding; empty when they lie well, or hardly any are there."""
    total = sum(found.values())
    if total < TELLING or not binding.nodes:
        return ""
    outside = sum(count for node, count in found.items() if node not in binding.nodes) / total
    if outside > EXCESS:
        return f"{outside:.0%} of the model's cached pages lie on other nodes than {shown(binding.nodes)}"
    node, count = found.most_common(1)[0]
    if len(binding.nodes) > 1 and count / total > 1 / len(binding.nodes) + EXCESS:
        return f"{count / total:.0%} of the model's cached pages lie on node {node} alone"
    return ""


def settle(parts: Sequence[Path], binding: Binding) -> None:
    """Have the files read anew where their cached pages lie badly. Raises SettingsInvalid when somebody holds them there."""
    if not binding.nodes or not misplaced(cached_pages(parts), binding):
        return
    drop_cached(parts)
    if problem := misplaced(cached_pages(parts), binding):
        raise SettingsInvalid(
            f"{problem}, and another program holds them there, so half of the threads would read across; end it, then "
            "`sync; echo 3 | sudo tee /proc/sys/vm/drop_caches`, or set mmap to false, or numa to off",
            param="numa",
        )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 30):.1f} GiB" if num_bytes >= 1 << 30 else f"{num_bytes / (1 << 20):.1f} MiB"
