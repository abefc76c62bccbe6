"""What guessed tokens bring: the same thoughts with and without, on the embedded model or another.

    python -m tests.bench.speculation_bench [model.gguf]

Prints one line per workload and engine: seconds, tokens per second, guesses computed and accepted. Copying shows the gain,
prose shows that there is no loss. Run it on a quiet machine: the engine decides by what its steps take.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from monk.engine import embedded
from monk.engine.client import NewTokens, Sampling, Segment, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess

SENTENCE = "The abbot counts the lamps, the novice counts the stars, and nobody counts the hours.\n"
THINGS = ("sea", "hill", "star", "fox", "lamp", "door", "bell", "rain")


GREEDY = Sampling()


@dataclass(frozen=True)
class Workload:
    name: str
    texts: tuple[str, ...]
    sampling: Sampling = GREEDY
    max_tokens: int = 300


COPIES = tuple(f"About the {thing}.\n" + SENTENCE.replace("lamps", thing) * 8 for thing in THINGS)
STORIES = tuple(f"A monk who had never seen the {thing} asked the miller" for thing in THINGS)
WARM = Sampling(temperature=1.0, top_p=0.95, seed=1)
WORKLOADS = (
    Workload("one copies", COPIES[:1]),
    Workload("eight copy", COPIES),
    Workload("one tells", STORIES[:1], WARM),
    Workload("eight tell", STORIES, WARM),
    Workload("two copy, six tell", COPIES[:2] + STORIES[2:], WARM),
)


def run(path: Path, speculation: str, workload: Workload) -> str:
    slots = len(workload.texts)
    engine = EngineProcess(EngineConfig(path, context=2048, slots=slots, speculation=speculation))  # type: ignore[arg-type]
    try:
        prompts = [tuple(engine.tokenize([Segment(text, control=False)])) for text in workload.texts]
        list(engine.think(ThoughtRequest("warm-up", prompts[0][:8], 4)))
        started = time.perf_counter()
        streams = [
            engine.think(ThoughtRequest(f"t{at}", prompt, workload.max_tokens, workload.sampling))
            for at, prompt in enumerate(prompts)
        ]
        drawn = sum(len(m.ids) for stream in streams for m in stream if isinstance(m, NewTokens))
        seconds = time.perf_counter() - started
        time.sleep(1.5)  # a beat brings the counters
        told = engine.status()
    finally:
        engine.stop()
    guesses = f"{told.drafted_tokens:6} guessed {told.accepted_tokens:6} accepted"
    return f"{workload.name:20} {speculation:5} {seconds:7.1f} s {drawn / seconds:7.1f} tok/s {guesses}"


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else embedded.model_path()
    for workload in WORKLOADS:
        for speculation in ("off", "auto"):
            print(run(path, speculation, workload), flush=True)


if __name__ == "__main__":
    main()
