"""What `monk plan` chooses and finds: presets, the largest context, the best weights; sockets, YaRN, adapters, the picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monk.cli import plan as command
from monk.cli.app import app
from monk.engine import embedded, gguf_file, memory
from monk.engine.config import EngineConfig
from monk.errors import InvalidInput, NotFound
from monk.lora import gguf_adapter
from monk.plan import beside, fitting, presets, source, stretch
from monk.plan.described import retyped
from monk.plan.machines import described
from monk.plan.speed import Machine, Roofline, Work
from tests.engine_models import write_tiny_model
from tests.lora_models import random_lora

SERVER = ("--bandwidth", "460GB/s", "--cores", "64")
GIB = 1 << 30
run = CliRunner()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONK_HOME", str(tmp_path / "plan-home"))


def planned(*arguments: str) -> dict[str, Any]:
    done = run.invoke(app, ["plan", *arguments, "--json"])
    assert done.exit_code in (0, 2), done.output + repr(done.exception)
    return dict(json.loads(done.stdout))


def value(plan: dict[str, Any], name: str) -> float:
    return float(next(figure["value"] for figure in plan["memory"] if figure["name"] == name))


# ── presets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_max_takes_the_best_weights_then_the_longest_context_then_the_most_thoughts() -> None:
    large = planned("Qwen3-32B", "--preset", "max", "--ram", "1TB", *SERVER)
    small = planned("Qwen3-32B", "--preset", "max", "--ram", "48GB", *SERVER)

    assert large["model"] == "Qwen3-32B (bf16)" and large["context"] == 131072 and large["slots"] >= 16
    assert value(large, "with all beside it") <= 1e12
    assert small["model"] == "Qwen3-32B (q8_0)" and small["context"] < 131072 and small["fits"]
    assert any("YaRN stretches 32768 positions 4 times" in note for note in large["notes"])


def test_balanced_and_fast_choose_what_they_say() -> None:
    balanced = planned("Llama-3.1-70B", "--preset", "balanced", "--ram", "512GB", *SERVER)
    fast = planned("Llama-3.1-70B", "--preset", "fast", "--ram", "512GB", *SERVER)

    assert (balanced["model"], balanced["context"]) == ("Llama-3.1-70B (q8_0)", 32768)
    assert (fast["model"], fast["context"], fast["slots"]) == ("Llama-3.1-70B (q4_k_m)", 8192, 32)
    for words in ("8,192 tokens fit", "64", "q8_0, 32,768", "q4_k_m, 8,192", "What you say yourself stays"):
        assert words in command.PRESETS


def test_what_is_said_by_hand_stays_under_a_preset() -> None:
    told = planned(
        "Qwen3-32B",
        "--preset",
        "max",
        "--weights",
        "q4_k_m",
        "--context",
        "16384",
        "--slots",
        "2",
        "--ram",
        "1TB",
        *SERVER,
    )

    assert (told["model"], told["context"], told["slots"]) == ("Qwen3-32B (q4_k_m)", 16384, 2)


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_of_a_file_keeps_its_weights(tmp_path: Path, name: str) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")

    told = planned(str(path), "--preset", name, "--ram", "8GB", *SERVER)

    assert value(told, "weights") == gguf_file.read(path).weight_bytes and told["fits"]


# ── what fits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fits(model: str, weights: str, context: int, ram: int) -> bool:
    """By the engine's own plan."""
    file = source.find(model, weights)
    try:
        memory.fit(file, EngineConfig(file.path, context=context, kv_folder=Path("/kv")), ram)
    except memory.MemoryTooSmall:
        return False
    return True


def test_the_largest_context_is_where_the_engines_own_plan_ends() -> None:
    found = planned("Qwen3-32B", "--fit", "--ram", "80GB", "--night", "90d", *SERVER)
    room = 80 * 10**9 - int(value(found, "with all beside it") - value(found, "in all"))

    assert found["fits"] and 2048 < found["context"] < 131072 and found["context"] % 256 == 0
    assert fits("Qwen3-32B", "bf16", found["context"], room) and not fits(
        "Qwen3-32B", "bf16", found["context"] + 256, room
    )
    assert found["tried"][1]["verdict"] == "does not fit the memory"


def test_a_short_night_allows_a_shorter_context() -> None:
    night = planned("Llama-3.1-70B", "--weights", "q4_k_m", "--fit", "--ram", "1TB", "--night", "4h", *SERVER)
    week = planned("Llama-3.1-70B", "--weights", "q4_k_m", "--fit", "--ram", "1TB", "--night", "7d", *SERVER)

    assert night["context"] < week["context"] == 131072
    assert night["tried"][0]["seconds"] <= 4 * 3600 < night["tried"][1]["seconds"]
    assert night["tried"][1]["verdict"] == "is not done by morning"
    assert "trained for" in week["chosen"]


def test_yarn_is_considered_beyond_the_training_length_and_what_it_does_is_said() -> None:
    found = planned("Qwen2.5-72B", "--weights", "q4_k_m", "--fit", "--ram", "1TB", "--night", "30d", *SERVER)

    assert found["context"] == 131072
    note = next(note for note in found["notes"] if "YaRN" in note)
    assert "yarn_factor = 4, yarn_original_context = 32768" in note and "short texts" in note


def test_the_best_weights_for_a_context_are_the_first_that_fit_and_are_done() -> None:
    found = planned("Qwen3-32B", "--fit", "--context", "32768", "--ram", "64GB", *SERVER)

    tried = [(one["weights"], one["verdict"]) for one in found["tried"]]
    assert tried[0] == ("bf16", "does not fit the memory") and tried[-1] == ("q8_0", "fits")
    assert found["model"] == "Qwen3-32B (q8_0)" and found["slots"] >= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("Llama-3.1-70B", "--context", "131072", "--ram", "64GB"),
            "no weights are small enough: q4_0 does not fit the memory",
        ),
        (("Llama-3.1-70B", "--context", "131072", "--ram", "1TB", "--night", "1h"), "q4_0 is not done by morning"),
        (("Llama-3.1-405B", "--ram", "64GB"), "not even 512 tokens"),
    ],
)
def test_nothing_that_fits_is_refused_with_figures_and_what_would(arguments: tuple[str, ...], told: str) -> None:
    done = run.invoke(app, ["plan", *arguments, "--fit", *SERVER], standalone_mode=False)

    assert done.return_value == 2
    assert told in done.output and "GiB" in done.output
    assert ("a smaller model" if "405B" in arguments[0] else "what would fit:") in done.output


def test_a_preset_and_a_search_are_not_both() -> None:
    done = run.invoke(app, ["plan", "Qwen3-8B", "--fit", "--preset", "max", "--ram", "64GB", *SERVER])

    assert isinstance(done.exception, InvalidInput) or "give one of them" in done.output + str(done.exception)


def test_a_search_never_asks_for_more_than_there_is() -> None:
    model = source.locate("Qwen3-30B-A3B")
    machine = Machine(460e9, 64 * 70.0)

    def pace_of(file: Any, config: EngineConfig) -> Roofline:
        return Roofline(Work.of(file, config), machine)

    for gigabytes in (24, 40, 100, 400):
        found = fitting.search(
            model, "q4_k_m", EngineConfig(Path("x")), gigabytes * 10**9, pace_of, fitting.Night(9 * 3600.0, 500)
        )
        assert found.config is not None
        plan = memory.fit(found.model, found.config, gigabytes * 10**9)
        assert plan.context == found.config.context and plan.total_bytes <= gigabytes * 10**9


# ── knobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_and_values_have_types_of_their_own() -> None:
    both = planned("Qwen3-32B", "--kv-type", "q8_0", "--context", "8192", "--ram", "1TB", *SERVER)
    keys = planned("Qwen3-32B", "--kv-type-k", "q8_0", "--context", "8192", "--ram", "1TB", *SERVER)

    assert value(both, "KV of a token") == 262144 * 34 // 64
    assert value(keys, "KV of a token") == 131072 * 34 // 64 + 131072
    assert both["compute_bytes_by_flash_attention"]["off"] is None
    assert keys["compute_bytes_by_flash_attention"]["off"] > keys["compute_bytes_by_flash_attention"]["on"] > 0


def test_memory_is_told_for_each_number_of_thoughts() -> None:
    told = planned("Qwen3-32B", "--context", "8192", "--slots", "4", "--ram", "1TB", *SERVER)

    widths = {int(slots): size for slots, size in told["memory_by_slots"].items()}
    assert list(widths) == [1, 2, 4, 8, 16, 32, 64]
    assert widths[4] == value(told, "in all")
    assert widths[64] - widths[32] == pytest.approx(32 * value(told, "KV of one thought"), rel=0.02)
    assert set(told["decode_tokens_per_second"]["0"]) == {"1", "2", "4", "8", "16", "32", "64"}


def test_more_experts_cost_speed_and_no_weights() -> None:
    usual, more = (
        planned("Qwen3-30B-A3B", "--ram", "1TB", "--context", "8192", "--bandwidth", "200GB/s", "--cores", "8", *extra)
        for extra in ((), ("--experts", "16"))
    )

    assert value(usual, "weights") == value(more, "weights")
    assert 0 < value(more, "in all") - value(usual, "in all") < GIB
    assert usual["decode_tokens_per_second"]["0"]["1"] > 1.4 * more["decode_tokens_per_second"]["0"]["1"]
    assert any("16 experts of 128" in note for note in more["notes"])
    done = run.invoke(app, ["plan", "Qwen3-30B-A3B", "--experts", "129", "--ram", "1TB", *SERVER])
    assert done.exit_code != 0 and "this model has 128" in done.output + str(done.exception)


def test_a_rope_base_is_told_with_the_models_own(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")

    told = planned(str(path), "--rope-base", "1000000", "--ram", "8GB", *SERVER)

    assert any("a rope base of 1,000,000 instead of 10,000" in note for note in told["notes"])


def test_the_weights_of_a_file_can_be_planned_in_another_format() -> None:
    real = gguf_file.read(embedded.model_path())
    q8, f16 = retyped(real, "q8_0"), retyped(real, "f16")

    assert f16.weight_bytes > 1.8 * q8.weight_bytes > 1.8 * real.weight_bytes
    assert f16.num_parameters == real.num_parameters
    with pytest.raises(InvalidInput, match="known are"):
        retyped(real, "q1")


def test_a_second_socket_adds_bandwidth_only_with_a_policy() -> None:
    one, two = described(460e9, 64), described(460e9, 64, 2)
    spread, alone = described(460e9, 64, 2, "distribute"), described(460e9, 64, 2, "isolate")

    assert two.bandwidth == one.bandwidth and two.gflops == 2 * one.gflops
    assert one.bandwidth < spread.bandwidth < 2 * one.bandwidth
    assert (alone.bandwidth, alone.gflops) == (one.bandwidth, one.gflops)
    assert "without a NUMA policy" in two.notes[0] and "0.6 of its bandwidth" in spread.notes[0] and not one.notes
    with pytest.raises(InvalidInput, match="distribute"):
        described(460e9, 64, 2, "mirror")


def test_sockets_and_threads_are_explained() -> None:
    shown = run.invoke(
        app, ["plan", "Qwen3-32B", "--ram", "1.5TB", "--sockets", "2", "--threads", "16", "--explain", *SERVER]
    )

    assert shown.exit_code == 0, shown.output
    assert "2 sockets without a NUMA policy" in shown.output and "16 of 128 cores at work" in shown.output
    lonely = run.invoke(app, ["plan", "Qwen3-32B", "--sockets", "2"])
    assert "--sockets describes another machine; say its --bandwidth too" in lonely.output + str(lonely.exception)


def test_cores_that_are_not_said_are_assumed_aloud() -> None:
    assumed, said = described(460e9, 0, 2), described(460e9, 64, 2)

    assert (assumed.bandwidth, assumed.gflops) == (said.bandwidth, said.gflops)
    assert "64 cores a socket are assumed" in assumed.notes[0] and assumed.notes[1:] == said.notes
    shown = run.invoke(app, ["plan", "Qwen3-30B-A3B", "--ram", "1.5TB", "--sockets", "2", "--bandwidth", "460GB/s"])
    assert shown.exit_code == 0 and "64 cores a socket are assumed" in shown.output, shown.output
    assert described(1e9, 0).cores == 1


def test_a_mixture_on_many_cores_waits_for_its_threads() -> None:
    work = Work.of(source.find("Qwen3-30B-A3B", "q4_k_m"), EngineConfig(Path("none.gguf")))
    many, few = described(614e9, 96), described(83e9, 8)

    assert 20 < 1 / work.step_seconds(many, 1, 0) < 40, "published: 26.6 and 32.2 tokens a second on an EPYC 9655"
    assert 20 < 1 / work.step_seconds(few, 1, 0) < 30, "published: 24.0 on an EPYC 4344P"
    oss = Work.of(source.find("gpt-oss-120b", "q8_0"), EngineConfig(Path("none.gguf")))
    half = described(460e9, 96, threads=44)
    assert 40 < 1 / oss.step_seconds(half, 1, 0) < 60, "published: 49.3 on an EPYC 9B14 with 44 threads"


@pytest.mark.parametrize(
    ("name", "context", "factor", "original"),
    [("Qwen3-32B", 65536, 2.0, 32768), ("Qwen2.5-72B", 100000, 3.25, 32768), ("Llama-3.1-70B", 131072, None, 0)],
)
def test_yarn_is_as_strong_as_the_context_needs(name: str, context: int, factor: float | None, original: int) -> None:
    found = stretch.needed(source.find(name, "q4_k_m"), context)

    assert (found is None) == (factor is None)
    if found is not None:
        assert (found.factor, found.original) == (factor, original)
        assert "validated" not in found.told() and "validated" in replace(found, factor=8.0).told()


# ── beside the engine ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_adapters_and_the_librarys_models_find_room_too(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    adapter = tmp_path / "lawyer.gguf"
    gguf_adapter.write(random_lora(path, 1), adapter)
    bare = planned(str(path), "--context", "512", "--ram", "8GB", *SERVER)
    worn = planned(
        str(path), "--context", "512", "--ram", "8GB", "--adapter", str(adapter), "--adapter", str(adapter), *SERVER
    )

    size = value(worn, "adapter lawyer")
    assert 0 < size < adapter.stat().st_size
    assert value(worn, "with all beside it") - value(bare, "with all beside it") == 2 * size
    assert value(bare, "embedding model") == pytest.approx(90e6, rel=0.05)
    assert value(bare, "daemon") > 100 << 20


def test_an_adapter_that_is_none_is_named(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="there is no adapter"):
        beside.parts([tmp_path / "no.gguf"], None, None)
    with pytest.raises(InvalidInput, match=r"no adapter_model\.safetensors"):
        beside.parts([tmp_path / "empty"], None, None)
    with pytest.raises(InvalidInput, match="is no adapter"):
        beside.parts([model], None, None)


def test_a_reranker_is_counted_and_one_that_is_not_here_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "reranker"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(1000))
    found = {part.name: part for part in beside.parts([], None, str(folder))}
    away = {part.name: part for part in beside.parts([], "owner/nowhere", None)}

    assert found["reranker"].num_bytes == 1000
    assert away["embedding model"].num_bytes == 0 and away["embedding model"].formula.startswith("not counted")


def test_what_lies_in_the_page_cache_is_told() -> None:
    mapped = planned("Qwen3-8B", "--ram", "64GB", *SERVER)
    read = planned("Qwen3-8B", "--no-mmap", "--ram", "64GB", *SERVER)

    told = [next(f["formula"] for f in plan["memory"] if f["name"] == "page cache") for plan in (mapped, read)]
    assert told[0].startswith("the mapped weights lie there") and told[1].startswith("the file is read through it")
    assert value(mapped, "in all") == value(read, "in all")


# ── the picture ───────────────────────────────────────────────────────────────────────────────────────────────────────


def words(svg: str) -> str:
    return " ".join(text for element in ET.fromstring(svg).iter() if (text := (element.text or "").strip()))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("pictures")
    texts = []
    for ram in ("1TB", "32GB"):
        path = folder / f"{ram}.svg"
        run.invoke(app, ["plan", "Qwen3-32B", "--context", "32768", "--ram", ram, "--picture", str(path), *SERVER])
        texts.append(path.read_text("utf-8"))
    yield texts[0], texts[1]


def test_the_picture_has_the_parts_of_memory_the_ram_and_speed_by_width(pictures: tuple[str, str]) -> None:
    told = words(pictures[0])

    for part in ("weights", "KV of all", "compute", "other lanes", "process", "beside the engine", "RAM 931.3"):
        assert part in told, part
    for width in (1, 2, 4, 8, 16, 32, 64):
        assert f"{width} at once" in told
    assert "flash attention off (chosen)" in told and "flash attention on" in told and "general shares" in told


def test_what_does_not_fit_is_drawn_against_the_ram(pictures: tuple[str, str]) -> None:
    assert "does not fit" in words(pictures[1]) and "RAM 29.8" in words(pictures[1])


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    done = run.invoke(app, ["plan", "Qwen3-8B", "--ram", "64GB", "--picture", str(tmp_path / "no" / "a.svg"), *SERVER])
    assert done.exit_code != 0 and "cannot be written" in done.output + str(done.exception)
