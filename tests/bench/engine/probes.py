"""Figures of ours alone: restoring KV, Python's share of a step, resident memory against the plan."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

from monk.engine import gguf_file, memory
from monk.engine.client import NewTokens, Sampling, Stream, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from tests.bench.engine.ours import collect, counters, forget, kv_folder, running, settled
from tests.bench.engine.peers import PeerFailed, Place
from tests.bench.engine.report import Check
from tests.bench.engine.workloads import Book, Tokens

RESTORE_BLOCKS, BLOCK_TOKENS = 4, 1024  # 4,096 tokens: what is left over of a whole block is never on disk
TAIL_TOKENS = 8
LEAST_RESTORE_RATIO = 10.0
MOST_PYTHON_SHARE = 0.05
MOST_MEMORY_ERROR = 0.10
WIDTH = 16
MEMORY_SLOTS = 4


def restore(place: Place, weights: str, book: Book, repeat: int, *, quick: bool = False) -> Check:
    """Time to the first token behind a long prompt: computed, and from the disk after a restart.

    The restored one must say the same tokens, and must have computed no more than the tail and one token per block (the
    proof that a block fits this model).
    """
    block = BLOCK_TOKENS // 8 if quick else BLOCK_TOKENS
    prompt = book.head + book.window(0, RESTORE_BLOCKS * block + TAIL_TOKENS - len(book.head))
    computed: list[float] = []
    restored: list[float] = []
    facts: dict[str, Any] = {}
    for _ in range(repeat):
        with kv_folder(place) as folder:
            first = _first_token(place, folder, prompt, block)
            forget(folder)
            second = _first_token(place, folder, prompt, block)
        if first["ids"] != second["ids"]:
            raise PeerFailed(f"the restored prompt goes on with {second['ids']}, the computed one with {first['ids']}")
        computed.append(first["seconds"])
        restored.append(second["seconds"])
        facts = {"computed": first, "restored": second}
    ratio = median(computed) / median(restored)
    spared = facts["restored"]["num_prefilled"] <= TAIL_TOKENS + 2 * RESTORE_BLOCKS
    value = f"{ratio:.1f}x ({median(computed):.2f} s, {median(restored):.3f} s)"
    facts |= {"ratio": ratio, "computed_seconds": computed, "restored_seconds": restored, "spared": spared}
    name = f"restore of {RESTORE_BLOCKS * block} tokens against their prefill"
    return Check(name, weights, value, f">= {LEAST_RESTORE_RATIO:g}x", spared and ratio >= LEAST_RESTORE_RATIO, facts)


def _first_token(place: Place, folder: Path, prompt: Tokens, block: int) -> dict[str, Any]:
    """Seconds until the first token came, and what came, in a new engine."""
    context = -(-(len(prompt) + 64) // 256) * 256
    with running(place, context, folder, kv_block_tokens=block) as engine:
        collect(engine.think(ThoughtRequest("warm", prompt[-TAIL_TOKENS:][::-1], 2)))  # begins otherwise
        began = time.perf_counter()
        stream = engine.think(ThoughtRequest("long", prompt, 8, Sampling(logit_bias=place.no_end)))
        seconds: float | None = None
        ids: list[int] = []
        for message in stream:
            if isinstance(message, NewTokens):
                seconds = seconds if seconds is not None else time.perf_counter() - began
                ids += message.ids
        after = settled(engine)
        prefilled = int(after.get("prefill_tokens", 0)) - TAIL_TOKENS  # less the warm prompt
        if seconds is None:
            raise PeerFailed("a prompt got no answer")
        return {"seconds": seconds, "ids": ids, "num_prefilled": prefilled}


def python_share(place: Place, weights: str, book: Book, *, quick: bool = False) -> Check:
    """Part of the time of decode steps that is not spent in llama.cpp, while sixteen answers grow.

    From the wall time between two beats, not from the engine's own count of Python's seconds: nothing can be left out.
    """
    new_tokens = 24 if quick else 256
    step = max(1, len(book.body) // WIDTH)
    prompts = [book.head + book.window(at * step, 64) + book.tail for at in range(WIDTH)]
    context = 512
    with running(place, context, None, slots=WIDTH, beat_seconds=0.1) as engine:
        sampling = [Sampling(0.8, top_k=40, seed=seed, logit_bias=place.no_end) for seed in range(WIDTH)]
        streams = [
            engine.think(ThoughtRequest(f"row-{at}", prompt, new_tokens, sampling[at]))
            for at, prompt in enumerate(prompts)
        ]
        beats = _beats_at_full_width(engine, streams)
    first, last = beats[0], beats[-1]
    wall, steps = last["progress_at"] - first["progress_at"], last["steps"] - first["steps"]
    native = last["decode_seconds"] - first["decode_seconds"]
    if steps < 2 or wall <= 0:
        raise PeerFailed(f"{steps:.0f} steps were seen at width {WIDTH}: too few to judge")
    share, counted = 1 - native / wall, last["python_seconds"] - first["python_seconds"]
    facts = {"steps": steps, "wall_seconds": wall, "native_seconds": native, "python_seconds_by_engine": counted}
    value = f"{100 * share:.2f}% of {1000 * wall / steps:.1f} ms"
    target = f"< {100 * MOST_PYTHON_SHARE:g}%"
    return Check(f"Python in a decode step of {WIDTH}", weights, value, target, share < MOST_PYTHON_SHARE, facts)


def _beats_at_full_width(engine: EngineProcess, streams: list[Stream]) -> list[dict[str, float]]:
    """The beats between the last prompt's end and the first answer's end."""
    beats: list[dict[str, float]] = []
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        now = counters(engine)
        if beats and now.get("active", 0) < WIDTH:
            break
        if now.get("active") == WIDTH and (not beats or now != beats[-1]):
            beats.append(now)
        time.sleep(0.02)
    for stream in streams:
        collect(stream)
    prefilled = max((beat["prefill_tokens"] for beat in beats), default=0)
    full = [beat for beat in beats if beat["prefill_tokens"] == prefilled]
    if len(full) < 2:
        raise PeerFailed(f"{len(full)} beats were heard at width {WIDTH}: too few to judge")
    return full


def resident_memory(place: Place, name: str, context: int) -> Check:
    """The most the engine had resident while every lane and slot was in use, against what it planned.

    Of repacked weights the plan counts only the copy: pages of the mapped file that nobody reads again are the kernel's
    to take back, so they are not counted here either.
    """
    config = EngineConfig(place.model, context=context, slots=MEMORY_SLOTS, threads=place.threads)
    plan = memory.fit(gguf_file.read(place.model), config)
    with kv_folder(place) as folder, running(place, context, folder, slots=MEMORY_SLOTS) as engine:
        peak = _peak_bytes(engine, place, context)
    resident = peak - plan.repack_bytes
    error = resident / plan.total_bytes - 1
    value = f"{resident / 2**20:.0f} MiB of {plan.total_bytes / 2**20:.0f} planned ({100 * error:+.1f}%)"
    facts = {"resident_bytes": resident, "peak_bytes": peak, "plan": dict(plan.facts()), "error": error}
    target = f"within {100 * MOST_MEMORY_ERROR:g}%"
    return Check(f"resident memory, {name}", "", value, target, abs(error) <= MOST_MEMORY_ERROR, facts)


def _peak_bytes(engine: EngineProcess, place: Place, context: int) -> int:
    """Bring every buffer near its worst: chunks of full width at a slot's end, full slots, then a full fork lane, and
    another beginning on its way there while the buffers of the first are still held."""
    words = [token for token in range(min(engine.card().vocab_size, 400)) if token not in place.no_end]

    def row(seed: int, length: int) -> Tokens:
        return tuple(words[(seed * 37 + at * at * 11 + at) % len(words)] for at in range(length))

    half, most = context // 2 - 128, context - 64  # half a context is below a block: it is computed in its slot
    deep = [row(1, half), row(1, 2 * half)]
    full = [row(seed, most) for seed in range(2, 2 + MEMORY_SLOTS)]
    kin, others = (
        [row(document, most - 256) + row(seed, 265) for seed in range(2 * MEMORY_SLOTS)] for document in (99, 98)
    )  # each fills the fork lane
    peak = 0
    pid = engine.status().pid
    for name, prompts in (
        *((f"deep-{len(item)}", [item]) for item in deep),
        ("full", full),
        ("kin", kin),
        ("others", others),
    ):
        asked = [
            engine.think(ThoughtRequest(f"{name}-{at}", prompt, 24, Sampling(logit_bias=place.no_end), group=name))
            for at, prompt in enumerate(prompts)
        ]
        for stream in asked:
            collect(stream)
        peak = max(peak, _most_resident_bytes(pid) if pid else 0)
    return peak


def _most_resident_bytes(pid: int) -> int:
    """The kernel's own high-water mark: what came and went between two looks counts too."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise PeerFailed(f"the kernel tells no VmHWM of process {pid}")
