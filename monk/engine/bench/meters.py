"""What a measurement took beside time: memory, energy, and how much of the machine others used. Reads /proc and /sys."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"intel-rapl:\d+")  # a socket; deeper names are parts of one


def forget_peak() -> None:
    """From now on the peak is counted anew, where the kernel lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The most that was resident of this process since `forget_peak`; 0 where the kernel does not say."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return 0


@dataclass(frozen=True, slots=True)
class Counter:
    """A socket's energy so far: microjoules, and where the counter begins anew."""

    microjoules: int
    wraps_at: int


class Energy:
    """The processor's own counters (RAPL), all sockets together. `problem`: why nothing is measured; empty: it is."""

    def __init__(self, folder: Path = POWERCAP) -> None:
        zones = sorted(zone for zone in folder.glob("intel-rapl:*") if _PACKAGE.fullmatch(zone.name))
        self._zones = zones
        self.problem = "" if zones else f"this machine has no energy counters in {folder}"
        if zones and self.read() is None:
            self.problem = (
                f"{zones[0] / 'energy_uj'} cannot be read by this user; to measure energy: "
                f"sudo chmod o+r {folder}/intel-rapl:*/energy_uj"
            )

    def read(self) -> dict[str, Counter] | None:
        """By zone; None when it cannot be read."""
        try:
            return {zone.name: Counter(_number(zone, "energy_uj"), _range(zone)) for zone in self._zones} or None
        except (OSError, ValueError):
            return None


def joules(before: dict[str, Counter] | None, after: dict[str, Counter] | None) -> float | None:
    """Between two readings, each counter having begun anew once at most."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    total = 0
    for zone, first in before.items():
        spent = after[zone].microjoules - first.microjoules
        total += spent if spent >= 0 else spent + first.wraps_at
    return total / 1e6


def _range(zone: Path) -> int:
    try:
        return _number(zone, "max_energy_range_uj")
    except (OSError, ValueError):
        return 1 << 32


def _number(zone: Path, name: str) -> int:
    return int((zone / name).read_text())


class Others:
    """How much of all processors was used by anyone but this process since it was made."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_seconds(), time.process_time()

    def percent(self) -> float | None:
        """None where the kernel does not say, or it was too short to tell."""
        seconds = time.monotonic() - self._began
        if self._busy is None or seconds < 0.2 or (now := _busy_seconds()) is None:
            return None
        theirs = (now - self._busy) - (time.process_time() - self._own)
        return round(max(0.0, 100.0 * theirs / seconds / (os.cpu_count() or 1)), 1)


def _busy_seconds() -> float | None:
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    idle = sum(fields[3:5])
    guests = sum(fields[8:10])  # counted in user time already
    return (sum(fields) - guests - idle) / os.sysconf("SC_CLK_TCK")
