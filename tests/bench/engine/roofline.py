"""How near the engine comes to this machine: its read bandwidth for decoding, its sgemm for prefill.

Measured with numpy, so the roof is what another program reaches on the same cores, not what a data sheet says.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from monk.engine import gguf_file
from monk.engine.client import Finished, Sampling, ThoughtRequest
from monk.engine.machine import measured_available_bytes
from monk.engine.process import EngineProcess
from tests.bench.engine.ours import counters, running, settled
from tests.bench.engine.peers import PeerFailed, Place
from tests.bench.engine.report import Check
from tests.bench.engine.workloads import Book

ROUNDS = 3
MOST_ARRAY_BYTES = 512 << 20  # of one thread; several times any cache
MATRIX = 3072
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Roof:
    """Best of some rounds and thread counts."""

    read_bytes_per_second: float
    flops: float  # f32 multiply-adds count twice

    def facts(self) -> dict[str, float]:
        return {"read_bytes_per_second": self.read_bytes_per_second, "sgemm_flops": self.flops}


def roof(threads: int, *, quick: bool = False) -> Roof:
    """What this machine can do with that many threads at most."""
    size = min(MOST_ARRAY_BYTES // (8 if quick else 1), measured_available_bytes() // (4 * threads))
    arrays = [np.ones(size // 4, np.float32) for _ in range(threads)]
    widths = sorted({1, max(1, threads // 4), max(1, threads // 2), max(1, 3 * threads // 4), threads})
    return Roof(max(_read_rate(arrays[:width]) for width in widths), _sgemm_rate(MATRIX // (4 if quick else 1)))


def _read_rate(arrays: list[np.ndarray[tuple[int], np.dtype[np.float32]]]) -> float:
    """Bytes per second of so many threads, each summing its own array; numpy lets go of the interpreter meanwhile."""
    best = 0.0
    with ThreadPoolExecutor(len(arrays)) as pool:
        list(pool.map(np.sum, arrays))  # touches every page
        for _ in range(ROUNDS):
            began = time.perf_counter()
            list(pool.map(np.sum, arrays))
            best = max(best, sum(array.nbytes for array in arrays) / (time.perf_counter() - began))
    return best


def _sgemm_rate(size: int) -> float:
    """Floating point operations per second of one large product, with the threads numpy's library takes."""
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    _ = a @ a
    best = 0.0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        _ = a @ a
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def against(roof: Roof, place: Place, weights: str, book: Book, *, quick: bool = False) -> list[Check]:
    """Decoding alone and sixteen wide by the bytes it must read, prefill by the operations it must do."""
    file = gguf_file.read(place.model)
    new_tokens, prompt_tokens = (16, 128) if quick else (128, 1024)
    with running(place, 1536, None, slots=WIDTH) as engine:
        checks = [
            _decoding(engine, roof, place, weights, book, width, new_tokens, file.weight_bytes) for width in (1, WIDTH)
        ]
        return [*checks, _prefill(engine, roof, weights, book, prompt_tokens, _operations(file))]


def _operations(file: gguf_file.GgufFile) -> float:
    """Per prompt token in the matrices of the layers; the output layer works only on a prompt's last row.

    Of experts only those that are used.
    """
    active = file.number("expert_used_count") / file.num_experts if file.num_experts else 1.0
    layers = [item for item in file.tensors if item.name.startswith("blk.") and len(item.shape) > 1]
    return sum(2.0 * item.num_elements * (active if "_exps" in item.name else 1.0) for item in layers)


def _decoding(
    engine: EngineProcess,
    roof: Roof,
    place: Place,
    weights: str,
    book: Book,
    width: int,
    new_tokens: int,
    weight_bytes: int,
) -> Check:
    """By steps, each of which reads all weights once. Tokens that were guessed right make a step worth more than one."""
    before = settled(engine)
    sampling = [Sampling(1.0, seed=seed, logit_bias=place.no_end) for seed in range(width)]
    prompts = [book.head + book.window(at * 101, 24) + book.tail for at in range(width)]
    streams = [
        engine.think(ThoughtRequest(f"wide-{width}-{at}", prompt, new_tokens, sampling[at]))
        for at, prompt in enumerate(prompts)
    ]
    ended = [message for stream in streams for message in stream if isinstance(message, Finished)]
    after = settled(engine)
    seconds = after["decode_seconds"] - before.get("decode_seconds", 0.0)
    tokens = sum(item.num_decoded for item in ended) - width  # the first comes out of the prefill
    if seconds <= 0:
        raise PeerFailed("the engine counted no time for decoding")
    steps_per_second = tokens / width / seconds
    share = steps_per_second * weight_bytes / roof.read_bytes_per_second
    value = f"{tokens / seconds:.1f} tok/s, {100 * share:.0f}% of {roof.read_bytes_per_second / 1e9:.1f} GB/s"
    facts = {"tokens_per_second": tokens / seconds, "share_of_bandwidth": share, **roof.facts()}
    return Check(f"decoding, {width} wide", weights, value, facts=facts)


def _prefill(engine: EngineProcess, roof: Roof, weights: str, book: Book, length: int, operations: float) -> Check:
    before = counters(engine)
    prompt = book.window(len(book.body) // 2, length)
    list(engine.think(ThoughtRequest("prefill", prompt, 1)))
    after = settled(engine)
    seconds = after["prefill_seconds"] - before["prefill_seconds"]
    tokens = after["prefill_tokens"] - before["prefill_tokens"]
    rate = tokens / seconds
    share = rate * operations / roof.flops
    value = f"{rate:.0f} tok/s, {100 * share:.0f}% of {roof.flops / 1e9:.0f} GFLOP/s (f32)"
    facts = {"tokens_per_second": rate, "share_of_sgemm": share, **roof.facts()}
    return Check(f"prefill of {length} tokens", weights, value, facts=facts)
