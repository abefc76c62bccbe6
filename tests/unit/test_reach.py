"""What is known of how far a model reads: kept by all that shapes reading, told in words, and never a hindrance."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from db.queue import NewJob
from monk.cli.status import lines
from monk.daemon import engine_config
from monk.doctor.reach import reach as examine
from monk.engine.client import AdapterUse, ModelCard, ModelUse
from monk.engine.config import EngineConfig
from monk.engine.scripted import ScriptedEngine
from monk.engine.template import ChatTemplate
from monk.engine.tuning import record as tuning
from monk.lora.shelf import Shelf
from monk.model_check import ModelCheck
from monk.reach.house import HouseReach
from monk.reach.reading import Reading, of_card, of_config
from monk.reach.record import Reach, Reaches
from monk.reach.warnings import Foresight, beyond, turns_of
from monk.settings import load
from tests.engine_models import write_tiny_model

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
PLAIN = Reading("a" * 64)


def row(length: int, found: int = 4, asked: int = 4) -> dict[str, Any]:
    return {"length": length, "depth": 50.0, "needles": 1, "found": found, "asked": asked, "seconds": 1.0}


def control(length: int) -> dict[str, Any]:
    return {"length": length, "asked": 1, "right": 0, "named": 0}


def keep(reaches: Reaches, reading: Reading, *rows: dict[str, Any], job_id: str = "job_1") -> Reach:
    return reaches.keep(reading, list(rows), [control(one["length"]) for one in rows], NOW, job_id)


@pytest.fixture
def reaches(home: Path) -> Reaches:
    return Reaches(home / "reach")


# ── the record ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_measured_is_found_again_with_the_same_settings_only(reaches: Reaches) -> None:
    kept = keep(reaches, PLAIN, row(1024), row(2048), row(4096, found=0))

    assert reaches.find(Reading("a" * 64)) == kept
    assert (kept.reliable_tokens, kept.shortest_tokens, kept.longest_tokens) == (2048, 1024, 4096)
    for other in (
        Reading("b" * 64),
        replace(PLAIN, kv_type_k="q8_0"),
        replace(PLAIN, kv_type_v="q8_0"),
        replace(PLAIN, model=ModelUse(yarn_factor=4.0)),
        replace(PLAIN, model=ModelUse(experts=4)),
        replace(PLAIN, model=ModelUse(rope_freq_base=1e6)),
        replace(PLAIN, adapters=(("c" * 64, 1.0),)),
    ):
        assert reaches.find(other) is None, other


def test_a_new_measurement_replaces_its_own_lengths_and_leaves_the_others(reaches: Reaches) -> None:
    keep(reaches, PLAIN, row(1024), row(2048), row(4096, found=0))
    again = keep(reaches, PLAIN, row(4096), row(8192), job_id="job_2")

    assert [(one["length"], one["found"]) for one in again.table] == [(1024, 4), (2048, 4), (4096, 4), (8192, 4)]
    assert [one["length"] for one in again.control] == [1024, 2048, 4096, 8192]
    assert (again.reliable_tokens, again.job_id) == (8192, "job_2")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"reliable_tokens": 1024', '"reliable_tokens": 10240'),
        lambda text: text.replace('"length"', '"size"'),
        lambda text: text.replace("a" * 64, "b" * 64),
    ],
)
def test_a_damaged_record_is_as_if_it_were_not_there(reaches: Reaches, damage: Callable[[str], str]) -> None:
    keep(reaches, PLAIN, row(1024))
    path = reaches.path_of(PLAIN)
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)

    assert reaches.find(PLAIN) is None
    assert keep(reaches, PLAIN, row(2048)).longest_tokens == 2048, "and can be measured again"
    assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing is left lying about"


# ── what shapes reading ───────────────────────────────────────────────────────────────────────────────────────────────


def card(**tuned: str) -> ModelCard:
    settings = {name: {"value": value, "from": "tuned"} for name, value in tuned.items()}
    return replace(ScriptedEngine().card(), tuning={"settings": settings})


def test_the_loaded_model_says_how_it_reads() -> None:
    worn = (AdapterUse("/b", "b" * 64, 0.5), AdapterUse("/a", "a" * 64, 1.0))

    reading = of_card(card(kv_type_k="q8_0", kv_type_v="f16"), ModelUse(yarn_factor=2.0), worn)

    assert reading.key() == {
        "model_sha256": "0" * 64,
        "kv_types": "q8_0,f16",
        "model": {"yarn_factor": 2.0},
        "adapters": [["a" * 64, 1.0], ["b" * 64, 0.5]],
    }
    assert of_card(card(), ModelUse(), worn[::-1]).adapters == reading.adapters
    narrow = of_card(card(), ModelUse(yarn_factor=2.0, kv_type_k="q8_0", flash_attention="on"), worn)
    assert narrow == reading, "as a house that stores it so"
    assert json.loads(json.dumps(reading.key())) == reading.key()


def test_a_model_that_is_not_loaded_is_known_by_its_settings_and_what_was_tuned(home: Path) -> None:
    config = engine_config(load({}, home=home, kv_type_k="auto", kv_type_v="auto", yarn_factor=2.0))
    sha256 = config.model_sha256 or ""
    before = of_config(config, sha256, config.model_use)
    values = {"kv_type_k": "q8_0", "kv_type_v": "q8_0"}
    tuning.keep(
        config,
        tuning.Record(tuning.key_of(config, sha256), values, "2026-11-26T00:00:00+00:00", 1.0, False, {}, {}, []),
    )

    assert before == Reading(sha256, "f16", "f16", ModelUse(yarn_factor=2.0))
    assert of_config(config, sha256, config.model_use) == replace(before, kv_type_k="q8_0", kv_type_v="q8_0")


def test_settings_that_the_file_has_anyway_make_no_other_model(tmp_path: Path) -> None:
    check = ModelCheck(EngineConfig(write_tiny_model(tmp_path / "moe.gguf", "qwen3moe", experts=8)))

    assert check.plain(ModelUse(experts=2, rope_freq_base=10000.0)) == ModelUse()
    assert check.plain(ModelUse(experts=4)) == ModelUse(experts=4)
    free = ModelCheck(replace(check._config, kv_types_free=True))
    assert check.plain(ModelUse(kv_type_k="f16")) == ModelUse()
    assert free.plain(ModelUse(kv_type_k="f16")) == ModelUse(kv_type_k="f16"), "a tuning may have chosen another"
    assert ModelCheck(EngineConfig(tmp_path / "none.gguf")).plain(ModelUse(experts=2)) == ModelUse(experts=2)
    assert ModelCheck(EngineConfig(tmp_path / "none.gguf")).parts() == ()


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_prompt_is_warned_of_beyond_what_was_found_and_not_before(reaches: Reaches) -> None:
    part = keep(reaches, PLAIN, row(1024), row(2048), row(4096, found=0))

    assert beyond(None, 10**6) == beyond(part, 2048) == ""
    assert beyond(part, 2049) == "the prompt has 2049 tokens; this model found what it was asked for up to 2048"
    assert beyond(part, 3000, at_least=True).startswith("the prompt has at least 3000 tokens;")


def test_what_was_not_tried_is_called_so(reaches: Reaches) -> None:
    whole = keep(reaches, PLAIN, row(1024), row(2048))

    assert beyond(whole, 5000).endswith("up to 2048, and longer ones were not tried")


def test_a_model_that_found_nothing_is_warned_of_from_the_shortest_tried(reaches: Reaches) -> None:
    none = keep(reaches, PLAIN, row(1024, found=0))

    assert beyond(none, 1023) == ""
    assert beyond(none, 1024) == (
        "the prompt has 1024 tokens; this model lost what it was asked for at 1024, the shortest that was tried"
    )


# ── the house ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_doctor_and_the_status_tell_how_far_the_model_reads_or_that_nobody_knows(home: Path) -> None:
    settings = load({}, home=home, timezone="UTC")
    config = engine_config(settings)
    reading, reaches = Reading(config.model_sha256 or ""), Reaches(home / "reach")
    known = HouseReach(config, reaches, ModelCheck(config), None)

    def told() -> tuple[str, str, str]:
        found, reach = next(examine(settings)), known()
        state = {
            "version": "1",
            "night": {"open": False, "next_open_at": None},
            "queue": {},
            "engine": {"state": "off"},
            "reach": None if reach is None else reach.summary(),
        }
        return found.state, found.text, next(line for line in lines(state) if line.startswith("reach: "))

    never = told()
    keep(reaches, reading, row(1024))
    whole = told()
    keep(reaches, reading, row(2048, found=1))
    part = told()
    keep(reaches, reading, row(1024, found=1))
    none = told()

    assert never[0] == "ok" and "never measured" in never[1] and "never measured" in never[2]
    assert whole[0] == "ok" and "prompts of up to 1024 tokens; measured 2026-11-26" in whole[1]
    assert part[0] == "warn" and "up to 1024 tokens, not in longer ones; measured" in part[1]
    assert "finds things in prompts of up to 1024 tokens (measured " in part[2]
    assert none[0] == "warn" and "loses things even in prompts of 1024 tokens" in none[1]
    assert "things get lost even in prompts of 1024 tokens" in none[2]


def test_a_record_for_other_settings_is_not_the_houses(home: Path) -> None:
    config = engine_config(load({}, home=home, timezone="UTC"))
    reaches = Reaches(home / "reach")
    keep(reaches, Reading(config.model_sha256 or "", model=ModelUse(yarn_factor=4.0)), row(1024))

    def known(**settings: Any) -> Reach | None:
        config = engine_config(load({}, home=home, timezone="UTC", **settings))
        return HouseReach(config, reaches, ModelCheck(config), None)()

    assert known() is None
    found = known(yarn_factor=4.0)
    assert found is not None and found.reliable_tokens == 1024


# ── when a job is submitted ───────────────────────────────────────────────────────────────────────────────────────────


def chat(text: str, **more: Any) -> NewJob:
    return NewJob(kind="chat", input={"messages": [{"role": "user", "content": text}]}, **more)


def foresight(engine: ScriptedEngine, home: Path, reaches: Reaches) -> Foresight:
    config = engine_config(load({}, home=home))
    check, shelf = ModelCheck(config), Shelf(home / "adapters")
    return Foresight(engine, lambda: ChatTemplate.of(engine.card()), reaches, shelf, check, ModelUse())


def test_a_long_chat_is_warned_of_at_once_with_its_exact_length(home: Path, reaches: Reaches) -> None:
    engine = ScriptedEngine(context=8192)
    engine.start()
    foresee = foresight(engine, home, reaches)
    unknown = foresee(chat("x" * 3000))
    keep(reaches, of_card(engine.card(), ModelUse()), row(2048))

    frame = len(engine.tokenize(ChatTemplate.of(engine.card()).render([{"role": "user", "content": ""}])))
    assert unknown == []
    assert foresee(chat("x" * (2048 - frame))) == []
    assert foresee(chat("x" * (2049 - frame)))[0].startswith("the prompt has 2049 tokens; this model found")
    assert foresee(chat("x" * 3000, model={"rope_freq_base": 5e5})) == [], "never measured so"
    question = NewJob(kind="answer", input={"question": "x" * 3000})
    assert foresee(question)[0].startswith("the prompt has at least 3000 tokens;")
    assert foresee(chat("x" * 3000, adapter="gone")) == [], "what cannot be counted is told when it thinks"
    engine.stop()
    assert foresee(chat("x" * 3000)) == []


def test_a_kind_whose_prompt_is_made_later_says_nothing_of_its_length() -> None:
    for kind, input_ in (
        ("read", {"document": "a.md", "questions": ["?"]}),
        ("needle", {}),
        ("train", {"adapter": "x"}),
    ):
        assert turns_of(NewJob(kind=kind, input=input_)) == ([], False)
