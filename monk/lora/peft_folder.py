"""Reads the folder that PEFT saves, adapter_config.json and adapter_model.safetensors, as a Lora in llama.cpp's terms.

Only safetensors: a pickle runs code when it is opened. What llama.cpp's formula cannot express is refused by its name rather
than left out. The reader of safetensors is the format's own, which checks every length; sizes are bounded before.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monk.engine.gguf_file import GgufFile
from monk.errors import AdapterUnusable
from monk.lora.adapter import Lora, Matrix, Pair, check_size, printable
from monk.lora.names import reorder_rows, weight_name

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_CONFIG_BYTES = 4 << 20
MEMORY_FACTOR = 4  # of the file, at most: its bytes, their copy by tensor, and F16 widened to F32
MAX_PATTERN, MAX_REPEATS = 300, 3  # of a pattern of the configuration
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight$")
_COPY = ".base_layer.weight"
_FUSED_MODULE = re.compile(r"^(?P<experts>.*\.experts)(?:\.base_layer)*$")  # PEFT wraps one parameter around the other
FUSED = ("gate_up_proj", "down_proj")  # parameters in which transformers keeps all experts of a layer
_TYPES = ("F32", "F16", "BF16")

# what would change the result and cannot be said in A, B and alpha
_INEXPRESSIBLE = {
    "use_dora": "DoRA scales whole columns",
    "modules_to_save": "whole modules are replaced (modules_to_save)",
    "lora_bias": "it trains biases (lora_bias)",
    "fan_in_fan_out": "its weights are transposed (fan_in_fan_out)",
    "use_qalora": "QALoRA groups its inputs",
    "use_bdlora": "its factors are block-diagonal (use_bdlora)",
    "layer_replication": "it repeats layers (layer_replication)",
    "trainable_token_indices": "it trains new token embeddings (trainable_token_indices)",
    "alora_invocation_tokens": "it begins at a token (aLoRA)",
    "megatron_config": "its layers are Megatron's",
    "arrow_config": "it mixes several adapters (Arrow)",
    "kasa_config": "KaSA changes the base weights",
    "monteclora_config": "it samples its weights (MonteCLoRA)",
    "velora_config": "VeLoRA compresses activations",
}
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that rewrite the base weights


def read(folder: Path, model: GgufFile) -> Lora:
    """The adapter in llama.cpp's terms for this model. Raises AdapterUnusable with what is wrong and the way out."""
    config = _config(folder)
    _refuse_inexpressible(config)
    alpha = _number(config, "lora_alpha")
    _number(config, "r")  # what counts is the shape, but PEFT would not load it
    factors = _factors(folder, model)
    return Lora(
        architecture=model.architecture,
        alpha=alpha,
        pairs=_pairs(factors, model, lambda module, rank: _factor_of(config, module, rank, alpha)),
        source=folder.name,
        base_model=printable(config.get("base_model_name_or_path") or ""),
    )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        if (size := _size_of(path)) > MAX_CONFIG_BYTES:
            raise AdapterUnusable(f"{path} has {size} bytes; that is no adapter's configuration")
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise AdapterUnusable(f"{folder} has no {CONFIG}; give the folder that PEFT saved") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise AdapterUnusable(f"{path} cannot be read: {printable(exc)}") from exc
    if not isinstance(config, dict):
        raise AdapterUnusable(f"{path} is no object; give the folder that PEFT saved")
    return config


def _size_of(path: Path) -> int:
    """Of a file, also behind a link, as hubs keep them; a pipe or a device has no end. Raises OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise AdapterUnusable(f"{path} is no file; give the folder that PEFT saved")
    return status.st_size


def _refuse_inexpressible(config: Mapping[str, Any]) -> None:
    bare = config.get("target_parameters") or []
    if not isinstance(bare, list) or any(str(name).rpartition(".")[2] not in FUSED for name in bare):
        raise AdapterUnusable(
            f"the adapter cannot be expressed in GGUF: it changes bare parameters (target_parameters: {bare!r:.200}), of which "
            f"only those of experts can be converted ({', '.join(FUSED)}); merge it into the model",
            param="target_parameters",
        )
    if (kind := str(config.get("peft_type", "LORA")).upper()) != "LORA":
        raise AdapterUnusable(f"the adapter is of PEFT type {kind[:80]}; only LORA can be converted")
    for key, why in _INEXPRESSIBLE.items():
        if config.get(key):
            raise AdapterUnusable(f"the adapter cannot be expressed in GGUF: {why}; merge it with PEFT", param=key)
    if (bias := config.get("bias", "none")) != "none":
        raise AdapterUnusable(f"the adapter trains biases (bias: {bias}); merge it with PEFT", param="bias")
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(_CHANGES_THE_BASE):
        raise AdapterUnusable(
            f"the adapter was begun with {start}, which changed the base model; save it with "
            "path_initial_model_for_weight_conversion, or merge it with PEFT",
            param="init_lora_weights",
        )


def _number(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise AdapterUnusable(f"{CONFIG} says {key} is {repr(value)[:80]}; it must be a number above 0", param=key)
    return float(value)


# --- weights


def _factors(folder: Path, model: GgufFile) -> dict[str, dict[str, Matrix]]:
    """{module: {"A": [rank, in], "B": [out, rank]}} as saved."""
    found: dict[str, dict[str, Matrix]] = {}
    for name, stored in _stored(folder / WEIGHTS):
        if name.endswith(_COPY):
            _check_copy(name, stored["shape"], model)
            continue
        match = _FACTOR.match(name)
        if match is None:
            raise AdapterUnusable(
                f"the adapter holds {name[:200]!r}, which is neither lora_A nor lora_B of a linear layer"
            )
        both = found.setdefault(match["module"], {})
        if match["factor"] in both:
            raise AdapterUnusable(f"the adapter holds {name[:200]!r} twice")
        both[match["factor"]] = _matrix(name, stored)
    for module, factors in found.items():
        if len(factors) != 2:
            raise AdapterUnusable(f"the adapter has only one of lora_A and lora_B for {module[:200]!r}")
    return found


def _check_copy(name: str, shape: list[int], model: GgufFile) -> None:
    """PEFT saves the frozen embedding or output layer along with an adapter on it; one of another size is a new one."""
    weight, _ = weight_name(name.removesuffix(_COPY), model.architecture, model.num_layers)
    known = {tensor.name: list(tensor.shape[::-1]) for tensor in model.tensors}
    if known.get(weight) != shape:
        raise AdapterUnusable(
            f"the adapter brings its own {weight} of shape {shape}, the model has {known.get(weight)}: new embeddings "
            "cannot be expressed in GGUF; merge it with PEFT",
            tensor=weight,
        )


def _stored(path: Path) -> list[tuple[str, dict[str, Any]]]:
    from safetensors import SafetensorError, deserialize

    try:
        size = _size_of(path)
        check_size(path, size, MEMORY_FACTOR * size)
        return list(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    except FileNotFoundError as exc:
        raise AdapterUnusable(f"{path.parent} has no {WEIGHTS}{_instead(path.parent)}") from exc
    except (OSError, SafetensorError) as exc:
        raise AdapterUnusable(f"{path} cannot be read: {printable(exc)}") from exc


def _instead(folder: Path) -> str:
    pickles = [name for name in ("adapter_model.bin", "adapter_model.pt") if (folder / name).exists()]
    if pickles:
        return f"; {pickles[0]} is a pickle, which runs code when opened: save it again with safe_serialization=True"
    return "; give the folder that PEFT saved"


def _matrix(name: str, stored: Mapping[str, Any]) -> Matrix:
    kind, shape = stored["dtype"], stored["shape"]
    if kind not in _TYPES or len(shape) != 2:
        raise AdapterUnusable(
            f"{name[:200]!r} is {kind} of shape {shape}; an adapter's factors are matrices of F32, F16 or BF16"
        )
    return _as_f32(stored["data"], kind).reshape(shape)


def _as_f32(data: bytes, kind: str) -> Matrix:
    if kind == "BF16":  # the upper half of an f32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view(np.float32)
    return np.frombuffer(data, np.float32 if kind == "F32" else np.float16).astype(np.float32)


def _pairs(
    factors: Mapping[str, dict[str, Matrix]], model: GgufFile, factor: Callable[[str, int], float]
) -> dict[str, Pair]:
    """By GGUF name, the experts of one weight stacked. `factor`: what B of a module of that rank is multiplied with."""
    plain: dict[str, Pair] = {}
    experts: dict[str, dict[int, Pair]] = {}
    heads, kv_heads = model.num_heads, max(model.kv_heads, default=0)
    for module, both in factors.items():
        if (fused := _FUSED_MODULE.match(module)) is not None:
            of_all = _of_all_experts(fused["experts"], module, both, model, factor)
            if twice := of_all.keys() & plain.keys():
                raise AdapterUnusable(f"the adapter changes {min(twice)} twice, the second time as {module[:200]!r}")
            plain |= of_all
            continue
        name, expert = weight_name(module, model.architecture, model.num_layers)
        b = _rescaled(both["B"], factor(module, len(both["A"])))
        pair = Pair(both["A"], reorder_rows(name, b, model.architecture, heads, kv_heads))
        if name in plain or (name in experts if expert is None else expert in experts.get(name, ())):
            raise AdapterUnusable(f"the adapter changes {name} twice, the second time as {module[:200]!r}", tensor=name)
        if expert is None:
            plain[name] = pair
        else:
            experts.setdefault(name, {})[expert] = pair
    return plain | {name: _stacked(name, rows, model.num_experts) for name, rows in experts.items()}


def _of_all_experts(
    experts: str, module: str, both: Mapping[str, Matrix], model: GgufFile, factor: Callable[[str, int], float]
) -> dict[str, Pair]:
    """The pairs of a parameter that holds all experts: A [experts * rank, in], B [out, rank * experts], expert last.

    Which parameter it is, only the shapes tell. Rows of gate_up_proj are those of gate, then those of up.
    """
    count = max(1, model.num_experts)
    if both["A"].shape[0] % count or both["B"].shape[1] != both["A"].shape[0]:
        raise AdapterUnusable(
            f"the factors of {module} are {both['A'].shape} and {both['B'].shape}, which {count} experts cannot share; "
            "it was trained on another model",
            tensor=module,
        )
    a = both["A"].reshape(count, -1, both["A"].shape[1])
    scaled = _rescaled(both["B"], factor(module, a.shape[1]))
    b = scaled.reshape(scaled.shape[0], -1, count).transpose(2, 0, 1)
    shapes = {tensor.name: tensor.shape[::-1] for tensor in model.tensors}
    names = {
        part: weight_name(f"{experts}.0.{part}", model.architecture, model.num_layers)[0]
        for part in ("gate_proj", "up_proj", "down_proj")
    }
    if (count, b.shape[1], a.shape[2]) == shapes.get(names["down_proj"]):
        return {names["down_proj"]: Pair(a, np.ascontiguousarray(b))}
    gate, up = np.split(b, 2, axis=1) if b.shape[1] % 2 == 0 else (b, b)
    return {
        names["gate_proj"]: Pair(a, np.ascontiguousarray(gate)),
        names["up_proj"]: Pair(a, np.ascontiguousarray(up)),
    }


def _stacked(name: str, rows: Mapping[int, Pair], num_experts: int) -> Pair:
    missing = [number for number in range(num_experts) if number not in rows]
    if missing or len(rows) != num_experts:
        raise AdapterUnusable(
            f"the adapter changes {len(rows)} experts of {name}, the model has {num_experts}: all or none can be changed",
            tensor=name,
        )
    pairs = [rows[number] for number in range(num_experts)]
    if len({pair.a.shape for pair in pairs}) > 1 or len({pair.b.shape for pair in pairs}) > 1:
        raise AdapterUnusable(f"the experts of {name} have factors of different shapes; one rank is needed for all")
    return Pair(np.stack([pair.a for pair in pairs]), np.stack([pair.b for pair in pairs]))


# --- scale


def _factor_of(config: Mapping[str, Any], module: str, rank: int, alpha: float) -> float:
    """What B must be multiplied with so that alpha / rank, llama.cpp's scale, becomes PEFT's.

    PEFT scales by alpha_m / rank_m, and with rslora by alpha_m / sqrt(rank_m) (Kalajdzievski 2023, arXiv:2312.03732).
    """
    own_alpha = _by_pattern(config.get("alpha_pattern"), module, alpha)
    factor = own_alpha / alpha
    return factor * math.sqrt(rank) if config.get("use_rslora") else factor


def _by_pattern(patterns: Any, module: str, default: float) -> float:
    """PEFT's own rule: the first key that is the module's name or its end, as a regular expression."""
    if patterns is None:
        return default
    if not isinstance(patterns, dict):
        raise AdapterUnusable(f"{CONFIG} says alpha_pattern is {str(patterns)[:200]!r}; it must be an object")
    for key in patterns:
        if _fits(key, module):
            return _number(patterns, key)
    return default


def _fits(pattern: str, module: str) -> bool:
    """Whether it matches. What could be tried for hours is refused: repeated groups, and many repeats in a row."""
    repeats = sum(pattern.count(sign) for sign in "*+{")
    if len(pattern) > MAX_PATTERN or repeats > MAX_REPEATS or _REPEATED_GROUP.search(pattern):
        raise AdapterUnusable(f"{CONFIG} has a pattern that could take hours: {pattern[:200]!r}; write it simpler")
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except (re.error, OverflowError, RecursionError) as exc:
        raise AdapterUnusable(f"{CONFIG} has a pattern that is no regular expression: {pattern[:200]!r}") from exc


def _rescaled(b: Matrix, factor: float) -> Matrix:
    if factor == 1.0:
        return b
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number any more is found by `check`
        return b * np.float32(factor)
