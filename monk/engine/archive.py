"""Where blocks of KV are kept for this model, and what of the model and its settings is in their names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.kv_store import KvStore, model_key
from monk.engine.memory import Plan


@dataclass(slots=True)
class Archive:
    """The store, and what names this model's blocks in it. `wave`: the adapters worn at present and the settings the model
    runs with where its file says otherwise (experts, rope), changed by the loop."""

    store: KvStore
    model_key: bytes
    block_tokens: int
    wave: str = ""

    @property
    def key(self) -> bytes:
        """Begins the chain of names: another one for every wave."""
        return model_key({"model": self.model_key.hex(), "adapters": self.wave}) if self.wave else self.model_key


def open_archive(file: GgufFile, config: EngineConfig, plan: Plan, sha256: str) -> Archive | None:
    """None when it is switched off or long prompts are computed where they cannot be cut."""
    if config.kv_folder is None or not config.kv_limit_bytes or not plan.keeps_prompts:
        return None
    store = KvStore(config.kv_folder, config.kv_limit_bytes)
    return Archive(store, model_key(facts(file, config, plan, sha256)), config.kv_block_tokens)


def facts(file: GgufFile, config: EngineConfig, plan: Plan, sha256: str) -> dict[str, object]:
    """All that shapes KV: llama.cpp takes blocks of another rope base, adapter or quantisation without a word."""
    return {
        "model_sha256": sha256,
        "llama_cpp": version("llama-cpp-python"),
        "architecture": file.architecture,
        "layers": file.num_layers,
        "type_k": config.kv_type_k,
        "type_v": config.kv_type_v,
        "flash_attention": plan.flash_attention,
        "swa_full": plan.swa_full,
        "rope": "model",  # base, scale and YaRN as the file has them: what is set otherwise is in the wave
        "rotation_disabled": os.environ.get("LLAMA_ATTN_ROT_DISABLE", ""),  # q8_0 KV is stored rotated
        "block_tokens": config.kv_block_tokens,
    }
