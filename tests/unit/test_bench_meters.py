"""Energy, memory and other people, as the kernel tells them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from monk.engine.bench.meters import Counter, Energy, Others, forget_peak, joules, peak_bytes


def powercap(folder: Path, **sockets: int) -> Path:
    (folder / "intel-rapl:0:1").mkdir()  # a part of a socket: counted with it
    for number, value in sockets.items():
        zone = folder / f"intel-rapl:{number.removeprefix('s')}"
        zone.mkdir()
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text("1000000\n")
    return folder


def test_energy_is_that_of_all_sockets(tmp_path: Path) -> None:
    energy = Energy(powercap(tmp_path, s0=100, s1=200))
    before = energy.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("500100\n")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1000200\n")

    assert energy.problem == ""
    assert joules(before, energy.read()) == 1.5


def test_a_counter_may_begin_anew() -> None:
    assert joules({"a": Counter(900_000, 1_000_000)}, {"a": Counter(100_000, 1_000_000)}) == 0.2
    assert joules(None, {"a": Counter(1, 2)}) is None
    assert joules({"b": Counter(1, 2)}, {"a": Counter(1, 2)}) is None


def test_what_is_not_there_or_may_not_be_read_is_said(tmp_path: Path) -> None:
    assert "no energy counters" in Energy(tmp_path).problem
    folder = powercap(tmp_path, s0=1)
    (folder / "intel-rapl:0" / "energy_uj").unlink()
    (folder / "intel-rapl:0" / "energy_uj").mkdir()  # cannot be read by anyone, root included

    energy = Energy(folder)

    assert "cannot be read" in energy.problem and "sudo chmod" in energy.problem and energy.read() is None


def test_the_peak_is_that_since_it_was_forgotten() -> None:
    big = np.ones(30_000_000)
    high = peak_bytes()
    del big
    forget_peak()

    assert high > 200_000_000
    assert peak_bytes() < high - 100_000_000


def test_others_are_told_from_us() -> None:
    own = Others()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        theirs = Others()
        time.sleep(0.5)
        found = theirs.percent()
    finally:
        busy.kill()
        busy.wait()

    assert own.percent() is not None
    assert found is not None and found > 10.0
