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

F32, F16, Q4_0, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16, MXFP4 = 0, 1, 2, 6, 7, 8, 12, 13, 14, 30, 39
FALLBACK = {Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0}
PLAIN = {"f32": F32, "f16": F16, "bf16": BF16, "q8_0": Q8_0, "q6_k": Q6_K, "q4_0": Q4_0}
MIXED = {"q4_k_m": Q4_K, "q5_k_m": Q5_K}
FORMATS = (*PLAIN, *MIXED)
BEST_FIRST = ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")  # what a search tries
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "gpt_oss": "gpt-oss",
}
# what a config.json may leave out, because the makers' library fills it in
_GEMMA3 = {
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
}
LEFT_OUT: dict[str, dict[str, Any]] = {"gemma3": _GEMMA3, "gemma3_text": _GEMMA3}
SCALINGS = ("yarn", "linear")  # of positions, that a GGUF file names; llama3's is a tensor of 64 numbers there
LARGE_LAYERS = 80  # by them llama.cpp knows a 70B, whose attn_v it spares


def describe(name: str, config: Mapping[str, Any], weights: str) -> GgufFile:
    """The header of the file that the model would be. Raises InvalidInput for what is missing or unknown."""
    _check_format(weights)
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise InvalidInput(
            f"{name}: model_type {kind[:80]!r} is not known here, but {', '.join(ARCHITECTURES)}; plan its GGUF file instead",
            param="model",
        )
    shape = _Shape(name, LEFT_OUT.get(kind, {}) | {key: value for key, value in config.items() if value is not None})
    tensors = tuple(_tensors(shape, weights))
    path = Path(f"{name} ({weights})")
    return GgufFile(path, (), _metadata(name, shape), tensors)


def retyped(file: GgufFile, weights: str) -> GgufFile:
    """The header that a file would have after its weights were written in another format. Raises InvalidInput."""
    _check_format(weights)
    has_head = any(tensor.name == "output.weight" for tensor in file.tensors)
    large = file.architecture in ("llama", "qwen2") and file.num_layers == LARGE_LAYERS
    traits = _FileTraits(file.num_layers, file.num_experts, large, file.architecture == "gpt-oss")
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
    def layers(self) -> int: ...
    @property
    def experts(self) -> int: ...
    @property
    def is_large(self) -> bool: ...
    @property
    def ships_mxfp4(self) -> bool: ...  # experts, by their maker, and every format of it keeps them so


@dataclass(frozen=True, slots=True)
class _FileTraits:
    layers: int
    experts: int
    is_large: bool
    ships_mxfp4: bool


class _Shape:
    """The numbers of a config.json."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        self._name, self._config = name, config
        self.width = self._number("hidden_size")
        self.layers = self._number("num_hidden_layers")
        self.heads = self._number("num_attention_heads")
        self.kv_heads = self._number("num_key_value_heads", self.heads)
        self.head_size = self._number("head_dim", self.width // self.heads)
        self.inner = self._number("intermediate_size")
        self.vocabulary = self._number("vocab_size")
        self.context = self._number("max_position_embeddings")
        self.experts = self._number("num_experts", self._number("num_local_experts", 0, least=0), least=0)
        self.experts_used = self._number("num_experts_per_tok", 0, least=0)
        self.expert_inner = self._number("moe_intermediate_size", self.inner)
        self.tied = bool(config.get("tie_word_embeddings", False))
        self.architecture = ARCHITECTURES[str(config["model_type"])]
        has_windows = self.architecture in ("gemma3", "gpt-oss")  # the others' are not used by llama.cpp
        self.ships_mxfp4 = self.architecture == "gpt-oss"
        self.window = self._number("sliding_window") if has_windows else 0
        self.is_large = self.architecture in ("llama", "qwen2") and self.layers == LARGE_LAYERS
        # makers give these beside the rest, all together, or by kind of layer
        told = self._part(config, "rope_parameters")
        told = self._part(told, "full_attention") or told
        self.rope_base = self._positive("rope_theta", config.get("rope_theta") or told.get("rope_theta") or 10000.0)
        scaling = self._part(config, "rope_scaling") or told
        kind = scaling.get("rope_type", scaling.get("type"))
        self.scaling = kind if kind in SCALINGS else ""
        self.scaling_factor = self._positive("factor of the rope scaling", scaling.get("factor", 1.0))
        self.scaling_original = scaling.get("original_max_position_embeddings")

    def _part(self, config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        part = config.get(key)
        if part is not None and not isinstance(part, dict):
            raise InvalidInput(
                f"{self._name}: {key} is {part!r:.80} in its configuration; an object is needed", param="model"
            )
        return part or {}

    def _positive(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < 1e15:
            raise InvalidInput(
                f"{self._name}: {key} is {value!r:.80} in its configuration; a number above 0 is needed", param="model"
            )
        return float(value)

    def _number(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self._config.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 32:
            raise InvalidInput(
                f"{self._name}: {key} is {value!r} in its configuration; a number is needed", param="model"
            )
        return value


def _metadata(name: str, shape: _Shape) -> dict[str, Any]:
    told: dict[str, Any] = {
        "block_count": shape.layers,
        "context_length": shape.context,
        "embedding_length": shape.width,
        "feed_forward_length": shape.inner,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_size,
        "attention.value_length": shape.head_size,
        "rope.freq_base": shape.rope_base,
    }
    if shape.window:
        told["attention.sliding_window"] = shape.window
    if shape.scaling:
        told |= {"rope.scaling.type": shape.scaling, "rope.scaling.factor": shape.scaling_factor}
        if isinstance(shape.scaling_original, int):
            told["rope.scaling.original_context_length"] = shape.scaling_original
    if shape.experts:
        told |= {
            "expert_count": shape.experts,
            "expert_used_count": shape.experts_used,
            "expert_feed_forward_length": shape.expert_inner,
        }
    general = {
        "general.architecture": shape.architecture,
        "general.name": name,
        "tokenizer.ggml.tokens": range(shape.vocabulary),
    }
    return general | {f"{shape.architecture}.{key}": value for key, value in told.items()}


def _tensors(shape: _Shape, weights: str) -> Iterator[Tensor]:
    width, rows = shape.width, shape.heads * shape.head_size
    kv_rows = shape.kv_heads * shape.head_size
    yield _tensor(
        "token_embd.weight", (width, shape.vocabulary), _type("output" if shape.tied else "embd", 0, shape, weights)
    )
    yield _tensor("output_norm.weight", (width,), F32)
    if not shape.tied:
        yield _tensor("output.weight", (width, shape.vocabulary), _type("output", 0, shape, weights))
    for layer in range(shape.layers):
        plain: dict[str, tuple[int, ...]] = {
            "attn_q": (width, rows),
            "attn_k": (width, kv_rows),
            "attn_v": (width, kv_rows),
            "attn_output": (rows, width),
        }
        plain |= _feed_forward(shape)
        for part, size in plain.items():
            yield _tensor(f"blk.{layer}.{part}.weight", size, _type(part, layer, shape, weights))
        for part, size in _vectors(shape):
            yield _tensor(f"blk.{layer}.{part}", size, F32)


def _vectors(shape: _Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
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
    if shape.experts:
        yield "ffn_gate_inp.weight", (width, shape.experts)
    if shape.architecture == "gpt-oss":
        yield "attn_output.bias", (width,)
        yield "attn_sinks.weight", (shape.heads,)
        yield "ffn_gate_inp.bias", (shape.experts,)
        for part, count in (("gate", shape.expert_inner), ("up", shape.expert_inner), ("down", width)):
            yield f"ffn_{part}_exps.bias", (count, shape.experts)


def _feed_forward(shape: _Shape) -> dict[str, tuple[int, ...]]:
    if not shape.experts:
        up, down = (shape.width, shape.inner), (shape.inner, shape.width)
        return {"ffn_gate": up, "ffn_up": up, "ffn_down": down}
    up_each, down_each = (
        (shape.width, shape.expert_inner, shape.experts),
        (shape.expert_inner, shape.width, shape.experts),
    )
    return {"ffn_gate_exps": up_each, "ffn_up_exps": up_each, "ffn_down_exps": down_each}


def _type(part: str, layer: int, shape: _Traits, weights: str) -> int:
    if shape.ships_mxfp4 and part.endswith("_exps"):
        return MXFP4
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
        return Q5_K if kept == Q4_K and shape.is_large else kept
    if part == "attn_k" and shape.experts == 8:
        return Q8_0
    if part == "attn_output" and shape.experts == 8:
        return Q5_K
    if part in ("ffn_down", "ffn_down_exps") and _gets_more(layer, shape.layers):
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
