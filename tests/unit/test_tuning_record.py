"""What was chosen is kept for this host, model, build and settings, fills gaps only, and survives what disks do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from monk.engine import archive, memory
from monk.engine.config import EngineConfig
from monk.engine.kv_key import model_key
from monk.engine.tuning import host, record, tuner
from monk.engine.tuning.force import in_force, prices
from monk.engine.tuning.record import Record
from monk.errors import HomeUnusable, SettingsInvalid
from monk.settings import load
from tests.unit.test_engine_memory import qwen3_30b

SHA = "ab" * 32
VALUES = {
    "threads": 6,
    "threads_batch": 8,
    "threads_single": 4,
    "most_slots": 32,
    "most_ubatch": 256,
    "kv_type_k": "q8_0",
    "kv_type_v": "f16",
    "flash_attention": "off",
}


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    return EngineConfig(tmp_path / "model.gguf", tune_folder=tmp_path / "tune")


def kept(config: EngineConfig, **changes: object) -> Record:
    made = Record(record.key_of(config, SHA), VALUES, "2026-11-25T22:00:00+00:00", 40.0, True, {}, {}, [])
    made = replace(made, **changes)  # type: ignore[arg-type]
    record.keep(config, made)
    return made


def test_what_was_kept_is_found_again(config: EngineConfig) -> None:
    made = kept(config)

    assert record.find(config, SHA) == made
    assert [file.suffix for file in (config.tune_folder or Path()).iterdir()] == [".json"]


def test_gaps_are_filled_and_kv_types_only_by_leave(config: EngineConfig) -> None:
    kept(config)

    filled = record.tuned(config, SHA)
    free = record.tuned(replace(config, kv_types_free=True), SHA)

    assert filled == {name: value for name, value in VALUES.items() if not name.startswith("kv_type")}
    assert free == {}  # another question was asked, so it is another record


@pytest.mark.parametrize(
    ("setting", "left_alone"),
    [
        ({"threads": 3}, {"threads", "threads_batch", "threads_single"}),
        ({"threads_batch": 3}, {"threads_batch"}),
        ({"slots": 4}, {"most_slots"}),
        ({"ubatch": 64}, {"most_ubatch"}),
        ({"flash_attention": "on"}, {"flash_attention"}),
        ({"kv_type_v": "q8_0"}, {"flash_attention"}),  # which needs flash attention
    ],
)
def test_what_the_owner_set_stays(config: EngineConfig, setting: dict[str, object], left_alone: set[str]) -> None:
    owners = replace(config, **setting)  # type: ignore[arg-type]

    filled = record.gaps(owners, VALUES)

    assert left_alone.isdisjoint(filled)
    assert all(getattr(record.fill(owners, VALUES), name) == value for name, value in setting.items())
    untouched = {"threads", "threads_batch", "most_slots", "most_ubatch", "flash_attention"} - left_alone
    assert untouched <= filled.keys()


def test_it_holds_for_this_model_host_and_build_only(config: EngineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(config)

    assert record.find(config, "cd" * 32) is None
    with monkeypatch.context() as patch:
        patch.setattr(host, "build", lambda: "another llama.cpp")
        assert record.find(config, SHA) is None
    with monkeypatch.context() as patch:
        patch.setattr(host, "host", lambda: {"cpu": "another"})
        assert record.find(config, SHA) is None
    assert record.find(replace(config, threads=2, slots=3, kv_limit_bytes=0), SHA) is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"version": 1', '"version": 99'),
        lambda text: text.replace('"most_slots": 32', '"most_slots": 100000'),
        lambda text: text.replace('"most_slots"', '"unheard_of"'),
    ],
)
def test_a_damaged_record_is_as_if_it_were_not_there(config: EngineConfig, damage: object) -> None:
    kept(config)
    (file,) = (config.tune_folder or Path()).iterdir()
    file.write_text(damage(file.read_text()))  # type: ignore[operator]

    assert record.find(config, SHA) is None and record.tuned(config, SHA) == {}


def test_a_failed_measuring_is_remembered_and_fills_nothing(config: EngineConfig) -> None:
    kept(config, values={}, problem="signal 6")

    assert record.find(config, SHA) is not None
    assert record.fill(config, {}) == config


def test_it_is_forgotten_when_asked(config: EngineConfig) -> None:
    kept(config)

    assert record.forget(config, SHA) is True
    assert record.forget(config, SHA) is False
    assert record.find(config, SHA) is None


def test_a_folder_that_takes_no_file_is_told(config: EngineConfig, tmp_path: Path) -> None:
    (tmp_path / "tune").write_text("in the way")

    with pytest.raises(HomeUnusable, match="cannot be written"):
        kept(config)


def test_the_plan_is_as_wide_as_was_measured_to_pay_where_there_is_room() -> None:
    model, here = qwen3_30b(), EngineConfig(Path("/models/qwen3-30b.gguf"), threads=8)
    tuned = record.fill(here, {"most_slots": 48, "most_ubatch": 256})

    assert memory.fit(model, tuned, 4000 << 30).slots == 48
    assert memory.fit(model, here, 4000 << 30).slots == 32
    assert memory.fit(model, tuned, 44 << 30).slots == memory.fit(model, here, 44 << 30).slots < 32
    assert memory.fit(model, replace(tuned, context=4096), 2000 << 30).ubatch == 256


def test_the_status_says_which_settings_are_in_force_and_whence() -> None:
    model, owners = qwen3_30b(), EngineConfig(Path("/models/qwen3-30b.gguf"), threads=8)
    known = Record({}, VALUES, "2026-11-25T22:00:00+00:00", 40.0, True, {"prompts": 1.2}, {}, [])
    plan = memory.fit(model, record.fill(owners, VALUES), 2000 << 30)

    told = in_force(owners, plan, known)

    assert told["settings"]["threads"] == {"value": 8, "from": "set"}
    assert told["settings"]["slots"] == {"value": 32, "from": "tuned"}
    assert told["settings"]["flash_attention"] == {"value": "off", "from": "tuned"}
    assert told["settings"]["kv_type_k"] == {"value": "f16", "from": "default"}
    assert told["gain"] == {"prompts": 1.2}


def test_the_names_of_kv_blocks_change_with_a_choice_that_shapes_kv_and_with_no_other() -> None:
    model, here = qwen3_30b(), EngineConfig(Path("/models/qwen3-30b.gguf"), threads=8)

    def named(**values: object) -> bytes:
        filled = record.fill(here, values)
        plan = memory.fit(model, filled, 2000 << 30)
        return model_key(archive.facts(model, filled, plan, SHA))

    assert named(flash_attention="off", most_slots=48, most_ubatch=256) == named() == named()
    assert named(flash_attention="on") != named()


def test_on_a_busy_machine_the_first_start_waits_for_another(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tuner, "read_pressure", lambda: {"cpu": 61.0})
    asks = replace(config, tune_seconds=40.0)

    assert tuner.known_or_measured(asks, qwen3_30b(), SHA, lambda _frame: None) is None
    assert "the machine is busy" in caplog.text and not (config.tune_folder or Path()).exists()


def test_a_model_that_cannot_be_measured_runs_as_before(config: EngineConfig, caplog: pytest.LogCaptureFixture) -> None:
    asks = replace(config, tune_seconds=5.0, tune_busy_percent=0.0)  # its file does not exist

    assert tuner.known_or_measured(asks, qwen3_30b(), SHA, lambda _frame: None) is None
    assert "could not be measured" in caplog.text


def test_kv_types_are_left_to_the_measurement_both_or_not_at_all(tmp_path: Path) -> None:
    from monk.daemon import engine_config

    both = engine_config(load({"MONK_KV_TYPE_K": "auto", "MONK_KV_TYPE_V": "auto"}, home=tmp_path))

    assert both.kv_types_free and (both.kv_type_k, both.kv_type_v) == ("f16", "f16")
    with pytest.raises(SettingsInvalid, match="set both to auto"):
        load({"MONK_KV_TYPE_K": "auto"}, home=tmp_path)


def test_only_prices_that_can_be_true_reach_the_engine() -> None:
    def known(**facts: object) -> Record:
        return Record({}, {}, "2026-11-25", 40.0, True, {}, dict(facts), [])

    assert prices(None) == prices(known()) == {}
    assert prices(known(cell_ratio=0.4, copy_bytes_per_second=3_000_000_000)) == {
        "cell_ratio": 0.4,
        "copy_bytes_per_second": 3e9,
    }
    assert prices(known(cell_ratio=7.5, copy_bytes_per_second="much")) == {}
