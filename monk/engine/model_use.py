"""Settings a model runs with, against what its file says: which are possible, which mean the same, which win.

llama.cpp aborts the process on an expert count it does not like, takes any rope setting without a word, and opens no
context when KV types and attention do not go together, so all are checked here, before a thought or a setting comes near
it. Arithmetic over plain values.

    job ──over──▶ house (monk.toml) ──over──▶ the model's file
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from monk.engine.client import ModelUse
from monk.engine.gguf_file import GgufFile
from monk.engine.layers import keys_hold_values
from monk.errors import InvalidInput

FlashAttention = Literal["auto", "on", "off"]
KvType = Literal["f32", "f16", "bf16", "q8_0"]
QUANTISED_KV: frozenset[str] = frozenset({"q8_0"})
QUANTISED_BLOCK = 32  # values that are stored together
RANGES: dict[str, tuple[float, float]] = {
    "experts": (1, 4096),
    "rope_freq_base": (1.0, 1e12),
    "rope_freq_scale": (1 / 1024, 16.0),
    "yarn_factor": (1.0, 1024.0),
    "yarn_original_context": (64, 1 << 24),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "kv_type_k": get_args(KvType),
    "kv_type_v": get_args(KvType),
    "flash_attention": ("on", "off"),
}


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What a model runs with when nobody says otherwise. The defaults are those of a dense model and of the house."""

    num_experts: int = 0
    experts: int = 0  # used for each token
    rope_freq_base: float = 10000.0
    is_scaled: bool = False  # the file brings a rope scaling of its own
    key_length: int = 128  # values of a head
    value_length: int = 128
    keys_hold_values: bool = False  # see layers.py
    kv_type_k: KvType | None = (
        "f16"  # from here on: the house's, which the file knows nothing of; None: not decided yet
    )
    kv_type_v: KvType | None = "f16"
    flash_attention: FlashAttention = "auto"  # not decided yet

    @classmethod
    def of(cls, file: GgufFile) -> OwnSettings:
        rope = f"{file.architecture}.rope"
        scaled = any(file.metadata.get(f"{rope}.{key}") for key in ("scaling.factor", "scaling.type", "scale_linear"))
        base = file.metadata.get(f"{rope}.freq_base", 10000.0)
        experts = file.num_experts, file.number("expert_used_count")
        return cls(*experts, float(base), scaled, file.key_length, file.value_length, keys_hold_values(file))


DENSE = OwnSettings()


def told(use: ModelUse) -> dict[str, Any]:
    """Those that are set, by name."""
    return {name: value for name, value in asdict(use).items() if value is not None}


def said(use: ModelUse | Mapping[str, Any]) -> str:
    """The same for people."""
    values = told(use) if isinstance(use, ModelUse) else use
    return ", ".join(
        f"{name} {value if isinstance(value, str) else format(value, 'g')}" for name, value in values.items()
    )


def attention(use: ModelUse) -> str | None:
    """What it says of flash attention, or what its values need; None: neither."""
    return use.flash_attention or ("on" if use.kv_type_v in QUANTISED_KV else None)


def check_ranges(use: ModelUse) -> None:
    """What can be said without the model's file. Raises InvalidInput with name, value and way out."""
    for name, value in told(use).items():
        if name in CHOICES:
            if value not in CHOICES[name]:
                known = ", ".join(CHOICES[name])
                raise InvalidInput(f"{name} is {value!r}; use one of {known}", param=f"model.{name}")
            continue
        low, high = RANGES[name]
        if not math.isfinite(value) or not low <= value <= high:
            raise InvalidInput(f"{name} is {value:g}; it must be from {low:g} to {high:g}", param=f"model.{name}")
    if use.yarn_factor is not None and use.rope_freq_scale is not None:
        raise InvalidInput(
            "yarn_factor and rope_freq_scale both stretch the positions; give one of them", param="model.yarn_factor"
        )
    if use.yarn_original_context is not None and use.yarn_factor is None:
        raise InvalidInput(
            "yarn_original_context says what yarn_factor stretches; give yarn_factor too",
            param="model.yarn_original_context",
        )


def check(use: ModelUse, own: OwnSettings) -> None:
    """Raises InvalidInput for what this model cannot run with."""
    check_ranges(use)
    _check_kv(use, own)
    if use.experts is None:
        return
    if not own.num_experts:
        raise InvalidInput(
            f"experts is {use.experts}, and this model has none: it is dense; leave experts out", param="model.experts"
        )
    if use.experts > own.num_experts:
        raise InvalidInput(
            f"experts is {use.experts}; this model has {own.num_experts} and uses {own.experts} by itself, so give 1 to "
            f"{own.num_experts}",
            param="model.experts",
        )


def _check_kv(use: ModelUse, own: OwnSettings) -> None:
    keys, values = use.kv_type_k or own.kv_type_k, use.kv_type_v or own.kv_type_v
    for name, kind, length in (("kv_type_k", keys, own.key_length), ("kv_type_v", values, own.value_length)):
        if kind in QUANTISED_KV and length % QUANTISED_BLOCK:
            raise InvalidInput(
                f"{name} is {kind}, which stores {QUANTISED_BLOCK} values together, and this model's heads have {length}; "
                "use f16",
                param=f"model.{name}",
            )
    if own.keys_hold_values and keys != values and None not in (keys, values):
        raise InvalidInput(
            f"kv_type_k is {keys} and kv_type_v {values}; this model keeps its values in its keys, so give the same for both",
            param="model.kv_type_k",
        )
    if use.flash_attention == "off" and values in QUANTISED_KV:
        raise InvalidInput(
            f"flash_attention is off, and values stored as {values} need it; set flash_attention to on, or kv_type_v to f16",
            param="model.flash_attention",
        )


def over(wanted: ModelUse, house: ModelUse) -> ModelUse:
    """`wanted`, and the house's where it says nothing. Ways to stretch positions exclude each other."""
    if wanted.yarn_factor is not None:
        house = replace(house, rope_freq_scale=None, yarn_factor=None, yarn_original_context=None)
    if wanted.rope_freq_scale is not None:
        house = replace(house, yarn_factor=None, yarn_original_context=None)
    return replace(house, **told(wanted))


def settled(wanted: ModelUse, house: ModelUse, own: OwnSettings) -> ModelUse:
    """What is set other than the file says: equal ways to run are equal values. Raises InvalidInput."""
    use = over(wanted, house)
    check(use, own)
    return plain(use, own)


def plain(use: ModelUse, own: OwnSettings) -> ModelUse:
    """Without what the file and the house say anyway; with the attention that the type of the values needs."""
    if use.experts == own.experts:
        use = replace(use, experts=None)
    if use.rope_freq_base == own.rope_freq_base:
        use = replace(use, rope_freq_base=None)
    if not own.is_scaled and use.rope_freq_scale == 1.0:
        use = replace(use, rope_freq_scale=None)
    flash = attention(use)
    return replace(
        use,
        kv_type_k=None if use.kv_type_k == own.kv_type_k else use.kv_type_k,
        kv_type_v=None if use.kv_type_v == own.kv_type_v else use.kv_type_v,
        flash_attention=None if flash == own.flash_attention else flash,
    )


def extra_expert_bytes(file: GgufFile, experts: int | None, rows: int) -> int:
    """What the activations of more experts than the file's own take in batches of so many rows together."""
    if experts is None:
        return 0
    more = max(0, experts - file.number("expert_used_count"))
    return 4 * rows * more * (2 * file.number("expert_feed_forward_length") + file.embedding_length)
