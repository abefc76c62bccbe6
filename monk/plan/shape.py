"""The numbers of a model's config.json that shape its memory and time, under the names that its GGUF file gives them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monk.errors import InvalidInput

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
    "deepseek_v3": "deepseek2",
    "kimi_k2": "deepseek2",
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


class Shape:
    """What a config.json says. Raises InvalidInput for what is missing or unknown."""

    # of models that keep keys and values of all heads in one row of numbers (DeepSeek's MLA): how many, and of the queries;
    # and of a head: numbers that do not know their position, that do, and of a value
    kv_rank = q_rank = plain_size = turned_size = value_size = 0

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        kind = str(config.get("model_type"))
        if kind not in ARCHITECTURES:
            raise InvalidInput(
                f"{name}: model_type {kind[:80]!r} is not known here, but {', '.join(ARCHITECTURES)}; plan its GGUF file instead",
                param="model",
            )
        given = {key: value for key, value in config.items() if value is not None}
        self.name, self._config = name, LEFT_OUT.get(kind, {}) | given
        self.architecture = ARCHITECTURES[kind]
        self.width = self._number("hidden_size")
        self.layers = self._number("num_hidden_layers")
        self.heads = self._number("num_attention_heads")
        self.kv_heads = self._number("num_key_value_heads", self.heads)
        self.head_size = self._number("head_dim", self.width // self.heads)
        self.inner = self._number("intermediate_size")
        self.vocabulary = self._number("vocab_size")
        self.context = self._number("max_position_embeddings")
        self.tied = bool(self._config.get("tie_word_embeddings", False))
        has_windows = self.architecture in ("gemma3", "gpt-oss")  # the others' are not used by llama.cpp
        self.window = self._number("sliding_window") if has_windows else 0
        self._read_experts()
        self._read_latents()
        self._read_positions()

    def _read_experts(self) -> None:
        counts = ("num_experts", "num_local_experts", "n_routed_experts")
        self.experts = next((self._number(key) for key in counts if self._config.get(key)), 0)
        self.experts_used = self._number("num_experts_per_tok", 0, least=0)
        self.expert_inner = self._number("moe_intermediate_size", self.inner)
        self.shared_experts = self._number("n_shared_experts", 0, least=0)
        self.dense_layers = self._number("first_k_dense_replace", 0, least=0)  # the first, without experts

    def _read_latents(self) -> None:
        if self.architecture != "deepseek2":
            return
        self.kv_rank = self._number("kv_lora_rank")
        self.q_rank = self._number("q_lora_rank")
        self.plain_size = self._number("qk_nope_head_dim")
        self.turned_size = self._number("qk_rope_head_dim")
        self.value_size = self._number("v_head_dim")

    def _read_positions(self) -> None:
        """Makers give these beside the rest, all together, or by kind of layer."""
        told = self._part(self._config, "rope_parameters")
        told = self._part(told, "full_attention") or told
        base = self._config.get("rope_theta", told.get("rope_theta", 10000.0))
        self.rope_base = self._positive("rope_theta", base)
        scaling = self._part(self._config, "rope_scaling") or told
        kind = scaling.get("rope_type", scaling.get("type"))
        self.scaling = kind if kind in SCALINGS else ""
        self.scaling_factor = self._positive("factor of the rope scaling", scaling.get("factor", 1.0))
        self.scaling_original = scaling.get("original_max_position_embeddings")

    def is_mixture(self, layer: int) -> bool:
        return self.experts > 0 and layer >= self.dense_layers

    def metadata(self) -> dict[str, Any]:
        """As in the file that llama.cpp's converter would write."""
        told: dict[str, Any] = {
            "block_count": self.layers,
            "context_length": self.context,
            "embedding_length": self.width,
            "feed_forward_length": self.inner,
            "attention.head_count": self.heads,
            **self._attention(),
            "rope.freq_base": self.rope_base,
        }
        if self.window:
            told["attention.sliding_window"] = self.window
        if self.scaling:
            told |= {"rope.scaling.type": self.scaling, "rope.scaling.factor": self.scaling_factor}
            if isinstance(self.scaling_original, int):
                told["rope.scaling.original_context_length"] = self.scaling_original
        if self.experts:
            told |= {
                "expert_count": self.experts,
                "expert_used_count": self.experts_used,
                "expert_feed_forward_length": self.expert_inner,
            }
        general = {
            "general.architecture": self.architecture,
            "general.name": self.name,
            "tokenizer.ggml.tokens": range(self.vocabulary),
        }
        return general | {f"{self.architecture}.{key}": value for key, value in told.items()}

    def _attention(self) -> dict[str, int]:
        if not self.kv_rank:
            return {
                "attention.head_count_kv": self.kv_heads,
                "attention.key_length": self.head_size,
                "attention.value_length": self.head_size,
            }
        return {
            "attention.head_count_kv": 1,
            "attention.key_length": self.kv_rank + self.turned_size,
            "attention.value_length": self.kv_rank,
            "attention.key_length_mla": self.plain_size + self.turned_size,
            "attention.value_length_mla": self.value_size,
        }

    def _part(self, config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        part = config.get(key)
        if part is not None and not isinstance(part, dict):
            raise self._bad(key, part, "an object")
        return part or {}

    def _positive(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < 1e15:
            raise self._bad(key, value, "a number above 0")
        return float(value)

    def _number(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self._config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 32:
            raise self._bad(key, value, "a number")
        return value

    def _bad(self, key: str, value: Any, needed: str) -> InvalidInput:
        return InvalidInput(
            f"{self.name}: {key} is {value!r:.80} in its configuration; {needed} is needed", param="model"
        )
