"""A job that has the model run with other settings: refused when it cannot be, and told wherever the job is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpus.embedding import HashingEmbedder
from db.database import Database
from db.queue import NewJob
from monk.api.requests import Sent, new_job
from monk.api.views import job_summary
from monk.daemon import Daemon, assemble, start, stop
from monk.engine.client import ModelUse, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.model_use import OwnSettings
from monk.engine.scripted import ScriptedEngine
from monk.errors import InvalidInput, SettingsInvalid
from monk.model_check import ModelCheck
from monk.services import utc_now
from monk.settings import load
from tests.engine_models import write_tiny_model
from tests.flow.test_one_night import STORY, saved_tokens, wait, wait_state


def house(home: Path, database: Database, seen: list[ThoughtRequest], **settings: Any) -> Daemon:
    def told(_prompt: str, request: ThoughtRequest) -> str:
        seen.append(request)
        return STORY

    (home / "corpus").mkdir(exist_ok=True)
    engine = ScriptedEngine(
        told, context=4096, slots=4, token_delay_seconds=0.002, own=OwnSettings(num_experts=16, experts=4)
    )
    chosen = load({}, home=home, night="never", timezone="UTC", save_seconds=0.05, **settings)
    return assemble(chosen, database, engine, HashingEmbedder)


@pytest.fixture
def seen() -> list[ThoughtRequest]:
    return []


@pytest.fixture
def daemon(home: Path, database: Database, seen: list[ThoughtRequest]) -> Iterator[Daemon]:
    made = house(home, database, seen)
    start(made)
    yield made
    stop(made, 10.0)


def chat(daemon: Daemon, **model: float | str) -> str:
    messages = [{"role": "user", "content": "Tell a story"}]
    input_ = daemon.services.kinds.validate("chat", {"messages": messages, "temperature": 0.0, "max_tokens": 2000})
    job, _ = daemon.services.queue.submit(NewJob(kind="chat", input=input_, model=model), utc_now())
    daemon.workers.wake()
    return job.id


def test_what_a_job_ran_with_is_told_of_it_and_in_the_report(daemon: Daemon, seen: list[ThoughtRequest]) -> None:
    job_id = chat(daemon, experts=8, rope_freq_base=5e5)
    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "done")

    job = daemon.services.queue.get(job_id)
    steps, thoughts = daemon.services.steps.of_job(job_id)
    report = daemon.services.reporter.render(daemon.services.reporter.write(None, None), "md")
    assert seen[0].model == ModelUse(experts=8, rope_freq_base=5e5)
    assert job_summary(job, (None, {}))["model"] == {"experts": 8, "rope_freq_base": 5e5}
    assert [step.result for step in steps if step.name == "model"] == [{"experts": 8, "rope_freq_base": 5e5}]
    assert thoughts[0].sampling["model"] == {"experts": 8, "rope_freq_base": 5e5}
    assert "Run with experts 8, rope_freq_base 500000." in report.replace("\\", "")


def test_a_cut_job_goes_on_with_what_the_house_had_set_when_it_began(home: Path, database: Database) -> None:
    seen: list[ThoughtRequest] = []
    first = house(home, database, seen, experts=8)
    start(first)
    job_id = chat(first, yarn_factor=2.0)
    first.services.night.open_now(None)
    wait(lambda: saved_tokens(first, job_id) > 10, "a saved token")
    stop(first, 10.0)

    second = house(home, database, seen)
    start(second)
    wait_state(second, job_id, "done")
    stop(second, 10.0)

    assert [request.model for request in seen] == [ModelUse(experts=8, yarn_factor=2.0)] * 2
    assert len(seen[1].saved) > 10, "it is still the same thought"
    assert (second.services.queue.get(job_id).result or {})["answer"] == STORY.strip()


def test_a_model_that_was_changed_under_a_waiting_job_fails_it_in_one_line(daemon: Daemon) -> None:
    job_id = chat(daemon, experts=64)
    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "failed")

    error = daemon.services.queue.get(job_id).error or {}
    assert error["code"] == "invalid_input" and error["message"].startswith("experts is 64; this model has 16")


def test_settings_are_checked_against_the_file_before_the_model_is_loaded(daemon: Daemon, tmp_path: Path) -> None:
    mixture = write_tiny_model(tmp_path / "moe.gguf", "qwen3moe", experts=8)
    dense = write_tiny_model(tmp_path / "dense.gguf")
    narrow = write_tiny_model(tmp_path / "narrow.gguf", head_size=24)
    latent = write_tiny_model(tmp_path / "latent.gguf", "deepseek2", experts=8)
    endless = write_tiny_model(tmp_path / "endless.gguf", layers=64, kv_heads=4)
    most = {"context": 1 << 24, "flash_attention": "on"}

    def submit(body: bytes, model: Path) -> NewJob:
        services = daemon.services
        check = ModelCheck(EngineConfig(model, **(most if model is endless else {})))
        sent = Sent(b'{"question": "Why?", "model": ' + body + b"}", "application/json")
        return new_job(sent, services.kinds, services.shelf, utc_now(), check)

    assert submit(b'{"experts": 8}', mixture).model == {"experts": 8}
    assert submit(b'{"experts": null}', dense).model == {}
    assert submit(b'{"experts": 8}', tmp_path / "not there.gguf").model == {"experts": 8}, "the engine will tell"
    for body, model, told in (
        (b'{"experts": 9}', mixture, "give 1 to 8"),
        (b'{"experts": 2}', dense, "it is dense; leave experts out"),
        (b'{"rope_freq_scale": 99}', dense, "rope_freq_scale is 99; it must be from"),
        (b'{"experts": "many"}', mixture, "model.experts"),
        (b'{"kv_type_k": "q4_0"}', mixture, "use one of f32, f16, bf16, q8_0"),
        (b'{"kv_type_v": "q8_0", "flash_attention": "off"}', dense, "values stored as q8_0 need it"),
        (b'{"kv_type_k": "q8_0"}', narrow, "this model's heads have 24"),
        (b'{"kv_type_k": "q8_0"}', latent, "give the same for both"),
        (b'{"kv_type_v": "f32"}', endless, "kv_type_v f32: endless.gguf needs "),
    ):
        with pytest.raises(InvalidInput) as caught:
            submit(body, model)
        assert told in caught.value.message
        assert str(caught.value.param).startswith("model")


@pytest.mark.parametrize("name", ["mlock", "mmap", "numa", "cpus", "threads", "huge_pages", "slots", "context"])
def test_what_holds_for_the_whole_process_is_no_setting_of_one_job(daemon: Daemon, name: str) -> None:
    sent = Sent(b'{"question": "Why?", "model": {"%s": 1}}' % name.encode(), "application/json")
    with pytest.raises(
        InvalidInput, match=f"{name} holds for the loaded model and so for all jobs; set it in monk.toml"
    ):
        new_job(sent, daemon.services.kinds, daemon.services.shelf, utc_now())


def test_a_job_may_store_its_kv_otherwise(daemon: Daemon, seen: list[ThoughtRequest]) -> None:
    job_id = chat(daemon, kv_type_k="q8_0", kv_type_v="q8_0")
    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "done")

    report = daemon.services.reporter.render(daemon.services.reporter.write(None, None), "md")
    assert seen[0].model == ModelUse(kv_type_k="q8_0", kv_type_v="q8_0")
    assert "Run with kv_type_k q8_0, kv_type_v q8_0." in report.replace("\\", "")


def test_settings_of_the_house_are_checked_when_they_are_read(home: Path) -> None:
    (home / "monk.toml").write_text("yarn_factor = 2.0\nrope_freq_scale = 0.5\n")

    with pytest.raises(SettingsInvalid, match="give one of them"):
        load({}, home=home)
    with pytest.raises(SettingsInvalid, match="experts"):
        load({"MONK_EXPERTS": "-1"}, home=home)
