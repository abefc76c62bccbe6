"""From the names and row orders of PyTorch models to those of GGUF and back, architecture by architecture. Pure.

Names come from the `gguf` package's own table; it has many for one weight, so the way back goes by what transformers
calls its modules, and is taken only if the table leads from there to the same weight. Rows of q and k are reordered where
the conversion of that architecture reorders them: Hugging Face keeps the two halves of a rotated pair apart, ggml's
"llama" rotation wants them side by side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import gguf

from monk.errors import AdapterUnusable
from monk.lora.adapter import Matrix

# families whose conversion keeps q and k as they are, and those where it reorders them
PLAIN = frozenset({"qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3", "olmo2", "command-r"})
REORDERED = frozenset({"llama", "granite", "granitemoe", "smollm3", "arcee"})
SAVED_PREFIX = "base_model.model."  # what PEFT puts before a module's own name when it saves
_PREFIXES = (SAVED_PREFIX, "base_model.")
_EXPERT = re.compile(r"^(?P<before>.*\.experts)\.(?P<number>\d{1,5})\.(?P<part>[a-z0-9_]+)$", re.ASCII)
_REORDERED_WEIGHTS = re.compile(r"blk\.\d+\.attn_(?P<which>[qk])\.weight")
_OF_LAYER = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>[a-z_]+)\.weight")

# modules of a layer by their weight's part of the GGUF name; {} is the number of the expert
_MODULES: Mapping[str, str] = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_OF_PHI3 = {"ffn_up": "mlp.gate_up_proj"}
_OF_GRANITEMOE = {"ffn_gate_inp": "block_sparse_moe.router.layer"}
_OF_MIXTRAL = {
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
    "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
    "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
}
_STACKED = "_exps"


@lru_cache(maxsize=8)
def _table(architecture: str, num_layers: int) -> Any:  # Any: the package ships no types for it
    known = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in known or architecture not in PLAIN | REORDERED:
        told = ", ".join(sorted(PLAIN | REORDERED))
        raise AdapterUnusable(
            f"adapters of architecture {architecture} cannot be converted; known are {told}. A GGUF adapter made by "
            "llama.cpp's own script can be used as it is",
            architecture=architecture,
        )
    return gguf.get_tensor_name_map(known[architecture], num_layers)


def weight_name(module: str, architecture: str, num_layers: int) -> tuple[str, int | None]:
    """(GGUF name of the weight of a PyTorch module, number of the expert or None).

    `module` is as PEFT saves it: base_model.model.model.layers.0.self_attn.q_proj. Raises AdapterUnusable.
    """
    plain, found, expert = _looked_up(module, architecture, num_layers)
    if found is None:
        raise AdapterUnusable(
            f"the adapter changes the module {plain[:200]!r}, which architecture {architecture} has no weight for",
            module=plain[:200],
        )
    return found, expert


def _looked_up(module: str, architecture: str, num_layers: int) -> tuple[str, str | None, int | None]:
    """(the module without what PEFT puts before it, its weight's GGUF name if there is one, number of the expert)."""
    plain = module
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    plain = plain.replace("model.language_model.", "model.").replace("language_model.model.", "model.")
    expert = _EXPERT.match(plain)
    name = f"{expert['before']}.{expert['part']}" if expert else plain
    found = _table(architecture, num_layers).get_name(f"{name}.weight", try_suffixes=(".weight",))
    return plain, found, int(expert["number"]) if expert else None


def module_names(name: str, architecture: str, num_layers: int, num_experts: int) -> list[str]:
    """The PyTorch modules of a GGUF weight, as PEFT saves them: one, or one for each expert, in order.

    The inverse of `weight_name`. Raises AdapterUnusable where transformers has no such linear layer.
    """
    path = _module_path(name, architecture, num_experts)
    if path is None:
        raise _no_module(name, architecture)
    experts: Sequence[int | None] = range(num_experts) if "{}" in path else (None,)
    modules = [SAVED_PREFIX + path.format(expert) for expert in experts]
    for module, expert in zip(modules, experts, strict=True):
        if _looked_up(module, architecture, num_layers)[1:] != (name, expert):
            raise _no_module(name, architecture)
    return modules


def _module_path(name: str, architecture: str, num_experts: int) -> str | None:
    """With {} for the number of the expert; None if there is none."""
    if name == "output.weight":
        return "lm_head"
    match = _OF_LAYER.fullmatch(name)
    if match is None or (architecture == "granitemoe" and match["part"].endswith(_STACKED)):
        return None  # Granite keeps the experts of a layer as one parameter
    path = _modules_of(architecture, num_experts).get(match["part"])
    return None if path is None else f"model.layers.{match['layer']}.{path}"


def _modules_of(architecture: str, num_experts: int) -> Mapping[str, str]:
    if architecture == "llama" and num_experts:
        return {**_MODULES, **_OF_MIXTRAL}
    return {**_MODULES, **{"phi3": _OF_PHI3, "granitemoe": _OF_GRANITEMOE}.get(architecture, {})}


def _no_module(name: str, architecture: str) -> AdapterUnusable:
    return AdapterUnusable(
        f"the adapter changes {name[:200]}, which is no linear layer of architecture {architecture} in PyTorch; "
        "export it as gguf",
        tensor=name[:200],
    )


def reorder_rows(name: str, b: Matrix, architecture: str, num_heads: int, num_kv_heads: int) -> Matrix:
    """B [out, rank] with its rows in ggml's order; as it is where nothing is reordered."""
    heads = _reordered_heads(name, b, architecture, num_heads, num_kv_heads)
    out, rank = b.shape
    return b.reshape(heads, 2, out // heads // 2, rank).swapaxes(1, 2).reshape(out, rank) if heads else b


def restore_rows(name: str, b: Matrix, architecture: str, num_heads: int, num_kv_heads: int) -> Matrix:
    """B [out, rank] with its rows in PyTorch's order: the inverse of `reorder_rows`."""
    heads = _reordered_heads(name, b, architecture, num_heads, num_kv_heads)
    out, rank = b.shape
    return b.reshape(heads, out // heads // 2, 2, rank).swapaxes(1, 2).reshape(out, rank) if heads else b


def _reordered_heads(name: str, b: Matrix, architecture: str, num_heads: int, num_kv_heads: int) -> int:
    """How many heads share the rows of B; 0 where nothing is reordered."""
    match = _REORDERED_WEIGHTS.fullmatch(name)
    if architecture not in REORDERED or match is None:
        return 0
    heads = num_heads if match["which"] == "q" else num_kv_heads
    if heads < 1 or b.shape[0] % (2 * heads):
        raise AdapterUnusable(f"{name} has {b.shape[0]} rows, which {heads} heads cannot share", tensor=name)
    return heads
