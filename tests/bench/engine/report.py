"""From seconds to a table: medians, spread, ratios, targets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench.engine.host import QUIET_PERCENT


@dataclass(frozen=True, slots=True)
class Measured:
    """One peer in one workload: tokens/s of every run. `error`: why there is none."""

    peer: str
    rates: tuple[float, ...] = ()
    error: str = ""
    note: str = ""  # such as the width at which it was best
    facts: tuple[dict[str, float], ...] = ()  # of each run

    @property
    def rate(self) -> float | None:
        return median(self.rates) if self.rates else None

    def shown(self) -> str:
        if self.rate is None:
            return self.error.partition(":")[0]  # the whole of it stands among what was missed
        spread = f" ({min(self.rates):.0f}-{max(self.rates):.0f})" if len(self.rates) > 1 else ""
        return f"{self.rate:.1f}{spread}{' ' if self.note else ''}{self.note}"


@dataclass(frozen=True, slots=True)
class Row:
    """One workload in one weight format."""

    workload: str
    title: str
    weights: str
    measured: dict[str, Measured]
    targets: dict[str, float]  # by peer
    facts: dict[str, Any] = field(default_factory=dict)

    def ratio(self, peer: str) -> float | None:
        """Ours by the peer's, of the medians."""
        ours, other = (self.measured.get(name) for name in ("ours", peer))
        if ours is None or other is None or not ours.rate or not other.rate:
            return None
        return ours.rate / other.rate

    def verdict(self, peer: str) -> str:
        ratio, target = self.ratio(peer), self.targets[peer]
        if ratio is None:
            return ""
        return f"{ratio:.2f}x, {target:g}x {met_or_missed(ratio >= target)}" if target else f"{ratio:.2f}x"


@dataclass(frozen=True, slots=True)
class Check:
    """One figure beside the workloads. `met` is None where there is no target."""

    name: str
    weights: str
    value: str
    target: str = ""
    met: bool | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def met_or_missed(met: bool) -> str:
    return "met" if met else "MISSED"


def table_of_rows(rows: Sequence[Row]) -> list[str]:
    """Tokens/s as medians (least-most), and ours by each peer's against the target."""
    head = ["workload", "weights", "ours tok/s", "llama-server tok/s", "ratio, target", "naive tok/s", "ratio, target"]
    return aligned([head, *([*_cells(row)] for row in rows)])


def _cells(row: Row) -> list[str]:
    cells = [row.title, row.weights]
    for peer in ("ours", "server", "naive"):
        measured = row.measured.get(peer)
        cells.append(measured.shown() if measured else "-")
        if peer != "ours":
            cells.append(row.verdict(peer))
    return cells


def table_of_checks(checks: Sequence[Check]) -> list[str]:
    head = ["figure", "weights", "measured", "target", ""]
    lines = [
        [check.name, check.weights, check.value, check.target, "" if check.met is None else met_or_missed(check.met)]
        for check in checks
    ]
    return aligned([head, *lines])


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, with a rule below the head."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return [shown[0], "  ".join("-" * width for width in widths), *shown[1:]]


def warnings(busy_percents: Sequence[float], load_before: float, cores: int) -> list[str]:
    """What should keep a reader from believing the figures."""
    found = []
    noisy = [percent for percent in busy_percents if percent > QUIET_PERCENT]
    if noisy:
        found.append(
            f"others used up to {max(noisy):.0f}% of the processor before {len(noisy)} of {len(busy_percents)} runs: "
            "do not quote these figures"
        )
    if load_before > 0.25 * cores:
        found.append(f"the load average was {load_before:.2f} on {cores} cores when this began")
    return found


def missed(rows: Sequence[Row], checks: Sequence[Check]) -> list[str]:
    """Names of what was measured and missed its target, and of what failed."""
    names = []
    for row in rows:
        names += [f"{row.workload} {row.weights} by {peer}" for peer in row.targets if "MISSED" in row.verdict(peer)]
        names += [f"{row.workload} {row.weights}: {item.error}" for item in row.measured.values() if _failed(item)]
    return names + [f"{check.name} {check.weights}".strip() for check in checks if check.met is False]


def _failed(measured: Measured) -> bool:
    return bool(measured.error) and measured.error != NOT_BUILT


NOT_BUILT = "not built"
