"""What of the measurements is in force, and where each setting is from. Pure."""

from __future__ import annotations

from typing import Any

from monk.engine.config import EngineConfig
from monk.engine.memory import Plan
from monk.engine.tuning.record import Record, gaps

FIXED_BY = {"most_slots": "slots", "most_ubatch": "ubatch"}
SENSIBLE = {"cell_ratio": (0.1, 2.0), "copy_bytes_per_second": (1e7, 1e12)}  # beyond, somebody else was measured


def in_force(config: EngineConfig, plan: Plan, record: Record | None) -> dict[str, Any]:
    """For `/status`: {"settings": {name: {"value", "from"}}, "measured_at", "by_itself", "gain"}.

    `config` as the owner gave it, `plan` made with the gaps filled. From: "set" by the owner, "tuned", or "default".
    """
    filled = {} if record is None else gaps(config, record.values)
    values = {
        "flash_attention": "on" if plan.flash_attention else "off",
        "threads": plan.threads,
        "threads_batch": plan.threads_batch,
        "threads_single": config.threads_single or filled.get("threads_single", plan.threads),
        "slots": plan.slots,
        "ubatch": plan.ubatch,
        "kv_type_k": filled.get("kv_type_k", config.kv_type_k),
        "kv_type_v": filled.get("kv_type_v", config.kv_type_v),
    }
    defaults = EngineConfig(config.model_path)
    tuned_names = {FIXED_BY.get(name, name) for name in filled}

    def source(name: str) -> str:
        if name in tuned_names:
            return "tuned"
        return "default" if getattr(config, name) == getattr(defaults, name) else "set"

    told: dict[str, Any] = {
        "settings": {name: {"value": value, "from": source(name)} for name, value in values.items()}
    }
    if record is not None:
        told |= {"measured_at": record.measured_at, "by_itself": record.by_itself, "gain": record.gain}
    return told


def prices(record: Record | None) -> dict[str, float]:
    """Of sharing, for `RunnerConfig`, where they were measured and can be true."""
    facts = {} if record is None else record.facts
    found = {}
    for name, (low, high) in SENSIBLE.items():
        value = facts.get(name)
        if isinstance(value, int | float) and low <= value <= high:
            found[name] = float(value)
    return found
