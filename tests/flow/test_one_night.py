"""Whole nights through the assembled daemon, on the scripted engine: fast enough to try every way a night can go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from corpus.embedding import HashingEmbedder
from db.database import Database
from db.queue import NewJob
from monk.daemon import Daemon, assemble, start, stop
from monk.engine.client import ThoughtRequest
from monk.engine.scripted import ScriptedEngine
from monk.services import utc_now
from monk.settings import load

SECONDS = 20.0
STORY = "Once upon a time there was a server that had no GPU and did not mind. " * 12


def told(prompt: str, request: ThoughtRequest) -> str:
    """What the scripted model says."""
    if "story" in prompt:
        return STORY
    if "6 times 7" in prompt:
        return f"Hm.\nAnswer: {42 if request.sampling.seed % 3 else 41}"
    return "Pump 9 was mended in March by the night shift."


@pytest.fixture
def corpus(home: Path) -> Path:
    folder = home / "corpus"
    folder.mkdir()
    (folder / "pumps.md").write_text("# Pumps\n\nPump 9 was mended in March by the night shift.\n\nPump 8 is new.\n")
    return folder


@pytest.fixture
def daemon(home: Path, corpus: Path, database: Database) -> Iterator[Daemon]:
    engine = ScriptedEngine(answer=told, context=4096, slots=8, token_delay_seconds=0.0005)
    settings = load({}, home=home, night="never", timezone="UTC", jobs_at_once=4, lease_seconds=5.0, save_seconds=0.05)
    made = assemble(settings, database, engine, HashingEmbedder)
    start(made)
    yield made
    stop(made, 10.0)


def submit(daemon: Daemon, kind: str = "chat", **more: Any) -> str:
    inputs = {
        "chat": {"messages": [{"role": "user", "content": "Tell a story"}], "temperature": 0.0, "max_tokens": 2000},
        "think": {"question": "What is 6 times 7?"},
        "answer": {"question": "When was pump 9 mended, and by whom?"},
        "read": {"document": "pumps.md", "questions": ["When was pump 9 mended?"]},
    }
    input_ = daemon.services.kinds.validate(kind, more.pop("input_", inputs[kind]))
    job, _ = daemon.services.queue.submit(NewJob(kind=kind, input=input_, **more), utc_now())
    daemon.workers.wake()
    return job.id


def wait(what: Callable[[], Any], told_: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := what():
            return value
        threading.Event().wait(0.01)
    raise AssertionError(f"{told_} did not come about")


def state(daemon: Daemon, job_id: str) -> str:
    return daemon.services.queue.get(job_id).state


def wait_state(daemon: Daemon, job_id: str, wanted: str) -> None:
    wait(lambda: state(daemon, job_id) == wanted, f"{job_id} {wanted} (it is {state(daemon, job_id)})")


def saved_tokens(daemon: Daemon, job_id: str) -> int:
    return sum(thought.num_tokens for thought in daemon.services.steps.of_job(job_id)[1])


def engine(daemon: Daemon) -> ScriptedEngine:
    found = daemon.services.engine
    assert isinstance(found, ScriptedEngine)
    return found


def test_every_kind_goes_from_the_queue_to_the_report(daemon: Daemon) -> None:
    ids = [submit(daemon, kind) for kind in ("answer", "think", "read", "chat")]
    daemon.services.night.open_now(None)
    for job_id in ids:
        wait_state(daemon, job_id, "done")

    daemon.services.night.close_now()
    report = wait(lambda: daemon.services.reports.listing(limit=1, cursor=None)[0], "a report")[0]

    results = [daemon.services.queue.get(job_id).result or {} for job_id in ids]
    assert results[0]["citations"][0] | {"passage": ""} == {
        "file": "pumps.md",
        "line": 3,
        "quote": "Pump 9 was mended in March by the night shift.",
        "verified": True,
        "passage": "",
    }
    assert results[1]["votes"][0]["count"] >= 3
    assert results[2]["parts"][0]["found"] is True
    assert results[3]["answer"] == STORY.strip()
    text = daemon.services.reporter.render(report, "md")
    assert all(job_id in text for job_id in ids)


def test_a_night_that_closes_pauses_a_thought_and_the_next_one_goes_on(daemon: Daemon) -> None:
    job_id = submit(daemon)
    daemon.services.night.open_now(None)
    wait(lambda: saved_tokens(daemon, job_id) > 50, "some tokens")
    daemon.services.night.close_now()
    wait_state(daemon, job_id, "queued")
    before = saved_tokens(daemon, job_id)

    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "done")

    job, thoughts = daemon.services.queue.get(job_id), daemon.services.steps.of_job(job_id)[1]
    assert before < len(STORY)
    assert (job.result or {})["answer"] == STORY.strip()
    assert (len(thoughts), thoughts[0].num_resumes) == (1, 1)
    assert (job.errors, job.crashes) == (0, 0)


def test_an_engine_that_dies_costs_no_token(daemon: Daemon) -> None:
    ids = [submit(daemon, seed=seed) for seed in range(3)]
    daemon.services.night.open_now(None)
    for _ in range(3):
        wait(lambda: all(saved_tokens(daemon, job_id) > 20 for job_id in ids), "some tokens")
        engine(daemon).die()

    for job_id in ids:
        wait_state(daemon, job_id, "done")

    for job_id in ids:
        assert (daemon.services.queue.get(job_id).result or {})["answer"] == STORY.strip()
        assert daemon.services.queue.get(job_id).errors == 0


def test_a_running_job_can_be_cancelled_and_its_slot_is_free_again(daemon: Daemon) -> None:
    job_id, other = submit(daemon), submit(daemon, "think")
    daemon.services.night.open_now(None)
    wait(lambda: saved_tokens(daemon, job_id) > 20, "some tokens")

    daemon.services.queue.cancel(job_id, utc_now())

    wait_state(daemon, other, "done")
    wait(lambda: engine(daemon).status().active == 0, "a free slot")
    assert state(daemon, job_id) == "cancelled"


def test_a_fault_in_a_kind_fails_the_job_and_no_other(daemon: Daemon) -> None:
    bad = submit(daemon, input_={"messages": [{"role": "user", "content": "x"}], "max_tokens": 5000})
    missing = submit(daemon, "read", input_={"document": "nowhere.pdf", "questions": ["?"]})
    good = submit(daemon, "think")
    daemon.services.night.open_now(None)

    wait_state(daemon, good, "done")
    wait_state(daemon, missing, "failed")
    wait_state(daemon, bad, "failed")

    assert (daemon.services.queue.get(bad).error or {})["code"] == "context_too_long"
    assert (daemon.services.queue.get(missing).error or {})["code"] == "not_found"
    assert daemon.services.queue.get(missing).attempt == 1


def test_a_question_the_corpus_cannot_answer_is_refused_without_thinking(daemon: Daemon) -> None:
    job_id = submit(daemon, "answer", input_={"question": "Which moons of Neptune rotate backwards?"})
    daemon.services.night.open_now(None)

    wait_state(daemon, job_id, "done")

    assert (daemon.services.queue.get(job_id).result or {})["found"] is False
    assert daemon.services.steps.of_job(job_id)[1] == []


def test_a_budget_of_minutes_ends_a_thought_with_what_it_has(daemon: Daemon) -> None:
    job_id = submit(daemon, budget={"minutes": 0.002})
    daemon.services.night.open_now(None)

    wait_state(daemon, job_id, "done")

    result = daemon.services.queue.get(job_id).result or {}
    assert result["finish_reason"] == "minutes"
    assert STORY.startswith(result["answer"])


def test_by_day_nothing_runs_and_a_due_job_is_picked_up_at_once_by_night(daemon: Daemon) -> None:
    job_id = submit(daemon, "think")
    threading.Event().wait(0.2)
    assert state(daemon, job_id) == "queued"

    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "done")
    soon = utc_now() + timedelta(seconds=0.5)
    later = submit(daemon, "think", not_before=soon, seed=5)
    wait_state(daemon, later, "done")

    assert (daemon.services.queue.get(later).started_at or soon) >= soon


def test_a_deadline_ends_a_job_and_says_so(daemon: Daemon) -> None:
    job_id = submit(daemon, deadline=utc_now() + timedelta(seconds=0.3))

    wait_state(daemon, job_id, "failed")

    assert (daemon.services.queue.get(job_id).error or {})["code"] == "deadline_passed"


def test_after_a_restart_running_jobs_go_on(home: Path, corpus: Path, database: Database) -> None:
    settings = load({}, home=home, night="never", timezone="UTC", save_seconds=0.05)
    first = assemble(settings, database, ScriptedEngine(answer=told, token_delay_seconds=0.002), HashingEmbedder)
    start(first)
    job_id = submit(first)
    first.services.night.open_now(None)
    wait(lambda: saved_tokens(first, job_id) > 30, "some tokens")
    stop(first, 10.0)
    assert state(first, job_id) == "queued"

    second = assemble(settings, database, ScriptedEngine(answer=told, token_delay_seconds=0.0), HashingEmbedder)
    start(second)  # the night was left open: it goes on by itself

    wait_state(second, job_id, "done")
    stop(second, 10.0)
    assert (second.services.queue.get(job_id).result or {})["answer"] == STORY.strip()


def test_jobs_are_held_while_others_need_the_machine_and_go_on_from_their_last_token(daemon: Daemon) -> None:
    job_id = submit(daemon)
    daemon.services.night.open_now(None)
    wait(lambda: saved_tokens(daemon, job_id) > 0, "a saved token")

    daemon.turns.hold("others wait for memory (35%)")
    kept = saved_tokens(daemon, job_id)
    held = state(daemon, job_id)
    memory_given_back = engine(daemon).status().state
    problem = daemon.services.problem()
    daemon.turns.release()
    wait_state(daemon, job_id, "done")

    assert (held, memory_given_back, problem) == ("queued", "off", "others wait for memory (35%)")
    assert kept > 0 and daemon.services.problem() is None
    assert (daemon.services.queue.get(job_id).result or {})["answer"].strip() == STORY.strip()
    daemon.services.night.close_now()
    report = wait(lambda: daemon.services.reports.listing(limit=1, cursor=None)[0], "a report")[0]
    assert "the model's memory given back: others wait for memory (35%)" in daemon.services.reporter.render(
        report, "md"
    )


def test_a_night_that_opens_while_the_machine_is_needed_waits_for_its_release(daemon: Daemon) -> None:
    daemon.turns.hold("others wait for memory (35%)")
    job_id = submit(daemon)
    daemon.services.night.open_now(None)

    assert engine(daemon).status().state == "off" and state(daemon, job_id) == "queued"
    daemon.turns.release()
    wait_state(daemon, job_id, "done")
