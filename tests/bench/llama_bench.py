"""`monk bench`'s figures beside those of llama-bench, the same settings in turns, in one run: they must agree within 5 %.

    make bench-peers
    python -m tests.bench.llama_bench [--model FILE.gguf] [--rounds 5] [--depths 0,1024] [--json FILE]

Each figure is the median over the rounds of a round's mean, and each round another of the two begins, so that a busy minute of
the machine hits both. The same file, threads, ubatch, flash attention, KV types and way for threads to wait. The exit status is
1 when a ratio is beyond the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from monk.engine.bench.point import Point, Test
from monk.engine.bench.session import Session
from monk.engine.client import AS_ITS_FILE_SAYS
from monk.engine.config import EngineConfig
from monk.engine.machine import physical_cores
from tests.bench.engine import host
from tests.bench.engine.models import embedded_as
from tests.bench.engine.peers import CACHE, ENVIRONMENT

LIMIT = 0.05
PROMPT_TOKENS, ANSWER_TOKENS, UBATCH = 512, 64, 512
TESTS: tuple[tuple[Test, int], ...] = (("prompt", PROMPT_TOKENS), ("answer", ANSWER_TOKENS))
SETTINGS = (("off", "f16", "f16"), ("on", "f16", "f16"), ("on", "q8_0", "q8_0"))


@dataclass(frozen=True, slots=True)
class Case:
    """One figure that both must give."""

    point: Point

    @property
    def name(self) -> str:
        point = self.point
        flash = "on" if point.flash else "off"
        return (
            f"{point.test} {point.tokens} behind {point.depth}, flash {flash}, {point.type_k}, {point.threads} threads"
        )

    def arguments(self) -> list[str]:
        """llama-bench's words for it."""
        point = self.point
        told = {
            "-p": point.tokens if point.test == "prompt" else 0,
            "-n": point.tokens if point.test == "answer" else 0,
            "-d": point.depth,
            "-t": point.threads,
            "-ub": point.ubatch,
            "-b": 2048,
            "-fa": "on" if point.flash else "off",
            "-ctk": point.type_k,
            "-ctv": point.type_v,
        }
        return [str(word) for pair in told.items() for word in pair]


def main() -> int:
    options = _options()
    binary = _binary()
    model = options.model or embedded_as("f16")
    cases = list(_cases(options))
    found: dict[str, dict[str, list[float]]] = {case.name: {"ours": [], "theirs": []} for case in cases}
    before = host.busy_percent()
    with tempfile.TemporaryDirectory(prefix="night-monk-") as folder:
        for number in range(options.rounds):
            for case in cases:
                for who in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
                    rate = (
                        _ours(case, model, Path(folder) / "kv", options.repeats)
                        if who == "ours"
                        else _theirs(case, model, binary, options.repeats)
                    )
                    found[case.name][who].append(rate)
                    print(f"round {number + 1}: {who:6} {case.name}: {rate:.2f} tokens/s", file=sys.stderr, flush=True)
    rows = [_row(name, pair) for name, pair in found.items()]
    _say(rows, before)
    if options.json:
        facts = {
            "host": host.facts(),
            "model": model.name,
            "busy_percent_before": before,
            "rounds": found,
            "rows": rows,
        }
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    return int(any(abs(row["ratio"] - 1.0) > LIMIT for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="a GGUF file; else SmolLM2-135M as F16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="of each figure in a round")
    parser.add_argument("--depths", default="0,1024")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _cases(options: argparse.Namespace) -> list[Case]:
    return [
        Case(Point(test, tokens, 1, int(depth), flash == "on", type_k, type_v, options.threads, UBATCH, tokens))
        for flash, type_k, type_v in SETTINGS
        for depth in options.depths.split(",")
        for test, tokens in TESTS
    ]


def _binary() -> Path:
    path = Path(os.environ.get("LLAMA_BENCH") or CACHE / f"llama-{version('llama-cpp-python')}" / "bin" / "llama-bench")
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is not there; run make bench-peers, or set LLAMA_BENCH")
    return path


def _ours(case: Case, model: Path, folder: Path, repeats: int) -> float:
    """A process of its own, as theirs."""
    session = Session(EngineConfig(model), AS_ITS_FILE_SAYS, folder, {"model": str(model)})
    try:
        row = session.measure(case.point, repeats)
    finally:
        session.close()
    if "refused" in row:
        sys.exit(f"{case.name}: {row['refused']}")
    return float(row["tokens_per_second"]["mean"])


def _theirs(case: Case, model: Path, binary: Path, repeats: int) -> float:
    command = [str(binary), "-m", str(model), "-r", str(repeats), "-o", "json", *case.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    if done.returncode:
        sys.exit(f"llama-bench failed for {case.name}: {done.stderr.strip()[-300:]}")
    return float(json.loads(done.stdout)[0]["avg_ts"])


def _row(name: str, pair: dict[str, list[float]]) -> dict[str, Any]:
    ours, theirs = median(pair["ours"]), median(pair["theirs"])
    spread = [(max(rates) - min(rates)) / median(rates) for rates in pair.values()]
    return {"name": name, "ours": ours, "llama_bench": theirs, "ratio": ours / theirs, "spread": max(spread)}


def _say(rows: list[dict[str, Any]], busy: float) -> None:
    print(f"{'':58} {'ours':>9} {'llama-bench':>12} {'ratio':>7} {'spread':>7}")
    for row in rows:
        mark = "" if abs(row["ratio"] - 1.0) <= LIMIT else "  beyond 5 %"
        print(
            f"{row['name']:58} {row['ours']:9.2f} {row['llama_bench']:12.2f} {row['ratio']:7.3f} {row['spread']:7.1%}{mark}"
        )
    if busy > host.QUIET_PERCENT:
        print(f"others used {busy:.0f} % of the machine when this began: not a quiet one")


if __name__ == "__main__":
    sys.exit(main())
