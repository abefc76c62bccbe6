"""What a model takes, from its description alone: sizes of real files, formulas, other machines, and every mistake."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monk.cli.app import app
from monk.engine import embedded, gguf_file, memory
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.lane_plan import kv_bytes_per_token
from monk.engine.layers import layers_of
from monk.engine.model_use import OwnSettings
from monk.errors import InvalidInput, ModelUnusable, NotFound
from monk.plan import amounts, source
from monk.plan.described import describe
from monk.plan.known import KNOWN, config_of
from monk.plan.speed import Machine, Sight, Work
from tests.engine_models import write_tiny_model

# bytes of the files on the model hub's own pages, in 10^9 (2025); bf16 is the safetensors' total
PUBLISHED = [
    ("Llama-3.1-8B", "q4_k_m", 4.92),
    ("Llama-3.1-70B", "q4_k_m", 42.52),
    ("Qwen2.5-72B", "q4_k_m", 47.42),
    ("Qwen3-32B", "q4_k_m", 19.76),
    ("Qwen3-30B-A3B", "q4_k_m", 18.56),
    ("Qwen3-30B-A3B", "bf16", 61.07),
    ("Qwen3-32B", "bf16", 65.52),
    ("Llama-3.1-70B", "bf16", 141.1),
    ("Qwen2.5-7B", "q8_0", 8.10),
    ("Llama-3.1-8B", "q8_0", 8.54),
    ("Qwen3-8B", "q6_k", 6.73),
    ("Gemma-3-27B", "q4_k_m", 16.55),
    ("Mistral-Small-3.2-24B", "q4_k_m", 14.33),
    ("gpt-oss-20b", "q8_0", 12.10),  # the maker's experts in MXFP4, as llama-bench prints it: 11.27 GiB
    ("gpt-oss-120b", "q8_0", 63.37),  # 59.02 GiB
    ("DeepSeek-R1", "q4_k_m", 404.43),  # 376.65 GiB
    ("DeepSeek-R1", "q8_0", 713.28),
    ("Qwen3-Coder-480B-A35B", "q4_k_m", 290.05),
]
# K and V of a token in f16, by the published shapes: 2 x layers x kv heads x head size x 2 bytes
KV_OF_A_TOKEN = [("Llama-3.1-70B", 327680), ("Qwen3-32B", 262144), ("Qwen3-30B-A3B", 98304), ("Llama-3.1-8B", 131072)]
KV_OF_A_TOKEN += [("DeepSeek-V3", 61 * (512 + 64) * 2), ("gpt-oss-120b", 36 * 2 * 8 * 64 * 2)]
SERVER = Machine(460e9, 64 * 70.0)
run = CliRunner()


@pytest.mark.parametrize(("name", "weights", "published"), PUBLISHED)
def test_sizes_are_those_of_real_files(name: str, weights: str, published: float) -> None:
    assert source.find(name, weights).weight_bytes / 1e9 == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(("name", "expected"), KV_OF_A_TOKEN)
def test_kv_of_a_token_is_what_the_shape_says(name: str, expected: int) -> None:
    model = source.find(name, "bf16")
    assert kv_bytes_per_token(model, EngineConfig(model.path)) == expected


def test_a_described_model_has_the_weights_of_its_name() -> None:
    counts = {name: source.find(name, "bf16").num_parameters / 1e9 for name in KNOWN}

    for name, told in (
        ("Qwen3-32B", 32.8),
        ("Llama-3.1-405B", 405.9),
        ("Mixtral-8x7B", 46.7),
        ("Qwen3-235B-A22B", 235.1),
        ("Gemma-3-27B", 27.01),
        ("Gemma-3-12B", 11.77),
        ("gpt-oss-20b", 20.91),
        ("gpt-oss-120b", 116.83),
        ("Mistral-Small-3.2-24B", 23.57),
        ("Mixtral-8x22B", 140.6),
        ("Mistral-Large-123B", 122.6),
        ("Llama-3.2-3B", 3.21),
        ("DeepSeek-V3", 671.03),
        ("Kimi-K2", 1026.4),
        ("Qwen3-Coder-480B-A35B", 480.2),
    ):
        assert counts[name] == pytest.approx(told, rel=0.005), name


def test_a_file_and_its_config_agree(tmp_path: Path) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))

    described, real = source.find(str(tmp_path), "bf16"), gguf_file.read(embedded.model_path())

    assert described.num_parameters == real.num_parameters
    assert (described.kv_heads, described.vocab_size) == (real.kv_heads, real.vocab_size)


SHAPE = {"layers": 6, "width": 64, "heads": 4, "kv_heads": 2, "head_size": 16, "context": 4096}


@pytest.mark.parametrize(
    ("architecture", "more", "config"),
    [
        ("qwen3", {}, {"model_type": "qwen3"}),
        ("qwen3moe", {"experts": 8}, {"model_type": "qwen3_moe", "num_experts": 8}),
        ("gemma3", {"window": 256}, {"model_type": "gemma3_text", "sliding_window": 256}),
        (
            "deepseek2",
            {"experts": 8},
            {
                "model_type": "deepseek_v3",
                "kv_lora_rank": 64,
                "q_lora_rank": 32,
                "qk_nope_head_dim": 16,
                "qk_rope_head_dim": 32,
                "v_head_dim": 16,
                "n_routed_experts": 8,
                "n_shared_experts": 1,
                "moe_intermediate_size": 64,
                "first_k_dense_replace": 1,
            },
        ),
        (
            "gpt-oss",
            {"window": 128, "experts": 8},
            {"model_type": "gpt_oss", "sliding_window": 128, "num_local_experts": 8},
        ),
    ],
)
def test_a_described_model_has_the_tensors_and_layers_of_a_file(
    tmp_path: Path, architecture: str, more: dict[str, Any], config: dict[str, Any]
) -> None:
    real = gguf_file.read(write_tiny_model(tmp_path / "tiny.gguf", architecture, **SHAPE, **more))
    inner = next(tensor for tensor in real.tensors if tensor.name.startswith("blk.0.ffn_up")).shape[1]
    shape = {
        "hidden_size": SHAPE["width"],
        "num_hidden_layers": SHAPE["layers"],
        "num_attention_heads": SHAPE["heads"],
        "num_key_value_heads": SHAPE["kv_heads"],
        "head_dim": SHAPE["head_size"],
        "intermediate_size": inner,
        "vocab_size": real.vocab_size,
        "max_position_embeddings": SHAPE["context"],
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in real.tensors),
        "num_experts_per_tok": real.number("expert_used_count"),
    }

    described = describe("tiny", shape | config, "bf16")

    assert {(one.name, one.shape) for one in described.tensors} == {(one.name, one.shape) for one in real.tensors}
    assert layers_of(described) == layers_of(real)


@pytest.mark.parametrize(
    ("config", "base", "scaled"),
    [
        ({"rope_theta": 5e6}, 5e6, False),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, 1e6, False),
        ({"rope_parameters": {"full_attention": {"rope_theta": 2e6, "rope_type": "linear", "factor": 8}}}, 2e6, True),
        (
            {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 512}},
            1e6,
            True,
        ),
        ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 5e5, False),
        ({}, 10000.0, False),
    ],
)
def test_positions_are_turned_as_the_configuration_says(config: dict[str, Any], base: float, scaled: bool) -> None:
    own = OwnSettings.of(describe("it", KNOWN["Qwen3-8B"] | {"rope_theta": None} | config, "bf16"))

    assert (own.rope_freq_base, own.is_scaled) == (base, scaled)


@pytest.mark.parametrize(
    ("name", "base"),
    [("Qwen3-30B-A3B", 1e6), ("Qwen3-30B-A3B-2507", 1e7), ("Llama-3.1-8B", 5e5), ("gpt-oss-20b", 15e4)],
)
def test_a_known_model_has_its_own_rope_base(name: str, base: float) -> None:
    assert OwnSettings.of(source.find(name, "bf16")).rope_freq_base == base


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Qwen3-70B", "nearest: Qwen3-32B, Qwen3-30B-A3B, Qwen3-235B-A22B"),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct", None),
        ("qwen3_32b", None),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-GGUF", None),
        ("openai/gpt-oss-120b", None),
        ("deepseek-ai/DeepSeek-R1", None),
        ("google/gemma-3-27b-it", None),
        ("gpt-oss-200b", "nearest: gpt-oss-120b, gpt-oss-20b."),
        ("something else", "is no file and no model that is known"),
        ("./no/such/file", "there is no file"),
        ("missing.gguf", "there is no file"),
    ],
)
def test_a_name_is_found_or_the_nearest_is_told(name: str, told: str | None) -> None:
    if told is None:
        assert config_of(name)[0] in KNOWN
        return
    with pytest.raises(NotFound) as caught:
        source.find(name, "bf16")
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not known"),
        ({"model_type": "llama", "hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"model_type": "llama"}, "hidden_size is None"),
        (KNOWN["Qwen3-8B"] | {"rope_theta": "wide"}, "rope_theta is 'wide'"),
        (KNOWN["Qwen3-8B"] | {"rope_scaling": 4}, "rope_scaling is 4"),
        ({key: value for key, value in KNOWN["DeepSeek-R1"].items() if key != "q_lora_rank"}, "q_lora_rank is None"),
        (KNOWN["gpt-oss-20b"] | {"sliding_window": None}, "sliding_window is None"),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput) as caught:
        source.find(str(tmp_path / "config.json"), "bf16")
    assert told in caught.value.message
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(ModelUnusable, match="is no JSON"):
        source.find(str(tmp_path), "bf16")
    with pytest.raises(InvalidInput, match="known are f32"):
        source.find("Qwen3-8B", "q3_k_xxl")


def test_amounts_are_read_as_people_write_them() -> None:
    assert amounts.num_bytes("1.5TB", "--ram") == 1_500_000_000_000
    assert amounts.num_bytes("256 GiB", "--ram") == 256 << 30
    assert amounts.num_bytes("460GB/s", "--bandwidth") == 460_000_000_000
    assert amounts.seconds("9h", "--night") == 32400.0
    for bad in ("much", "-1GB", "0", "1XB"):
        with pytest.raises(InvalidInput, match="--ram"):
            amounts.num_bytes(bad, "--ram")
    with pytest.raises(InvalidInput, match="--night"):
        amounts.seconds("9", "--night")


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def work(name: str, weights: str = "q4_k_m", experts: int | None = None) -> Work:
    model = source.find(name, weights)
    return Work.of(model, EngineConfig(model.path, model_use=ModelUse(experts=experts)))


def test_one_thought_of_a_dense_model_is_bound_by_its_weights() -> None:
    dense = work("Llama-3.1-70B")

    assert 1 / dense.step_seconds(SERVER, 1, 0) == pytest.approx(0.55 * 460e9 / 42.0e9, rel=0.05)
    assert dense.step_seconds(SERVER, 3, 0) == dense.step_seconds(SERVER, 1, 0), "two more cost nothing"
    assert dense.step_seconds(SERVER, 16, 0) > 4 * dense.step_seconds(SERVER, 1, 0), "then it is bound by arithmetic"
    assert dense.step_seconds(SERVER, 1, 131072) > 1.5 * dense.step_seconds(SERVER, 1, 0)


def test_a_mixture_reads_only_the_experts_it_meets() -> None:
    moe = work("Qwen3-30B-A3B", "bf16")

    assert moe.experts_met(1) == pytest.approx(8.0) and 60 < moe.experts_met(10) < 70 and moe.experts_met(1000) < 128.1
    assert moe.active_parameters / 1e9 == pytest.approx(3.0, abs=0.4)
    assert moe.step_seconds(SERVER, 1, 0) < 0.15 * work("Qwen3-32B", "bf16").step_seconds(SERVER, 1, 0)
    assert work("Qwen3-30B-A3B", "bf16", 16).step_seconds(SERVER, 1, 0) > 1.4 * moe.step_seconds(SERVER, 1, 0)


def test_a_prompt_twice_as_long_takes_more_than_twice_as_long() -> None:
    dense = work("Llama-3.1-70B")

    assert dense.prompt_seconds(SERVER, 65536) > 2.1 * dense.prompt_seconds(SERVER, 32768)
    whole = dense.prompt_seconds(SERVER, 8192)
    assert dense.prompt_seconds(SERVER, 4096) + dense.prompt_seconds(SERVER, 4096, 4096) == pytest.approx(whole)


def windowed(near: float, window: int) -> Work:
    return replace(work("Qwen3-32B"), sight=Sight(near, window))


def test_layers_with_a_window_cost_the_same_behind_more_than_it_holds() -> None:
    plain, all_near, half = work("Qwen3-32B"), windowed(1.0, 4096), windowed(0.5, 4096)

    assert all_near.step_seconds(SERVER, 8, 65536) == all_near.step_seconds(SERVER, 8, 4096)
    assert all_near.step_seconds(SERVER, 8, 1000) == plain.step_seconds(SERVER, 8, 1000)
    grown = [w.step_seconds(SERVER, 8, 65536) - w.step_seconds(SERVER, 8, 4096) for w in (half, plain)]
    assert grown[0] == pytest.approx(grown[1] / 2)
    assert all_near.prompt_seconds(SERVER, 131072) < 0.6 * plain.prompt_seconds(SERVER, 131072)


@pytest.mark.parametrize("first", [0, 100, 3000, 5000])
def test_a_prompt_in_pieces_takes_as_long_as_whole_whatever_the_window(first: int) -> None:
    some = windowed(0.75, 4096)
    pieces = [(at, min(700, 9000 - at)) for at in range(0, 9000, 700)]

    whole = some.prompt_seconds(SERVER, 9000, first)
    assert sum(some.prompt_seconds(SERVER, count, first + at) for at, count in pieces) == pytest.approx(whole)


def test_kv_types_and_flash_attention_have_a_speed_of_their_own() -> None:
    model = source.find("Qwen3-32B", "q4_k_m")

    def hours(**values: Any) -> float:
        return Work.of(model, EngineConfig(model.path, **values)).prompt_seconds(SERVER, 32768) / 3600

    plain, flash = hours(), hours(flash_attention="on")
    quantised = hours(flash_attention="on", kv_type_k="q8_0", kv_type_v="q8_0")
    assert plain < flash < quantised
    assert quantised > 2 * plain, "measured: attention a sixth as fast"


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def planned(*arguments: str) -> dict[str, Any]:
    done = run.invoke(app, ["plan", *arguments, "--json"])
    assert done.exit_code in (0, 2), done.output
    return dict(json.loads(done.stdout))


def test_a_large_server_holds_what_a_small_one_does_not() -> None:
    server = ("--bandwidth", "460GB/s", "--cores", "64", "--context", "131072", "--yarn", "4")
    fits = planned("Qwen3-32B", "--ram", "1TB", *server)
    small = planned("Qwen3-32B", "--ram", "64GB", *server)

    assert fits["fits"] and fits["context"] == 131072 and fits["slots"] >= 2
    amounts_ = {figure["name"]: figure["value"] for figure in fits["memory"]}
    parts = ("weights", "KV of all", "compute", "output", "other lanes", "process")
    assert amounts_["in all"] == sum(amounts_[part] for part in parts) < 1e12
    assert not small["fits"] and "needs" in small["refusal"]
    assert set(fits["decode_tokens_per_second"]) == {"0", "32768", "131072"}
    assert any("YaRN stretches" in note for note in fits["notes"])


def test_what_is_planned_is_what_the_engine_would_open(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    told = planned(
        str(path), "--context", "512", "--slots", "3", "--ram", "8GB", "--bandwidth", "20GB/s", "--cores", "2"
    )

    opened = EngineConfig(path, context=512, slots=3, kv_folder=tmp_path / "kv")  # the daemon always keeps KV
    plan = memory.fit(gguf_file.read(path), opened, 8 * 10**9)
    assert {f["name"]: f["value"] for f in told["memory"]}["in all"] == plan.total_bytes


def test_the_table_explains_itself() -> None:
    shown = run.invoke(
        app, ["plan", "Qwen3-30B-A3B", "--ram", "1TB", "--bandwidth", "460GB/s", "--cores", "64", "--explain"]
    )

    assert shown.exit_code == 0, shown.output
    for words in ("128 experts", "thoughts x", "KV of a token", "written in a night", "0.55 of the memory's bandwidth"):
        assert words in " ".join(shown.output.split()), words


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ram", "1TB"], "--ram describes another machine; say its --bandwidth too"),
        (["--cores", "8"], "--cores describes another machine; say its --bandwidth too"),
        (["--ram", "1TB", "--sockets", "2"], "--ram, --sockets describe another machine; say its --bandwidth too"),
        (["--kv-type", "q3"], "kv_type_k"),
        (["--night", "long"], "--night"),
    ],
)
def test_half_a_description_is_refused(arguments: list[str], told: str) -> None:
    done = run.invoke(app, ["plan", "Qwen3-8B", *arguments])
    assert done.exit_code != 0
    assert told in (done.output + str(done.exception))


# ── a file behind a URL ───────────────────────────────────────────────────────────────────────────────────────────────


class Ranges(BaseHTTPRequestHandler):
    """Serves one file by range, and counts."""

    data = b""
    served = 0

    def do_GET(self) -> None:
        first, last = self.headers["range"].removeprefix("bytes=").split("-")
        part = self.data[int(first) : int(last) + 1]
        type(self).served += len(part)
        self.send_response(206)
        self.send_header("content-range", f"bytes {first}-{int(first) + len(part) - 1}/{len(self.data)}")
        self.send_header("content-length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    made = HTTPServer(("127.0.0.1", 0), Ranges)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_only_the_header_of_a_file_behind_a_url_is_fetched(server: str) -> None:
    Ranges.data, Ranges.served = embedded.model_path().read_bytes(), 0

    found, real = source.find(f"{server}/models/smol.gguf", "bf16"), gguf_file.read(embedded.model_path())

    assert (found.weight_bytes, found.num_parameters, found.path.name) == (
        real.weight_bytes,
        real.num_parameters,
        "smol.gguf",
    )
    assert Ranges.served < len(Ranges.data) / 4


def test_what_is_no_model_behind_a_url_is_named(server: str) -> None:
    Ranges.data = b"<html>not found</html>" * 10
    with pytest.raises(ModelUnusable, match=r"smol\.gguf"):
        source.find(f"{server}/smol.gguf", "bf16")
