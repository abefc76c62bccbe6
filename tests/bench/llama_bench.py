"""`monk bench`'s figures beside those of llama-bench, the same settings in turns, in one run: they must agree within 5 %.

    make bench-peers
    python -m tests.bench.llama_bench [--model FILE.gguf] [--rounds 15] [--depths 0,1024] [--json FILE]

In each round every figure is made twice, by one of the two and at once by the other, each round another of them first: what
is told is the median of the rounds' ratios, and where the true one lies with 95 % (`pairs.py`). Many short rounds tell more than
a few long ones, because a machine's speed wanders. The same file, threads, ubatch, flash attention, KV types and way for threads
to wait; llama-bench has a process for each figure, `monk bench` one for each round. The exit status is 1 when a median is
beyond the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
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
from tests.bench.pairs import ratio

LIMIT = 0.05
PROMPT_TOKENS, ANSWER_TOKENS, UBATCH = 512, 64, 512
TESTS: tuple[tuple[Test, int], ...] = (("prompt", PROMPT_TOKENS), ("answer", ANSWER_TOKENS))
SETTINGS = (("off", "f16", "f16"), ("on", "f16", "f16"), ("on", "q8_0", "q8_0"))


@dataclass(slots=True)
class Rates:
    """Tokens a second, a round each."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)


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
    cases = [case for case in _cases(options) if options.only in case.name]
    if not cases:
        sys.exit(f"no figure has {options.only!r} in its name")
    found: dict[str, Rates] = {case.name: Rates() for case in cases}
    before = host.busy_percent()
    with tempfile.TemporaryDirectory(prefix="night-monk-") as folder:
        for number in range(options.rounds):
            session = Session(EngineConfig(model), AS_ITS_FILE_SAYS, Path(folder) / "kv", {"model": str(model)})
            try:
                for case in cases:
                    _pair(case, found[case.name], session, binary, model, options.repeats, ours_first=number % 2 == 0)
            finally:
                session.close()
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    rows = [_row(name, rates) for name, rates in found.items()]
    _say(rows, before)
    if options.json:
        facts = {
            "host": host.facts(),
            "model": model.name,
            "busy_percent_before": before,
            "rounds": {name: asdict(rates) for name, rates in found.items()},
            "rows": rows,
        }
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    return int(any(abs(row["ratio"]["median"] - 1.0) > LIMIT for row in rows))


def _pair(
    case: Case, rates: Rates, session: Session, binary: Path, model: Path, repeats: int, *, ours_first: bool
) -> None:
    if ours_first:
        rates.ours.append(_ours(case, session, repeats))
    rates.theirs.append(_theirs(case, model, binary, repeats))
    if not ours_first:
        rates.ours.append(_ours(case, session, repeats))
    print(f"{case.name}: {rates.ours[-1]:.2f} and {rates.theirs[-1]:.2f} tokens/s", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="a GGUF file; else SmolLM2-135M as F16")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=1, help="of each figure in a round")
    parser.add_argument("--depths", default="0,1024")
    parser.add_argument("--only", default="", help='part of a figure\'s name, as "answer 64 behind 0, flash off"')
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


def _ours(case: Case, session: Session, repeats: int) -> float:
    row = session.measure(case.point, repeats)
    if "refused" in row:
        sys.exit(f"{case.name}: {row['refused']}")
    return float(row["tokens_per_second"]["mean"])


def _theirs(case: Case, model: Path, binary: Path, repeats: int) -> float:
    command = [str(binary), "-m", str(model), "-r", str(repeats), "-o", "json", *case.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    if done.returncode:
        sys.exit(f"llama-bench failed for {case.name}: {done.stderr.strip()[-300:]}")
    return float(json.loads(done.stdout)[0]["avg_ts"])


def _row(name: str, rates: Rates) -> dict[str, Any]:
    between = ratio(rates.ours, rates.theirs)
    return {"name": name, "ours": median(rates.ours), "llama_bench": median(rates.theirs), "ratio": asdict(between)}


def _say(rows: list[dict[str, Any]], busy: float) -> None:
    print(f"{'':58} {'ours':>9} {'llama-bench':>12} {'ratio':>7}   {'surely within':>14}")
    for row in rows:
        between = row["ratio"]
        mark = "" if abs(between["median"] - 1.0) <= LIMIT else "  beyond 5 %"
        print(
            f"{row['name']:58} {row['ours']:9.2f} {row['llama_bench']:12.2f} {between['median']:7.3f}"
            f"   {between['low']:5.3f} to {between['high']:5.3f}{mark}"
        )
    if busy > host.QUIET_PERCENT:
        print(f"others used {busy:.0f} % of the machine when this began: not a quiet one")


if __name__ == "__main__":
    sys.exit(main())
