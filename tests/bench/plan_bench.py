"""What `monk plan` promises against what comes: memory and speed. `python -m tests.bench.plan_bench [--only memory|speed]`

Memory: a fresh process opens every lane of the plan, its KV is filled to the end and a chunk is computed behind it
(tests/filled_lanes.py); its high-water mark against the plan. Speed: a short tuning of the model, then the real engine at
depths and widths that were not tuned, against what `monk plan` says from then on. With `--rounds 3` that is done three times,
and medians are told: a machine that is faster today than an hour ago was not predicted wrongly.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from monk.engine import embedded, gguf_file, memory
from monk.engine.client import ModelUse, Sampling, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.machine import measured_available_bytes, physical_cores
from monk.engine.process import EngineProcess
from monk.engine.tuning import record
from monk.engine.tuning.tuner import tune
from monk.errors import MemoryTooSmall
from monk.plan.calibrated import Measured, pace_of
from monk.plan.machines import measured as measured_machine
from tests.bench.engine.models import CACHE, TINY, embedded_as, tiny
from tests.bench.engine.ours import collect, counters, settled
from tests.filled_lanes import weigh

MOST_MEMORY_ERROR, MOST_SPEED_ERROR = 0.05, 0.25
GIB = float(1 << 30)
SHA = "0" * 64
NEW_TOKENS = 192
MEMORY_HEADERS = ("model", "context", "at once", "chunk", "KV", "flash", "planned", "resident", "error")
SPEED_HEADERS = ("model", "what", "predicted", "measured", "error")
SPEED_MODELS = ["SmolLM2 Q4_1", "SmolLM2 Q4_0", "SmolLM2 Q8_0", "SmolLM2 F16", "tiny qwen3"]


@dataclass(frozen=True, slots=True)
class Case:
    """One plan to be weighed."""

    name: str
    path: Path
    context: int
    slots: int
    values: dict[str, Any]

    @property
    def config(self) -> EngineConfig:
        return EngineConfig(self.path, context=self.context, slots=self.slots, **self.values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("memory", "speed"))
    parser.add_argument("--quick", action="store_true", help="a minute: only to see that all of it runs")
    parser.add_argument("--threads", type=int, default=0, help="of what is weighed; 1 beside other work")
    parser.add_argument("--tune-seconds", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=1, help="tunings of each model, with all figures behind each")
    parser.add_argument(
        "--models", nargs="+", default=SPEED_MODELS, choices=SPEED_MODELS, help="whose speed is predicted"
    )
    parser.add_argument("--json", type=Path, help="write all rows there")
    chosen = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {}
    if chosen.only != "speed":
        rows["memory"] = list(memory_rows(quick=chosen.quick, threads=chosen.threads))
    if chosen.only != "memory":
        names = chosen.models if not chosen.quick else ["SmolLM2 Q4_0"]
        rows["speed"] = list(speed_rows(names, chosen.tune_seconds, chosen.rounds, quick=chosen.quick))
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(row["met"] for table in rows.values() for row in table) else 1


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def models() -> dict[str, Path]:
    """SmolLM2 in four formats, and three more architectures."""
    found = {"SmolLM2 Q4_1": embedded.model_path()}
    found |= {f"SmolLM2 {name.upper()}": embedded_as(name) for name in ("q4_0", "q8_0", "f16")}
    return found | {f"tiny {name}": tiny(name) for name in TINY}


def cases(*, quick: bool) -> Iterator[Case]:
    """Smallest first. All that has room on this machine is weighed. Chunks are short where a full one would take minutes."""
    paths = models()
    kept: dict[str, Any] = {"kv_folder": CACHE / "no-kv"}
    for name, path in paths.items():
        yield Case(name, path, 1024, 4, kept)
        yield Case(name, path, 4096, 1, {**kept, "ubatch": 128})
        if not quick:
            yield Case(name, path, 4096, 8, {**kept, "ubatch": 32})
    if quick:
        return
    f16, q4_1 = paths["SmolLM2 F16"], paths["SmolLM2 Q4_1"]
    for context, slots, flash in ((32768, 4, "off"), (131072, 1, "off"), (131072, 2, "on")):
        use = ModelUse(yarn_factor=context / 8192, yarn_original_context=8192)
        name = f"SmolLM2 Q4_1, YaRN x{context // 8192}"
        yield Case(name, q4_1, context, slots, {**kept, "model_use": use, "flash_attention": flash, "ubatch": 16})
    yield Case("SmolLM2 F16", f16, 1024, 64, {**kept, "ubatch": 64})
    for name in ("SmolLM2 F16", "tiny qwen3", "tiny gemma3"):
        yield Case(name, paths[name], 4096, 4, {**kept, "flash_attention": "on", "ubatch": 128})
    yield Case("SmolLM2 F16", f16, 4096, 4, {**kept, "kv_type_k": "q8_0", "ubatch": 64})
    yield Case("SmolLM2 F16", f16, 2048, 4, {**kept, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "ubatch": 64})
    yield Case("SmolLM2 F16", f16, 4096, 1, {**kept, "mmap": False, "ubatch": 128})
    yield Case("SmolLM2 Q4_0", paths["SmolLM2 Q4_0"], 4096, 1, {**kept, "mmap": False, "ubatch": 128})


def memory_rows(*, quick: bool, threads: int = 0) -> Iterator[dict[str, Any]]:
    _print_row(MEMORY_HEADERS, head=True)
    for case in cases(quick=quick):
        row = memory_row(replace(case, values={**case.values, "threads": threads}))
        if row is not None:
            yield row


def memory_row(case: Case) -> dict[str, Any] | None:
    """None where this machine has no room."""
    try:
        plan = memory.fit(gguf_file.read(case.path), case.config)
    except MemoryTooSmall:
        print(f"<!-- no room for {case.name}, {case.slots} x {case.context} -->", flush=True)
        return None
    weighing = weigh(case.config)
    kinds = case.config.kv_type_k if case.config.kv_type_k == case.config.kv_type_v else f"{case.config.kv_type_k}, f16"
    row = {
        **asdict(weighing),
        "model": case.name,
        "context": case.context,
        "slots": case.slots,
        "error": weighing.error,
    }
    row["met"] = abs(weighing.error) <= MOST_MEMORY_ERROR
    _print_row(
        (
            case.name + ("" if case.config.mmap else ", no mmap"),
            f"{case.context:,}",
            str(case.slots),
            str(plan.ubatch),
            kinds,
            "on" if plan.flash_attention else "off",
            f"{weighing.planned / 2**20:,.0f} MiB",
            f"{weighing.resident / 2**20:,.0f} MiB",
            _told(weighing.error, MOST_MEMORY_ERROR),
        )
    )
    return row


# ── speed ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def speed_rows(names: list[str], tune_seconds: float, rounds: int, *, quick: bool) -> Iterator[dict[str, Any]]:
    paths = models()
    _print_row(SPEED_HEADERS, head=True)
    for name in names:
        found: dict[str, list[tuple[float, float]]] = {}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                config = EngineConfig(paths[name], tune_folder=Path(folder), speculation="off", share_prefixes=False)
                for what, predicted, measured in speed_of(config, tune_seconds, quick=quick):
                    found.setdefault(what, []).append((predicted, measured))
                    print(f"{name}, {what}: {predicted:.1f}, then {measured:.1f}", file=sys.stderr, flush=True)
        for what, pairs in found.items():
            yield _speed_row(name, what, pairs)


def speed_of(config: EngineConfig, tune_seconds: float, *, quick: bool) -> Iterator[tuple[str, float, float]]:
    """(what, tokens a second predicted, then measured) after one tuning."""
    file = gguf_file.read(config.model_path)
    done = tune(config, file, SHA, tune_seconds, short=quick)
    measured = Measured.of(done.record.facts, done.record.measured_at)
    assert measured is not None, "a tuning measures steps and prompts"
    print(json.dumps(asdict(measured)), file=sys.stderr, flush=True)
    filled = record.fill(config, done.record.values)
    prompts = (256, 1500) if quick else (256, 1500, 4000)
    steps = ((1, 64), (4, 300)) if quick else ((1, 64), (4, 300), (16, 64), (16, 500), (1, 4000))
    ends = set(file.control_tokens)
    never = {token: -100.0 for token, text in enumerate(file.tokens) if text in ends}
    run = replace(filled, context=8192, slots=16, tune_folder=None, beat_seconds=0.05)
    pace = pace_of(file, run, measured_machine(physical_cores()), measured)
    with engine(run) as running:
        for tokens in prompts:
            yield f"prompt of {tokens:,}", tokens / pace.prompt_seconds(tokens), prompt_rate(running, tokens)
        for width, depth in steps:
            predicted = width / pace.step_seconds(width, depth + NEW_TOKENS // 2)
            yield f"{width} at once behind {depth:,}", predicted, step_rate(running, width, depth, never)


class engine:  # a context manager, named for what it gives
    def __init__(self, config: EngineConfig) -> None:
        self._engine = EngineProcess(config)

    def __enter__(self) -> EngineProcess:
        self._engine.card(300.0)
        collect(self._engine.think(ThoughtRequest("warm", _row(0, 40), 8)))
        return self._engine

    def __exit__(self, *_: object) -> None:
        self._engine.stop()


def _row(seed: int, length: int) -> tuple[int, ...]:
    return tuple((seed * 37 + at * at * 11 + at) % 200 + 3 for at in range(length))


def prompt_rate(running: EngineProcess, tokens: int) -> float:
    """Tokens a second of one prompt alone, by the engine's own seconds."""
    before = settled(running)
    collect(running.think(ThoughtRequest(f"prompt-{tokens}", _row(tokens, tokens), 1)))
    after = settled(running)
    return (after["prefill_tokens"] - before["prefill_tokens"]) / (after["prefill_seconds"] - before["prefill_seconds"])


def step_rate(running: EngineProcess, width: int, depth: int, never: dict[int, float]) -> float:
    """Tokens a second of so many thoughts together, between the last prompt's end and the first answer's end. `never`: a bias
    against tokens that would end one early."""
    prompts = [_row(at + 7 * depth + 1, depth) for at in range(width)]
    streams = [
        running.think(
            ThoughtRequest(f"step-{width}-{depth}-{at}", prompt, NEW_TOKENS, Sampling(1.0, seed=at, logit_bias=never))
        )
        for at, prompt in enumerate(prompts)
    ]
    beats: list[dict[str, float]] = []
    while True:
        now = counters(running)
        if beats and now.get("active", 0) < width:
            break
        if now.get("active") == width and (not beats or now != beats[-1]):
            beats.append(now)
        time.sleep(0.01)
    for stream in streams:
        collect(stream)
    prefilled = max(beat["prefill_tokens"] for beat in beats)
    full = [beat for beat in beats if beat["prefill_tokens"] == prefilled]
    first, last = full[0], full[-1]
    if last["decode_seconds"] <= first["decode_seconds"]:
        raise RuntimeError(f"{width} thoughts were never at work together for two beats; NEW_TOKENS must be more")
    return (last["decode_tokens"] - first["decode_tokens"]) / (last["decode_seconds"] - first["decode_seconds"])


def _speed_row(name: str, what: str, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    error = median(predicted / measured for predicted, measured in pairs) - 1.0
    predicted, measured = (median(values) for values in zip(*pairs, strict=True))
    row: dict[str, Any] = {"model": name, "what": what, "pairs": pairs, "error": error}
    row["met"] = abs(error) <= MOST_SPEED_ERROR
    _print_row((name, what, f"{predicted:.1f} tok/s", f"{measured:.1f} tok/s", _told(error, MOST_SPEED_ERROR)))
    return row


def _told(error: float, most: float) -> str:
    return f"{100 * error:+.1f} %" + ("" if abs(error) <= most else " **missed**")


def _print_row(cells: tuple[str, ...], *, head: bool = False) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)
    if head:
        print("|" + "---|" * len(cells), flush=True)


if __name__ == "__main__":
    assert measured_available_bytes() > GIB, "a gigabyte must be free"
    sys.exit(main())
