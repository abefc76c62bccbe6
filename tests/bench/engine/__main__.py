"""`python -m tests.bench.engine`: measure, print tables, write JSON. Exit status 1: a target missed or a peer failed."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monk.engine.machine import physical_cores
from tests.bench.engine import host, measure, models, peers, probes, report, roofline, workloads
from tests.bench.engine.ours import read_book
from tests.bench.engine.peers import CACHE, PeerFailed, Place
from tests.bench.engine.report import Check, Row
from tests.bench.engine.server import WIDTHS
from tests.bench.engine.workloads import Book

PROBES = ("restore", "python", "memory", "roofline")
MEMORY_CONTEXT = 2048


class Bench:
    """What was asked for, and what came of it so far."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.rows: list[Row] = []
        self.checks: list[Check] = []
        self.busy: list[float] = []
        self.failures: list[str] = []
        self.load_before = host.load_average()
        self.began_at = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.roof: roofline.Roof | None = None

    def run(self) -> None:
        """Every format, every workload, every probe; what fails does not stop the rest."""
        for weights in self.chosen.format if self.chosen.model is None else ("as it is",):
            model = self.chosen.model or models.embedded_as(weights, self.chosen.cache)
            place = Place(model, self.chosen.threads, self.chosen.slots, self.chosen.cache / "run", {})
            book, no_end = read_book(place)
            place = Place(model, place.threads, place.slots, place.folder, no_end)
            self._workloads(place, weights, book)
            self._probes(place, weights, book)
        if "memory" in self.chosen.workload and self.chosen.model is None:
            for architecture in models.TINY:
                self._memory(models.tiny(architecture, self.chosen.cache), f"tiny {architecture}")

    def _workloads(self, place: Place, weights: str, book: Book) -> None:
        turn = measure.Turn(
            self.chosen.peers,
            self.chosen.repeat,
            peers.find_server(version("llama-cpp-python")) if "server" in self.chosen.peers else None,
            tuple(self.chosen.server_arguments.split()),
            self.chosen.widths,
            tell,
        )
        for name in (name for name in workloads.NAMES if name in self.chosen.workload):
            work = workloads.build(workloads.shape_of(name, quick=self.chosen.quick), book)
            tell(f"{work.shape.title}, {weights}")
            self.rows.append(measure.measure(work, weights, place, turn, self.busy))
            self.save()

    def _probes(self, place: Place, weights: str, book: Book) -> None:
        quick, repeat = self.chosen.quick, self.chosen.repeat
        steps: dict[str, Callable[[], list[Check]]] = {
            "restore": lambda: [probes.restore(place, weights, book, repeat, quick=quick)],
            "python": lambda: [probes.python_share(place, weights, book, quick=quick)],
            "memory": lambda: [probes.resident_memory(place, f"{place.model.stem}", MEMORY_CONTEXT)],
            "roofline": lambda: roofline.against(self._roof(), place, weights, book, quick=quick),
        }
        for name in (name for name in PROBES if name in self.chosen.workload):
            self._try(f"{name} {weights}", steps[name])

    def _memory(self, model: Path, name: str) -> None:
        ends = dict.fromkeys(models.TINY_CONTROL_TOKENS, -100.0)
        place = Place(model, self.chosen.threads, 0, self.chosen.cache / "run", ends)
        self._try(f"memory {name}", lambda: [probes.resident_memory(place, name, MEMORY_CONTEXT)])

    def _try(self, name: str, step: Callable[[], list[Check]]) -> None:
        self.busy.append(host.busy_percent())
        try:
            found = step()
        except PeerFailed as failure:
            self.failures.append(f"{name}: {failure}")
            tell(f"{name} failed: {failure}")
            return
        if self.chosen.quick:
            found = [replace(check, target="", met=None) for check in found]
        self.checks += found
        for check in found:
            tell(f"{check.name}: {check.value}")
        self.save()

    def _roof(self) -> roofline.Roof:
        if self.roof is None:
            self.roof = roofline.roof(self.chosen.threads, quick=self.chosen.quick)
        return self.roof

    # --- what came of it

    def save(self) -> None:
        """After each workload, so that an hour cut short is not lost."""
        if self.chosen.json is not None:
            self.chosen.json.write_text(json.dumps(self.as_json(), indent=1) + "\n", "utf-8")

    def as_json(self) -> dict[str, Any]:
        cores = physical_cores()
        return {
            "began_at": self.began_at,
            "quick": self.chosen.quick,
            "repeat": self.chosen.repeat,
            "threads": self.chosen.threads,
            "slots": self.chosen.slots,
            "server_arguments": self.chosen.server_arguments,
            "host": host.facts(),
            "load_before": self.load_before,
            "load_after": host.load_average(),
            "busy_percent_before_runs": self.busy,
            "warnings": report.warnings(self.busy, self.load_before[0], cores),
            "rows": [measure.as_json(row) for row in self.rows],
            "checks": [vars_of(check) for check in self.checks],
            "missed": self.missed(),
        }

    def missed(self) -> list[str]:
        return report.missed(self.rows, self.checks) + self.failures

    def print(self) -> None:
        facts = host.facts()
        tell("")
        tell(
            f"{facts['cpu']}, {self.chosen.threads} threads, commit {facts['commit']}, medians of {self.chosen.repeat}"
        )
        for table in (
            self.rows and report.table_of_rows(self.rows),
            self.checks and report.table_of_checks(self.checks),
        ):
            for line in table or ():
                tell(line)
            tell("")
        for warning in report.warnings(self.busy, self.load_before[0], physical_cores()):
            tell(f"WARNING: {warning}")
        for name in self.missed():
            tell(f"missed: {name}")


def vars_of(check: Check) -> dict[str, Any]:
    return {name: getattr(check, name) for name in ("name", "weights", "value", "target", "met", "facts")}


def tell(line: str) -> None:
    print(line, flush=True)


def main(arguments: list[str] | None = None) -> int:
    bench = Bench(parsed(arguments))
    bench.run()
    bench.save()
    bench.print()
    return 1 if bench.missed() else 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engine", description="The engine against its peers.")
    known = (*workloads.NAMES, *PROBES)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: only to see that all of it runs")
    parser.add_argument("--workload", action="append", choices=known, help="only this one; may be repeated")
    parser.add_argument("--format", action="append", choices=models.FORMATS, help="only these weights; may be repeated")
    parser.add_argument("--repeat", type=int, help="rounds, in which the peers take turns (3; quick: 1)")
    parser.add_argument("--json", type=Path, help="write everything there, after each workload")
    parser.add_argument("--peers", type=_peers, default=peers.NAMES, help="of ours,naive,server, with commas")
    parser.add_argument("--threads", type=int, default=physical_cores(), help="of every peer")
    parser.add_argument("--slots", type=int, default=0, help="of ours; 0: its own choice")
    parser.add_argument("--widths", type=_numbers, default=WIDTHS, help="of llama-server's -np, with commas")
    parser.add_argument("--server-arguments", default="", help="more for llama-server, such as '--flash-attn off'")
    parser.add_argument("--model", type=Path, help="another GGUF file, as it is, instead of the embedded one")
    parser.add_argument("--cache", type=Path, default=CACHE, help="for models and KV; on the disk that is meant")
    chosen = parser.parse_args(arguments)
    chosen.workload = tuple(chosen.workload or known)
    chosen.format = tuple(chosen.format or models.FORMATS)
    chosen.repeat = chosen.repeat or (1 if chosen.quick else 3)
    return chosen


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if set(names) - set(peers.NAMES):
        raise argparse.ArgumentTypeError(f"peers are {','.join(peers.NAMES)}, not {text}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
