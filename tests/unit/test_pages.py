"""Huge pages, locks, and pages of a file: what is asked for, what is refused, what is really so."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from monk.engine import pages
from monk.engine.binding import Binding
from monk.errors import SettingsInvalid
from tests.machines import put

GIB = 1 << 30
THP = "sys/kernel/mm/transparent_hugepage/enabled"
SPREAD = Binding("distribute", (), "interleave", (0, 1))
NEAR = Binding("numactl", (0,), "prefer", (1,))


@pytest.mark.parametrize(
    ("told", "mode"),
    [("always [madvise] never", "madvise"), ("[always] madvise never", "always"), ("always [never]", "never")],
)
def test_the_kernel_says_to_whom_it_gives_huge_pages(tmp_path: Path, told: str, mode: str) -> None:
    put(tmp_path / THP, told)

    assert pages.huge_mode(tmp_path) == mode
    assert pages.huge_mode(tmp_path / "none") == ""


def test_huge_pages_that_cannot_be_had_are_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsInvalid, match="this kernel has none; set huge_pages to auto"):
        pages.check_huge_pages("on", tmp_path)
    put(tmp_path / THP, "always madvise [never]")
    with pytest.raises(SettingsInvalid, match=r"gives none; `echo madvise \| sudo tee /sys/kernel"):
        pages.check_huge_pages("on", tmp_path)
    pages.check_huge_pages("auto", tmp_path)
    put(tmp_path / THP, "always [madvise] never")
    monkeypatch.setattr(pages.platform, "libc_ver", lambda: ("glibc", "2.31"))
    with pytest.raises(SettingsInvalid, match=r"glibc 2\.31 cannot ask .* `echo always"):
        pages.check_huge_pages("on", tmp_path)
    put(tmp_path / THP, "[always] madvise never")
    pages.check_huge_pages("on", tmp_path)


def test_what_else_is_tuned_in_the_c_library_stays() -> None:
    known = "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=0"

    assert pages.huge_environment("on", known) == {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"}
    assert pages.huge_environment("on") == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert pages.huge_environment("auto", known) == pages.huge_environment("off") == {}


@pytest.mark.skipif(pages.huge_mode() not in ("madvise", "always"), reason="this kernel gives no huge pages")
def test_memory_of_a_process_lies_in_huge_pages_when_they_are_asked_for_and_not_when_they_are_forbidden() -> None:
    script = (
        "import sys\nfrom monk.engine import pages\n"
        "if sys.argv[1] == 'off': pages.forbid_huge_pages()\n"
        "kept = bytearray(64 << 20)\nprint(pages.huge_bytes())"
    )

    def huge(wanted: str) -> int:
        environment = {**os.environ, **pages.huge_environment(wanted)}  # type: ignore[arg-type]
        command = [sys.executable, "-c", script, wanted]
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    asked, forbidden = huge("on"), huge("off")

    assert asked >= 48 << 20
    assert forbidden == 0
    if pages.huge_mode() == "madvise":
        assert huge("auto") == 0, "nobody asked"


# ── locks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lock_beyond_the_limit_is_refused_with_both_figures_and_the_line_to_write() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        pages.check_lock(101 * GIB, 8 << 20)

    assert "must lock 101.0 GiB, and RLIMIT_MEMLOCK allows 8.0 MiB" in caught.value.message
    assert "LimitMEMLOCK=infinity" in caught.value.message and "ulimit -l unlimited" in caught.value.message
    pages.check_lock(101 * GIB, pages.UNLIMITED)
    pages.check_lock(8 << 20, 8 << 20)


def test_who_may_lock_all_has_no_limit_and_others_raise_theirs_as_far_as_they_may(tmp_path: Path) -> None:
    put(tmp_path / "proc/self/status", "Name:\tmonk\nCapEff:\t0000000000004000")
    assert pages.lock_limit(tmp_path) == pages.UNLIMITED
    put(tmp_path / "proc/self/status", "Name:\tmonk\nCapEff:\t0000000000000000")
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom monk.engine import pages\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 20))\nprint(pages.lock_limit(Path(sys.argv[1])))"
    )

    command = [sys.executable, "-c", script, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert int(told) == 1 << 20


def test_new_memory_is_told_from_old_also_where_the_kernel_has_joined_them() -> None:
    before = [(10, 20), (30, 40)]

    assert pages._new_ranges(before, [(10, 20), (30, 40), (50, 60)]) == [(50, 60)]
    assert pages._new_ranges(before, [(5, 25), (28, 40)]) == [(5, 10), (20, 25), (28, 30)]
    assert pages._new_ranges(before, [(12, 18)]) == []


def test_memory_that_came_since_is_locked() -> None:
    """As of weights that llama.cpp copies into another layout, which its own lock does not reach."""
    script = (
        "import mmap\nfrom monk.engine import pages\nlocker = pages.Locker()\n"
        "copied = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "print(repr(locker.lock(0)), pages.locked_bytes())"
    )
    if pages.lock_limit() < 8 << 20:
        pytest.skip("this account may not lock so much")

    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert told[0] == "''" and 4 << 20 <= int(told[1]) < 64 << 20


def test_weights_that_stayed_unlocked_are_told_after_the_load() -> None:
    assert "only 0.0 MiB of 64.0 MiB could be locked" in pages.Locker().lock(64 << 20)


# ── pages of a file ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("found", "binding", "told"),
    [
        (Counter({0: 260, 1: 250}), SPREAD, ""),
        (Counter({0: 480, 1: 30}), SPREAD, "94% of the model's cached pages lie on node 0 alone"),
        (Counter({0: 20}), SPREAD, ""),  # hardly anything is there: it will be read
        (Counter({0: 300, 1: 200}), NEAR, "60% of the model's cached pages lie on other nodes than 1"),
        (Counter({0: 20, 1: 480}), NEAR, ""),
        (Counter({0: 500}), Binding(), ""),
    ],
)
def test_pages_that_would_undo_a_binding_are_told(found: Counter[int], binding: Binding, told: str) -> None:
    assert pages.misplaced(found, binding) == told


def test_cached_pages_are_found_where_they_lie_and_dropped_without_a_right_to_anything(tmp_path: Path) -> None:
    """On this machine's nodes. Half of the file is in memory, then nothing of it."""
    files = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for file in files:
        file.write_bytes(os.urandom(4 << 20))
    whole = pages.cached_pages(files, 64)
    pages.drop_cached(files)
    if sum(pages.cached_pages(files, 64).values()) > 8:
        pytest.skip("this file system keeps its pages (tmpfs)")
    files[0].read_bytes()
    half = pages.cached_pages(files, 64)

    assert sum(whole.values()) == 64
    assert 24 <= sum(half.values()) <= 48
    assert set(whole) <= {int(place.name[4:]) for place in Path("/sys/devices/system/node").glob("node[0-9]*")}


def test_a_file_that_lies_badly_is_dropped_or_refused_when_somebody_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(os.urandom(4 << 20))
    elsewhere = Binding("numactl", (0,), "prefer", (63,))  # nothing can lie there

    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as held:
        assert sum(held[:: mmap.PAGESIZE]) >= 0  # every page is in somebody's table, and stays
        with pytest.raises(
            SettingsInvalid, match=r"lie on other nodes than 63, and another program holds .*drop_caches"
        ):
            pages.settle([file], elsewhere)
    pages.drop_cached([file])
    if sum(pages.cached_pages([file], 64).values()) > 8:
        pytest.skip("this file system keeps its pages (tmpfs)")
    file.read_bytes()

    pages.settle([file], elsewhere)

    assert sum(pages.cached_pages([file], 64).values()) <= 8


def test_the_limit_of_this_process_is_a_number_of_bytes_or_none() -> None:
    limit = pages.lock_limit()
    assert limit == pages.UNLIMITED or limit == resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]


def test_own_memory_that_is_locked_is_held_once() -> None:
    """In a process of its own: another test may give memory back meanwhile."""
    script = """
import ctypes, mmap
from monk.engine.machine import held_bytes
before, size = held_bytes(), 4 << 20
own = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
own.write(bytes([1]) * size)
address = ctypes.addressof(ctypes.c_char.from_buffer(own))
assert ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)) == 0
print(held_bytes() - before)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert 0.9 * (4 << 20) < int(told.stdout) < 1.5 * (4 << 20)
