"""The machine under the model: every check finds what it is for on machines written as files, and says how to mend it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monk import doctor
from monk.doctor import host
from monk.doctor.finding import Finding
from monk.engine import embedded, gguf_file
from monk.engine.pages import UNLIMITED, lock_limit_of
from monk.settings import Settings, load
from tests import machines
from tests.engine_models import write_tiny_model
from tests.machines import put, write

GIB = 1 << 30
THP = "sys/kernel/mm/transparent_hugepage/enabled"
Check = Callable[[Settings, Path], Iterator[Finding]]


def settings(home: Path, **more: Any) -> Settings:
    return load({}, home=home, timezone="UTC", port=1, **more)


def only(findings: Iterator[Finding]) -> Finding:
    found = list(findings)
    assert len(found) == 1, found
    return found[0]


def refused(name: str, check: Check, settings: Settings, root: Path) -> Finding:
    """As `examine` tells of a check that raises."""
    return only(doctor._guarded(name, lambda given: check(given, root), settings))


@pytest.fixture
def desktop(tmp_path: Path) -> Path:
    return write(tmp_path / "root", machines.DESKTOP)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    return write(tmp_path / "root", machines.EPYC_NPS1)


def test_the_machine_and_what_of_it_is_used_are_told(home: Path, server: Path) -> None:
    what, why = host.topology(settings(home), server)

    assert what.text == "2 sockets, 192 cores, 384 hardware threads, 1511 GiB in 2 memory nodes, 24 L3 caches"
    assert why.state == "ok" and "fit in the memory of socket 1" in why.text and "96 threads" in why.text


def test_a_binding_that_cannot_be_is_a_failure_with_the_way_out(home: Path, desktop: Path) -> None:
    *_, found = doctor._guarded("numa", lambda given: host.topology(given, desktop), settings(home, numa="distribute"))

    assert found.state == "fail" and "one memory node" in found.text and found.remedy == "set numa to auto or off"


@pytest.mark.parametrize(
    ("kernel", "wanted", "state", "told", "remedy"),
    [
        ("[always] madvise never", "auto", "ok", "the kernel gives them to all", ""),
        ("always [madvise] never", "on", "ok", "the engine asks for them", ""),
        ("always [madvise] never", "auto", "ok", "nobody does", "MONK_HUGE_PAGES=on"),
        ("always madvise [never]", "auto", "warn", "the kernel gives none", "echo madvise | sudo tee /sys/kernel/mm"),
        (
            "always madvise [never]",
            "on",
            "fail",
            "huge_pages is on, and the kernel gives none",
            "sudo tee /sys/kernel/mm",
        ),
        ("always [madvise] never", "off", "ok", "none for the engine", ""),
    ],
)
def test_huge_pages_are_told_with_the_command(
    home: Path, desktop: Path, kernel: str, wanted: str, state: str, told: str, remedy: str
) -> None:
    put(desktop / THP, kernel)

    found = refused("huge pages", host.huge_pages, settings(home, huge_pages=wanted), desktop)

    assert found.state == state and told in found.text
    assert remedy in found.remedy and bool(remedy) == bool(found.remedy)


def test_a_lock_that_would_fail_tells_what_to_write_in_the_unit(
    home: Path, desktop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(desktop / "proc/self/status", "CapEff:\t0000000000000000")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8 << 20, 8 << 20))

    without = list(host.memory_lock(settings(home), desktop))
    found = refused("memory lock", host.memory_lock, settings(home, mlock=True), desktop)
    put(desktop / "proc/self/status", "CapEff:\t0000000000004000")
    allowed = only(host.memory_lock(settings(home, mlock=True), desktop))

    assert without == []
    assert found.state == "fail" and "RLIMIT_MEMLOCK allows 8.0 MiB" in found.text
    assert "LimitMEMLOCK=infinity" in found.remedy and "ulimit -l unlimited" in found.remedy
    assert allowed.state == "ok" and allowed.text.endswith("may lock all there is")


def test_the_limit_of_a_running_engine_is_its_own(desktop: Path) -> None:
    put(desktop / "proc/7/limits", "Limit   Soft  Hard  Units\nMax locked memory         8388608   8388608   bytes")
    assert lock_limit_of(7, desktop) == 8 << 20
    put(desktop / "proc/7/status", "CapEff:\t0000000000004000")
    assert lock_limit_of(7, desktop) == UNLIMITED, "root's, whatever its limit"
    put(desktop / "proc/7/status", "CapEff:\t0000000000000000")
    put(desktop / "proc/7/limits", "Max locked memory         unlimited   unlimited   bytes")
    assert lock_limit_of(7, desktop) == UNLIMITED


def test_swap_in_use_and_a_kernel_that_will_swap_are_warned_of(home: Path, desktop: Path) -> None:
    rows = "MemTotal: {total} kB\nMemAvailable: {total} kB\nSwapTotal: {swap} kB\nSwapFree: {free} kB"
    model = write_tiny_model(home / "m.gguf")
    tight = settings(home, model=model, context=4096, slots=4, memory_reserve_bytes=0)
    need = host._need(tight, desktop)
    assert need is not None
    total = need.total_bytes * 10 // 8 // 1024

    def look(swap: int, free: int, swappiness: int, mlock: bool = False) -> Finding:
        put(desktop / "proc/meminfo", rows.format(total=total, swap=swap, free=free))
        put(desktop / "proc/sys/vm/swappiness", str(swappiness))
        return only(host.swap(tight.model_copy(update={"mlock": mlock}), desktop))

    used = look(8 << 20, 0, 60)
    assert used.state == "warn" and "8.0 GiB are swapped out" in used.text and "swapoff -a" in used.remedy
    close = look(8 << 20, 8 << 20, 60)
    assert close.state == "warn" and "vm.swappiness is 60" in close.text
    assert close.remedy.startswith(
        "sudo sysctl vm.swappiness=1 && echo 'vm.swappiness = 1' | sudo tee -a /etc/sysctl.d/"
    )
    assert look(8 << 20, 8 << 20, 60, mlock=True).state == look(8 << 20, 8 << 20, 1).state == "ok"
    assert look(0, 0, 60).text == "there is none"


def test_a_strict_kernel_that_would_refuse_the_plan_is_a_failure(home: Path, desktop: Path) -> None:
    memory = (desktop / "proc/meminfo").read_text()

    def look(mode: int, limit_kib: int, **more: Any) -> Finding:
        put(desktop / "proc/sys/vm/overcommit_memory", str(mode))
        put(desktop / "proc/meminfo", f"{memory}CommitLimit: {limit_kib} kB\nCommitted_AS: 1048576 kB")
        return only(host.overcommit(settings(home, **more), desktop))

    assert look(0, 2 << 20).state == look(1, 2 << 20).state == "ok"
    strict = look(2, 2 << 20)
    assert strict.state == "fail" and "leaves 1.0 GiB to promise" in strict.text
    assert strict.remedy.startswith("sudo sysctl vm.overcommit_memory=0")
    assert look(2, 60 << 20).state == "ok"
    mapped, copied = host._need(settings(home), desktop), host._need(settings(home, mmap=False), desktop)
    assert mapped is not None and copied is not None
    weights = gguf_file.read(embedded.model_path()).weight_bytes
    assert copied.private_bytes > mapped.private_bytes and copied.private_bytes - mapped.private_bytes <= weights


def test_habits_of_the_kernel_that_undo_numa_are_told_where_there_are_several_nodes(home: Path, server: Path) -> None:
    put(server / "proc/sys/vm/zone_reclaim_mode", "1")
    put(server / "proc/sys/kernel/numa_balancing", "1")

    reclaim, balancing = host.numa_kernel(settings(home), server)
    unbound = list(host.numa_kernel(settings(home, numa="off"), server))
    put(server / "proc/sys/vm/zone_reclaim_mode", "0")
    put(server / "proc/sys/kernel/numa_balancing", "0")

    assert "zone_reclaim_mode is 1" in reclaim.text and reclaim.remedy.startswith("sudo sysctl vm.zone_reclaim_mode=0")
    assert "the threads are pinned" in balancing.text
    assert balancing.remedy.startswith("sudo sysctl kernel.numa_balancing=0")
    assert [one.check for one in unbound] == ["zone reclaim"], "nothing is pinned that it could disturb"
    assert list(host.numa_kernel(settings(home), server)) == []


def test_one_node_has_no_such_habits(home: Path, desktop: Path) -> None:
    put(desktop / "proc/sys/kernel/numa_balancing", "1")
    assert list(host.numa_kernel(settings(home, cpus="0-3"), desktop)) == []


UNIT = "system.slice/night-monk.service"


@pytest.mark.parametrize(
    ("group", "file", "unit"),
    [
        (f"0::/{UNIT}", f"{UNIT}/memory.max", "night-monk.service"),
        (f"0::/{UNIT}", "system.slice/memory.max", "system.slice"),
        ("4:memory:/docker/1f", "memory/docker/1f/memory.limit_in_bytes", "night-monk.service"),
    ],
)
def test_a_control_group_below_the_plan_is_told_with_the_command(
    home: Path, desktop: Path, group: str, file: str, unit: str
) -> None:
    put(desktop / "proc/self/cgroup", group)
    put(desktop / "sys/fs/cgroup" / file, str(GIB))

    found = only(host.control_group(settings(home), desktop))

    assert found.state == "warn" and f"{file} allows 1.0 GiB" in found.text
    assert f"sudo systemctl set-property {unit} MemoryMax=" in found.remedy
    assert "docker update --memory" in found.remedy


def test_a_quota_below_the_threads_is_told_with_both_ways_out(home: Path, desktop: Path) -> None:
    put(desktop / "proc/self/cgroup", "0::/app")
    put(desktop / "sys/fs/cgroup/app/cpu.max", "200000 100000")

    found = only(host.control_group(settings(home, threads=8), desktop))
    put(desktop / "sys/fs/cgroup/app/cpu.max", "max 100000")

    assert "allows 2 cores at once, and 8 threads wait" in found.text
    assert "CPUQuota=800%" in found.remedy and "--cpus 8" in found.remedy and found.remedy.endswith("MONK_THREADS=2")
    assert list(host.control_group(settings(home, threads=8), desktop)) == []


@pytest.mark.parametrize(
    ("files", "state", "told", "remedy"),
    [
        ({}, "ok", "not this system's to set", ""),
        ({"scaling_governor": "performance", "scaling_driver": "acpi-cpufreq"}, "ok", "performance", ""),
        ({"scaling_governor": "schedutil", "scaling_driver": "acpi-cpufreq"}, "ok", "schedutil", ""),
        (
            {"scaling_governor": "powersave", "scaling_driver": "acpi-cpufreq"},
            "warn",
            "powersave on 2 of 2",
            "scaling_governor",
        ),
        (
            {
                "scaling_governor": "powersave",
                "scaling_driver": "intel_pstate",
                "energy_performance_preference": "performance",
            },
            "ok",
            "powersave",
            "",
        ),
        (
            {
                "scaling_governor": "powersave",
                "scaling_driver": "amd-pstate-epp",
                "energy_performance_preference": "power",
            },
            "warn",
            "2 of 2 CPUs are told to save power",
            "energy_performance_preference",
        ),
    ],
)
def test_a_processor_that_saves_power_is_told(
    home: Path, desktop: Path, files: dict[str, str], state: str, told: str, remedy: str
) -> None:
    for cpu in (0, 1):
        for name, value in files.items():
            put(desktop / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/{name}", value)

    found = only(host.governor(settings(home), desktop))

    assert (found.state, told in found.text) == (state, True)
    assert remedy in found.remedy and ("echo performance | sudo tee" in found.remedy) == bool(remedy)


def test_on_this_machine_every_check_tells_what_the_kernel_says(home: Path) -> None:
    findings = {one.check: one for one in doctor.examine(settings(home), quick=True)}

    assert {"processor", "numa", "huge pages", "swap", "overcommit", "governor"} <= set(findings)
    assert all("the check itself failed" not in one.text for one in findings.values())
    strict = Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2"
    assert ("strict" in findings["overcommit"].text or "is 2" in findings["overcommit"].text) == strict
