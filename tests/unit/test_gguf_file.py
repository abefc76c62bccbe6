"""Model files are understood, or refused with one clear line, before llama.cpp sees them."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from monk.engine import embedded, fingerprint, gguf_file
from monk.errors import ModelUnusable
from tests.engine_models import CONTROL_TOKENS, write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", "qwen3moe", experts=4)


def refusal(path: Path) -> str:
    with pytest.raises(ModelUnusable) as caught:
        gguf_file.read(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value.message


def test_the_shape_of_a_model_is_read(tiny: Path) -> None:
    model = gguf_file.read(tiny)

    assert model.architecture == "qwen3moe"
    assert (model.num_layers, model.num_heads, model.kv_heads) == (2, 4, (2, 2))
    assert (model.key_length, model.value_length, model.num_experts) == (32, 32, 4)
    assert model.train_context == 4096
    assert model.control_tokens == tuple(sorted(CONTROL_TOKENS, key=len, reverse=True))
    assert model.special_token("eos") == "<|im_end|>"
    assert model.weight_bytes == 4 * model.num_parameters  # all f32
    assert tiny.stat().st_size - model.weight_bytes < 20_000


def test_the_embedded_model_is_read() -> None:
    model = gguf_file.read(embedded.model_path())

    assert model.architecture == "llama"
    assert model.num_parameters == 134_515_008
    assert (model.train_context, model.vocab_size) == (8192, 49152)
    assert model.chat_template is not None and "<|im_start|>" in model.chat_template


def test_kv_heads_may_differ_from_layer_to_layer(tiny: Path) -> None:
    model = gguf_file.read(tiny)
    mixed = gguf_file.GgufFile(
        model.path, model.parts, {**model.metadata, "qwen3moe.attention.head_count_kv": [2, 0]}, model.tensors
    )

    assert mixed.kv_heads == (2, 0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.gguf")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(100), b"<html>not found</html>" * 10])
def test_something_else_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)

    assert "not a GGUF file" in refusal(path)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.999])
def test_a_truncated_model_is_refused_wherever_it_was_cut(tiny: Path, tmp_path: Path, share: float) -> None:
    data = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: max(24, int(len(data) * share))])

    assert "truncated" in refusal(path)


def test_absurd_headers_are_refused_without_reading_on(tiny: Path, tmp_path: Path) -> None:
    data = bytearray(tiny.read_bytes())
    for at, value in ((4, struct.pack("<I", 99)), (8, struct.pack("<Q", 1 << 60)), (16, struct.pack("<Q", 1 << 60))):
        broken = bytearray(data)
        broken[at : at + len(value)] = value
        path = tmp_path / f"absurd-{at}.gguf"
        path.write_bytes(broken)

        assert "damaged header" in refusal(path)


def test_flipped_header_bytes_never_end_in_anything_but_a_clear_refusal(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()[:16_384]
    path = tmp_path / "flipped.gguf"
    for at in range(4, 600, 3):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        path.write_bytes(broken)

        refusal(path)  # cut off as well, so no flip can make it good


def test_a_later_part_of_a_split_model_is_refused(tmp_path: Path) -> None:
    assert "give its first part" in refusal(tmp_path / "big-00002-of-00003.gguf")


def test_a_split_model_misses_a_part(tiny: Path, tmp_path: Path) -> None:
    first = tmp_path / "big-00001-of-00002.gguf"
    first.write_bytes(tiny.read_bytes())

    with pytest.raises(ModelUnusable, match=r"big-00002-of-00002\.gguf does not exist"):
        gguf_file.read(first)


def test_a_file_without_tokenizer_is_no_language_model(tiny: Path) -> None:
    model = gguf_file.read(tiny)
    metadata = {key: value for key, value in model.metadata.items() if not key.startswith("tokenizer")}

    with pytest.raises(ModelUnusable, match="no tokenizer"):
        gguf_file._check_sense(gguf_file.GgufFile(model.path, model.parts, metadata, model.tensors))


def test_a_hash_is_remembered_until_the_file_changes(tiny: Path, tmp_path: Path) -> None:
    path, cache = tmp_path / "model.gguf", tmp_path / "hashes.json"
    path.write_bytes(tiny.read_bytes())
    first = fingerprint.sha256_of((path,), cache)
    cache.write_text(json.dumps(dict.fromkeys(json.loads(cache.read_text()), "remembered")))

    assert fingerprint.sha256_of((path,), cache) == "remembered"
    path.write_bytes(b"changed")
    assert fingerprint.sha256_of((path,), cache) not in (first, "remembered")


def test_a_broken_hash_cache_is_done_without(tiny: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hashes.json"
    cache.write_text("{broken")

    assert len(fingerprint.sha256_of((tiny,), cache)) == 64
    assert len(fingerprint.sha256_of((tiny,), tmp_path / "no" / "folder.json")) == 64


def test_a_pinned_model_is_always_read_again(tiny: Path) -> None:
    digest = fingerprint.sha256_of((tiny,))

    assert fingerprint.check_pin((tiny,), digest.upper()) == digest
    with pytest.raises(ModelUnusable, match="not the pinned model"):
        fingerprint.check_pin((tiny,), "0" * 64)


def test_the_embedded_model_is_the_pinned_one() -> None:
    assert fingerprint.sha256_of((embedded.model_path(),)) == embedded.SHA256


def test_an_unreadable_file_is_refused(tiny: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path = tmp_path / "secret.gguf"
    path.write_bytes(tiny.read_bytes())
    path.chmod(0)

    assert "cannot be read" in refusal(path)
