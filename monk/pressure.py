"""Yields the machine to people: while others wait too long for memory, disk or processor, the jobs pause.

    free ──above a limit for HOLD_SECONDS──▶ held ──below half of every limit for RELEASE_SECONDS──▶ free

Linux tells how much of the last ten seconds some task stood still for want of a resource (pressure stall information,
`/proc/pressure`, Documentation/accounting/psi.rst). Held, thoughts are saved inside their step and the engine gives all its
memory back; released, they go on from their last token. Knows neither jobs nor engine: two callbacks do the work.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

PSI = Path("/proc/pressure")
HOLD_SECONDS = 10.0  # one file copied or one program started is no reason to stop
RELEASE_SECONDS = 60.0  # a reloaded model is expensive: not for every breath the machine takes
LOOK_SECONDS = 1.0


def read_pressure(folder: Path = PSI) -> dict[str, float]:
    """Percent of the last 10 s in which some task waited for "memory", "io", "cpu"; without what the kernel does not tell."""
    found = {}
    for resource in ("memory", "io", "cpu"):
        try:
            first = (folder / resource).read_text().split()
            found[resource] = float(next(word for word in first if word.startswith("avg10=")).removeprefix("avg10="))
        except (OSError, StopIteration, ValueError):
            continue
    return found


class Gauge:
    """When to hold and when to release. Pure: readings and moments are arguments. Limits in percent; 0 ignores a resource."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        self._limits = {resource: limit for resource, limit in limits.items() if limit > 0}
        self.held = False
        self._since: float | None = None

    def turn(self, readings: Mapping[str, float], now: float) -> str | None:
        """ "hold" or "release" in the moment it is time for it, otherwise None. `now`: monotonic seconds."""
        changing = self._is_calm(readings) if self.held else bool(self.pressing(readings))
        if not changing:
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        if now - self._since < (RELEASE_SECONDS if self.held else HOLD_SECONDS):
            return None
        self.held, self._since = not self.held, None
        return "hold" if self.held else "release"

    def pressing(self, readings: Mapping[str, float]) -> dict[str, float]:
        """The resources above their limits."""
        return {name: readings[name] for name, limit in self._limits.items() if readings.get(name, 0.0) > limit}

    def _is_calm(self, readings: Mapping[str, float]) -> bool:
        return all(readings.get(name, 0.0) <= limit / 2 for name, limit in self._limits.items())


class PressureWatch:
    """Looks every second in a thread of its own. `hold(why)` and `release()` may take as long as they need."""

    def __init__(
        self,
        limits: Mapping[str, float],
        hold: Callable[[str], None],
        release: Callable[[], None],
        read: Callable[[], Mapping[str, float]] = read_pressure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gauge = Gauge(limits)
        self._hold, self._release, self._read, self._clock = hold, release, read, clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pressure", daemon=True)

    def start(self) -> None:
        """Begin looking. Says once when the kernel has nothing to tell."""
        if not self._read():
            logger.warning("the kernel tells no pressure (/proc/pressure); jobs will not yield to it")
            return
        self._thread.start()

    def stop(self) -> None:
        """End soon; a held house stays held."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def look(self) -> None:
        """One look, and what follows from it."""
        readings = self._read()
        match self._gauge.turn(readings, self._clock()):
            case "hold":
                why = " and ".join(f"{name} ({value:.0f}%)" for name, value in self._gauge.pressing(readings).items())
                self._hold(f"others wait for {why}")
            case "release":
                self._release()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                logger.exception("looking at the pressure failed")
