"""From the names and row orders of PyTorch models to those of GGUF, architecture by architecture. Pure.

Names come from the `gguf` package's own table. Rows of q and k are reordered where the conversion of that architecture
reorders them: Hugging Face keeps the two halves of a rotated pair apart, ggml's "llama" rotation wants them side by side.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import gguf

from monk.errors import AdapterUnusable
from monk.lora.adapter import Matrix

# families whose conversion keeps q and k as they are, and those where it reorders them
PLAIN = frozenset({"qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3", "olmo2", "command-r"})
REORDERED = frozenset({"llama", "granite", "granitemoe", "smollm3", "arcee"})
_EXPERT = re.compile(r"^(?P<before>.*\.experts)\.(?P<number>\d+)\.(?P<part>[a-z0-9_]+)$")
_PREFIXES = ("base_model.model.", "base_model.")
_REORDERED_WEIGHTS = re.compile(r"blk\.\d+\.attn_(?P<which>[qk])\.weight")


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
    plain = module
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    plain = plain.replace("model.language_model.", "model.").replace("language_model.model.", "model.")
    expert = _EXPERT.match(plain)
    looked_up = f"{expert['before']}.{expert['part']}" if expert else plain
    found = _table(architecture, num_layers).get_name(f"{looked_up}.weight", try_suffixes=(".weight",))
    if found is None:
        raise AdapterUnusable(
            f"the adapter changes the module {plain}, which architecture {architecture} has no weight for", module=plain
        )
    return str(found), int(expert["number"]) if expert else None


def reorder_rows(name: str, b: Matrix, architecture: str, num_heads: int, num_kv_heads: int) -> Matrix:
    """B [out, rank] with its rows in ggml's order; as it is where nothing is reordered."""
    match = _REORDERED_WEIGHTS.fullmatch(name)
    if architecture not in REORDERED or match is None:
        return b
    heads = num_heads if match["which"] == "q" else num_kv_heads
    out, rank = b.shape
    if heads < 1 or out % (2 * heads):
        raise AdapterUnusable(f"{name} has {out} rows, which {heads} heads cannot share", tensor=name)
    return b.reshape(heads, 2, out // heads // 2, rank).swapaxes(1, 2).reshape(out, rank)
