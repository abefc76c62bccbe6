"""How much memory a model will take, before it is loaded; arithmetic over the file's metadata and the settings.

    weights      the tensors (mapped from the file, but wanted in RAM)
    kv           slots x context x bytes per token, committed when the context is opened
    compute      activations; without flash attention also KQ: 6 bytes x heads x context x ubatch
    output       logits of every row that may want some
    lanes        the same three for the lanes beside the streams, and KV on its way between lanes and to disk
    process      interpreter, libraries, vocabulary

Within 5% of the resident memory seen with SmolLM2 and small qwen3, qwen3moe and gemma3 files (`python -m
tests.bench.plan_bench`, 2026-11-26).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import PAD, SCRATCH, LanePlan, chunk_tokens, kv_bytes_per_token, lane_plans, uses_flash
from monk.engine.layers import has_uncuttable_memory
from monk.engine.machine import measured_available_bytes, physical_cores
from monk.errors import MemoryTooSmall

GIB = 1 << 30
MIN_SLOTS_BY_CHOICE = (32, 16, 8, 4, 2, 1)
USUAL_SLOTS = 16  # more come only where they cost no context and little memory: the last few make a step hardly cheaper
EXTRA_SLOTS_ROOM = 2  # part of the memory that is enough for them, or they are not opened
DESIRED_CONTEXT = 32768  # when it chooses itself, it gives up slots before going below this
LEAST_CONTEXT = 2048  # and refuses before going below this
# interpreter and libraries, and for each word of the vocabulary: engine processes with 259 and with 49,152 words had 56 and
# 79 MiB beside weights, KV and buffers where the names of a library are links to one file, 6 MiB more where an installation
# unpacked them as copies (2026-11-26)
PROCESS_BYTES = 60 << 20
WORD_BYTES = 500
LANE_CHOICES: tuple[tuple[str, ...], ...] = (("prefill", "fork"), ("prefill",))  # beside the streams, richest first
IN_PLACE = (SCRATCH,)  # of a single slot
BLOCKS_IN_FLIGHT = 4  # one that is read or made, two queued and one being written (kv_store.py)


@dataclass(frozen=True, slots=True)
class Layout:
    """What of a plan the engine loop goes by; another one where KV is stored or attended to otherwise."""

    chunk: int  # most tokens of a prefill step
    weight_bytes: int
    stream_bytes: int  # KV of one slot
    kv_bytes_per_token: int = 1
    in_place: bool = False  # the only slot's lane has a scratch sequence, and long prompts are computed there
    flash_attention: bool = False  # with it a fork lane is no faster than streams


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
    lane_bytes: int  # all that the lanes beside the streams take once they are opened, and blocks on their way
    lanes: Mapping[str, LanePlan] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """What must be there at once. Of repacked weights only the copy: nobody reads their mapped originals again."""
        streams = self.kv_bytes + self.compute_bytes + self.output_bytes
        return self.weight_bytes + streams + self.lane_bytes + self.process_bytes

    @property
    def in_place(self) -> bool:
        """The only slot's lane has a scratch sequence: long prompts are computed there, and kept, without another lane."""
        return self.lanes["stream"].unified

    @property
    def keeps_prompts(self) -> bool:
        """Long prompts are computed where blocks of their KV can be cut out."""
        return self.in_place or "prefill" in self.lanes

    @property
    def stream_bytes(self) -> int:
        """KV of one slot."""
        return self.kv_bytes // self.slots

    @property
    def layout(self) -> Layout:
        streams = self.weight_bytes, self.stream_bytes, self.kv_bytes_per_token
        return Layout(self.ubatch, *streams, self.in_place, self.flash_attention)

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
    longest = config.context or _longest_useful(model, config)
    wanted = config.context or min(DESIRED_CONTEXT, longest)
    for slots, lanes in _choices(model, config):
        is_extra = slots > USUAL_SLOTS and not config.slots
        room = available // EXTRA_SLOTS_ROOM if is_extra else available
        context = config.context or _largest_context(model, config, slots, room, lanes)
        if context >= (longest if is_extra else wanted):
            plan = _plan(model, config, slots, context, lanes)
            if plan.total_bytes <= room:
                return plan
    return _best_below_desire(model, config, available)


def fit_again(model: GgufFile, config: EngineConfig, plan: Plan, available_bytes: int) -> Plan:
    """The plan when a model that was opened by `plan` is to run by other settings: contexts as long, and as many slots as fit,
    up to those there were. `available_bytes`: with what the process holds already. Raises MemoryTooSmall with figures."""
    room = available_bytes - config.memory_reserve_bytes
    config = replace(config, context=plan.context, slots=0, most_slots=plan.slots)
    for slots, lanes in _choices(model, config):
        found = _plan(model, config, slots, plan.context, lanes)
        if found.total_bytes <= max(room, plan.total_bytes):
            return found
    raise _refusal(model, config, 1, room)


def _choices(model: GgufFile, config: EngineConfig) -> list[tuple[int, tuple[str, ...]]]:
    """Slots and lanes to try, best first: an unread prompt costs hours, a missing slot some speed."""
    fewer = tuple(slots for slots in MIN_SLOTS_BY_CHOICE if slots < config.most_slots)
    all_slots = (config.slots,) if config.slots else (config.most_slots, *fewer)
    bare: list[tuple[int, tuple[str, ...]]] = [(slots, ()) for slots in all_slots]
    if not _takes_lanes(model):
        return bare
    several = [(slots, lanes) for slots in all_slots if slots > 1 for lanes in LANE_CHOICES]
    alone = [(slots, IN_PLACE) for slots in all_slots if slots == 1]
    return several + alone + bare if _keeps_kv(config) else several + bare


def _keeps_kv(config: EngineConfig) -> bool:
    return config.kv_folder is not None and config.kv_limit_bytes > 0


def _takes_lanes(model: GgufFile) -> bool:
    return not has_uncuttable_memory(model)


def _best_below_desire(model: GgufFile, config: EngineConfig, available: int) -> Plan:
    """The desired context fits nowhere: one slot (or those asked for) with the longest context, or a refusal."""
    slots = config.slots or 1
    for _, lanes in [choice for choice in _choices(model, config) if choice[0] == slots and not config.context]:
        context = _largest_context(model, config, slots, available, lanes)
        if context >= min(LEAST_CONTEXT, _longest_useful(model, config)):
            return _plan(model, config, slots, context, lanes)
    raise _refusal(model, config, slots, available)


def _plan(model: GgufFile, config: EngineConfig, slots: int, context: int, lane_names: tuple[str, ...] = ()) -> Plan:
    padded = -(-context // PAD) * PAD
    flash = uses_flash(config)
    ubatch = config.ubatch or chunk_tokens(model, padded, flash, config.most_ubatch)
    threads = config.threads or physical_cores()
    per_token = kv_bytes_per_token(model, config)
    lanes = lane_plans(model, config, slots, padded, ubatch, lane_names)
    streams = lanes["stream"]
    beside = sum(lane.total_bytes for name, lane in lanes.items() if name != "stream")
    return Plan(
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
        kv_bytes=streams.kv_bytes,
        compute_bytes=streams.compute_bytes,
        output_bytes=streams.output_bytes,
        process_bytes=PROCESS_BYTES + WORD_BYTES * model.vocab_size,
        lane_bytes=beside + _moving_tokens(config, padded, lane_names) * per_token,
        lanes=lanes,
    )


def _moving_tokens(config: EngineConfig, context: int, lanes: tuple[str, ...]) -> int:
    """Tokens whose KV is on its way at once: a prompt to its slot, and blocks to and from the disk."""
    prompt = context if "prefill" in lanes else 0
    return prompt + (BLOCKS_IN_FLIGHT * config.kv_block_tokens if lanes and _keeps_kv(config) else 0)


def _longest_useful(model: GgufFile, config: EngineConfig) -> int:
    """What the model was trained for, as many times longer as its positions are stretched."""
    use = config.model_use
    trained = use.yarn_original_context or model.number("rope.scaling.original_context_length") or model.train_context
    stretched = trained * (use.yarn_factor or 1.0) / (use.rope_freq_scale or 1.0)
    return max(PAD, int(max(model.train_context, stretched)) // PAD * PAD)


def _largest_context(
    model: GgufFile, config: EngineConfig, slots: int, available: int, lanes: tuple[str, ...] = ()
) -> int:
    """Largest multiple of 256 up to what the model can use that fits; 0 if none does."""
    low, high = 0, _longest_useful(model, config) // PAD
    while low < high:
        middle = (low + high + 1) // 2
        if _plan(model, config, slots, middle * PAD, lanes).total_bytes <= available:
            low = middle
        else:
            high = middle - 1
    return low * PAD


def _refusal(model: GgufFile, config: EngineConfig, slots: int, available: int) -> MemoryTooSmall:
    context = config.context or min(LEAST_CONTEXT, _longest_useful(model, config))
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
