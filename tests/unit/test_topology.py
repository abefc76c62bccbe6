"""What machines are made of, read from files as real ones show them; whence each is, stands in tests/machines.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine import machine as machine_module
from monk.engine import topology
from monk.engine.topology import of_sysctl, parse_cpus, read, shown
from monk.errors import InvalidInput
from tests import machines
from tests.machines import put, write

GIB = 1 << 30


def test_two_sockets_of_96_cores_are_192_threads_not_384(tmp_path: Path) -> None:
    found = read(write(tmp_path, machines.EPYC_NPS1))

    assert (len(found.sockets), len(found.cores), len(found.cpus), len(found.caches)) == (2, 192, 384, 24)
    assert found.physical_cores() == 192
    assert found.cores[104] == (104, 296) and found.caches[13] == parse_cpus("104-111,296-303")
    assert [shown(node.cpus) for node in found.nodes] == ["0-95,192-287", "96-191,288-383"]
    assert found.nodes[0].distances == (10, 32)
    assert found.nodes[1].memory_bytes == 774028 << 20
    assert found.nodes[1].free_bytes == 684984 << 20, "unused, and files that can be read again"
    assert found.sentence() == ("2 sockets, 192 cores, 384 hardware threads, 1511 GiB in 2 memory nodes, 24 L3 caches")


def test_four_nodes_a_socket_are_nodes_of_their_socket(tmp_path: Path) -> None:
    found = read(write(tmp_path, machines.EPYC_NPS4))

    assert len(found.nodes) == 8 and len(found.sockets) == 2
    assert [node.number for node in found.nodes_of(found.sockets[1])] == [4, 5, 6, 7]
    assert found.nodes[4].distances == (32, 32, 32, 32, 10, 12, 12, 12)
    assert found.physical_cores(found.nodes[3].cpus) == 24


def test_a_cache_of_a_whole_socket_is_one(tmp_path: Path) -> None:
    found = read(write(tmp_path, machines.XEON))

    assert (len(found.caches), found.physical_cores(), len(found.cpus)) == (2, 112, 224)
    assert found.sentence().endswith("2015 GiB in 2 memory nodes, 2 L3 caches")


def test_memory_without_processors_and_processors_without_memory_are_nodes_too(tmp_path: Path) -> None:
    bare = read(write(tmp_path / "max", machines.XEON_MAX))
    empty = read(write(tmp_path / "empty", machines.EMPTY_NODES))

    assert [node.number for node in bare.nodes if not node.cpus] == list(range(8, 16))
    assert [node.number for node in bare.nodes_of(bare.cpus)] == list(range(8))
    assert [node.number for node in empty.nodes_of(empty.cpus)] == [1, 5]


def test_a_desktop_is_one_node_and_counts_its_cores_once(tmp_path: Path) -> None:
    found = read(write(tmp_path, machines.DESKTOP))

    assert (found.physical_cores(), found.physical_cores({0, 1, 8}), len(found.nodes)) == (8, 2, 1)
    assert found.sentence() == "1 socket, 8 cores, 16 hardware threads, one memory node of 62 GiB"


def test_efficiency_cores_wait_while_there_are_faster_ones(tmp_path: Path) -> None:
    """A desktop whose kernel names its fast CPUs, as those of Intel with two kinds of cores."""
    root = write(tmp_path, machines.DESKTOP)
    put(root / "sys/devices/cpu_core/cpus", "0-3,8-11")

    found = read(root)

    assert (found.physical_cores(), found.physical_cores({4, 5})) == (4, 2)
    assert "8 cores (4 of them slow)" in found.sentence()


@pytest.mark.parametrize(
    ("text", "cores", "fast", "gib"), [(machines.M2_ULTRA, 24, 16, 192), (machines.M3_ULTRA, 28, 20, 96)]
)
def test_apple_silicon_is_one_memory_for_fast_and_slow_cores_that_nobody_can_choose(
    text: str, cores: int, fast: int, gib: int
) -> None:
    found = of_sysctl(text)

    assert (len(found.cores), found.physical_cores()) == (cores, fast)
    assert (len(found.nodes), found.memory_bytes, found.can_bind) == (1, gib * GIB, False)
    assert found.sentence() == f"1 socket, {cores} cores (8 of them slow), one memory node of {gib} GiB"


def test_a_mac_is_asked_by_sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "sysctl"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = hw ] && cat <<'END'\n{machines.M2_ULTRA}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(topology.platform, "system", lambda: "Darwin")

    assert topology.this_machine().physical_cores() == 16

    program.write_text("#!/bin/sh\nexit 1\n")
    assert topology.this_machine().physical_cores() == os.cpu_count(), "nothing is told: every CPU counts"


def test_a_kernel_that_tells_nothing_is_one_node_with_every_cpu(tmp_path: Path) -> None:
    found = read(tmp_path)

    assert (len(found.cores), len(found.nodes), found.memory_bytes) == (os.cpu_count(), 1, 0)


def test_this_machine_is_what_the_kernel_says() -> None:
    found = topology.this_machine()

    assert found.cpus >= machine_module.allowed_cpus()
    assert 1 <= machine_module.physical_cores() <= len(machine_module.allowed_cpus())
    assert machine_module.physical_cores({min(found.cpus)}) == 1
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert abs(found.memory_bytes - int(total.split()[1]) * 1024) < found.memory_bytes / 10


@given(st.sets(st.integers(0, 8191), max_size=60))
def test_a_list_of_cpus_is_read_back(cpus: set[int]) -> None:
    assert set(parse_cpus(shown(cpus))) == cpus


@pytest.mark.parametrize("text", ["a", "3-1", "0-", "0-9999", "-1", "1.5", "0x3"])
def test_what_is_no_list_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="write them as 0-31,64-95"):
        parse_cpus(text)
