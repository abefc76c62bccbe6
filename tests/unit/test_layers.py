"""What layers remember, from metadata alone: of architectures that mix layers with all, with a window and with a state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import kv_bytes_per_token
from monk.engine.layers import has_uncuttable_memory, layers_of, state_bytes


def model(architecture: str, layers: int, **told: Any) -> GgufFile:
    """`told` with two underscores for a dot."""
    values = {
        "block_count": layers,
        "embedding_length": 2048,
        "attention.head_count": 16,
        "attention.head_count_kv": 2,
        "attention.key_length": 64,
        "attention.value_length": 64,
    } | {key.replace("__", "."): value for key, value in told.items()}
    metadata = {"general.architecture": architecture} | {
        f"{architecture}.{key}": value for key, value in values.items()
    }
    return GgufFile(Path("none.gguf"), (Path("none.gguf"),), metadata, ())


def windows(file: GgufFile) -> list[int]:
    return [layer.window for layer in layers_of(file)]


def with_kv(file: GgufFile) -> list[int]:
    return [at for at, layer in enumerate(layers_of(file)) if layer.keys]


def test_every_second_layer_of_gpt_oss_has_its_window() -> None:
    file = model("gpt-oss", 4, attention__sliding_window=128)

    assert windows(file) == [128, 0, 128, 0]
    assert has_uncuttable_memory(file)


@pytest.mark.parametrize(
    ("architecture", "told", "expected"),
    [
        ("gemma3", {}, [9] * 5 + [0, 9, 9]),
        ("gemma3", {"attention__sliding_window_pattern": 2}, [9, 0] * 4),
        (
            "gemma3",
            {"attention__sliding_window_pattern": [True, True, False] * 2 + [True, False]},
            [9, 9, 0] * 2 + [9, 0],
        ),
        ("smallthinker", {}, [0, 9, 9, 9] * 2),
        ("gemma4", {"attention__sliding_window_pattern": [True] * 7 + [False]}, [9] * 7 + [0]),
        ("phi3", {}, [0] * 8),  # llama.cpp looks at everything there, whatever the file says
        ("llama", {}, [0] * 8),
    ],
)
def test_which_layers_have_a_window(architecture: str, told: dict[str, Any], expected: list[int]) -> None:
    assert windows(model(architecture, 8, attention__sliding_window=9, **told)) == expected


def test_a_window_that_the_file_does_not_name() -> None:
    assert windows(model("gemma2", 4)) == [4096, 0, 4096, 0]
    assert windows(model("llama4", 4)) == [8192, 8192, 8192, 0]
    assert windows(model("llama4", 4, attention__sliding_window=0)) == [0] * 4


STATE = {"ssm__conv_kernel": 4, "ssm__inner_size": 4096, "ssm__state_size": 128, "ssm__group_count": 16}


def test_three_of_four_layers_of_qwen3_next_keep_a_state_and_no_kv() -> None:
    file = model("qwen3next", 48, **STATE, full_attention_interval=4)

    assert with_kv(file) == list(range(3, 48, 4))
    assert kv_bytes_per_token(file, EngineConfig(file.path)) == 12 * 2 * 2 * 64 * 2
    # published: 2 MiB of recurrence, and a convolution over q, k and v of 8192 channels
    assert state_bytes(file) == 36 * 4 * (128 * 4096 + 3 * 8192)
    assert has_uncuttable_memory(file)


def test_layers_without_heads_of_kv_keep_a_state() -> None:
    file = model("jamba", 4, **STATE, attention__head_count_kv=[0, 0, 2, 0])

    assert with_kv(file) == [2]
    assert [layer.has_state for layer in layers_of(file)] == [True, True, False, True]


def test_layers_that_have_both() -> None:
    file = model("falcon-h1", 3, **STATE)

    assert with_kv(file) == [0, 1, 2]
    assert all(layer.has_state for layer in layers_of(file))


def test_layers_that_only_feed_forward_keep_nothing() -> None:
    file = model("nemotron_h", 3, **STATE, attention__head_count_kv=[0, 2, 0], feed_forward_length=[0, 0, 4096])

    assert [(layer.has_state, layer.keys > 0) for layer in layers_of(file)] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_of_latent_attention_only_keys_are_kept() -> None:
    file = model(
        "deepseek2",
        61,
        attention__head_count=128,
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
        attention__value_length_mla=128,
    )

    assert kv_bytes_per_token(file, EngineConfig(file.path)) == 61 * 576 * 2, "published for DeepSeek-V3: 70 KB"
    assert not has_uncuttable_memory(file)


def test_layers_that_only_guess_ahead_have_no_memory() -> None:
    assert len(layers_of(model("glm4moe", 47, nextn_predict_layers=1))) == 46


def test_layers_that_use_the_keys_of_others_keep_none() -> None:
    told = {"attention__sliding_window": 9, "attention__sliding_window_pattern": [True, True, False] * 2}
    file = model("gemma4", 6, attention__shared_kv_layers=2, **told)

    assert with_kv(file) == [0, 1, 2, 3]
    assert with_kv(model("gemma3n", 30, attention__sliding_window=9)) == list(range(20))
    assert all(layer.attends for layer in layers_of(file))


def test_without_flash_attention_values_of_all_layers_take_as_much_as_the_longest() -> None:
    told = {"attention__sliding_window": 9, "attention__key_length_swa": 32, "attention__value_length_swa": 32}
    file = model("gemma3", 6, **told)

    off = kv_bytes_per_token(file, EngineConfig(file.path, flash_attention="off"))
    on = kv_bytes_per_token(file, EngineConfig(file.path, flash_attention="on"))
    assert off == 2 * 2 * (5 * 32 + 64 + 6 * 64)
    assert on == 2 * 2 * (5 * 32 + 64 + 5 * 32 + 64)


def test_a_plain_model_keeps_all_of_all_layers() -> None:
    file = model("llama", 30)

    assert with_kv(file) == list(range(30)) and not has_uncuttable_memory(file) and state_bytes(file) == 0
