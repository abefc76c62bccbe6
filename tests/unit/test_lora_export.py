"""Adapters leave the shelf as they came: for PEFT under PyTorch's names, for llama.cpp as one file, and never over anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from monk.engine import embedded, gguf_file
from monk.engine.gguf_file import GgufFile
from monk.errors import AdapterUnusable, Conflict, HomeUnusable, InvalidInput, MonkError
from monk.lora import gguf_adapter, names, peft_folder
from monk.lora.adapter import Lora, Pair
from monk.lora.export import by_module, config, write_gguf, write_peft
from monk.lora.shelf import Adapter, Shelf
from tests import small_disk
from tests.engine_models import write_tiny_model
from tests.lora_models import FAMILIES, llama_logits, random_lora, torch_logits, torch_model
from tests.lora_models import write_gguf as model_file
from tests.unit.test_lora_convert import AGREE, DIFFER, TOKENS, adapted

NOW = datetime(2026, 11, 25, tzinfo=UTC)
EQUAL = 1e-6  # of a weight's change, where changes are about 0.1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    return gguf_file.read(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf"))


def kept(shelf: Shelf, adapter: Adapter) -> Lora:
    return gguf_adapter.read_kept(shelf.weights(adapter), adapter.sha256)


def deltas(peft_model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """What PEFT adds to each weight."""
    layers = {name: layer for name, layer in peft_model.named_modules() if hasattr(layer, "get_delta_weight")}
    return {name: layer.get_delta_weight("default").detach().numpy() for name, layer in layers.items()}


# --- PEFT


@pytest.mark.real
@pytest.mark.filterwarnings("ignore")  # transformers and peft warn of each other's next releases
@pytest.mark.parametrize("family", FAMILIES)
def test_a_peft_folder_comes_back_and_changes_the_same(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    more: dict[str, Any] = {"target_modules": r".*self_attn\.[qkvo]_proj"} if family == "qwen3moe" else {}
    more |= {"rank_pattern": {"o_proj": 2, "layers.1.self_attn.q_proj": 6}, "alpha_pattern": {"v_proj": 32}}
    base = torch_model(family)
    path = model_file(base, family, tmp_path / "base.gguf")
    given = adapted(base, tmp_path / "given", **more)
    shelf = Shelf(tmp_path / "shelf")
    first = shelf.add("first", tmp_path / "given", path, NOW)

    write_peft(kept(shelf, first), gguf_file.read(path), tmp_path / "back")

    back = PeftModel.from_pretrained(torch_model(family), tmp_path / "back").eval()
    wanted, found = deltas(given), deltas(back)
    assert found.keys() == wanted.keys() and len(found) > 4
    for name, delta in wanted.items():
        assert np.abs(found[name] - delta).max() < EQUAL, name
        assert np.abs(delta).max() > 0.01, name
    assert np.abs(torch_logits(back, TOKENS) - torch_logits(given, TOKENS)).max() < 1e-4
    again = shelf.add("again", tmp_path / "back", path, NOW)
    assert again.sha256 == first.sha256, "the same factors and alpha"


@pytest.mark.real
@pytest.mark.filterwarnings("ignore")
def test_experts_come_back_one_by_one_and_peft_loads_them(tmp_path: Path) -> None:
    from peft import PeftModel

    base, random = torch_model("qwen3moe"), np.random.default_rng(0)
    path = model_file(base, "qwen3moe", tmp_path / "base.gguf")
    factors = {}
    for expert in range(4):
        for part in ("gate_proj", "up_proj", "down_proj"):
            module = f"base_model.model.model.layers.1.mlp.experts.{expert}.{part}"
            factors[f"{module}.lora_A.weight"] = random.standard_normal((2, 64), dtype=np.float32) / 8
            factors[f"{module}.lora_B.weight"] = random.standard_normal((64, 2), dtype=np.float32) / 8
    given = tmp_path / "given"
    given.mkdir()
    save_file(factors, given / "adapter_model.safetensors")
    (given / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6}))
    shelf = Shelf(tmp_path / "shelf")
    adapter = shelf.add("moe", given, path, NOW)

    write_peft(kept(shelf, adapter), gguf_file.read(path), tmp_path / "back")

    back = load_file(tmp_path / "back" / "adapter_model.safetensors")
    assert back.keys() == factors.keys()
    assert all(np.array_equal(back[name], values) for name, values in factors.items())
    loaded = PeftModel.from_pretrained(torch_model("qwen3moe"), tmp_path / "back").eval()
    worn = llama_logits(path, TOKENS, {shelf.weights(adapter): 1.0})
    assert np.abs(torch_logits(loaded, TOKENS) - worn).max() < AGREE
    assert np.abs(worn - llama_logits(path, TOKENS)).max() > DIFFER


def test_the_configuration_tells_rank_and_alpha_and_what_it_was_trained_on(model: GgufFile) -> None:
    pairs = dict(random_lora(model.path, 1).pairs)
    odd = {"blk.1.ffn_up.weight": random_lora(model.path, 1, ("ffn_up",), rank=2).pairs["blk.1.ffn_up.weight"]}
    lora = Lora("qwen3", 8.0, {**pairs, **odd}, base_model="org/base")

    told = config(lora, by_module(lora, model))

    assert (told["r"], told["lora_alpha"], told["base_model_name_or_path"]) == (4, 8, "org/base")
    assert told["rank_pattern"] == {"model.layers.1.mlp.up_proj": 2} and told["alpha_pattern"] == {}
    assert told["target_modules"] == sorted(
        f"model.layers.{n}.{m}" for n in (0, 1) for m in ("self_attn.q_proj", "mlp.up_proj")
    )


@pytest.mark.parametrize("alpha", [8.0, 0.0, -3.0])
def test_the_strength_of_every_weight_is_kept(alpha: float, model: GgufFile, tmp_path: Path) -> None:
    """An alpha of 0 stands for none, and PEFT knows no alpha below."""
    given = Lora("qwen3", alpha, random_lora(model.path, 1).pairs)

    write_peft(given, model, tmp_path / "peft")

    back = peft_folder.read(tmp_path / "peft", model)
    for name, pair in given.pairs.items():
        other = back.pairs[name]
        wanted = given.scale_of(pair) * pair.b @ pair.a
        np.testing.assert_allclose(back.scale_of(other) * other.b @ other.a, wanted, rtol=1e-5, atol=1e-6)


def test_half_precision_is_half_as_large_and_refused_where_it_overflows(model: GgufFile, tmp_path: Path) -> None:
    lora = random_lora(model.path, 1)
    for kind in ("f32", "f16"):
        write_peft(lora, model, tmp_path / kind, kind)  # type: ignore[arg-type]
        write_gguf(lora, tmp_path / f"{kind}.gguf", kind)  # type: ignore[arg-type]
    whole, half = (tmp_path / kind / "adapter_model.safetensors" for kind in ("f32", "f16"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    assert (tmp_path / "f16.gguf").stat().st_size < 0.6 * (tmp_path / "f32.gguf").stat().st_size

    (name, pair), *_ = lora.pairs.items()
    loud = Lora("qwen3", 8.0, {name: Pair(pair.a, pair.b * np.float32(1e6))})
    with pytest.raises(AdapterUnusable, match="beyond F16"):
        write_peft(loud, model, tmp_path / "loud", "f16")
    with pytest.raises(AdapterUnusable, match="beyond F16"):
        write_gguf(loud, tmp_path / "loud.gguf", "f16")
    assert not [path for path in tmp_path.iterdir() if "loud" in path.name]


# --- names


@pytest.mark.parametrize("architecture", sorted(names.PLAIN | names.REORDERED))
def test_every_weight_of_attention_and_mlp_has_its_module(architecture: str) -> None:
    """As long as transformers has it as a linear layer."""
    fused = {"attn_q", "attn_k", "attn_v", "ffn_gate"} if architecture == "phi3" else set()
    mlp = set() if architecture.endswith("moe") else {"ffn_gate", "ffn_up", "ffn_down"}
    for part in ({"attn_q", "attn_k", "attn_v", "attn_output"} | mlp) - fused:
        weight = f"blk.1.{part}.weight"
        try:
            (module,) = names.module_names(weight, architecture, 2, 0)
        except AdapterUnusable:
            assert part == "ffn_gate" and architecture == "arcee", "its MLP has no gate"
            continue
        assert module.startswith("base_model.model.model.layers.1.")
        assert names.weight_name(module, architecture, 2) == (weight, None)


@pytest.mark.parametrize(
    ("architecture", "weight", "experts", "modules"),
    [
        ("llama", "output.weight", 0, ["lm_head"]),
        ("phi3", "blk.0.attn_qkv.weight", 0, ["model.layers.0.self_attn.qkv_proj"]),
        ("phi3", "blk.0.ffn_up.weight", 0, ["model.layers.0.mlp.gate_up_proj"]),
        ("qwen3moe", "blk.1.ffn_gate_inp.weight", 2, ["model.layers.1.mlp.gate"]),
        ("qwen3moe", "blk.1.ffn_up_exps.weight", 2, [f"model.layers.1.mlp.experts.{n}.up_proj" for n in (0, 1)]),
        ("qwen2moe", "blk.1.ffn_up_shexp.weight", 2, ["model.layers.1.mlp.shared_expert.up_proj"]),
        ("llama", "blk.1.ffn_gate_exps.weight", 2, [f"model.layers.1.block_sparse_moe.experts.{n}.w1" for n in (0, 1)]),
        ("llama", "blk.1.ffn_down_exps.weight", 1, ["model.layers.1.block_sparse_moe.experts.0.w2"]),
    ],
)
def test_modules_are_named_as_transformers_names_them(
    architecture: str, weight: str, experts: int, modules: list[str]
) -> None:
    assert names.module_names(weight, architecture, 2, experts) == [f"base_model.model.{name}" for name in modules]


@pytest.mark.parametrize(
    ("architecture", "weight"),
    [("granitemoe", "blk.0.ffn_up_exps.weight"), ("qwen3", "token_embd.weight"), ("qwen3", "blk.0.attn_norm.weight")],
)
def test_what_is_no_linear_layer_is_refused(architecture: str, weight: str) -> None:
    with pytest.raises(AdapterUnusable, match="no linear layer"):
        names.module_names(weight, architecture, 2, 2)


@pytest.mark.parametrize("which", ["q", "k"])
def test_rows_are_put_back_where_they_were(which: str) -> None:
    b = np.arange(64 * 3, dtype=np.float32).reshape(64, 3)
    name = f"blk.0.attn_{which}.weight"

    moved = names.reorder_rows(name, b, "llama", 4, 2)

    assert not np.array_equal(moved, b)
    assert np.array_equal(names.restore_rows(name, moved, "llama", 4, 2), b)
    assert names.restore_rows(name, b, "qwen3", 4, 2) is b


# --- GGUF


@pytest.mark.real
def test_plain_llama_cpp_python_wears_the_file(tmp_path: Path) -> None:
    from llama_cpp import Llama

    base = embedded.model_path()
    shelf = Shelf(tmp_path / "shelf")
    gguf_adapter.write(random_lora(base, 1, size=0.01), tmp_path / "made.gguf")
    adapter = shelf.add("one", tmp_path / "made.gguf", base, NOW)
    write_gguf(kept(shelf, adapter), tmp_path / "one.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == shelf.weights(adapter).read_bytes()
    write_gguf(kept(shelf, adapter), tmp_path / "half.gguf", "f16")

    def logits(path: Path | None) -> np.ndarray[Any, Any]:
        llama = Llama(
            str(base), n_ctx=64, n_threads=1, logits_all=True, verbose=False, lora_path=str(path) if path else None
        )
        try:
            llama.eval([1, 504, 9019, 33])
            return np.array(llama.scores[3])
        finally:
            llama.close()

    bare, worn, half = logits(None), logits(tmp_path / "one.gguf"), logits(tmp_path / "half.gguf")
    changed = np.abs(worn - bare).max()
    assert changed > 2.0
    assert (
        np.abs(worn - half).max() < changed / 4
    )  # this model's activations are rounded to 8 bits: that alone moves 0.7


# --- places


@pytest.fixture
def lora(model: GgufFile) -> Lora:
    return random_lora(model.path, 1)


def test_what_exists_is_refused_unless_forced(lora: Lora, model: GgufFile, tmp_path: Path) -> None:
    file, folder = tmp_path / "out.gguf", tmp_path / "out"
    file.write_text("mine")
    folder.mkdir()
    (folder / "adapter_config.json").write_text("mine")

    with pytest.raises(Conflict, match=r"out\.gguf exists"):
        write_gguf(lora, file)
    with pytest.raises(Conflict, match="out exists"):
        write_peft(lora, model, folder)
    assert file.read_text() == "mine" and [path.name for path in folder.iterdir()] == ["adapter_config.json"]

    write_gguf(lora, file, force=True)
    write_peft(lora, model, folder, force=True)
    assert gguf_adapter.read(file).pairs.keys() == peft_folder.read(folder, model).pairs.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.gguf"]


def test_a_folder_with_other_files_is_never_replaced(lora: Lora, model: GgufFile, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")

    with pytest.raises(Conflict, match="is not a folder of"):
        write_peft(lora, model, folder, force=True)
    with pytest.raises(Conflict, match="is a folder"):
        write_gguf(lora, folder, force=True)
    with pytest.raises(Conflict, match="is not a folder of"):
        write_peft(lora, model, folder / "letter.txt", force=True)

    assert (folder / "letter.txt").read_text() == "mine"


def test_no_folder_to_write_into_is_one_error(lora: Lora, model: GgufFile, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere does not exist"):
        write_gguf(lora, tmp_path / "nowhere" / "out.gguf")
    with pytest.raises(InvalidInput, match="nowhere does not exist"):
        write_peft(lora, model, tmp_path / "nowhere" / "out")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[small_disk.SmallDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    if (reason := small_disk.why_not(place)) is not None:
        pytest.skip(reason)
    mounted = small_disk.SmallDisk(place, 1)
    yield mounted
    mounted.leave()


def test_a_full_disk_is_one_error_and_nothing_is_left(lora: Lora, model: GgufFile, disk: small_disk.SmallDisk) -> None:
    disk.fill()

    for write in (lambda: write_gguf(lora, disk.path / "out.gguf"), lambda: write_peft(lora, model, disk.path / "out")):
        with pytest.raises((AdapterUnusable, HomeUnusable), match=r"No space left|cannot be written") as caught:
            write()
        assert isinstance(caught.value, MonkError) and "\n" not in caught.value.message
    assert [path.name for path in disk.path.iterdir()] == ["ballast"]


def test_weights_that_rotted_on_the_shelf_are_not_given_away(model: GgufFile, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf")
    gguf_adapter.write(random_lora(model.path, 1), tmp_path / "made.gguf")
    adapter = shelf.add("one", tmp_path / "made.gguf", model.path, NOW)
    weights = shelf.weights(adapter)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)

    with pytest.raises(AdapterUnusable, match="is damaged"):
        kept(shelf, adapter)
