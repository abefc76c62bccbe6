"""All that shapes how a model reads a prompt: what was measured under other settings says nothing of these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from monk.engine.client import AS_ITS_FILE_SAYS, AdapterUse, ModelCard, ModelUse
from monk.engine.config import EngineConfig
from monk.engine.model_use import told
from monk.engine.tuning.record import fill, find


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's file, the types its KV is stored in, settings that its file does not have (see `model_use.py`), adapters.

    Host, build, threads and flash attention are not in it: they round otherwise, and read the same.
    """

    model_sha256: str
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    model: ModelUse = AS_ITS_FILE_SAYS
    adapters: tuple[tuple[str, float], ...] = field(default=())  # (SHA-256, scale) in order

    def key(self) -> dict[str, Any]:
        """JSON values, by which a record is found again."""
        return {
            "model_sha256": self.model_sha256,
            "kv_types": f"{self.kv_type_k},{self.kv_type_v}",
            "model": told(self.model),
            "adapters": [list(adapter) for adapter in self.adapters],
        }


def of_card(card: ModelCard, model: ModelUse, adapters: tuple[AdapterUse, ...] = ()) -> Reading:
    """Of the loaded model. `model`: only what differs from its file and the house (`model_use.plain`)."""
    settings = card.tuning.get("settings", {})

    def kv_type(name: str) -> str:
        return str(settings.get(name, {}).get("value", "f16"))

    worn = tuple(sorted((adapter.sha256, adapter.scale) for adapter in adapters))
    types = model.kv_type_k or kv_type("kv_type_k"), model.kv_type_v or kv_type("kv_type_v")
    shaped = replace(model, kv_type_k=None, kv_type_v=None, flash_attention=None)
    return Reading(card.sha256, *types, shaped, worn)


def of_config(config: EngineConfig, sha256: str, model: ModelUse) -> Reading:
    """Of the house's model before it is loaded, with what was measured for it filled in."""
    known = find(config, sha256)
    config = config if known is None else fill(config, known.values)
    return Reading(sha256, config.kv_type_k, config.kv_type_v, model)
