"""All that is to be said of a model on a machine: figures in order, each with its formula. Pure."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass, replace
from typing import Any

from monk.engine import memory
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import kv_bytes_per_token
from monk.engine.layers import has_uncuttable_memory, layers_of
from monk.engine.memory import Plan
from monk.errors import MemoryTooSmall, SettingsInvalid
from monk.plan.amounts import told_bytes, told_seconds
from monk.plan.beside import Part
from monk.plan.speed import BANDWIDTH_SHARE, PRODUCT_SHARE, Machine, Pace, Roofline, Work
from monk.plan.stretch import MOST_FACTOR, Stretch, needed, trained

DEPTHS = (0, 32768, 131072)
WIDTHS = (1, 2, 4, 8, 16, 32, 64)
UNBOUNDED = 1 << 62
ANSWER_TOKENS = 500  # of the questions that a night is counted in
FIXED: dict[str, Callable[[GgufFile], int]] = {
    "attention heads": lambda model: model.num_heads,
    "layers": lambda model: model.num_layers,
    "width": lambda model: model.embedding_length,
    "inner width": lambda model: model.number("feed_forward_length"),
    "experts": lambda model: model.num_experts,
}
SHARES = (
    f"weights and KV at {BANDWIDTH_SHARE:g} of the memory's bandwidth, products at {PRODUCT_SHARE:g} of f32 products, attention "
    "by its heads (monk/plan/speed.py)"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: a name, a value in its unit, how it is shown and where it comes from."""

    name: str
    value: float
    unit: str  # bytes, seconds, tokens/s, tokens
    shown: str
    formula: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "unit": self.unit, "formula": self.formula}


@dataclass(frozen=True, slots=True)
class Outlook:
    """`steps`: tokens a second of all thoughts together, by depth and width; `prompts`: seconds of a whole one, by length;
    `widths`: bytes that so many thoughts at once need with that context; `compute`: bytes of the buffers without and with
    flash attention, None where that cannot be; `curves`: (depth, tokens a second) of each width, for the picture."""

    model: GgufFile
    plan: Plan | None  # None: it does not fit
    refusal: str
    memory: tuple[Figure, ...]
    widths: dict[int, int]
    compute: dict[str, int | None]
    available: int
    steps: dict[int, dict[int, float]]
    curves: dict[int, list[tuple[float, float]]]
    prompts: dict[int, float]
    night: Figure
    machine: Machine
    notes: tuple[str, ...]
    measured_at: str  # empty: speeds are those of the general shares
    measured_by: str  # the command that did

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model.path.name,
            "architecture": self.model.architecture,
            "parameters": self.model.num_parameters,
            "fits": self.plan is not None,
            "refusal": self.refusal or None,
            "context": None if self.plan is None else self.plan.context,
            "slots": None if self.plan is None else self.plan.slots,
            "memory": [figure.to_json() for figure in self.memory],
            "memory_by_slots": {str(slots): value for slots, value in self.widths.items()},
            "compute_bytes_by_flash_attention": self.compute,
            "decode_tokens_per_second": {
                str(d): {str(w): round(r, 2) for w, r in row.items()} for d, row in self.steps.items()
            },
            "prompt_seconds": {str(tokens): round(seconds, 1) for tokens, seconds in self.prompts.items()},
            "night": self.night.to_json(),
            "machine": {"bandwidth": self.machine.bandwidth, "gflops": self.machine.gflops},
            "measured_at": self.measured_at or None,
            "measured_by": self.measured_by or None,
            "fixed": {name: of(self.model) for name, of in FIXED.items() if of(self.model)},
            "notes": list(self.notes),
        }


def look(
    model: GgufFile,
    config: EngineConfig,
    available_bytes: int,
    machine: Machine,
    night_seconds: float,
    *,
    pace: Pace | None = None,
    measured_at: str = "",
    measured_by: str = "",
    beside: Row[Part] = (),
) -> Outlook:
    """What the engine would open on a machine with so much memory, and what a night would bring.

    `pace`: measured speeds instead of the general shares; `beside`: what else has to find room.
    """
    room = available_bytes - sum(part.num_bytes for part in beside)
    plan, refusal = None, ""
    try:
        plan = memory.fit(model, config, room)
    except MemoryTooSmall as error:
        refusal = error.message
    per_token = kv_bytes_per_token(model, config)
    pace = pace or Roofline(Work.of(model, config), machine)
    longest = max(model.train_context, config.context, 256)
    depths = [depth for depth in DEPTHS if depth <= longest]
    context = plan.context if plan is not None else longest
    slots = plan.slots if plan is not None else 1
    return Outlook(
        model=model,
        plan=plan,
        refusal=refusal,
        memory=_memory(model, config, plan, per_token, available_bytes, beside),
        widths=_by_width(model, config, context),
        compute=_compute(model, config, context, slots),
        available=available_bytes,
        steps={d: {w: w / pace.step_seconds(w, d) for w in WIDTHS} for d in depths},
        curves={w: [(float(d), w / pace.step_seconds(w, d)) for d in _doublings(longest)] for w in WIDTHS},
        prompts={tokens: pace.prompt_seconds(tokens) for tokens in _lengths(longest)},
        night=_night(pace, slots, context, night_seconds),
        machine=machine,
        notes=(*_notes(model, plan, config), *machine.notes),
        measured_at=measured_at,
        measured_by=measured_by,
    )


def _doublings(longest: int) -> list[int]:
    depths = [1024]
    while 2 * depths[-1] <= longest:
        depths.append(2 * depths[-1])
    return depths


def _lengths(longest: int) -> list[int]:
    return [*(length for length in (1024, 8192, 32768) if length < longest), longest]


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _figure(name: str, value: int, formula: str) -> Figure:
    return Figure(name, value, "bytes", told_bytes(value), formula)


def _memory(
    model: GgufFile, config: EngineConfig, plan: Plan | None, per_token: int, available_bytes: int, beside: Row[Part]
) -> tuple[Figure, ...]:
    layers = layers_of(model)
    keys, values = (sum(getattr(layer, kind) for layer in layers) for kind in ("keys", "values"))
    rows = [
        _figure("weights", model.weight_bytes, "sum of all tensors of the file"),
        _figure(
            "KV of a token",
            per_token,
            f"K ({config.kv_type_k}) and V ({config.kv_type_v}) of {sum(layer.keys > 0 for layer in layers)} layers: {keys} and "
            f"{values} values x bytes",
        ),
    ]
    others = [_figure(part.name, part.num_bytes, part.formula) for part in beside]
    had = _figure("to be had", available_bytes, "free memory, or --ram; a reserve of it is left free")
    if plan is None:
        return (*rows, *others, had)
    short = "; of layers with a window only that, and the states" if has_uncuttable_memory(model) else ""
    rows += [
        _figure("KV of one thought", plan.stream_bytes, f"{plan.context} tokens x KV of a token{short}"),
        _figure("KV of all", plan.kv_bytes, f"{plan.slots} thoughts x {plan.context} tokens x KV of a token{short}"),
        _figure("compute", plan.compute_bytes, "activations of a chunk, the mask, and without flash attention KQ"),
        _figure("output", plan.output_bytes, "rows with logits x words x 4 bytes"),
        _figure("other lanes", plan.lane_bytes, "the same for long prompts and shared beginnings, and KV on its way"),
        _figure("process", plan.process_bytes, "interpreter, libraries, vocabulary"),
        _figure("in all", plan.total_bytes, "the sum; of repacked weights only the copy counts"),
        *others,
    ]
    if others:
        together = plan.total_bytes + sum(part.num_bytes for part in beside)
        rows.append(_figure("with all beside it", together, "the engine, the daemon with its models, and adapters"))
    rows.append(had)
    if plan.repack_bytes:
        rows.append(
            _figure("repacked copy", plan.repack_bytes, "a faster layout of some types on x86; their originals may go")
        )
    return (*rows, _page_cache(model, config))


def _page_cache(model: GgufFile, config: EngineConfig) -> Figure:
    if config.mmap:
        told = "the mapped weights lie there, and are counted above; nothing on top, but without this room they are read again"
    else:
        told = "the file is read through it into memory of its own; the kernel takes it back when asked: nothing on top is needed"
    return _figure("page cache", model.weight_bytes, told)


def _by_width(model: GgufFile, config: EngineConfig, context: int) -> dict[int, int]:
    """Bytes of the engine's plan for so many thoughts at once, if memory were no matter."""
    one = replace(config, context=context, memory_reserve_bytes=0)
    return {slots: memory.fit(model, replace(one, slots=slots), UNBOUNDED).total_bytes for slots in WIDTHS}


def _compute(model: GgufFile, config: EngineConfig, context: int, slots: int) -> dict[str, int | None]:
    """Of all lanes together."""

    def taken(flash: str) -> int | None:
        try:
            one = replace(config, context=context, slots=slots, memory_reserve_bytes=0, flash_attention=flash)  # type: ignore[arg-type]
        except SettingsInvalid:  # quantised V without it
            return None
        lanes = memory.fit(model, one, UNBOUNDED).lanes
        return sum(lane.compute_bytes for lane in lanes.values())

    return {flash: taken(flash) for flash in ("off", "on")}


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _night(pace: Pace, slots: int, context: int, night_seconds: float) -> Figure:
    """Of questions that read a quarter of the context and write 500 tokens."""
    read, wrote = context // 4, ANSWER_TOKENS
    each = pace.prompt_seconds(read) + wrote * pace.step_seconds(slots, read) / slots
    value = night_seconds / each * wrote
    formula = f"{told_seconds(night_seconds)} / ({read} tokens read and {wrote} written beside {slots - 1} others: {each:.1f} s)"
    return Figure("written in a night", value, "tokens", f"{value:,.0f} tokens", formula)


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _notes(model: GgufFile, plan: Plan | None, config: EngineConfig) -> tuple[str, ...]:
    notes = []
    context = plan.context if plan is not None else config.context
    use = config.model_use
    if use.yarn_factor is not None:
        notes.append(Stretch(use.yarn_factor, use.yarn_original_context or trained(model)).told())
    elif context > model.train_context and (stretch := needed(model, context)) is not None:
        beyond = f", more than the {MOST_FACTOR:g} that makers have validated" if stretch.factor > MOST_FACTOR else ""
        notes.append(
            f"{context} tokens are {context / model.train_context:.1f} times what the model was trained for "
            f"({model.train_context}); without YaRN (yarn_factor = {stretch.factor:g}, yarn_original_context = "
            f"{stretch.original}{beyond}) it loses its thread beyond that"
        )
    if use.rope_freq_base is not None:
        own = model.metadata.get(f"{model.architecture}.rope.freq_base", 10000.0)
        notes.append(
            f"a rope base of {use.rope_freq_base:,.0f} instead of {float(own):,.0f}: it takes no memory and no time, but a model "
            "that was not trained with it reads worse, and KV on the disk is of no use"
        )
    if use.experts is not None and model.num_experts:
        own_experts = model.number("expert_used_count")
        notes.append(
            f"{use.experts} experts of {model.num_experts} for each token instead of {own_experts}: all are in memory anyway, "
            "what changes is what is read; the router was trained with the model's own number"
        )
    return tuple(notes)


def table(rows: Row[Figure], *, explain: bool) -> list[tuple[str, ...]]:
    """For printing."""
    return [(row.name, row.shown, row.formula) if explain else (row.name, row.shown) for row in rows]
