"""A merged model says what the base says with the adapter on, and is the base in everything else."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as C
import numpy as np
import pytest

from monk.engine import embedded, gguf_file
from monk.engine.client import AdapterUse, Finished, NewTokens, Segment, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import Table, read_table
from monk.engine.process import EngineProcess
from monk.engine.tuning import session
from monk.errors import AdapterUnusable, Conflict, HomeUnusable, InvalidInput, ModelUnusable
from monk.lora import gguf_adapter
from monk.lora import merge as merging
from monk.lora.adapter import Lora, Pair
from monk.lora.merge import Weights, merge
from monk.lora.shelf import Shelf
from tests.engine_models import write_tiny_model
from tests.lora_models import llama_logits, random_lora, shelved, torch_model, write_gguf

pytestmark = pytest.mark.real

TOKENS = [257, *b"The monk reads by night.", 32, 97]
FAMILIES = {
    "llama": ("attn_q", "attn_k", "ffn_down", "output"),
    "qwen3": ("attn_q", "attn_v", "ffn_up"),
    "gemma3": ("attn_output", "ffn_gate"),
    "qwen3moe": ("attn_q", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"),
}
SAME = 1e-3  # largest difference of a logit, where logits are about 1: x @ (W + BA) is summed in another order than xW + xBA
DIFFER = 0.05  # by how much the adapter must change some logit
FTYPE_Q4_K = C.LLAMA_FTYPE_MOSTLY_Q4_K_M


def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.abs(one - other).max())


def written(lora: Lora, path: Path) -> Path:
    gguf_adapter.write(lora, path)
    return path


def merged(base: Path, worn: list[tuple[Lora, float]], out: Path, weights: Weights = "as-is") -> Path:
    merge(gguf_file.read(base), worn, out, "lawyer", weights)
    return out


def values(path: Path, table: Table, name: str) -> bytes:
    """The bytes of one tensor."""
    tensor = next(one for one in table.tensors if one.name == name)
    first = table.data_start + tensor.offset
    return path.read_bytes()[first : first + (tensor.num_bytes or 0)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(torch_model("llama"), "llama", tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merged_model_gives_the_logits_of_base_and_adapter(family: str, tmp_path: Path) -> None:
    base = write_gguf(torch_model(family), family, tmp_path / "base.gguf")
    lora = random_lora(base, 1, FAMILIES[family], size=0.02)
    out = merged(base, [(lora, 0.7)], tmp_path / "merged.gguf")

    found = llama_logits(out, TOKENS)

    worn = llama_logits(base, TOKENS, {written(lora, tmp_path / "lora.gguf"): 0.7})
    assert apart(found, worn) < SAME
    assert apart(found, llama_logits(base, TOKENS)) > DIFFER


def test_several_adapters_are_summed_with_their_scales(tiny: Path, tmp_path: Path) -> None:
    one, other = random_lora(tiny, 1, size=0.02), random_lora(tiny, 2, ("attn_q", "ffn_down"), size=0.02, rank=2)
    out = merged(tiny, [(one, 0.8), (other, -0.5)], tmp_path / "merged.gguf")

    worn = {written(one, tmp_path / "one.gguf"): 0.8, written(other, tmp_path / "other.gguf"): -0.5}
    assert apart(llama_logits(out, TOKENS), llama_logits(tiny, TOKENS, worn)) < SAME


def test_without_alpha_the_factors_count_as_they_are(tiny: Path, tmp_path: Path) -> None:
    lora = Lora("llama", 0.0, random_lora(tiny, 1, size=0.02).pairs)
    out = merged(tiny, [(lora, 1.0)], tmp_path / "merged.gguf")

    worn = llama_logits(tiny, TOKENS, {written(lora, tmp_path / "lora.gguf"): 1.0})
    assert apart(llama_logits(out, TOKENS), worn) < SAME


def test_all_else_is_copied_byte_for_byte(tiny: Path, tmp_path: Path) -> None:
    out = merged(tiny, [(random_lora(tiny, 1, ("attn_q",)), 1.0)], tmp_path / "merged.gguf")

    before, after = read_table(tiny), read_table(out)
    assert after.metadata == {**before.metadata, "general.name": "tiny llama + lawyer"}
    assert list(after.entries) == list(before.entries)
    rows = [[(one.name, one.shape, one.type_id) for one in table.tensors] for table in (before, after)]
    assert rows[0] == rows[1]
    changed = [one.name for one in before.tensors if values(tiny, before, one.name) != values(out, after, one.name)]
    assert changed == ["blk.0.attn_q.weight", "blk.1.attn_q.weight"]


def test_pieces_of_rows_give_the_same_bytes_as_whole_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_gguf(torch_model("qwen3moe"), "qwen3moe", tmp_path / "base.gguf")
    lora = random_lora(base, 1, FAMILIES["qwen3moe"])
    whole = merged(base, [(lora, 1.0)], tmp_path / "whole.gguf")
    monkeypatch.setattr(merging, "PIECE_VALUES", 64 * 7)
    monkeypatch.setattr(merging, "PIECE_BYTES", 100)

    pieces = merged(base, [(lora, 1.0)], tmp_path / "pieces.gguf")

    table = read_table(whole)
    assert pieces.stat().st_size == whole.stat().st_size
    for tensor in table.tensors:
        one, other = (np.frombuffer(values(path, table, tensor.name), np.float32) for path in (whole, pieces))
        assert apart(one, other) < 1e-5, tensor.name


def test_a_scale_of_nothing_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    done = merge(gguf_file.read(tiny), [(random_lora(tiny, 1), 0.0)], tmp_path / "merged.gguf", "lawyer:0")

    assert (done.num_changed, done.rounding) == (0, 0.0)
    assert apart(llama_logits(done.file, TOKENS), llama_logits(tiny, TOKENS)) == 0.0


# --- types of weights


@pytest.mark.parametrize(("weights", "most"), [("F16", 0.02), ("Q8_0", 0.2)])
def test_a_changed_weight_stays_of_its_type(weights: str, most: float, tiny: Path, tmp_path: Path) -> None:
    """`most`: by how much rounding anew may move a logit; the adapter moves some by much more."""
    base = tmp_path / "base.gguf"
    session.requantise(tiny, base, weights)
    lora = random_lora(base, 1, ("attn_q", "attn_v", "ffn_down"), size=0.1)
    done = merge(gguf_file.read(base), [(lora, 1.0)], tmp_path / "merged.gguf", "lawyer")

    types = [[one.type_id for one in read_table(path).tensors] for path in (base, done.file)]
    assert types[0] == types[1] and done.widened == {}
    assert done.rounding is not None and 0.0 < done.rounding < most
    found, plain = llama_logits(done.file, TOKENS), llama_logits(base, TOKENS)
    worn = llama_logits(base, TOKENS, {written(lora, tmp_path / "lora.gguf"): 1.0})
    assert apart(found, worn) < most < apart(found, plain) / 2


def quantised(plain: Path, path: Path, file_type: int) -> Path:
    params = C.llama_model_quantize_default_params()
    params.ftype, params.nthread = file_type, 1
    assert C.llama_model_quantize(str(plain).encode(), str(path).encode(), ctypes.byref(params)) == 0
    return path


@pytest.mark.parametrize("kind", ["BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_every_type_that_can_be_written_is_rounded_to_itself(kind: str, tiny: Path, tmp_path: Path) -> None:
    base = quantised(tiny, tmp_path / "base.gguf", getattr(C, f"LLAMA_FTYPE_MOSTLY_{kind}"))
    lora = random_lora(base, 1, ("attn_q", "attn_v", "ffn_down"), size=0.1)
    done = merge(gguf_file.read(base), [(lora, 1.0)], tmp_path / "merged.gguf", "lawyer")

    before, after = read_table(base), read_table(done.file)
    assert [one.type_id for one in before.tensors] == [one.type_id for one in after.tensors]
    assert after.metadata == {**before.metadata, "general.name": "tiny llama + lawyer"}
    assert done.rounding is not None and done.rounding < 0.2
    found, plain = llama_logits(done.file, TOKENS), llama_logits(base, TOKENS)
    worn = llama_logits(base, TOKENS, {written(lora, tmp_path / "lora.gguf"): 1.0})
    assert apart(found, worn) < 0.5 * apart(worn, plain)


@pytest.fixture(scope="module")
def k_quants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("k")
    plain = write_tiny_model(folder / "plain.gguf", width=256, heads=8, kv_heads=4)
    return quantised(plain, folder / "k.gguf", FTYPE_Q4_K)


def test_a_type_that_can_only_be_read_is_widened_and_said(k_quants: Path, tmp_path: Path) -> None:
    lora = random_lora(k_quants, 1, ("attn_q", "ffn_up"), size=0.02)
    done = merge(gguf_file.read(k_quants), [(lora, 1.0)], tmp_path / "merged.gguf", "lawyer")

    types = {one.name: one.type_id for one in read_table(done.file).tensors}
    before = {one.name: one.type_id for one in read_table(k_quants).tensors}
    assert done.widened == {"Q4_K": 4}
    assert {types[name] for name in lora.pairs} == {merging.F16}
    assert all(types[name] == kind for name, kind in before.items() if name not in lora.pairs)
    found = llama_logits(done.file, TOKENS)
    worn = llama_logits(k_quants, TOKENS, {written(lora, tmp_path / "lora.gguf"): 1.0})
    assert apart(found, worn) < 0.1 * apart(found, llama_logits(k_quants, TOKENS))


def test_the_file_type_is_that_of_most_weights(k_quants: Path, tmp_path: Path) -> None:
    every = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "output")
    few = merged(k_quants, [(random_lora(k_quants, 1, ("attn_k",)), 1.0)], tmp_path / "few.gguf")
    most = merged(k_quants, [(random_lora(k_quants, 1, every), 1.0)], tmp_path / "most.gguf")

    assert read_table(few).metadata["general.file_type"] == FTYPE_Q4_K
    assert read_table(most).metadata["general.file_type"] == C.LLAMA_FTYPE_MOSTLY_F16
    assert read_table(most).metadata["general.quantization_version"] == 2


@pytest.mark.parametrize(("weights", "type_id"), [("F16", 1), ("Q8_0", 8), ("Q4_0", 2)])
def test_another_type_for_all_weights_is_the_requantisers_work(
    weights: Weights, type_id: int, tiny: Path, tmp_path: Path
) -> None:
    lora = random_lora(tiny, 1, ("attn_q", "ffn_down"), size=0.1)
    done = merge(gguf_file.read(tiny), [(lora, 1.0)], tmp_path / "merged.gguf", "lawyer", weights)

    table = read_table(done.file)
    assert {one.type_id for one in table.tensors if one.name in lora.pairs} == {type_id}
    assert table.metadata["general.name"] == "tiny llama + lawyer"
    assert [path.name for path in tmp_path.iterdir()] == ["merged.gguf"], "nothing else is left"
    worn = llama_logits(tiny, TOKENS, {written(lora, tmp_path / "lora.gguf"): 1.0})
    most = {"F16": 0.01, "Q8_0": 0.1, "Q4_0": 0.6}[weights]
    assert apart(llama_logits(done.file, TOKENS), worn) < most * apart(worn, llama_logits(tiny, TOKENS))


# --- what is refused


def test_a_model_in_several_files_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"big-{part:05d}-of-00002.gguf").write_bytes(tiny.read_bytes())
    base = gguf_file.read(tmp_path / "big-00001-of-00002.gguf")

    with pytest.raises(ModelUnusable, match=r"big-00001-of-00002\.gguf is a model in 2 files"):
        merge(base, [(random_lora(tiny, 1), 1.0)], tmp_path / "merged.gguf", "lawyer")


def test_no_place_and_no_room_are_refused_before_anything_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, worn, taken = gguf_file.read(tiny), [(random_lora(tiny, 1), 1.0)], tmp_path / "taken.gguf"
    taken.write_text("mine")

    with pytest.raises(Conflict, match="exists"):
        merge(base, worn, taken, "lawyer")
    with pytest.raises(InvalidInput, match="does not exist"):
        merge(base, worn, tmp_path / "nowhere" / "merged.gguf", "lawyer")
    with pytest.raises(Conflict, match="is the model itself"):
        merge(base, worn, tiny, "lawyer", force=True)
    monkeypatch.setattr(merging, "SPARE_BYTES", 1 << 60)
    with pytest.raises(HomeUnusable, match=r"needs 0\.0 GiB of disk and 1073741824\.0 must stay free, .* are free in"):
        merge(base, worn, tmp_path / "merged.gguf", "lawyer")
    assert taken.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["taken.gguf"]


def test_what_breaks_in_the_middle_leaves_the_old_file(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.gguf"
    out.write_text("mine")

    def broken(told: str) -> None:
        if told.startswith("blk.1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(gguf_file.read(tiny), [(random_lora(tiny, 1), 1.0)], out, "lawyer", force=True, told=broken)

    assert out.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["merged.gguf"]


def test_a_change_that_no_number_holds_is_refused(tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    session.requantise(tiny, base, "F16")
    (name, pair), *_ = random_lora(base, 1).pairs.items()
    loud, louder = (Lora("llama", 8.0, {name: Pair(pair.a, pair.b * np.float32(times))}) for times in (1e6, 1e38))

    for lora, path in ((loud, base), (louder, tiny)):
        with pytest.raises(AdapterUnusable, match=f"{name} would hold .*use a smaller scale"):
            merge(gguf_file.read(path), [(lora, 100.0)], tmp_path / "merged.gguf", "lawyer")
    assert [path.name for path in tmp_path.iterdir()] == ["base.gguf"]


# --- the embedded model


@contextmanager
def running(model: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(EngineConfig(model, context=512, slots=2, threads=1, speculation="off"))
    try:
        yield engine
    finally:
        engine.stop()


def said(engine: EngineProcess, prompt: str, adapters: tuple[AdapterUse, ...] = ()) -> str:
    """24 tokens, greedy."""
    marked = [Segment("<|im_start|>", True), Segment(f"user\n{prompt}", False), Segment("<|im_end|>", True)]
    ids = engine.tokenize([*marked, Segment("\n", False), Segment("<|im_start|>", True), Segment("assistant\n", False)])
    told = list(engine.think(ThoughtRequest(f"{prompt}-{len(adapters)}", tuple(ids), 24, adapters=adapters)))
    assert any(isinstance(message, NewTokens) for message in told) and isinstance(told[-1], Finished)
    return told[-1].text


def test_the_embedded_model_says_the_same_merged_as_worn(tmp_path: Path) -> None:
    """Its weights are Q4_1; rounding a small change to four bits would lose it, so both are F16."""
    prompts = ("Why is the sky blue?", "What does a monk do at night?")
    base = tmp_path / "base.gguf"
    session.requantise(embedded.model_path(), base, "F16")
    lora = random_lora(base, 1, ("attn_q", "attn_v", "ffn_down"), size=0.005)
    use = shelved(Shelf(tmp_path / "shelf"), "lawyer", lora, base)
    with running(base) as engine:
        bare = [said(engine, prompt) for prompt in prompts]
        worn = [said(engine, prompt, (use,)) for prompt in prompts]

    with running(merged(base, [(lora, 1.0)], tmp_path / "merged.gguf")) as engine:
        found = [said(engine, prompt) for prompt in prompts]

    assert found == worn
    assert all(one != other for one, other in zip(found, bare, strict=True))


def test_the_embedded_model_is_merged_in_its_own_type(tmp_path: Path) -> None:
    base = embedded.model_path()
    done = merge(gguf_file.read(base), [(random_lora(base, 1, size=0.01), 1.0)], tmp_path / "merged.gguf", "lawyer")

    before, after = read_table(base), read_table(done.file)
    assert [one.type_id for one in before.tensors] == [one.type_id for one in after.tensors]
    assert done.num_bytes == done.file.stat().st_size and done.num_changed == 60
    assert after.metadata["tokenizer.chat_template"] == before.metadata["tokenizer.chat_template"]
    with running(done.file) as engine:
        assert said(engine, "Why is the sky blue?")
