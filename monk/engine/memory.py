"""How much memory a model will take, before it is loaded; arithmetic over the file's metadata and the settings.

    weights      the tensors (mapped from the file, but wanted in RAM)
    kv           slots x context x bytes per token, committed when the context is opened
    compute      activations; without flash attention also KQ: 6 bytes x heads x context x ubatch
    output       logits of every slot
    process      interpreter, libraries, vocabulary

Within 10% of the resident memory seen with SmolLM2 and small qwen3, qwen3moe and gemma3 files (2026-11-23).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.errors import MemoryTooSmall

GIB = 1 << 30
PAD = 256  # llama.cpp rounds a stream up to this many cells
MIN_SLOTS_BY_CHOICE = (16, 8, 4, 2, 1)
DESIRED_CONTEXT = 32768  # when it chooses itself, it gives up slots before going below this
LEAST_CONTEXT = 2048  # and refuses before going below this
KQ_BYTES = 6  # for each head, row and cell: f32, and a copy in f16
KQ_LIMIT_BYTES = GIB  # without flash attention the chunk is made small enough for this
PROCESS_BYTES = 64 << 20  # interpreter and libraries, measured
WORD_BYTES = 400  # and for each word of the vocabulary
KV_BYTES = {"f32": (4, 1), "f16": (2, 1), "bf16": (2, 1), "q8_0": (34, 32)}  # bytes, per elements
UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings with every choice made, and the bytes they will take."""

    context: int  # tokens per slot, a multiple of 256
    slots: int
    ubatch: int
    threads: int
    threads_batch: int
    flash_attention: bool
    swa_full: bool
    kv_bytes_per_token: int
    weight_bytes: int
    repack_bytes: int  # of the weights, what x86 kernels copy into another layout; not part of the total
    kv_bytes: int
    compute_bytes: int
    output_bytes: int
    process_bytes: int

    @property
    def total_bytes(self) -> int:
        """What must be there at once. Of repacked weights only the copy: nobody reads their mapped originals again."""
        return self.weight_bytes + self.kv_bytes + self.compute_bytes + self.output_bytes + self.process_bytes

    @property
    def stream_bytes(self) -> int:
        """KV of one slot."""
        return self.kv_bytes // self.slots

    def facts(self) -> dict[str, Any]:
        return {**asdict(self), "total_bytes": self.total_bytes}


def fit(model: GgufFile, config: EngineConfig, available_bytes: int | None = None) -> Plan:
    """The plan for this machine. Zeros in `config` are chosen; what was asked for is kept or refused.

    `available_bytes`: what may be taken before the reserve is subtracted; None asks the system. Raises MemoryTooSmall
    with all figures and with settings that would fit.
    """
    available = (
        measured_available_bytes() if available_bytes is None else available_bytes
    ) - config.memory_reserve_bytes
    for slots in (config.slots,) if config.slots else MIN_SLOTS_BY_CHOICE:
        context = config.context or _largest_context(model, config, slots, available)
        wanted = config.context or min(DESIRED_CONTEXT, _longest_useful(model))
        if context >= wanted and _plan(model, config, slots, context).total_bytes <= available:
            return _plan(model, config, slots, context)
    return _best_below_desire(model, config, available)


def _best_below_desire(model: GgufFile, config: EngineConfig, available: int) -> Plan:
    """The desired context fits nowhere: one slot (or those asked for) with the longest context, or a refusal."""
    slots = config.slots or 1
    if not config.context:
        context = _largest_context(model, config, slots, available)
        if context >= min(LEAST_CONTEXT, _longest_useful(model)):
            return _plan(model, config, slots, context)
    raise _refusal(model, config, slots, available)


def _plan(model: GgufFile, config: EngineConfig, slots: int, context: int) -> Plan:
    padded = -(-context // PAD) * PAD
    flash = _flash_attention(config)
    ubatch = config.ubatch or _ubatch(model, padded, flash)
    threads = config.threads or physical_cores()
    per_token = kv_bytes_per_token(model, config)
    plan = Plan(
        context=padded,
        slots=slots,
        ubatch=ubatch,
        threads=threads,
        threads_batch=config.threads_batch or threads,
        flash_attention=flash,
        swa_full=False,
        kv_bytes_per_token=per_token,
        weight_bytes=model.weight_bytes,
        repack_bytes=model.repacked_bytes if config.repack else 0,
        kv_bytes=_kv_bytes(model, config, slots, padded, ubatch),
        compute_bytes=0,
        output_bytes=slots * model.vocab_size * 4,
        process_bytes=PROCESS_BYTES + WORD_BYTES * model.vocab_size,
    )
    return replace(plan, compute_bytes=_compute_bytes(model, plan))


def kv_bytes_per_token(model: GgufFile, config: EngineConfig) -> int:
    """K and V of one token over all layers."""
    key_bytes, key_elements = KV_BYTES[config.kv_type_k]
    value_bytes, value_elements = KV_BYTES[config.kv_type_v]
    per_head = model.key_length * key_bytes / key_elements + model.value_length * value_bytes / value_elements
    return int(sum(model.kv_heads) * per_head)


def _kv_bytes(model: GgufFile, config: EngineConfig, slots: int, context: int, ubatch: int) -> int:
    """All slots. Layers with a sliding window hold only the window and one chunk."""
    per_token = kv_bytes_per_token(model, config)
    windowed = _windowed_share(model)
    if not windowed:
        return slots * context * per_token
    cells = min(context, -(-(model.sliding_window + max(ubatch, slots)) // PAD) * PAD)
    return int(slots * per_token * (context * (1 - windowed) + cells * windowed))


def _windowed_share(model: GgufFile) -> float:
    """Part of the layers that look back only through a window. Unknown patterns count as none, which asks for more."""
    if not model.sliding_window:
        return 0.0
    period = {"gemma3": 6, "gemma2": 2, "cohere2": 4}.get(model.architecture)
    if period is None:
        return 0.0
    return sum(1 for layer in range(model.num_layers) if layer % period < period - 1) / model.num_layers


def _flash_attention(config: EngineConfig) -> bool:
    """ "auto" is off unless the V type needs it: see the measurement in `monk/engine/__init__.py`."""
    if config.flash_attention != "auto":
        return config.flash_attention == "on"
    return config.kv_type_v not in ("f16", "bf16", "f32")


def _ubatch(model: GgufFile, context: int, flash: bool) -> int:
    if flash:
        return 512
    size = 512
    while size > 64 and KQ_BYTES * model.num_heads * context * size > KQ_LIMIT_BYTES:
        size //= 2
    return size


def _compute_bytes(model: GgufFile, plan: Plan) -> int:
    """Activations, mask and KQ. Fitted to what llama.cpp logs for llama, qwen3, qwen3moe and gemma3 files."""
    rows = max(plan.ubatch, plan.slots)
    width = max(model.embedding_length, model.num_heads * model.key_length)
    activations = 4 * rows * max(2 * model.number("feed_forward_length"), 5 * width)
    mask = 4 * plan.context * rows
    kq = 0 if plan.flash_attention else KQ_BYTES * model.num_heads * plan.context * rows
    return activations + mask + kq


def _longest_useful(model: GgufFile) -> int:
    return max(PAD, model.train_context // PAD * PAD)


def _largest_context(model: GgufFile, config: EngineConfig, slots: int, available: int) -> int:
    """Largest multiple of 256 up to the model's own context that fits; 0 if none does."""
    low, high = 0, _longest_useful(model) // PAD
    while low < high:
        middle = (low + high + 1) // 2
        if _plan(model, config, slots, middle * PAD).total_bytes <= available:
            low = middle
        else:
            high = middle - 1
    return low * PAD


def _refusal(model: GgufFile, config: EngineConfig, slots: int, available: int) -> MemoryTooSmall:
    context = config.context or min(LEAST_CONTEXT, _longest_useful(model))
    plan = _plan(model, config, slots, context)
    parts = ", ".join(
        f"{name} {_gib(value)}"
        for name, value in (
            ("weights", plan.weight_bytes),
            (f"KV of {slots} x {plan.context} tokens", plan.kv_bytes),
            ("buffers", plan.compute_bytes + plan.output_bytes + plan.process_bytes),
        )
    )
    return MemoryTooSmall(
        f"{model.path.name} needs {_gib(plan.total_bytes)} GiB ({parts}), {_gib(max(0, available))} GiB are free after "
        f"a reserve of {_gib(config.memory_reserve_bytes)}; {_way_out(model, config, plan, available)}",
        needed_bytes=plan.total_bytes,
        available_bytes=available,
        **plan.facts(),
    )


def _way_out(model: GgufFile, config: EngineConfig, plan: Plan, available: int) -> str:
    ideas, slots = [], plan.slots
    context = _largest_context(model, config, slots, available)
    if context:
        ideas.append(f"context {context} with {slots} slots")
    fewer = next(
        (n for n in MIN_SLOTS_BY_CHOICE if config.context and n < slots and _fits(model, config, n, available)), 0
    )
    if fewer:
        ideas.append(f"{fewer} slots with context {config.context}")
    if not ideas and slots > 1:
        context = _largest_context(model, config, 1, available)
        ideas += [f"context {context} with 1 slot"] if context else []
    if ideas:
        return "what would fit: " + ", or ".join(ideas)
    if plan.total_bytes <= available + config.memory_reserve_bytes:  # the reserve alone is what stands in the way
        return "lower MONK_MEMORY_RESERVE_BYTES"
    return "a smaller model or a smaller quantisation is needed"


def _fits(model: GgufFile, config: EngineConfig, slots: int, available: int) -> bool:
    return _plan(model, config, slots, config.context).total_bytes <= available


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f}"


# --- the machine


def measured_available_bytes() -> int:
    """What may be taken without swapping: MemAvailable, or less if a cgroup limits this process."""
    return min(_mem_available(), _cgroup_available())


def _mem_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return UNBOUNDED


def _cgroup_available() -> int:
    """Room under the tightest limit on the way up from our cgroup, v2 and v1. Page cache counts as free."""
    rooms = [UNBOUNDED]
    for folder, limit_name, usage_name in _cgroup_folders():
        limit = _read_int(folder / limit_name)
        usage = _read_int(folder / usage_name)
        if limit is not None and usage is not None and limit < UNBOUNDED:
            rooms.append(limit - usage + _cgroup_cache(folder))
    return min(rooms)


def _cgroup_folders() -> list[tuple[Path, str, str]]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif controllers == "memory":
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        leaf = root / place.lstrip("/")
        folders += [(folder, *names) for folder in (leaf, *leaf.parents) if folder.is_relative_to(root)]
    return folders


def _cgroup_cache(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(maxsplit=1) for line in lines)
    return int(values.get("inactive_file", values.get("total_inactive_file", "0")))


def _read_int(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return None if text == "max" else int(text)


def physical_cores() -> int:
    """Cores this process may run on, hyperthreads counted once."""
    allowed = len(os.sched_getaffinity(0))
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            return allowed
    return max(1, min(len(cores), allowed))
