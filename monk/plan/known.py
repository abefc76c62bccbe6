"""Configurations of well-known models, as their makers publish them in config.json; only what shapes memory and time."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

from monk.errors import NotFound

Config = dict[str, Any]
_SIZE = re.compile(r"-(?:8x)?(\d+(?:\.\d+)?)b.*")


def _llama(
    hidden: int, layers: int, heads: int, inner: int, vocab: int = 128256, context: int = 131072, **more: Any
) -> Config:
    return {
        "model_type": "llama",
        "rope_theta": 500000.0,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        **more,
    }


def _mistral(hidden: int, layers: int, heads: int, inner: int, vocab: int, context: int, **more: Any) -> Config:
    return _llama(hidden, layers, heads, inner, vocab, context, **{"head_dim": 128, "rope_theta": 1e6, **more})


def _qwen2(hidden: int, layers: int, heads: int, kv_heads: int, inner: int, context: int = 32768) -> Config:
    more = {"model_type": "qwen2", "num_key_value_heads": kv_heads, "rope_theta": 1e6}
    return _llama(hidden, layers, heads, inner, 152064, context, **more)


def _qwen3(hidden: int, layers: int, heads: int, inner: int, context: int = 40960, **more: Any) -> Config:
    own = {"model_type": "qwen3", "head_dim": 128, "rope_theta": 1e6}
    return _llama(hidden, layers, heads, inner, 151936, context, **own | more)


def _qwen3_moe(
    hidden: int, layers: int, heads: int, inner: int, context: int = 40960, base: float = 1e6, **more: Any
) -> Config:
    own = {"model_type": "qwen3_moe", "num_key_value_heads": 4, "rope_theta": base}
    experts = {"moe_intermediate_size": inner, "num_experts": 128, "num_experts_per_tok": 8}
    return _qwen3(hidden, layers, heads, 3 * hidden, context, **(own | experts | more))


def _gemma3(hidden: int, layers: int, heads: int, kv_heads: int, head_size: int, inner: int) -> Config:
    own = {"model_type": "gemma3_text", "num_key_value_heads": kv_heads, "head_dim": head_size, "sliding_window": 1024}
    scaling = {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "tie_word_embeddings": True}
    return _llama(hidden, layers, heads, inner, 262208, 131072, **own, **scaling)


def _gpt_oss(layers: int, experts: int) -> Config:
    scaling = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}
    own = {"model_type": "gpt_oss", "head_dim": 64, "sliding_window": 128, "rope_theta": 150000.0}
    shape = {"num_local_experts": experts, "num_experts_per_tok": 4, "rope_scaling": scaling}
    return _llama(2880, layers, 64, 2880, 201088, 131072, **own, **shape)


def _deepseek3(
    heads: int, experts: int, dense_layers: int, vocab: int, context: int, base: float, factor: float
) -> Config:
    attention = {
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
    }
    mixture = {
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
    }
    scaling = {"type": "yarn", "factor": factor, "original_max_position_embeddings": 4096}
    own = {
        "model_type": "deepseek_v3",
        "first_k_dense_replace": dense_layers,
        "rope_theta": base,
        "rope_scaling": scaling,
    }
    return _llama(7168, 61, heads, 18432, vocab, context, **(attention | mixture | own))


_DEEPSEEK3 = _deepseek3(128, 256, 3, 129280, 163840, 1e4, 40.0)
_MIXTRAL: Config = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
_TIED: Config = {"tie_word_embeddings": True}

KNOWN: dict[str, Config] = {
    "Llama-3.1-8B": _llama(4096, 32, 32, 14336),
    "Llama-3.1-70B": _llama(8192, 80, 64, 28672),
    "Llama-3.1-405B": _llama(16384, 126, 128, 53248),
    "Llama-3.2-1B": _llama(2048, 16, 32, 8192, head_dim=64, **_TIED),
    "Llama-3.2-3B": _llama(3072, 28, 24, 8192, head_dim=128, **_TIED),
    "Llama-3.3-70B": _llama(8192, 80, 64, 28672),
    "DeepSeek-V3": _DEEPSEEK3,
    "DeepSeek-R1": _DEEPSEEK3,
    "DeepSeek-R1-Distill-Llama-70B": _llama(8192, 80, 64, 28672),
    "DeepSeek-R1-Distill-Qwen-32B": _qwen2(5120, 64, 40, 8, 27648, 131072),
    "Mistral-7B-v0.3": _mistral(4096, 32, 32, 14336, 32768, 32768),
    "Mistral-Nemo-12B": _mistral(5120, 40, 32, 14336, 131072, 131072),
    "Mistral-Small-3.2-24B": _mistral(5120, 40, 32, 32768, 131072, 131072, rope_theta=1e9),
    "Mistral-Large-123B": _mistral(12288, 88, 96, 28672, 32768, 131072),
    "Mixtral-8x7B": _mistral(4096, 32, 32, 14336, 32000, 32768, **_MIXTRAL),
    "Mixtral-8x22B": _mistral(6144, 56, 48, 16384, 32768, 65536, **_MIXTRAL),
    "Qwen2.5-7B": _qwen2(3584, 28, 28, 4, 18944),
    "Qwen2.5-14B": _qwen2(5120, 48, 40, 8, 13824),
    "Qwen2.5-32B": _qwen2(5120, 64, 40, 8, 27648),
    "Qwen2.5-72B": _qwen2(8192, 80, 64, 8, 29568),
    "Qwen2.5-Coder-32B": _qwen2(5120, 64, 40, 8, 27648),
    "QwQ-32B": _qwen2(5120, 64, 40, 8, 27648, 40960),
    "Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, **_TIED),
    "Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, **_TIED),
    "Qwen3-4B": _qwen3(2560, 36, 32, 9728, **_TIED),
    "Qwen3-8B": _qwen3(4096, 36, 32, 12288),
    "Qwen3-14B": _qwen3(5120, 40, 40, 17408),
    "Qwen3-32B": _qwen3(5120, 64, 64, 25600),
    "Qwen3-30B-A3B": _qwen3_moe(2048, 48, 32, 768),
    "Qwen3-235B-A22B": _qwen3_moe(4096, 94, 64, 1536),
    "Qwen3-4B-2507": _qwen3(2560, 36, 32, 9728, 262144, **_TIED, rope_theta=5e6),
    "Qwen3-30B-A3B-2507": _qwen3_moe(2048, 48, 32, 768, 262144, 1e7),
    "Qwen3-235B-A22B-2507": _qwen3_moe(4096, 94, 64, 1536, 262144, 5e6),
    "Qwen3-Coder-30B-A3B": _qwen3_moe(2048, 48, 32, 768, 262144, 1e7),
    "Qwen3-Coder-480B-A35B": _qwen3_moe(6144, 62, 96, 2560, 262144, 1e7, num_key_value_heads=8, num_experts=160),
    "Kimi-K2": _deepseek3(64, 384, 1, 163840, 131072, 5e4, 32.0),
    "Gemma-3-4B": _gemma3(2560, 34, 8, 4, 256, 10240),
    "Gemma-3-12B": _gemma3(3840, 48, 16, 8, 256, 15360),
    "Gemma-3-27B": _gemma3(5376, 62, 32, 16, 128, 21504),
    "gpt-oss-20b": _gpt_oss(24, 32),
    "gpt-oss-120b": _gpt_oss(36, 128),
}
# of a name, what says how the model was taught to talk and how it is stored
SIDE_WORDS = frozenset({"instruct", "thinking", "chat", "it", "base", "gguf", "meta"})


def config_of(name: str) -> tuple[str, Config]:
    """(the name as it is spelled, its configuration). Raises NotFound, naming the nearest."""
    folded = {_folded(known): known for known in KNOWN}
    wanted = _folded(name)
    if wanted in folded:
        return folded[wanted], KNOWN[folded[wanted]]
    near = _one_of_each_size(
        sorted((one for one in folded if _likeness(one, wanted) > 0.4), key=lambda one: _distance(one, wanted))
    )[:3]
    told = ", ".join(folded[one] for one in near) or ", ".join(KNOWN)
    raise NotFound(
        f"{name[:80]!r} is no file and no model that is known; nearest: {told}. A GGUF file, its URL or a config.json can be "
        "planned too",
        param="model",
    )


def _likeness(name: str, wanted: str) -> float:
    """Of the families, 0 to 1: what stands before the size."""
    ours, theirs = (_SIZE.sub("", one).rstrip("-") for one in (name, wanted))
    return difflib.SequenceMatcher(None, ours, theirs).ratio()


def _distance(name: str, wanted: str) -> tuple[float, float]:
    """First the family, then the size, by its ratio."""
    sizes = [_size(one) for one in (name, wanted)]
    return -round(_likeness(name, wanted), 1), abs(math.log(max(sizes[0], 1e-3) / max(sizes[1], 1e-3)))


def _size(name: str) -> float:
    """Billions of weights, as the name says; 1 when it does not."""
    return float(match[1]) if (match := _SIZE.search(name)) else 1.0


def _one_of_each_size(names: list[str]) -> list[str]:
    first: dict[float, str] = {}
    for name in names:
        first.setdefault(_size(name), name)
    return list(first.values())


def _folded(name: str) -> str:
    words = name.casefold().rpartition("/")[2].replace("_", "-").split("-")
    return "-".join(word for word in words if word not in SIDE_WORDS)
