"""What a job may spend, through the assembled daemon: tokens, minutes, and how long a reasoning model may think."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpus.embedding import HashingEmbedder
from db.database import Database
from db.queue import NewJob
from monk.api.views import job_summary
from monk.daemon import Daemon, assemble, start, stop
from monk.engine.client import ThoughtRequest
from monk.engine.scripted import ScriptedEngine
from monk.services import utc_now
from monk.settings import load
from tests.flow.test_one_night import saved_tokens, wait, wait_state

DOUBT = "It may be 41, or it may be 42; who knows. "
THOUGHT = "<think>" + DOUBT * 40 + "</think>Six times seven.\nAnswer: 42"


def speak(prompt: str, request: ThoughtRequest) -> str:
    if "story" in prompt:
        return "Once upon a time there was a budget. " * 200
    return "Line by line, this says something about it. " * 10 if "Pump" in prompt else THOUGHT


def house(home: Path, database: Database, *, thinks: bool = True, delay: float = 0.0) -> Daemon:
    (home / "corpus").mkdir(exist_ok=True)
    (home / "corpus" / "pumps.md").write_text("# Pumps\n\nPump 9 was mended in March.\n")
    engine = ScriptedEngine(speak, context=8192, slots=8, token_delay_seconds=delay, thinks=thinks)
    settings = load({}, home=home, night="never", timezone="UTC", lease_seconds=5.0, save_seconds=0.05)
    return assemble(settings, database, engine, HashingEmbedder)


@pytest.fixture
def daemon(home: Path, database: Database) -> Iterator[Daemon]:
    made = house(home, database)
    start(made)
    yield made
    stop(made, 10.0)


def submit(daemon: Daemon, kind: str, input_: dict[str, Any], **budget: float) -> str:
    given = daemon.services.kinds.validate(kind, input_)
    job, _ = daemon.services.queue.submit(NewJob(kind=kind, input=given, budget=budget), utc_now())
    daemon.workers.wake()
    return job.id


def chat(daemon: Daemon, content: str = "What is 6 times 7?", max_tokens: int = 400, **budget: float) -> str:
    messages = [{"role": "user", "content": content}]
    return submit(daemon, "chat", {"messages": messages, "temperature": 0.0, "max_tokens": max_tokens}, **budget)


def result_of(daemon: Daemon, job_id: str) -> dict[str, Any]:
    daemon.services.night.open_now(None)
    wait_state(daemon, job_id, "done")
    return daemon.services.queue.get(job_id).result or {}


def asked(daemon: Daemon) -> list[ThoughtRequest]:
    engine = daemon.services.engine
    assert isinstance(engine, ScriptedEngine)
    return engine.requests


def test_a_reasoning_model_is_made_to_answer_and_its_thinking_stays_apart(daemon: Daemon) -> None:
    result = result_of(daemon, chat(daemon))

    assert result["answer"] == "Six times seven.\nAnswer: 42"
    assert result["reasoning"].startswith(DOUBT.strip()) and result["thinking_cut"] is True
    assert result["finish_reason"] == "stop"
    thinking = asked(daemon)[0].thinking
    assert thinking is not None and thinking.tokens is not None
    assert thinking.tokens + len(thinking.closing) == 280, "the house's 0.7 of 400"
    assert result["thinking_tokens"] == thinking.tokens


def test_a_thought_that_ends_its_thinking_in_time_is_not_touched(daemon: Daemon) -> None:
    result = result_of(daemon, chat(daemon, max_tokens=4000))

    assert result["answer"] == "Six times seven.\nAnswer: 42"
    assert result["thinking_cut"] is False and DOUBT * 2 in result["reasoning"]


def test_a_job_says_itself_how_long_may_be_thought(daemon: Daemon) -> None:
    told = [result_of(daemon, chat(daemon, thinking=wanted)) for wanted in (0.9, 150, 0, 1)]

    assert [one["thinking_cut"] for one in told] == [True, True, True, False]
    assert told[0]["thinking_tokens"] > told[1]["thinking_tokens"] > told[2]["thinking_tokens"] == 1
    assert [one["answer"] for one in told] == ["Six times seven.\nAnswer: 42"] * 3 + [""]
    assert told[3]["finish_reason"] == "length", "nobody ended its thinking, so it said nothing"


def test_samples_are_each_made_to_answer_before_they_vote(daemon: Daemon) -> None:
    job_id = submit(daemon, "think", {"question": "What is 6 times 7?"}, samples=3, tokens=900, thinking=0.6)

    result = result_of(daemon, job_id)

    assert (result["final"], result["decided_by"], result["votes"]) == ("42", "vote", [{"answer": "42", "count": 3}])
    assert result["thinking_cut"] == 3 and DOUBT in result["reasoning"]
    report = daemon.services.reporter.write(None, None)
    markdown = daemon.services.reporter.render(report, "md")
    assert report.data["done"][0]["answer"] == "Six times seven.\nAnswer: 42"
    assert "Its thinking was ended by the budget" in markdown


def test_a_model_without_marks_is_asked_as_before(home: Path, database: Database) -> None:
    made = house(home, database, thinks=False)
    start(made)
    try:
        result = result_of(made, chat(made, "Tell a story", thinking=0.1))
    finally:
        stop(made, 10.0)

    assert asked(made)[0].thinking is None
    assert len(result["answer"]) > 200 and result["thinking_tokens"] == 0


def test_the_tokens_of_a_job_are_those_of_all_its_thoughts_together(daemon: Daemon) -> None:
    questions = [f"What about Pump {number}?" for number in range(6)]
    job_id = submit(daemon, "read", {"document": "pumps.md", "questions": questions}, tokens=300)

    result_of(daemon, job_id)

    assert [request.max_tokens for request in asked(daemon)] == [50] * 6
    assert saved_tokens(daemon, job_id) <= 300


def test_minutes_count_on_over_a_nights_end_and_a_restart(home: Path, database: Database) -> None:
    first = house(home, database, delay=0.01)
    start(first)
    job_id = chat(first, "Tell a story", 5000, minutes=0.03)  # 1.8 s
    first.services.night.open_now(None)
    wait(lambda: saved_tokens(first, job_id) > 20, "a saved token")
    threading.Event().wait(0.8)
    stop(first, 10.0)
    used = first.services.queue.get(job_id).used_seconds
    saved = saved_tokens(first, job_id)

    second = house(home, database, delay=0.01)
    start(second)
    try:
        result = result_of(second, job_id)
        job = second.services.queue.get(job_id)
        told = second.services.reporter.render(second.services.reporter.write(None, None), "md")
    finally:
        stop(second, 10.0)

    assert 0.8 <= used <= 1.8
    assert result["finish_reason"] == "minutes" and result["tokens"] > saved
    assert used < job.used_seconds < 3.5, "the second attempt had only what the first one left"
    assert job_summary(job, (None, {}))["used_seconds"] == round(job.used_seconds, 1)
    assert "ended when the minutes were used up" in told and "Budget 1.8 s, used" in told


def test_what_is_used_is_written_down_while_a_job_runs(home: Path, database: Database) -> None:
    made = house(home, database, delay=0.01)
    start(made)
    try:
        job_id = chat(made, "Tell a story", 5000, minutes=10)
        made.services.night.open_now(None)
        used = wait(lambda: made.services.queue.get(job_id).used_seconds, "seconds, with a renewed lease")
    finally:
        stop(made, 10.0)

    assert 0 < used < made.services.queue.get(job_id).used_seconds, "a kill would have forgotten only what came after"
