"""Engine settings are checked where they are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from monk.engine.config import EngineConfig
from monk.errors import SettingsInvalid


@pytest.mark.parametrize(
    ("values", "param", "reason"),
    [
        ({"kv_type_v": "q8_0", "flash_attention": "off"}, "kv_type_v", "needs flash attention"),
        ({"kv_type_k": "q3"}, "kv_type_k", "use one of f32, f16"),
        ({"flash_attention": "maybe"}, "flash_attention", "use one of auto"),
        ({"numa": "yes"}, "numa", "use one of off"),
        ({"slots": 257}, "slots", "from 0 to 256"),
        ({"context": 5}, "context", "at least 64"),
        ({"ubatch": 3}, "ubatch", "at least 16"),
        ({"mlock": True, "mmap": False}, "mlock", "switch mmap on"),
        ({"model_sha256": "abc"}, "model_sha256", "64 hexadecimal digits"),
        ({"decode_share": 1.0}, "decode_share", "from 0.0 to 0.9"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(values: dict[str, object], param: str, reason: str) -> None:
    with pytest.raises(SettingsInvalid, match=reason) as caught:
        EngineConfig(Path("m.gguf"), **values)  # type: ignore[arg-type]
    assert caught.value.param == param


def test_settings_cross_to_the_child_and_back() -> None:
    config = EngineConfig(Path("m.gguf"), hash_cache=Path("h.json"), context=512, kv_type_k="q8_0")

    assert EngineConfig.from_json(config.to_json()) == config


def test_a_child_of_another_version_is_noticed() -> None:
    with pytest.raises(SettingsInvalid, match="unknown engine settings: warp"):
        EngineConfig.from_json({"model_path": "m.gguf", "warp": 9})
