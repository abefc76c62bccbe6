"""The plan is right: real models in fresh processes, every lane opened, its KV filled to the end, weighed by the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monk.engine import embedded
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from tests.engine_models import write_tiny_model
from tests.filled_lanes import weigh

pytestmark = pytest.mark.real
MOST_ERROR = 0.05

TINY: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen3moe": {"experts": 8},
    "gemma3": {"window": 256, "layers": 12},
    "gpt-oss": {"experts": 8, "window": 256},
    "qwen35": {"layers": 8},
    "deepseek2": {"experts": 8},
}


@pytest.mark.parametrize(
    ("context", "slots", "values"),
    [
        (2048, 2, {"ubatch": 32}),
        (16384, 1, {"model_use": ModelUse(yarn_factor=2.0, yarn_original_context=8192), "ubatch": 16}),
    ],
)
def test_the_embedded_model_takes_what_the_plan_says(
    tmp_path: Path, context: int, slots: int, values: dict[str, Any]
) -> None:
    config = EngineConfig(embedded.model_path(), context=context, slots=slots, threads=1, kv_folder=tmp_path, **values)

    weighing = weigh(config)

    assert abs(weighing.error) <= MOST_ERROR, weighing


@pytest.mark.parametrize("architecture", TINY)
def test_other_architectures_take_what_the_plan_says(tmp_path: Path, architecture: str) -> None:
    shape = {
        "layers": 6,
        "width": 512,
        "heads": 4,
        "kv_heads": 4,
        "head_size": 64,
        "context": 8192,
    }
    path = write_tiny_model(tmp_path / "model.gguf", architecture, **(shape | TINY[architecture]))

    weighing = weigh(EngineConfig(path, context=1024, slots=4, threads=1, ubatch=128, kv_folder=tmp_path))

    assert abs(weighing.error) <= MOST_ERROR, weighing
