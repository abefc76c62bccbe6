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
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        **more,
    }


def _qwen2(hidden: int, layers: int, heads: int, kv_heads: int, inner: int) -> Config:
    return _llama(hidden, layers, heads, inner, 152064, 32768, model_type="qwen2", num_key_value_heads=kv_heads)


def _qwen3(hidden: int, layers: int, heads: int, inner: int, *, tied: bool = False) -> Config:
    more = {"model_type": "qwen3", "head_dim": 128, "tie_word_embeddings": tied}
    return _llama(hidden, layers, heads, inner, 151936, 40960, **more)


def _qwen3_moe(hidden: int, layers: int, heads: int, inner: int) -> Config:
    return _llama(
        hidden,
        layers,
        heads,
        3 * hidden,
        151936,
        40960,
        model_type="qwen3_moe",
        num_key_value_heads=4,
        head_dim=128,
        moe_intermediate_size=inner,
        num_experts=128,
        num_experts_per_tok=8,
    )


KNOWN: dict[str, Config] = {
    "Llama-3.1-8B": _llama(4096, 32, 32, 14336),
    "Llama-3.1-70B": _llama(8192, 80, 64, 28672),
    "Llama-3.1-405B": _llama(16384, 126, 128, 53248),
    "Llama-3.3-70B": _llama(8192, 80, 64, 28672),
    "Mistral-7B-v0.3": _llama(4096, 32, 32, 14336, 32768, 32768),
    "Mixtral-8x7B": _llama(
        4096, 32, 32, 14336, 32000, 32768, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2
    ),
    "Qwen2.5-7B": _qwen2(3584, 28, 28, 4, 18944),
    "Qwen2.5-14B": _qwen2(5120, 48, 40, 8, 13824),
    "Qwen2.5-32B": _qwen2(5120, 64, 40, 8, 27648),
    "Qwen2.5-72B": _qwen2(8192, 80, 64, 8, 29568),
    "Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, tied=True),
    "Qwen3-4B": _qwen3(2560, 36, 32, 9728, tied=True),
    "Qwen3-8B": _qwen3(4096, 36, 32, 12288),
    "Qwen3-14B": _qwen3(5120, 40, 40, 17408),
    "Qwen3-32B": _qwen3(5120, 64, 64, 25600),
    "Qwen3-30B-A3B": _qwen3_moe(2048, 48, 32, 768),
    "Qwen3-235B-A22B": _qwen3_moe(4096, 94, 64, 1536),
}


def config_of(name: str) -> tuple[str, Config]:
    """(the name as it is spelled, its configuration). Raises NotFound, naming the nearest."""
    folded = {_folded(known): known for known in KNOWN}
    wanted = _folded(name)
    if wanted in folded:
        return folded[wanted], KNOWN[folded[wanted]]
    near = sorted((one for one in folded if _likeness(one, wanted) > 0.4), key=lambda one: _distance(one, wanted))[:3]
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
    sizes = [float(match[1]) if (match := _SIZE.search(one)) else 1.0 for one in (name, wanted)]
    return -round(_likeness(name, wanted), 1), abs(math.log(max(sizes[0], 1e-3) / max(sizes[1], 1e-3)))


def _folded(name: str) -> str:
    plain = name.casefold().rpartition("/")[2].replace("_", "-").replace("meta-", "")
    for ending in ("-instruct", "-chat", "-it", "-base"):
        plain = plain.removesuffix(ending)
    return plain
