"""Half an hour of abuse: `python -m tests.bench.engine_soak --minutes 30`.

Many clients ask one engine for thoughts of every size and urgency, many behind shared beginnings, some with one of two
adapters or with keys in eight bits, while it is killed with SIGKILL, paused by a stop and started, and thoughts are cancelled
in the middle. A cut thought is asked again with the tokens it had. In the end:

- every thought has ended, and each greedy text is the one that a plain engine (one slot, nothing shared, nothing kept)
  gave with the same adapter and settings, or parts from it where two tokens were nearly equal;
- in the second half, which has no kills, the engine's memory is flat.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import corpus
from monk.engine import embedded, fingerprint, gguf_file
from monk.engine.client import AdapterUse, Finished, ModelUse, NewTokens, Sampling, Segment, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.errors import EngineDied, Unavailable
from monk.lora.adapter import Lora, Pair
from monk.lora.gguf_adapter import write
from tests.same_text import NEAR_TIE, Ids, gap, parting

CLIENTS = 24
CONTEXT = 4096
FLAT = 1.05


@dataclass
class Record:
    """What happened; written under the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    different: list[tuple[ThoughtRequest, Ids, Ids]] = field(default_factory=list)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1


def config_of(**more: object) -> EngineConfig:
    """The embedded model."""
    return EngineConfig(embedded.model_path(), context=CONTEXT, **more)  # type: ignore[arg-type]


def adapter(folder: Path, number: int) -> AdapterUse:
    """Random and small: it changes what is said without making noise of it."""
    model, dice = embedded.model_path(), np.random.default_rng(number)
    pairs = {
        tensor.name: Pair(
            dice.standard_normal((4, tensor.shape[0]), dtype=np.float32) / 8,
            dice.standard_normal((tensor.shape[1], 4), dtype=np.float32) / 32,
        )
        for tensor in gguf_file.read(model).tensors
        if "attn_q." in tensor.name or "ffn_up." in tensor.name
    }
    path = folder / f"{number}.gguf"
    write(Lora("llama", 8.0, pairs), path)
    return AdapterUse(str(path), fingerprint.sha256_of((path,), None))


def questions(engine: EngineProcess, dice: random.Random, adapters: list[AdapterUse]) -> list[ThoughtRequest]:
    """Greedy thoughts of all sizes; two thirds of them stand behind one of four long beginnings, a quarter wears something, an
    eighth has keys in eight bits."""
    folder = Path(corpus.__file__).parent / "starter"
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))]
    documents = [
        engine.tokenize([Segment(text, control=False)])[:size]
        for text, size in zip(texts, (2200, 900, 500, 200), strict=False)
    ]
    found = []
    for number in range(24):
        beginning = documents[number % 4] if number % 3 else []
        text = dice.choice(texts)
        start = dice.randrange(max(1, len(text) - 600))
        own = engine.tokenize(
            [Segment(f"\nQuestion {number}: {text[start : start + dice.randrange(40, 600)]}\n", control=False)]
        )
        worn = (adapters[number % len(adapters)],) if number % 4 == 3 else ()
        use = ModelUse(kv_type_k="q8_0") if number % 8 == 6 else ModelUse()
        new_tokens = dice.choice((1, 8, 24, 64, 120))
        found.append(ThoughtRequest(f"q{number}", (*beginning, *own), new_tokens, Sampling(), adapters=worn, model=use))
    return found


def heard(engine: EngineProcess, request: ThoughtRequest, dice: random.Random, record: Record) -> Ids | None:
    """The tokens of one thought over all its cuts; None when it was cancelled on purpose."""
    saved: list[int] = []
    cancel_after = dice.randrange(1, 20) if dice.random() < 0.08 else None
    while True:
        try:
            stream = engine.think(replace(request, saved=tuple(saved)))
            for message in stream:
                if isinstance(message, NewTokens):
                    saved += message.ids
                    if cancel_after is not None and len(saved) >= cancel_after:
                        stream.cancel()
                elif isinstance(message, Finished):
                    if message.reason == "cancelled":
                        return None
                    if message.reason != "paused":
                        return tuple(saved)
        except EngineDied:
            record.count("cut by a kill")
        except Unavailable:
            record.count("cut by a stop")
            time.sleep(0.2)


def client(
    number: int, engine: EngineProcess, asked: list[ThoughtRequest], truth: dict[str, Ids], until: float, record: Record
) -> None:
    dice = random.Random(number)
    turn = 0
    while time.monotonic() < until:
        template = dice.choice(asked)
        turn += 1
        urgency = dice.choice((0, 0, 0, 1, 5))  # also has waves of adapters change within minutes
        request = replace(template, id=f"{template.id}-{number}-{turn}", priority=urgency)
        ids = heard(engine, request, dice, record)
        record.count("cancelled" if ids is None else "finished")
        if ids is not None and ids != truth[template.id]:
            with record.lock:
                record.different.append((template, truth[template.id], ids))


def trouble(engine: EngineProcess, until: float, dice: random.Random, record: Record) -> None:
    """Kills and stops until the moment."""
    while time.monotonic() < until:
        time.sleep(dice.uniform(3, 20))
        if dice.random() < 0.3:
            engine.stop()
            record.count("stopped")
            engine.start()
        elif (pid := engine.status().pid) is not None:
            os.kill(pid, signal.SIGKILL)
            record.count("killed")


def place_of(left: Ids, right: Ids) -> tuple[int, Ids]:
    """Where two texts part, and with which tokens."""
    place = parting(left, right)
    place = -1 if place is None else place
    return place, (*left[place : place + 1], *right[place : place + 1])


def memory(engine: EngineProcess, until: float) -> Iterator[int]:
    """Resident bytes of the engine, every 10 s."""
    while time.monotonic() < until:
        yield engine.status().rss_bytes
        time.sleep(10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    scratch = tempfile.TemporaryDirectory()
    plain = EngineProcess(config_of(slots=1, share_prefixes=False))
    asked = questions(plain, dice, [adapter(Path(scratch.name), number) for number in (1, 2)])
    truth = {request.id: heard(plain, request, random.Random(99), Record()) or () for request in asked}
    plain.stop()
    print(f"{len(asked)} thoughts answered one by one; now {options.minutes:g} minutes of trouble", flush=True)

    record = Record()
    with tempfile.TemporaryDirectory() as folder:
        engine = EngineProcess(config_of(slots=8, kv_folder=Path(folder)))
        engine.start()
        start = time.monotonic()
        half, end = start + options.minutes * 30, start + options.minutes * 60
        threads = [threading.Thread(target=client, args=(n, engine, asked, truth, end, record)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        trouble(engine, half, dice, record)
        readings = list(memory(engine, end))
        for thread in threads:
            thread.join()
        status = engine.status()
        engine.stop()
    plain.start()
    once = {(request.id, place_of(left, right)): (request, left, right) for request, left, right in record.different}
    gaps = [gap(plain, *each) for each in once.values()]  # many part at the same token, and each takes a whole prompt
    plain.stop()
    scratch.cleanup()
    print(f"prompt tokens shared {status.shared_tokens}, forked {status.forked_tokens}; {status.kv}", flush=True)
    return tell(record, gaps, readings, status.num_restarts)


def tell(record: Record, gaps: list[float], readings: list[int], restarts: int) -> int:
    """The verdict; 0 when all promises were kept."""
    warm = readings[len(readings) // 4 :] or [0]
    growth = max(warm[len(warm) // 2 :]) / max(1, max(warm[: max(1, len(warm) // 2)]))
    wrong = [each for each in gaps if each >= NEAR_TIE]
    for what, count in sorted(record.counts.items()):
        print(f"{what:<16}{count:>7}")
    print(f"restarts        {restarts:>7}")
    print(f"texts that part at a near tie (gap < {NEAR_TIE}): {len(gaps) - len(wrong)}, wrong: {len(wrong)}")
    print(f"memory: {warm[0] / 1e6:.0f} MB -> {warm[-1] / 1e6:.0f} MB, growth {growth:.3f} (limit {FLAT})")
    kept = not wrong and growth <= FLAT and record.counts["finished"] > 0
    print("all promises kept" if kept else "a promise was broken")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
