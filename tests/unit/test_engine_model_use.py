"""Settings a model runs with: what is refused, which win, which mean the same; and waves of them on a model that is a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from monk.engine import gguf_file
from monk.engine.client import AdapterUse, ModelUse, ThoughtRequest, wave_of
from monk.engine.config import EngineConfig
from monk.engine.kv_store import KvStore
from monk.engine.model_use import DENSE, OwnSettings, check, over, settled
from monk.errors import AdapterUnusable, InvalidInput, SettingsInvalid
from tests.engine_house import House, assert_right, request
from tests.engine_models import write_tiny_model

MIXTURE = OwnSettings(num_experts=16, experts=4, rope_freq_base=1e6)
LAWYER = AdapterUse("lawyer", "a" * 8)
NARROW = replace(DENSE, key_length=24, value_length=24)
LATENT = replace(DENSE, keys_hold_values=True)
QUANTISED = replace(DENSE, kv_type_v="q8_0", flash_attention="on")
USES = (ModelUse(), ModelUse(experts=4), ModelUse(rope_freq_base=50_000.0), ModelUse(yarn_factor=4.0))


@pytest.mark.parametrize(
    ("use", "own", "told"),
    [
        (ModelUse(experts=0), MIXTURE, "experts is 0; it must be from 1 to 4096"),
        (ModelUse(experts=17), MIXTURE, "experts is 17; this model has 16 and uses 4 by itself, so give 1 to 16"),
        (ModelUse(experts=4), DENSE, "it is dense; leave experts out"),
        (ModelUse(rope_freq_base=0.0), DENSE, "rope_freq_base is 0; it must be from 1 to 1e"),
        (ModelUse(rope_freq_base=float("nan")), DENSE, "rope_freq_base is nan"),
        (ModelUse(rope_freq_scale=-1.0), DENSE, "rope_freq_scale is -1"),
        (ModelUse(yarn_factor=0.5), DENSE, "yarn_factor is 0.5; it must be from 1 to 1024"),
        (ModelUse(yarn_factor=2.0, rope_freq_scale=0.5), DENSE, "both stretch the positions; give one of them"),
        (ModelUse(yarn_original_context=4096), DENSE, "give yarn_factor too"),
        (ModelUse(kv_type_k="q4_0"), DENSE, "kv_type_k is 'q4_0'; use one of f32, f16, bf16, q8_0"),
        (ModelUse(flash_attention="auto"), DENSE, "flash_attention is 'auto'; use one of on, off"),
        (ModelUse(kv_type_k="q8_0"), NARROW, "and this model's heads have 24; use f16"),
        (ModelUse(kv_type_v="q8_0"), NARROW, "kv_type_v is q8_0, which stores 32 values together"),
        (ModelUse(kv_type_v="q8_0", flash_attention="off"), DENSE, "values stored as q8_0 need it"),
        (ModelUse(), replace(NARROW, kv_type_k="q8_0"), "kv_type_k is q8_0, which stores 32 values together"),
        (
            ModelUse(kv_type_k="q8_0"),
            LATENT,
            "kv_type_k is q8_0 and kv_type_v f16; this model keeps its values in its keys",
        ),
        (ModelUse(), replace(LATENT, kv_type_v="bf16"), "so give the same for both"),
        (ModelUse(flash_attention="off"), QUANTISED, "set flash_attention to on, or kv_type_v to f16"),
    ],
)
def test_what_a_model_cannot_run_with_is_refused_by_name_value_and_way_out(
    use: ModelUse, own: OwnSettings, told: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(use, own)

    assert told in caught.value.message
    assert str(caught.value.param).startswith("model.")


def test_keys_that_hold_the_values_take_any_type_for_both() -> None:
    undecided = replace(LATENT, kv_type_k=None, kv_type_v=None)
    for use, own in (
        (ModelUse(kv_type_k="q8_0", kv_type_v="q8_0"), LATENT),
        (ModelUse(kv_type_k="f32", kv_type_v="f32"), LATENT),
        (ModelUse(kv_type_k="q8_0"), undecided),
        (ModelUse(), replace(LATENT, kv_type_k="q8_0", kv_type_v="q8_0")),
    ):
        check(use, own)


def test_a_job_wins_over_the_house_and_ways_to_stretch_exclude_each_other() -> None:
    house = ModelUse(experts=8, yarn_factor=2.0, yarn_original_context=4096)

    assert over(ModelUse(), house) == house
    assert over(ModelUse(experts=2), house) == replace(house, experts=2)
    assert over(ModelUse(yarn_factor=4.0), house) == ModelUse(experts=8, yarn_factor=4.0)
    assert over(ModelUse(rope_freq_scale=0.5), house) == ModelUse(experts=8, rope_freq_scale=0.5)


def test_what_the_file_says_anyway_is_no_wave_of_its_own() -> None:
    same = ModelUse(experts=4, rope_freq_base=1e6, rope_freq_scale=1.0)

    assert settled(same, ModelUse(), MIXTURE) == ModelUse()
    assert settled(ModelUse(experts=4), ModelUse(experts=8), MIXTURE) == ModelUse()
    assert wave_of((), settled(same, ModelUse(), MIXTURE)) == ""
    assert len({wave_of(worn, use) for use in USES for worn in ((), (LAWYER,))}) == 8


def test_equal_ways_to_store_kv_are_equal_values() -> None:
    house = OwnSettings(flash_attention="off")

    assert settled(ModelUse(kv_type_k="f16", kv_type_v="f16", flash_attention="off"), ModelUse(), house) == ModelUse()
    quantised = settled(ModelUse(kv_type_v="q8_0"), ModelUse(), house)
    assert quantised == ModelUse(kv_type_v="q8_0", flash_attention="on"), "which its values need"
    assert settled(ModelUse(kv_type_v="q8_0", flash_attention="on"), ModelUse(), house) == quantised
    assert settled(ModelUse(kv_type_v="q8_0"), ModelUse(), QUANTISED) == ModelUse()
    assert settled(ModelUse(kv_type_v="f16"), ModelUse(), QUANTISED) == ModelUse(kv_type_v="f16")


def test_a_thought_runs_as_if_the_house_were_set_so() -> None:
    config = EngineConfig(Path("m.gguf"), flash_attention="off", model_use=ModelUse(experts=4))
    use = ModelUse(experts=2, kv_type_k="bf16", kv_type_v="q8_0")

    assert config.under(ModelUse(experts=4)) == config
    assert config.under(use) == replace(
        config, model_use=ModelUse(experts=2), kv_type_k="bf16", kv_type_v="q8_0", flash_attention="on"
    )


def test_a_file_says_what_it_has(tmp_path: Path) -> None:
    mixture = gguf_file.read(write_tiny_model(tmp_path / "moe.gguf", "qwen3moe", experts=8))
    dense = gguf_file.read(write_tiny_model(tmp_path / "dense.gguf"))

    assert OwnSettings.of(mixture) == OwnSettings(8, 2, 10000.0, key_length=32, value_length=32)
    assert OwnSettings.of(dense) == replace(DENSE, key_length=32, value_length=32)


def test_engine_settings_cross_to_the_child_and_are_checked() -> None:
    config = EngineConfig(Path("m.gguf"), model_use=ModelUse(experts=4, yarn_factor=2.0))

    assert EngineConfig.from_json(config.to_json()) == config
    with pytest.raises(SettingsInvalid, match="experts is 0"):
        EngineConfig(Path("m.gguf"), model_use=ModelUse(experts=0))


# ── waves ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def using(one: ThoughtRequest, use: ModelUse, *adapters: AdapterUse) -> ThoughtRequest:
    return replace(one, model=use, adapters=adapters)


@pytest.mark.parametrize("can_trim", [True, False])
def test_a_mixed_line_runs_wave_by_wave_and_everybody_is_right(can_trim: bool) -> None:
    house = House(slots=3, can_trim=can_trim, fork_cells=600)
    asked = [
        using(request(f"t{at}", [*range(280), at], 5), USES[at % 4], *((LAWYER,) if at % 3 == 0 else ()))
        for at in range(16)
    ]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.runner.counters.waves == 7, "two for each setting, and the first of them runs already"


def test_the_only_slot_whose_lane_reads_prompts_too_is_opened_anew_like_others(tmp_path: Path) -> None:
    store = KvStore(tmp_path, 1 << 30)
    house = House(slots=1, store=store, in_place=True)
    asked = [using(request(f"t{at}", range(300), 4), USES[at % 3]) for at in range(6)]

    for item in asked:
        house.ask(item)
        house.work()

    assert_right(house, *asked)


def test_a_wave_may_have_fewer_slots_and_smaller_chunks_and_the_next_one_has_them_all_again(tmp_path: Path) -> None:
    house, wide = House(slots=4, store=KvStore(tmp_path, 1 << 30)), ModelUse(kv_type_k="f32")
    house.model.shapes[wide] = 1, replace(house.model.layout, chunk=4, kv_bytes_per_token=2, in_place=True)
    asked = [using(request(f"t{at}", range(at, at + 30), 4), wide if at % 2 else ModelUse()) for at in range(8)]
    seats: dict[ModelUse, set[int]] = {}

    house.ask(*asked)
    while house.runner.turn():
        seats.setdefault(house.model.use, set()).add(house.runner._lanes.num_seated)

    assert_right(house, *asked)
    assert {use: max(taken) for use, taken in seats.items()} == {ModelUse(): 4, wide: 1}


def test_the_same_settings_with_other_adapters_keep_the_contexts() -> None:
    house = House(slots=2)
    asked = [using(request(f"t{at}", range(40), 4), USES[1], *((LAWYER,) * (at % 2))) for at in range(4)]

    house.ask(*asked)
    house.work()

    assert_right(house, *asked)
    assert house.model.used == [USES[1]]


def test_blocks_of_one_wave_are_never_read_in_another(tmp_path: Path) -> None:
    store = KvStore(tmp_path, 1 << 30)
    for turn in range(2):
        house = House(slots=2, store=store)
        asked = [using(request(f"{turn}-{at}", range(400), 4), use) for at, use in enumerate(USES)]
        for item in asked:
            house.ask(item)
            house.work()
        assert_right(house, *asked)
        assert store.flush(10)
        if turn == 0:
            assert store.counters.hits == 0, "nothing of another wave"

    assert store.counters.hits >= len(USES) * 5, "the second night reads every wave's own blocks"
    assert store.counters.failures == 0


def test_settings_that_cannot_be_fail_their_thought_alone() -> None:
    house = House(slots=2)
    good = [request("good", range(30), 4), using(request("set", range(30), 4), USES[1])]
    bad = [
        using(request("many", range(20), 4), ModelUse(experts=9)),
        using(request("broken", range(20), 4), USES[2], AdapterUse("broken", "c")),
    ]

    house.ask(bad[0], good[0], bad[1], good[1])
    house.work()

    assert_right(house, *good)
    assert isinstance(house.end_of("many"), InvalidInput)
    assert isinstance(house.end_of("broken"), AdapterUnusable)
    assert house.runner.runs_with == house.model.use
