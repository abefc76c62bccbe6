"""The shape of every lane, and the bytes it takes; arithmetic over the file's metadata and the settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.layers import layers_of, state_bytes
from monk.engine.model_use import extra_expert_bytes

GIB = 1 << 30
PAD = 256  # llama.cpp rounds a stream up to this many cells
SCRATCH = "scratch"
LEAST_MEMBERS = 8  # thoughts that may go on from a shared beginning at once, however few slots there are
OUTPUTS_PER_SLOT, MOST_OUTPUTS = 8, 128  # rows with logits in one call, guessed tokens included
LEAST_OUTPUTS = 17  # one thought alone takes its longest guess along
KQ_BYTES = 6  # for each head, row and cell: f32, and a copy in f16
KQ_LIMIT_BYTES = GIB  # without flash attention the chunk is made small enough for this
KV_BYTES = {"f32": (4, 1), "f16": (2, 1), "bf16": (2, 1), "q8_0": (34, 32)}  # bytes, per elements


@dataclass(frozen=True, slots=True)
class LanePlan:
    """The shape of one llama.cpp context (see `native.py`) and what it takes."""

    sequences: int
    cells: int  # tokens, of all sequences together
    unified: bool
    batch: int  # most tokens of one call
    outputs: int  # most rows with logits of one call
    kv_bytes: int
    compute_bytes: int
    output_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.kv_bytes + self.compute_bytes + self.output_bytes


def lane_plans(
    model: GgufFile, config: EngineConfig, slots: int, context: int, ubatch: int, names: tuple[str, ...]
) -> dict[str, LanePlan]:
    """The streams, and those of the others that are named; "scratch" is a sequence more in the lane of the only slot."""
    flash = uses_flash(config)
    outputs = slots
    if config.speculation == "auto":
        wanted = min(MOST_OUTPUTS, max(OUTPUTS_PER_SLOT * slots, LEAST_OUTPUTS))
        outputs = max(slots, min(wanted, ubatch))  # attention at great depth has memory for a chunk's rows
    kv_bytes = _kv_bytes(model, config, slots, context, ubatch)
    per_token = kv_bytes_per_token(model, config)
    if SCRATCH in names:
        cells = context + PAD
        shapes = {"stream": _shape(2, cells, True, max(ubatch, outputs), outputs, cells * per_token)}
    else:
        shapes = {"stream": _shape(slots, context * slots, False, max(ubatch, outputs), outputs, kv_bytes)}
    if "prefill" in names:
        cells = context + PAD  # the scratch sequence computes a token anew beside a full prompt
        shapes["prefill"] = _shape(2, cells, True, ubatch, 1, cells * per_token)
    if "fork" in names:
        cells, members = 2 * context, max(slots, LEAST_MEMBERS)
        batch = max(config.ubatch or chunk_tokens(model, cells, flash, config.most_ubatch), outputs, members)
        shapes["fork"] = _shape(1 + members, cells, True, batch, max(outputs, members), cells * per_token)
    return {name: _weighed(model, config, flash, shape) for name, shape in shapes.items()}


def _shape(sequences: int, cells: int, unified: bool, batch: int, outputs: int, kv_bytes: int) -> LanePlan:
    outputs = max(outputs, sequences)  # llama.cpp reserves one each, and asserts on less
    return LanePlan(sequences, cells, unified, max(batch, outputs), outputs, kv_bytes, 0, 0)


def _weighed(model: GgufFile, config: EngineConfig, flash: bool, lane: LanePlan) -> LanePlan:
    """With the bytes of its buffers. More experts than the file's own need more room for each row."""
    reach = lane.cells if lane.unified else lane.cells // lane.sequences  # cells a row looks at
    return replace(
        lane,
        compute_bytes=_compute_bytes(model, flash, lane.batch, reach)
        + extra_expert_bytes(model, config.model_use.experts, lane.batch),
        output_bytes=output_bytes(model, lane.outputs),
    )


def output_bytes(model: GgufFile, outputs: int) -> int:
    """Logits of that many rows, in f32."""
    return outputs * model.vocab_size * 4


def kv_bytes_per_token(model: GgufFile, config: EngineConfig) -> int:
    """K and V of one token over all layers that keep any."""
    return sum(_layer_bytes(model, config))


def _kv_bytes(model: GgufFile, config: EngineConfig, slots: int, context: int, ubatch: int) -> int:
    """All slots. Layers with a window hold only the window and one chunk, others that think in a state that."""
    held = 0
    for layer, per_token in zip(layers_of(model), _layer_bytes(model, config), strict=True):
        near = -(-(layer.window + max(ubatch, slots)) // PAD) * PAD
        held += per_token * (min(context, near) if layer.window else context)
    return slots * (held + state_bytes(model))


def _layer_bytes(model: GgufFile, config: EngineConfig) -> list[int]:
    """Of one token. Without flash attention V lies across, and every layer has rows as long as the longest."""
    key_bytes, key_elements = KV_BYTES[config.kv_type_k]
    value_bytes, value_elements = KV_BYTES[config.kv_type_v]
    layers = layers_of(model)
    longest = 0 if uses_flash(config) else max((layer.values for layer in layers), default=0)
    return [
        layer.keys * key_bytes // key_elements
        + (max(layer.values, longest) if layer.values else 0) * value_bytes // value_elements
        for layer in layers
    ]


def uses_flash(config: EngineConfig) -> bool:
    """ "auto" is off unless the V type needs it: see the measurement in `monk/engine/__init__.py`."""
    if config.flash_attention != "auto":
        return config.flash_attention == "on"
    return config.kv_type_v not in ("f16", "bf16", "f32")


def chunk_tokens(model: GgufFile, context: int, flash: bool, most: int = 512) -> int:
    if flash:
        return most
    size = most
    while size > 64 and KQ_BYTES * model.num_heads * context * size > KQ_LIMIT_BYTES:
        size //= 2
    return size


def _compute_bytes(model: GgufFile, flash: bool, rows: int, cells: int) -> int:
    """Activations, mask and KQ. Fitted to what llama.cpp logs for llama, qwen3, qwen3moe and gemma3 files."""
    width = max(model.embedding_length, model.num_heads * model.key_length)
    activations = 4 * rows * max(2 * model.number("feed_forward_length"), 5 * width)
    mask = 4 * cells * rows
    kq = 0 if flash else KQ_BYTES * model.num_heads * cells * rows
    return activations + mask + kq
