"""All that is to be said of a model on a machine: figures in order, each with its formula. Pure but for measuring a machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

from monk.engine import memory
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import kv_bytes_per_token
from monk.engine.memory import Plan
from monk.errors import MemoryTooSmall
from monk.plan.amounts import told_bytes, told_seconds
from monk.plan.speed import ATTENTION_SHARE, BANDWIDTH_SHARE, PRODUCT_SHARE, Machine, Work

DEPTHS = (0, 32768, 131072)
WIDTHS = (1, 4, 16, 64)
FIXED: dict[str, Callable[[GgufFile], int]] = {
    "attention heads": lambda model: model.num_heads,
    "layers": lambda model: model.num_layers,
    "width": lambda model: model.embedding_length,
    "inner width": lambda model: model.number("feed_forward_length"),
    "experts": lambda model: model.num_experts,
}
PIECE_BYTES = 1 << 28


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
    """`steps`: tokens a second of all thoughts together, by depth and width; `prompts`: seconds of a whole one, by length."""

    model: GgufFile
    plan: Plan | None  # None: it does not fit
    refusal: str
    memory: tuple[Figure, ...]
    steps: dict[int, dict[int, float]]
    prompts: dict[int, float]
    night: Figure
    machine: Machine
    notes: tuple[str, ...]

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
            "decode_tokens_per_second": {
                str(d): {str(w): round(r, 2) for w, r in row.items()} for d, row in self.steps.items()
            },
            "prompt_seconds": {str(tokens): round(seconds, 1) for tokens, seconds in self.prompts.items()},
            "night": self.night.to_json(),
            "machine": {"bandwidth": self.machine.bandwidth, "gflops": self.machine.gflops},
            "fixed": {name: of(self.model) for name, of in FIXED.items() if of(self.model)},
            "notes": list(self.notes),
        }


def look(
    model: GgufFile, config: EngineConfig, available_bytes: int, machine: Machine, night_seconds: float
) -> Outlook:
    """What the engine would open on a machine with so much memory, and what a night would bring."""
    plan, refusal = None, ""
    try:
        plan = memory.fit(model, config, available_bytes)
    except MemoryTooSmall as error:
        refusal = error.message
    per_token = kv_bytes_per_token(model, config)
    experts = config.model_use.experts
    work = Work.of(model, per_token, experts)
    longest = max(model.train_context, config.context, 256)
    depths = [depth for depth in DEPTHS if depth < longest]
    context = plan.context if plan is not None else longest
    slots = plan.slots if plan is not None else 1
    return Outlook(
        model=model,
        plan=plan,
        refusal=refusal,
        memory=_memory(model, plan, per_token, available_bytes),
        steps={d: {w: w / work.step_seconds(machine, w, d) for w in WIDTHS} for d in depths},
        prompts={tokens: work.prompt_seconds(machine, tokens) for tokens in _lengths(longest)},
        night=_night(work, machine, slots, context, night_seconds),
        machine=machine,
        notes=_notes(model, plan, config),
    )


def _lengths(longest: int) -> list[int]:
    return [*(length for length in (1024, 8192, 32768) if length < longest), longest]


def _memory(model: GgufFile, plan: Plan | None, per_token: int, available_bytes: int) -> tuple[Figure, ...]:
    def figure(name: str, value: int, formula: str) -> Figure:
        return Figure(name, value, "bytes", told_bytes(value), formula)

    heads = sum(model.kv_heads)
    rows = [
        figure("weights", model.weight_bytes, "sum of all tensors of the file"),
        figure(
            "KV of a token",
            per_token,
            f"K and V of all layers: {heads} heads in all x ({model.key_length} + {model.value_length}) values x bytes",
        ),
    ]
    if plan is None:
        return (*rows, figure("to be had", available_bytes, "free memory, or --ram, less the reserve"))
    rows += [
        figure("KV of all", plan.kv_bytes, f"{plan.slots} thoughts x {plan.context} tokens x KV of a token"),
        figure("compute", plan.compute_bytes, "activations of a chunk, the mask, and without flash attention KQ"),
        figure("output", plan.output_bytes, "rows with logits x words x 4 bytes"),
        figure("other lanes", plan.lane_bytes, "the same for long prompts and shared beginnings, and KV on its way"),
        figure("process", plan.process_bytes, "interpreter, libraries, vocabulary"),
        figure("in all", plan.total_bytes, "the sum; of repacked weights only the copy counts"),
        figure("to be had", available_bytes, "free memory, or --ram, less the reserve"),
    ]
    if plan.repack_bytes:
        rows.append(
            figure("repacked copy", plan.repack_bytes, "a faster layout of some types on x86; their originals may go")
        )
    return tuple(rows)


def _night(work: Work, machine: Machine, slots: int, context: int, night_seconds: float) -> Figure:
    """Of questions that read a quarter of the context and write 500 tokens."""
    read, wrote = context // 4, 500
    each = work.prompt_seconds(machine, read) + wrote * work.step_seconds(machine, slots, read) / slots
    value = night_seconds / each * wrote
    formula = f"{told_seconds(night_seconds)} / ({read} tokens read and {wrote} written beside {slots - 1} others: {each:.1f} s)"
    return Figure("written in a night", value, "tokens", f"{value:,.0f} tokens", formula)


def _notes(model: GgufFile, plan: Plan | None, config: EngineConfig) -> tuple[str, ...]:
    notes = []
    if plan is not None and plan.context > model.train_context:
        factor = plan.context / model.train_context
        if config.model_use.yarn_factor is None:
            notes.append(
                f"{plan.context} tokens are {factor:.1f} times what the model was trained for ({model.train_context}); without "
                f"YaRN (yarn_factor = {-(-plan.context // model.train_context)}) it loses its thread beyond that"
            )
        else:
            notes.append(
                f"YaRN stretches {model.train_context} positions {config.model_use.yarn_factor:g} times: also short texts are "
                "read a little worse with it"
            )
    return tuple(notes)


def measured(cores: int) -> Machine:
    """This machine: the best of a few sums over memory and of a few products, half a second."""
    from monk.engine.machine import measured_gflops

    return Machine(measured_bandwidth(cores), measured_gflops())


def measured_bandwidth(cores: int, rounds: int = 3) -> float:
    """Bytes a second that all cores together read."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    pieces = [np.ones(PIECE_BYTES // 4 // cores, np.float32) for _ in range(cores)]
    best = 0.0
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(rounds):
            began = time.perf_counter()
            list(pool.map(np.sum, pieces))
            best = max(best, sum(piece.nbytes for piece in pieces) / (time.perf_counter() - began))
    return best


def table(rows: Row[Figure], *, explain: bool) -> list[tuple[str, ...]]:
    """For printing."""
    return [(row.name, row.shown, row.formula) if explain else (row.name, row.shown) for row in rows]


SHARES = (
    f"weights and KV at {BANDWIDTH_SHARE:g} of the memory's bandwidth, products at {PRODUCT_SHARE:g} and attention at "
    f"{ATTENTION_SHARE:g} of f32 products (monk/plan/speed.py)"
)
