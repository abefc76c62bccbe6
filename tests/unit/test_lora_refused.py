"""Broken, hostile and unfit adapters end in one clear error before llama.cpp sees them."""

from __future__ import annotations

import json
import os
import pickle
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from monk.engine import gguf_file
from monk.engine.gguf_file import GgufFile
from monk.errors import AdapterUnusable
from monk.lora import gguf_adapter, peft_folder
from monk.lora.adapter import check
from monk.lora.shelf import Shelf
from tests.engine_models import write_tiny_model
from tests.lora_hostile import FILES, FOLDERS, SECRET, Maker, exploded, folder_of, right
from tests.lora_hostile import factors as hostile_factors

Q = "base_model.model.model.layers.0.self_attn.q_proj"  # 128 x 64 in the tiny model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    return gguf_file.read(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf"))


def factors(a: tuple[int, ...] = (4, 64), b: tuple[int, ...] = (128, 4), module: str = Q) -> dict[str, Any]:
    return {f"{module}.lora_A.weight": np.ones(a, np.float32), f"{module}.lora_B.weight": np.ones(b, np.float32)}


def peft(folder: Path, weights: dict[str, Any] | None = None, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    save_file(factors() if weights is None else weights, folder / "adapter_model.safetensors")
    return folder


def refusal(folder: Path, model: GgufFile) -> str:
    with pytest.raises(AdapterUnusable) as caught:
        check(peft_folder.read(folder, model), model)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_good_one_is_taken(tmp_path: Path, model: GgufFile) -> None:
    lora = peft_folder.read(peft(tmp_path / "good"), model)

    check(lora, model)
    assert list(lora.pairs) == ["blk.0.attn_q.weight"] and lora.alpha == 8.0 and lora.ranks == (4,)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"peft_type": "LOHA"}, "PEFT type LOHA"),
        ({"use_dora": True}, "DoRA"),
        ({"target_parameters": ["mlp.router.weight"]}, "bare parameters"),
        ({"target_parameters": "all"}, "bare parameters"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"trainable_token_indices": [1, 2]}, "new token embeddings"),
        ({"alora_invocation_tokens": [5]}, "aLoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"r": None}, "r is None"),
        ({"alpha_pattern": {"(": 4}}, "no regular expression"),
    ],
)
def test_what_cannot_be_expressed_is_named(config: dict[str, Any], told: str, tmp_path: Path, model: GgufFile) -> None:
    assert told in refusal(peft(tmp_path / "bad", **config), model)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (factors((4, 32)), "128 x 32, in the model"),
        (factors(b=(64, 4)), "64 x 64, in the model"),
        (factors((4, 64), (128, 8)), "do not fit each other"),
        (factors(module="base_model.model.model.layers.9.self_attn.q_proj"), "no weight for"),
        (factors(module="base_model.model.transformer.h.0.attn.c_attn"), "has no weight for"),
        (factors(module="base_model.model.../../etc/passwd"), "no weight for"),
        ({f"{Q}.lora_A.weight": np.ones((4, 64), np.float32)}, "only one of lora_A and lora_B"),
        ({"strange": np.ones(4, np.float32)}, "neither lora_A nor lora_B"),
        ({**factors(), f"{Q}.lora_A.weight": np.full((4, 64), np.nan, np.float32)}, "not numbers"),
        ({**factors(), f"{Q}.lora_B.weight": np.full((128, 4), np.inf, np.float32)}, "not numbers"),
        ({**factors(), f"{Q}.lora_A.weight": np.ones((4, 64), np.int8)}, "I8 of shape"),
        ({}, "changes nothing"),
        ({"base_model.model.lm_head.base_layer.weight": np.ones((999, 64), np.float32)}, "new embeddings"),
    ],
)
def test_wrong_weights_are_refused_with_both_sides(
    weights: dict[str, Any], told: str, tmp_path: Path, model: GgufFile
) -> None:
    assert told in refusal(peft(tmp_path / "bad", weights), model)


def test_a_folder_without_its_files_says_what_is_missing(tmp_path: Path, model: GgufFile) -> None:
    assert "has no adapter_config.json" in refusal(tmp_path, model)
    folder = peft(tmp_path / "half")
    (folder / "adapter_model.safetensors").unlink()
    assert "has no adapter_model.safetensors" in refusal(folder, model)


def test_a_pickle_is_never_opened(tmp_path: Path, model: GgufFile) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    folder = peft(tmp_path / "bad")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))

    assert "is a pickle, which runs code" in refusal(folder, model)
    assert not (tmp_path / "exploded").exists()


def test_every_cut_of_the_weights_is_refused(tmp_path: Path, model: GgufFile) -> None:
    folder = peft(tmp_path / "bad")
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()

    for size in [0, 1, 7, 8, 9, 50, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert "cannot be read" in refusal(folder, model)
    path.write_bytes(struct.pack("<Q", 100 << 30) + whole[8:])
    assert "cannot be read" in refusal(folder, model)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, '{"r": 1e999}'])
def test_a_broken_configuration_is_refused(text: str, tmp_path: Path, model: GgufFile) -> None:
    folder = peft(tmp_path / "bad")
    (folder / "adapter_config.json").write_text(text)

    refusal(folder, model)


def gguf_lora(path: Path, architecture: str = "qwen3", **more: Any) -> Path:
    """A GGUF adapter as llama.cpp's script writes it; `more` changes one thing."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(more.get("type", "adapter"))
    writer.add_string("adapter.type", more.get("adapter_type", "lora"))
    if more.get("alpha", "f32") == "f32":
        writer.add_float32("adapter.lora.alpha", 8.0)
    elif more["alpha"] == "int":
        writer.add_uint32("adapter.lora.alpha", 8)
    elif more["alpha"] == "text":
        writer.add_string("adapter.lora.alpha", "8")
    name = more.get("tensor", "blk.0.attn_q.weight")
    writer.add_tensor(f"{name}.lora_a", more.get("a", np.ones((4, 64), np.float32)))
    if more.get("b", True):
        writer.add_tensor(f"{name}.lora_b", np.ones((128, 4), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_refusal(path: Path, model: GgufFile) -> str:
    with pytest.raises(AdapterUnusable) as caught:
        check(gguf_adapter.read(path), model)
    return caught.value.message


def test_an_integer_alpha_that_would_abort_llama_cpp_is_written_anew_as_f32(tmp_path: Path, model: GgufFile) -> None:
    lora = gguf_adapter.read(gguf_lora(tmp_path / "int.gguf", alpha="int"))
    check(lora, model)

    gguf_adapter.write(lora, tmp_path / "ours.gguf")

    alpha = gguf.GGUFReader(tmp_path / "ours.gguf").fields["adapter.lora.alpha"]
    assert alpha.types == [gguf.GGUFValueType.FLOAT32] and float(alpha.parts[-1][0]) == 8.0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"architecture": "gemma3"}, "for architecture gemma3, the model tiny.gguf is qwen3"),
        ({"type": "model"}, "not a LoRA adapter"),
        ({"adapter_type": "control-vector"}, "not a LoRA adapter"),
        ({"alpha": "text"}, "must be a number"),
        ({"alpha": "none"}, "must be a number"),
        ({"tensor": "blk.0.attn_x.weight"}, "does not have"),
        ({"a": np.ones((4, 32), np.float32)}, "128 x 32, in the model"),
        ({"a": np.full((4, 64), np.nan, np.float32)}, "not numbers"),
        ({"a": np.ones(64, np.float32)}, "not a factor"),
        ({"b": False}, "only one of lora_a and lora_b"),
    ],
)
def test_gguf_adapters_are_checked_alike(more: dict[str, Any], told: str, tmp_path: Path, model: GgufFile) -> None:
    assert told in gguf_refusal(gguf_lora(tmp_path / "bad.gguf", **more), model)


def test_every_cut_of_a_gguf_adapter_is_refused(tmp_path: Path, model: GgufFile) -> None:
    whole = gguf_lora(tmp_path / "good.gguf").read_bytes()
    path = tmp_path / "cut.gguf"

    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        gguf_refusal(path, model)


def test_a_model_is_no_adapter(model: GgufFile) -> None:
    assert "not a LoRA adapter" in gguf_refusal(model.path, model)


def refused(make: Maker, folder: Path, model: GgufFile) -> None:
    """By the shelf, in one short line that shows nothing of another file; nothing is left, and no pickle was opened."""
    given, shelf = folder / "given", Shelf(folder / "shelf")
    given.mkdir()
    source = make(given, model)

    with pytest.raises(AdapterUnusable) as caught:
        shelf.add("one", source, model.path, datetime(2026, 11, 24, tzinfo=UTC))

    message = caught.value.message
    assert len(message) < 1000 and message.isprintable() and SECRET not in message
    assert not exploded(given).exists()
    assert not shelf.folder.exists() or list(shelf.folder.iterdir()) == []


@pytest.mark.timeout(30)
@pytest.mark.parametrize("what", FOLDERS)
def test_a_hostile_folder_is_refused(what: str, tmp_path: Path, model: GgufFile) -> None:
    refused(FOLDERS[what], tmp_path, model)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("what", FILES)
def test_a_hostile_file_is_refused(what: str, tmp_path: Path, model: GgufFile) -> None:
    refused(FILES[what], tmp_path, model)


def test_what_they_are_made_from_is_taken(tmp_path: Path, model: GgufFile) -> None:
    (tmp_path / "folder").mkdir()
    folder = folder_of(tmp_path / "folder", hostile_factors(model))
    (tmp_path / "right.gguf").write_bytes(right(model))

    for lora in (peft_folder.read(folder, model), gguf_adapter.read(tmp_path / "right.gguf")):
        check(lora, model)
        assert list(lora.pairs) == ["blk.0.attn_q.weight"]


def test_a_folder_of_links_to_files_as_hubs_keep_them_is_taken(tmp_path: Path, model: GgufFile) -> None:
    blobs, snapshot = peft(tmp_path / "blobs"), tmp_path / "snapshot"
    snapshot.mkdir()
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(file)

    check(peft_folder.read(snapshot, model), model)


def test_more_than_the_memory_holds_is_refused_with_the_figures(
    tmp_path: Path, model: GgufFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monk.lora.adapter.measured_available_bytes", lambda: 1000)

    assert "GiB of memory to be read, 0.0 are free" in refusal(peft(tmp_path / "peft"), model)
    assert "GiB of memory to be read, 0.0 are free" in gguf_refusal(gguf_lora(tmp_path / "lora.gguf"), model)


def test_an_output_head_may_be_changed_and_an_embedding_not(tmp_path: Path, model: GgufFile) -> None:
    head, embedding = (
        factors((4, 64), (259, 4), f"base_model.model.{name}") for name in ("lm_head", "model.embed_tokens")
    )

    check(peft_folder.read(peft(tmp_path / "head", head), model), model)
    assert "changes the embeddings" in refusal(peft(tmp_path / "embedding", embedding), model)
