"""A job that wears an adapter: refused when there is none, and faithful to the version it began with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.embedding import HashingEmbedder
from db.database import Database
from db.queue import NewJob
from monk.daemon import Daemon, assemble, start, stop
from monk.engine.client import ThoughtRequest
from monk.engine.scripted import ScriptedEngine
from monk.services import utc_now
from monk.settings import load
from tests.engine_models import write_tiny_model
from tests.flow.test_one_night import saved_tokens, wait, wait_state
from tests.unit.test_lora_refused import factors, peft

STORY = "Once upon a time a server wore a hat. " * 30


@pytest.fixture
def seen() -> list[ThoughtRequest]:
    return []


@pytest.fixture
def daemon(home: Path, database: Database, seen: list[ThoughtRequest]) -> Iterator[Daemon]:
    def told(prompt: str, request: ThoughtRequest) -> str:
        seen.append(request)
        return STORY

    (home / "corpus").mkdir()
    engine = ScriptedEngine(answer=told, context=4096, slots=4, token_delay_seconds=0.002)
    settings = load({}, home=home, night="never", timezone="UTC", lease_seconds=5.0, save_seconds=0.05)
    made = assemble(settings, database, engine, HashingEmbedder)
    start(made)
    yield made
    stop(made, 10.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf")


def chat(daemon: Daemon, adapter: str) -> str:
    messages = [{"role": "user", "content": "Tell a story"}]
    input_ = daemon.services.kinds.validate("chat", {"messages": messages, "temperature": 0.0, "max_tokens": 2000})
    job, _ = daemon.services.queue.submit(NewJob(kind="chat", input=input_, adapter=adapter), utc_now())
    daemon.workers.wake()
    return job.id


def test_a_job_wears_what_it_names_and_its_step_says_which_version(
    daemon: Daemon, model: Path, tmp_path: Path, seen: list[ThoughtRequest]
) -> None:
    shelf = daemon.services.shelf
    lawyer = shelf.add("lawyer", peft(tmp_path / "lawyer"), model, utc_now(), scale=0.5)
    poet = shelf.add("poet", peft(tmp_path / "poet", factors((2, 64), (128, 2))), model, utc_now())
    job_id = chat(daemon, "lawyer+poet:2")

    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "done")

    assert [(use.sha256, use.scale) for use in seen[0].adapters] == [(lawyer.sha256, 0.5), (poet.sha256, 2.0)]
    assert all(Path(use.path).is_file() for use in seen[0].adapters)
    steps, _ = daemon.services.steps.of_job(job_id)
    worn = next(step for step in steps if step.name == "adapter").result
    assert worn[0] == {"name": "lawyer", "sha256": lawyer.sha256, "scale": 0.5}


def test_a_cut_job_goes_on_with_the_version_it_began_with(
    daemon: Daemon, model: Path, tmp_path: Path, seen: list[ThoughtRequest]
) -> None:
    shelf = daemon.services.shelf
    first = shelf.add("lawyer", peft(tmp_path / "first"), model, utc_now())
    shelf.add("keep", peft(tmp_path / "first"), model, utc_now())  # its weights stay when the name goes
    job_id = chat(daemon, "lawyer")
    daemon.services.night.open_now(None)
    wait(lambda: saved_tokens(daemon, job_id) > 0, "a saved token")
    daemon.services.night.close_now()
    wait_state(daemon, job_id, "queued")
    shelf.remove("lawyer")
    shelf.add("lawyer", peft(tmp_path / "second", factors((2, 64), (128, 2))), model, utc_now())

    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "done")

    assert {use.sha256 for request in seen for use in request.adapters} == {first.sha256}
    assert (daemon.services.queue.get(job_id).result or {})["answer"].strip() == STORY.strip()


def test_an_adapter_that_is_gone_fails_the_job_in_one_line(daemon: Daemon, model: Path, tmp_path: Path) -> None:
    shelf = daemon.services.shelf
    shelf.add("lawyer", peft(tmp_path / "lawyer"), model, utc_now())
    job_id = chat(daemon, "lawyer")
    shelf.remove("lawyer")

    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "failed")

    error = daemon.services.queue.get(job_id).error or {}
    assert error["message"].startswith("there is no adapter 'lawyer'")
