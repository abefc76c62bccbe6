"""A model that is only described: from config.json to the tensors its GGUF file would have, in a weight format. Pure.

Which tensor gets which type follows llama.cpp's own quantiser (llama-quant.cpp), so that sizes are those of real files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from monk.engine.gguf_file import BLOCKS, GgufFile, Tensor
from monk.errors import InvalidInput
from monk.plan.shape import Shape

F32, F16, Q4_0, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16, MXFP4 = 0, 1, 2, 6, 7, 8, 12, 13, 14, 30, 39
FALLBACK = {Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0}
PLAIN = {"f32": F32, "f16": F16, "bf16": BF16, "q8_0": Q8_0, "q6_k": Q6_K, "q4_0": Q4_0}
MIXED = {"q4_k_m": Q4_K, "q5_k_m": Q5_K}
FORMATS = (*PLAIN, *MIXED)
LARGE_LAYERS = 80  # by them llama.cpp knows a 70B, whose attn_v it spares
BEST_FIRST = ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")  # what a search tries


def describe(name: str, config: Mapping[str, Any], weights: str) -> GgufFile:
    """The header of the file that the model would be. Raises InvalidInput for what is missing or unknown."""
    _check_format(weights)
    shape = Shape(name, config)
    tensors = tuple(_tensors(shape, weights))
    path = Path(f"{name} ({weights})")
    return GgufFile(path, (), shape.metadata(), tensors)


def retyped(file: GgufFile, weights: str) -> GgufFile:
    """The header that a file would have after its weights were written in another format. Raises InvalidInput."""
    _check_format(weights)
    has_head = any(tensor.name == "output.weight" for tensor in file.tensors)
    traits = _FileTraits(file.architecture, file.num_layers, file.num_experts)
    tensors = tuple(_retyped(tensor, traits, weights, has_head=has_head) for tensor in file.tensors)
    path = file.path.with_name(f"{file.path.stem} ({weights})")
    return replace(file, path=path, parts=(), tensors=tensors)


def _retyped(tensor: Tensor, traits: _Traits, weights: str, *, has_head: bool) -> Tensor:
    """Vectors, and the matrix that chooses experts, stay as they are, as llama.cpp leaves them."""
    words = tensor.name.split(".")
    if len(tensor.shape) < 2 or "ffn_gate_inp" in words or words[-1] != "weight":
        return tensor
    if words[0] == "blk":
        type_id = _type(words[2], int(words[1]), traits, weights)
    else:
        type_id = _type("output" if words[0] == "output" or not has_head else "embd", 0, traits, weights)
    return _tensor(tensor.name, tensor.shape, type_id)


def _check_format(weights: str) -> None:
    if weights not in FORMATS:
        raise InvalidInput(f"weights {weights[:40]!r}; known are {', '.join(FORMATS)}", param="weights")


class _Traits(Protocol):
    """What of a model decides which tensor gets which type."""

    @property
    def architecture(self) -> str: ...
    @property
    def layers(self) -> int: ...
    @property
    def experts(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _FileTraits:
    architecture: str
    layers: int
    experts: int


def _tensors(shape: Shape, weights: str) -> Iterator[Tensor]:
    width = shape.width
    yield _tensor(
        "token_embd.weight", (width, shape.vocabulary), _type("output" if shape.tied else "embd", 0, shape, weights)
    )
    yield _tensor("output_norm.weight", (width,), F32)
    if not shape.tied:
        yield _tensor("output.weight", (width, shape.vocabulary), _type("output", 0, shape, weights))
    for layer in range(shape.layers):
        for part, size in (_attention(shape) | _feed_forward(shape, layer)).items():
            yield _tensor(f"blk.{layer}.{part}.weight", size, _type(part, layer, shape, weights))
        for part, size in _vectors(shape, layer):
            yield _tensor(f"blk.{layer}.{part}", size, F32)


def _attention(shape: Shape) -> dict[str, tuple[int, ...]]:
    width, heads = shape.width, shape.heads
    if not shape.kv_rank:
        rows, kv_rows = heads * shape.head_size, shape.kv_heads * shape.head_size
        return {
            "attn_q": (width, rows),
            "attn_k": (width, kv_rows),
            "attn_v": (width, kv_rows),
            "attn_output": (rows, width),
        }
    near, turned, rank = shape.plain_size, shape.turned_size, shape.kv_rank
    return {
        "attn_q_a": (width, shape.q_rank),
        "attn_q_b": (shape.q_rank, heads * (near + turned)),
        "attn_kv_a_mqa": (width, rank + turned),
        "attn_k_b": (near, rank, heads),
        "attn_v_b": (rank, shape.value_size, heads),
        "attn_output": (heads * shape.value_size, width),
    }


def _feed_forward(shape: Shape, layer: int) -> dict[str, tuple[int, ...]]:
    if not shape.is_mixture(layer):
        up, down = (shape.width, shape.inner), (shape.inner, shape.width)
        return {"ffn_gate": up, "ffn_up": up, "ffn_down": down}
    width, inner, experts = shape.width, shape.expert_inner, shape.experts
    up_each, down_each = (width, inner, experts), (inner, width, experts)
    parts: dict[str, tuple[int, ...]] = {
        "ffn_gate_exps": up_each,
        "ffn_up_exps": up_each,
        "ffn_down_exps": down_each,
    }
    if shared := shape.shared_experts * inner:
        parts |= {"ffn_gate_shexp": (width, shared), "ffn_up_shexp": (width, shared), "ffn_down_shexp": (shared, width)}
    return parts


def _vectors(shape: Shape, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What every format keeps in f32, of one layer."""
    width, rows, kv_rows = shape.width, shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    yield "attn_norm.weight", (width,)
    if shape.architecture != "gpt-oss":
        yield "ffn_norm.weight", (width,)
    if shape.architecture in ("gemma3", "gpt-oss"):
        yield "post_attention_norm.weight", (width,)
    if shape.architecture == "gemma3":
        yield "post_ffw_norm.weight", (width,)
    if shape.architecture in ("qwen3", "qwen3moe", "gemma3"):
        yield "attn_q_norm.weight", (shape.head_size,)
        yield "attn_k_norm.weight", (shape.head_size,)
    if shape.architecture in ("qwen2", "gpt-oss"):
        for part, count in (("q", rows), ("k", kv_rows), ("v", kv_rows)):
            yield f"attn_{part}.bias", (count,)
    if shape.kv_rank:
        yield "attn_q_a_norm.weight", (shape.q_rank,)
        yield "attn_kv_a_norm.weight", (shape.kv_rank,)
    if shape.is_mixture(layer):
        yield "ffn_gate_inp.weight", (width, shape.experts)
        if shape.architecture == "deepseek2":
            yield "exp_probs_b.bias", (shape.experts,)
    if shape.architecture == "gpt-oss":
        yield "attn_output.bias", (width,)
        yield "attn_sinks.weight", (shape.heads,)
        yield "ffn_gate_inp.bias", (shape.experts,)
        for part, count in (("gate", shape.expert_inner), ("up", shape.expert_inner), ("down", width)):
            yield f"ffn_{part}_exps.bias", (count, shape.experts)


def _type(part: str, layer: int, shape: _Traits, weights: str) -> int:
    if shape.architecture == "gpt-oss" and part.endswith("_exps"):
        return MXFP4  # as their maker ships them, and every format of it keeps them
    if weights in ("q4_0", "q6_k") and part == "output":
        return Q6_K
    if weights in PLAIN:
        return PLAIN[weights]
    usual = MIXED[weights]
    if part == "output":
        return Q6_K
    if part == "attn_v":
        if shape.experts == 8:
            return Q8_0
        kept = Q6_K if _gets_more(layer, shape.layers) else usual
        is_large = shape.architecture in ("llama", "qwen2") and shape.layers == LARGE_LAYERS
        return Q5_K if kept == Q4_K and is_large else kept
    if part == "attn_k" and shape.experts == 8:
        return Q8_0
    if part == "attn_output" and shape.experts == 8:
        return Q5_K
    if part in ("ffn_down", "ffn_down_exps", "ffn_down_shexp") and _gets_more(layer, shape.layers):
        return Q6_K
    return usual


def _gets_more(layer: int, layers: int) -> bool:
    """The layers that matter most: the first and last eighth, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _tensor(name: str, shape: tuple[int, ...], type_id: int) -> Tensor:
    if shape[0] % BLOCKS[type_id][0]:  # a row that is no whole number of blocks
        type_id = FALLBACK.get(type_id, F16) if shape[0] % 32 == 0 else F16
    return Tensor(name, shape, type_id, 0)
