"""Threads and memory, chosen for real machines and explained; what makes no sense is refused with the reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from monk.engine.binding import Binding, check_settings, choose
from monk.engine.config import EngineConfig
from monk.engine.topology import Topology, of_sysctl, parse_cpus, read
from monk.errors import InvalidInput, SettingsInvalid
from monk.settings import load
from tests import machines
from tests.machines import Machine, write

GIB = 1 << 30
Machines = Callable[[Machine], Topology]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machines:
    """Each is written and read once: the larger ones are thousands of files."""
    return cache(lambda which: read(write(tmp_path_factory.mktemp("machine"), which)))


# ── auto ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_that_fits_a_socket_stays_on_the_roomier_one(machine: Machines) -> None:
    chosen = choose(machine(machines.EPYC_NPS1), 130 * GIB)

    assert chosen.cpus == parse_cpus("96-191,288-383")
    assert (chosen.native, chosen.policy, chosen.nodes, chosen.threads) == ("numactl", "prefer", (1,), 96)
    assert chosen.reason == (
        "130.0 GiB fit in the memory of socket 1 (668.9 GiB free): 96 threads, one per core, pages on node 1"
    )


def test_a_plan_that_fits_no_socket_is_spread_over_all(machine: Machines) -> None:
    chosen = choose(machine(machines.EPYC_NPS1), 900 * GIB)

    assert (chosen.native, chosen.cpus, chosen.policy, chosen.nodes) == ("distribute", (), "interleave", (0, 1))
    assert chosen.threads == 192
    assert chosen.reason == (
        "900.0 GiB fit in no one socket's memory (at most 668.9 GiB free): pages are spread over nodes 0-1, and threads run "
        "on each in turn, 192 in all"
    )


def test_four_nodes_a_socket_are_used_together_for_they_share_its_channels(machine: Machines) -> None:
    """A model that fits one of them would else read through a quarter of the socket's channels."""
    chosen = choose(machine(machines.EPYC_NPS4.roomier(2, 190000)), 100 * GIB)

    assert (chosen.native, chosen.policy, chosen.nodes, chosen.threads) == ("numactl", "interleave", (0, 1, 2, 3), 96)
    assert chosen.reason.startswith("100.0 GiB fit in the memory of socket 0")


def test_threads_that_a_socket_does_not_have_take_both(machine: Machines) -> None:
    chosen = choose(machine(machines.XEON), 10 * GIB, threads=200)

    assert (chosen.native, chosen.nodes) == ("distribute", (0, 1))
    assert chosen.reason.startswith("200 threads are more than a socket has")


def test_a_process_that_was_bound_already_is_left_where_it_is(machine: Machines) -> None:
    xeon = machine(machines.XEON)

    within = choose(xeon, 10 * GIB, allowed=parse_cpus("0-27"))
    across = choose(xeon, 10 * GIB, allowed=parse_cpus("0-27,56-83"))

    assert (within.policy, within.nodes, within.threads) == ("prefer", (0,), 28)
    assert (across.policy, across.nodes, across.threads) == ("interleave", (0, 1), 56)
    assert within.reason.startswith("this process may only use CPUs 0-27")


def test_memory_without_processors_is_no_place_to_send_a_thread(machine: Machines) -> None:
    chosen = choose(machine(machines.XEON_MAX), 400 * GIB)

    assert (chosen.native, chosen.policy, chosen.nodes) == ("off", "interleave", tuple(range(8)))
    assert "llama.cpp would send threads to node 8-15, which has memory and no CPU" in chosen.reason


def test_pages_are_spread_over_the_nodes_that_have_memory(machine: Machines) -> None:
    assert choose(machine(machines.EMPTY_NODES), 12 * GIB).nodes == (1, 5)


def test_where_there_is_one_node_nothing_is_bound(machine: Machines) -> None:
    desktop = choose(machine(machines.DESKTOP), 20 * GIB)
    mac = choose(of_sysctl(machines.M2_ULTRA), 150 * GIB)

    assert desktop == Binding(threads=8, reason="one memory node, so nothing has to be bound")
    assert (mac.native, mac.cpus, mac.threads) == ("off", (), 16)


# ── as set ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cpus_are_kept_with_the_memory_beside_them(machine: Machines) -> None:
    epyc = machine(machines.EPYC_NPS1)

    near = choose(epyc, GIB, cpus="0-31")
    across = choose(epyc, GIB, cpus="0-31,96-127", numa="numactl")

    assert (near.native, near.cpus, near.policy, near.nodes, near.threads) == (
        "numactl",
        tuple(range(32)),
        "prefer",
        (0,),
        32,
    )
    assert (across.policy, across.nodes, across.threads) == ("interleave", (0, 1), 64)
    assert choose(epyc, GIB, cpus="0,192").threads == 1, "two threads of one core"


def test_off_leaves_memory_and_strategy_to_the_kernel(machine: Machines) -> None:
    epyc = machine(machines.EPYC_NPS1)

    assert choose(epyc, GIB, numa="off") == Binding(threads=192, reason="numa is off")
    kept = choose(epyc, GIB, numa="off", cpus="0-7")
    assert (kept.native, kept.cpus, kept.policy) == ("off", tuple(range(8)), "default")


def test_isolate_takes_the_roomiest_node_and_numactl_what_it_was_given(machine: Machines) -> None:
    nps4 = machine(machines.EPYC_NPS4.roomier(5, 190000))

    isolated = choose(nps4, 100 * GIB, numa="isolate")
    given = choose(nps4, 100 * GIB, numa="numactl", allowed=parse_cpus("0-95"))

    assert (isolated.nodes, isolated.threads, isolated.cpus) == ((5,), 24, nps4.nodes[5].cpus)
    assert (given.native, given.cpus, given.policy, given.threads) == ("numactl", (), "default", 96)


@pytest.mark.parametrize(
    ("which", "values", "told"),
    [
        (machines.DESKTOP, {"numa": "distribute"}, "has one memory node to choose from; set numa to auto or off"),
        (machines.DESKTOP, {"numa": "isolate"}, "numa is isolate, and this machine has one memory node"),
        (machines.DESKTOP, {"numa": "numactl", "cpus": "0-3"}, "one memory node to choose from; cpus alone is enough"),
        (machines.DESKTOP, {"cpus": "12-17"}, "cpus names 16-17, and this machine has 0-15"),
        (machines.XEON, {"cpus": "0-63", "allowed": range(56)}, "cpus names 56-63, and this process may only use 0-55"),
        (machines.XEON, {"numa": "distribute", "allowed": range(56)}, "may only use CPUs 0-55 of 0-223"),
        (machines.XEON, {"numa": "distribute", "threads": 1}, "threads is 1: fewer than the 2 nodes"),
        (
            machines.XEON,
            {"numa": "isolate", "needed": 1200 * GIB},
            "needs 1200.0 GiB: node 1, the roomiest, has 986.3 GiB free",
        ),
        (machines.XEON, {"numa": "isolate", "threads": 120}, "node 1 has CPUs 56-111,168-223, 112 in all"),
        (
            machines.XEON_MAX,
            {"numa": "distribute"},
            "send threads to node 8-15, which has memory and no CPU; set numa to auto",
        ),
    ],
)
def test_what_this_machine_cannot_do_is_refused_with_reason_and_way_out(
    machine: Machines, which: Machine, values: dict[str, object], told: str
) -> None:
    needed = values.pop("needed", GIB)

    with pytest.raises(SettingsInvalid) as caught:
        choose(machine(which), needed, **values)  # type: ignore[arg-type]

    assert told in caught.value.message and "; " in caught.value.message
    assert caught.value.param in ("numa", "cpus")


def test_a_mac_lets_nobody_choose_its_cores() -> None:
    with pytest.raises(SettingsInvalid, match="macOS lets nobody choose; leave it out"):
        choose(of_sysctl(machines.M2_ULTRA), GIB, cpus="0-15")


@pytest.mark.parametrize(
    ("numa", "cpus", "threads", "param", "told"),
    [
        ("auto", "0-3", 8, "cpus", "threads is 8, and cpus 0-3 are 4: threads would wait for each other"),
        ("distribute", "0-3", 0, "numa", "binds threads to whole nodes and would undo cpus"),
        ("isolate", "0-3", 0, "numa", "set numa to auto or numactl, or leave cpus out"),
        ("auto", "0-x", 0, "cpus", "write them as 0-31,64-95"),
    ],
)
def test_what_fits_no_machine_is_refused_wherever_it_is_set(
    home: Path, numa: str, cpus: str, threads: int, param: str, told: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(told)) as plain:
        check_settings(numa, cpus, {"threads": threads})  # type: ignore[arg-type]
    assert plain.value.param == param
    with pytest.raises(SettingsInvalid, match=re.escape(told)):
        EngineConfig(Path("m.gguf"), numa=numa, cpus=cpus, threads=threads)  # type: ignore[arg-type]
    with pytest.raises(SettingsInvalid, match=r"cpus|numa"):
        load({"MONK_NUMA": numa, "MONK_CPUS": cpus, "MONK_THREADS": str(threads)}, home=home)


def test_a_binding_crosses_to_other_processes() -> None:
    config = EngineConfig(Path("m.gguf"), binding=Binding("numactl", (0, 1), "interleave", (0,), 2, "because"))

    import json

    assert EngineConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


# ── done ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

BOUND = """
import os, sys, threading
from contextlib import suppress
from pathlib import Path
from monk.engine.binding import Binding, apply
waiting = threading.Event()
threading.Thread(target=waiting.wait, daemon=True).start()
apply(Binding("numactl", ({cpu},), "{policy}", (0,)))
later = bytearray(8 << 20)
def tell():
    status = Path("/proc/thread-self/status").read_text()
    print(next(line for line in status.splitlines() if line.startswith("Cpus_allowed_list")).split()[1])
child = threading.Thread(target=tell); child.start(); child.join()
for task in Path("/proc/self/task").iterdir():
    with suppress(OSError):  # the thread that told may be on its way out
        print(next(l for l in (task / "status").read_text().splitlines() if l.startswith("Cpus_allowed_list")).split()[1])
print("policy", {{row.split()[1] for row in Path("/proc/self/numa_maps").read_text().splitlines()}})
"""


@pytest.mark.parametrize(("policy", "shown"), [("interleave", "interleave:0"), ("prefer", "prefer")])
def test_all_threads_keep_to_the_cpus_and_pages_follow_the_policy(policy: str, shown: str) -> None:
    """In a process of its own, which stays bound."""
    cpu = max(os.sched_getaffinity(0))
    script = BOUND.format(cpu=cpu, policy=policy)

    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert set(told[:-1]) == {str(cpu)}, "one that was there before, one started later, and the first"
    assert len(told) >= 4
    assert shown in told[-1]


def test_a_cpu_that_cannot_be_had_is_an_error_not_a_silence() -> None:
    script = "from monk.engine.binding import Binding, apply\napply(Binding('off', (8000,)))"

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "SettingsInvalid: the engine cannot be kept to CPUs 8000" in ended.stderr


def test_status_tells_which_cpus_and_memory_and_why() -> None:
    from monk.cli.status import _tuning

    tuning = {"settings": {"threads": {"value": 96, "from": "default"}}, "binding": Binding(reason="one node").facts()}

    assert _tuning(tuning)[-1] == "cpus and memory: one node"
    assert len(_tuning({"settings": tuning["settings"]})) == 1, "an engine of an earlier version"
