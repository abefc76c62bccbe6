"""PEFT in torch and the converted adapter in llama.cpp change the same model in the same way, family by family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from monk.engine import gguf_file
from monk.lora import gguf_adapter, peft_folder
from monk.lora.adapter import Lora, check
from tests.lora_models import FAMILIES, llama_logits, torch_logits, torch_model, write_gguf

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore"),  # transformers and peft warn of each other's next releases
]

TOKENS = [257, *b"The monk reads by night.", 32, 97]
AGREE = 2e-3  # largest difference of a logit, where logits are about 1: f32 sums in another order, gelu from a table
DIFFER = 0.05  # by how much the adapter must change some logit


def adapted(model: Any, folder: Path, seed: int = 1, **more: Any) -> Any:
    """The model with a random LoRA on all linear layers of attention and MLP, saved into the folder."""
    import torch
    from peft import LoraConfig, get_peft_model

    wanted = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"],
        **more,
    }
    peft_model = get_peft_model(model, LoraConfig(**wanted)).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in peft_model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    peft_model.save_pretrained(folder)
    return peft_model


def converted(folder: Path, model: Path, out: Path) -> Path:
    file = gguf_file.read(model)
    lora = peft_folder.read(folder, file)
    check(lora, file)
    gguf_adapter.write(lora, out)
    return out


def agree(family: str, folder: Path, **more: Any) -> tuple[float, float]:
    """(largest difference between torch with PEFT and llama.cpp with the adapter, and between it and the base)."""
    base = torch_model(family)
    path = write_gguf(base, family, folder / "base.gguf")
    plain = llama_logits(path, TOKENS)
    assert np.abs(plain - torch_logits(base, TOKENS)).max() < AGREE, "the twins differ before any adapter"
    with_peft = torch_logits(adapted(base, folder / "peft", **more), TOKENS)
    adapter = converted(folder / "peft", path, folder / "adapter.gguf")
    with_adapter = llama_logits(path, TOKENS, {adapter: 1.0})
    return float(np.abs(with_adapter - with_peft).max()), float(np.abs(with_adapter - plain).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_converted_adapter_gives_the_logits_of_peft(family: str, tmp_path: Path) -> None:
    attention_only = {"target_modules": r".*self_attn\.[qkvo]_proj"} if family == "qwen3moe" else {}

    apart, changed = agree(family, tmp_path, **attention_only)

    assert apart < AGREE and changed > DIFFER


@pytest.mark.parametrize(
    "more",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 8, "layers.1.mlp.up_proj": 2}},
        {"alpha_pattern": {"v_proj": 32, "layers.0.self_attn.k_proj": 1}},
        {"rank_pattern": {"o_proj": 3}, "alpha_pattern": {"o_proj": 5}, "use_rslora": True},
        {"target_modules": ["q_proj", "lm_head"]},
    ],
    ids=["rslora", "ranks", "alphas", "all three", "output head"],
)
def test_ranks_alphas_and_rslora_are_expressed(more: dict[str, Any], tmp_path: Path) -> None:
    apart, changed = agree("llama", tmp_path, **more)

    assert apart < AGREE and changed > DIFFER


@pytest.mark.parametrize(
    "parameters",
    [["mlp.experts.gate_up_proj"], ["mlp.experts.down_proj"], ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]],
    ids=["gate and up", "down", "all"],
)
def test_factors_of_all_experts_in_one_parameter_are_taken_apart(parameters: list[str], tmp_path: Path) -> None:
    apart, changed = agree("qwen3moe", tmp_path, target_modules=["q_proj"], target_parameters=parameters)

    assert apart < AGREE and changed > DIFFER


def test_experts_are_stacked_into_one_weight(tmp_path: Path) -> None:
    """transformers keeps experts as one parameter now; older folders name each. Compared with merged weights."""
    random = np.random.default_rng(0)
    base = torch_model("qwen3moe")
    path = write_gguf(base, "qwen3moe", tmp_path / "base.gguf")
    factors = {}
    for expert in range(4):
        module = f"base_model.model.model.layers.1.mlp.experts.{expert}.up_proj"
        factors[f"{module}.lora_A.weight"] = random.standard_normal((2, 64), dtype=np.float32) / 8
        factors[f"{module}.lora_B.weight"] = random.standard_normal((64, 2), dtype=np.float32) / 8
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6}))
    adapter = converted(folder, path, tmp_path / "adapter.gguf")

    merged = torch_model("qwen3moe")
    weight = merged.state_dict()["model.layers.1.mlp.experts.gate_up_proj"]
    for expert in range(4):
        module = f"base_model.model.model.layers.1.mlp.experts.{expert}.up_proj"
        delta = 3.0 * factors[f"{module}.lora_B.weight"] @ factors[f"{module}.lora_A.weight"]
        weight[expert, 64:] += weight.new_tensor(delta)
    wanted = llama_logits(write_gguf(merged, "qwen3moe", tmp_path / "merged.gguf"), TOKENS)

    found = llama_logits(path, TOKENS, {adapter: 1.0})
    assert np.abs(found - wanted).max() < AGREE
    assert np.abs(found - llama_logits(path, TOKENS)).max() > DIFFER


def test_a_gguf_adapter_is_read_back_and_written_the_same(tmp_path: Path) -> None:
    base = torch_model("llama")
    path = write_gguf(base, "llama", tmp_path / "base.gguf")
    adapted(base, tmp_path / "peft")
    first = converted(tmp_path / "peft", path, tmp_path / "first.gguf")

    again: Lora = gguf_adapter.read(first)
    check(again, gguf_file.read(path))
    gguf_adapter.write(again, tmp_path / "again.gguf")

    assert first.read_bytes() == (tmp_path / "again.gguf").read_bytes()


def test_half_precision_factors_are_near(tmp_path: Path) -> None:
    base = torch_model("llama")
    path = write_gguf(base, "llama", tmp_path / "base.gguf")
    adapted(base, tmp_path / "peft")
    whole = converted(tmp_path / "peft", path, tmp_path / "f32.gguf")
    gguf_adapter.write(gguf_adapter.read(whole), tmp_path / "f16.gguf", "f16")

    near = llama_logits(path, TOKENS, {tmp_path / "f16.gguf": 1.0})

    assert (tmp_path / "f16.gguf").stat().st_size < 0.7 * whole.stat().st_size
    assert np.abs(near - llama_logits(path, TOKENS, {whole: 1.0})).max() < 0.02


def test_each_expert_has_its_own_alpha(tmp_path: Path) -> None:
    path = write_gguf(torch_model("qwen3moe"), "qwen3moe", tmp_path / "base.gguf")
    module = "base_model.model.model.layers.1.mlp.experts.{}.up_proj"
    shapes = {"A": (2, 64), "B": (64, 2)}
    factors = {
        f"{module.format(expert)}.lora_{which}.weight": np.ones(shape, np.float32)
        for expert in range(4)
        for which, shape in shapes.items()
    }
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "alpha_pattern": {"experts.3.up_proj": 12}}
    (folder / "adapter_config.json").write_text(json.dumps(config))

    (pair,) = peft_folder.read(folder, gguf_file.read(path)).pairs.values()

    assert [float(b[0, 0]) for b in pair.b] == [1.0, 1.0, 1.0, 2.0]
