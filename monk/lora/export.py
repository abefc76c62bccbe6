"""Writes adapters of the shelf for other programs: one GGUF file for llama.cpp, or a folder that PEFT loads.

The folder is the way back of `peft_folder`: weights under the names of PyTorch's modules, rows of q and k in its order,
one pair for each expert. Where experts are changed, their rank is the folder's `r`: PEFT 0.19 and later fuse the experts'
factors for transformers 5 and take that rank for all of them; they also want gate_proj changed wherever up_proj is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monk.engine.gguf_file import GgufFile
from monk.lora import gguf_adapter
from monk.lora.adapter import Lora, Pair, check
from monk.lora.gguf_adapter import Kind, stored_as
from monk.lora.names import SAVED_PREFIX, module_names, restore_rows
from monk.lora.peft_folder import CONFIG, WEIGHTS
from monk.lora.whole import check_file, folder_at, sync


def write_gguf(lora: Lora, path: Path, kind: Kind = "f32", *, force: bool = False) -> None:
    """One file that llama.cpp loads, whole or not at all. Raises AdapterUnusable, Conflict, InvalidInput."""
    check_file(path, force=force)
    gguf_adapter.write(lora, path, kind)
    sync(path.parent)


def write_peft(lora: Lora, model: GgufFile, folder: Path, kind: Kind = "f32", *, force: bool = False) -> None:
    """A folder that PEFT loads onto this model in PyTorch. Raises AdapterUnusable, Conflict, InvalidInput, HomeUnusable."""
    from safetensors.numpy import save

    check(lora, model)
    pairs = by_module(lora, model)
    factors = {
        f"{module}.lora_{which}.weight": stored_as(kind, values, module)
        for module, pair in pairs.items()
        for which, values in (("A", pair.a), ("B", pair.b))
    }
    with folder_at(folder, frozenset({CONFIG, WEIGHTS}), force=force) as fresh:
        (fresh / WEIGHTS).write_bytes(save(factors, metadata={"format": "pt"}))
        (fresh / CONFIG).write_text(json.dumps(config(lora, pairs), indent=2) + "\n", encoding="utf-8")


def by_module(lora: Lora, model: GgufFile) -> dict[str, Pair]:
    """{PyTorch module as PEFT saves it: factors a [rank, in], b [out, rank]}; PEFT's alpha / rank makes them the same."""
    heads, kv_heads = model.num_heads, max(model.kv_heads, default=0)
    found: dict[str, Pair] = {}
    for name, pair in lora.pairs.items():
        modules = module_names(name, lora.architecture, model.num_layers, model.num_experts)
        b = pair.b if lora.alpha > 0 else pair.b * np.float32(lora.scale_of(pair) * pair.rank)
        if pair.a.ndim == 3:
            found |= {module: Pair(*both) for module, both in zip(modules, zip(pair.a, b, strict=True), strict=True)}
        else:
            found[modules[0]] = Pair(pair.a, restore_rows(name, b, lora.architecture, heads, kv_heads))
    return found


def config(lora: Lora, pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """What adapter_config.json says. The rank of most modules is `r`; the others are told one by one."""
    ranks = {module.removeprefix(SAVED_PREFIX): pair.rank for module, pair in pairs.items()}
    ((rank, _),) = Counter(ranks.values()).most_common(1)
    alpha = lora.alpha if lora.alpha > 0 else 1.0
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": lora.base_model or None,
        "r": rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(ranks),
        "rank_pattern": {module: own for module, own in sorted(ranks.items()) if own != rank},
        "alpha_pattern": {},
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
