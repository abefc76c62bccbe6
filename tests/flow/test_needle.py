"""Needles through the assembled daemon: measured, kept, resumed, and used to warn whoever reads further than the model does."""

from __future__ import annotations

from collections.abc import Iterator
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
from tests.flow.test_one_night import saved_tokens, wait, wait_state
from tests.readers import reader
from tests.running import RunningDaemon

REACH = 3300  # characters; tokens of the scripted engine are bytes
LENGTHS = [2048, 3072, 4000]
INPUT = {"lengths": LENGTHS, "trials": 1, "seed": 7}


def house(home: Path, database: Database, asked: list[ThoughtRequest], delay: float = 0.0) -> Daemon:
    def said(prompt: str, request: ThoughtRequest) -> str:
        asked.append(request)
        return reader(REACH)(prompt) if "Question: " in prompt else "As you say."

    (home / "corpus").mkdir(exist_ok=True)
    engine = ScriptedEngine(said, context=4096, slots=16, token_delay_seconds=delay)
    settings = load({}, home=home, night="never", timezone="UTC", lease_seconds=5.0, save_seconds=0.05)
    return assemble(settings, database, engine, HashingEmbedder)


@pytest.fixture
def asked() -> list[ThoughtRequest]:
    return []


@pytest.fixture
def daemon(home: Path, database: Database, asked: list[ThoughtRequest]) -> Iterator[Daemon]:
    made = house(home, database, asked)
    start(made)
    yield made
    stop(made, 10.0)


def submit(daemon: Daemon, kind: str, input_: dict[str, Any], **more: Any) -> str:
    given = daemon.services.kinds.validate(kind, input_)
    job, _ = daemon.services.queue.submit(NewJob(kind=kind, input=given, **more), utc_now())
    daemon.workers.wake()
    return job.id


def done(daemon: Daemon, job_id: str) -> dict[str, Any]:
    wait_state(daemon, job_id, "done")
    return daemon.services.queue.get(job_id).result or {}


def chat(daemon: Daemon, characters: int, **more: Any) -> str:
    messages = [{"role": "user", "content": "x" * characters}]
    return submit(daemon, "chat", {"messages": messages, "max_tokens": 20, "temperature": 0.0}, **more)


def warnings_of(daemon: Daemon, job_id: str) -> list[dict[str, Any]]:
    return [event.data for event in daemon.services.events.after(0, job_id=job_id) if event.type == "warning"]


def test_what_was_measured_warns_longer_jobs_and_no_others(daemon: Daemon, asked: list[ThoughtRequest]) -> None:
    unmeasured = chat(daemon, 3500)
    daemon.services.night.open_now(None)
    assert "warnings" not in done(daemon, unmeasured)

    measured = submit(daemon, "needle", INPUT)
    result = done(daemon, measured)
    short, other = chat(daemon, 2000), chat(daemon, 3500, model={"rope_freq_base": 5e5})
    long = chat(daemon, 3500)
    results = {job_id: done(daemon, job_id) for job_id in (short, other, long)}
    known = daemon.services.reach()
    daemon.services.night.close_now()

    assert known is not None and known.summary() == result["kept"]
    assert result["reliable_tokens"] == 3072 == result["kept"]["reliable_tokens"]
    assert [text["length"] for text in result["texts"]] == LENGTHS
    assert all(set(text["tokens"]) <= {text["length"] - 1, text["length"]} for text in result["texts"])
    needles = [round(len(request.prompt), -1) for request in asked if request.group == measured]
    assert needles == sorted(needles) and len(needles) == 3 * 11, "short ones first"
    assert "warnings" not in results[short] and "warnings" not in results[other]
    tokens = daemon.services.steps.of_job(long)[1][0].num_prompt_tokens
    message = f"the prompt has {tokens} tokens; this model found what it was asked for up to 3072"
    assert results[long]["warnings"] == [message]
    assert [data["message"] for data in warnings_of(daemon, long)] == [message]
    assert [warnings_of(daemon, job_id) for job_id in (measured, short, other, unmeasured)] == [[]] * 4
    written = wait(lambda: daemon.services.reports.listing(limit=1, cursor=None)[0], "a report")[0]
    report = daemon.services.reporter.render(written, "md").replace("\\", "")
    assert report.count(message) == 2, "at the job, and among the warnings"
    assert "The model finds things in prompts of up to **3,072 tokens**" in report
    assert "| 3 facts asked for, at depth | 2,048 tokens | 3,072 tokens | 4,000 tokens |" in report


def test_a_job_of_many_long_prompts_is_warned_once(daemon: Daemon, home: Path) -> None:
    daemon.services.night.open_now(None)
    done(daemon, submit(daemon, "needle", {**INPUT, "lengths": [2048]}))
    (home / "corpus" / "long.md").write_text("# Long\n\n" + "The pump was mended again. " * 120)
    daemon.reader.request_sync()
    wait(lambda: daemon.services.library.status().num_documents == 1, "the document")
    job_id = submit(daemon, "read", {"document": "long.md", "questions": ["When?", "By whom?", "Why?"]})

    result = done(daemon, job_id)

    assert len(warnings_of(daemon, job_id)) == len(result["warnings"]) == 1
    assert result["warnings"][0].endswith("up to 2048, and longer ones were not tried")


def test_a_measurement_cut_in_the_middle_goes_on_and_asks_nothing_twice(home: Path, database: Database) -> None:
    asked: list[ThoughtRequest] = []
    first = house(home, database, asked, delay=0.005)
    start(first)
    job_id = submit(first, "needle", INPUT)
    first.services.night.open_now(None)
    wait(lambda: any(step.name == "2048-1" for step in first.services.steps.of_job(job_id)[0]), "the first text")
    before = saved_tokens(first, job_id)
    wait(lambda: saved_tokens(first, job_id) > before + 10, "a part of the second")
    stop(first, 10.0)
    begun = len(asked)

    second = house(home, database, asked)
    start(second)
    result = done(second, job_id)
    steps, thoughts = second.services.steps.of_job(job_id)
    stop(second, 10.0)

    assert {round(len(request.prompt), -1) for request in asked[begun:]} == {3070, 4000}
    assert any(request.saved for request in asked[begun:]), "a cut answer goes on"
    assert len(thoughts) == len({thought.name for thought in thoughts}) == 3 * 11
    assert [step.name for step in steps] == ["plan", "2048-1", "3072-1", "4000-1", "keep"]
    assert (result["reliable_tokens"], [text["found"] for text in result["texts"]]) == (3072, [20, 20, 0])


def test_what_cannot_be_measured_fails_in_one_line(daemon: Daemon) -> None:
    daemon.services.night.open_now(None)
    job_id = submit(daemon, "needle", {"context": 131072})
    wait_state(daemon, job_id, "failed")

    error = daemon.services.queue.get(job_id).error or {}
    assert error["message"] == "context is 131072; a thought holds 4096 tokens here; raise MONK_CONTEXT"


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets to daemons killed under them
def test_the_real_model_is_measured_through_a_kill_and_long_jobs_are_warned(home: Path) -> None:
    (home / "corpus").mkdir()
    daemon = RunningDaemon(home, MONK_CONTEXT="2048", MONK_SLOTS="4", MONK_KV_BLOCK_TOKENS="256")
    daemon.start()
    try:
        job_id = daemon.submit("needle", {"lengths": [512, 1024], "needles": [1], "trials": 1, "seed": 3})
        daemon.http.post("/night/open", json={"until": None}).raise_for_status()

        def steps() -> set[str]:
            return {name for (name,) in daemon.rows("SELECT name FROM steps WHERE job_id = ?", job_id)}

        daemon.wait_for(lambda: "512-1" in steps(), 240, "the first text")
        kept = daemon.rows("SELECT id, token_ids FROM thoughts WHERE finished_at IS NOT NULL")
        daemon.kill()
        daemon.start()
        job = daemon.wait_jobs_ended([job_id], 300)[job_id]

        assert job["state"] == "done", job["error"]
        result = job["result"]
        assert {tuple(text["tokens"]) for text in result["texts"]} <= {
            (n,) for n in (*range(507, 513), *range(1014, 1025))
        }
        assert set(kept) <= set(daemon.rows("SELECT id, token_ids FROM thoughts")), "what was answered stands"
        assert len(daemon.rows("SELECT id FROM thoughts")) == 12
        read = daemon.rows("SELECT sum(num_prefilled) FROM thoughts WHERE name LIKE '1024-1-%'")[0][0]
        assert read < 2 * 1024, "six questions on one text, which is read once"
        assert sum(row["found"] for row in result["table"]) >= 3, "no guess finds one"
        assert [row["right"] for row in result["control"]] == [0, 0]
        assert daemon.get("/status")["reach"]["longest_tokens"] == 1024
        told = daemon.monk("status")
        assert "reach: " in told.out and "never measured" not in told.out
        words = "The wind went over the hills and the river was quiet. " * 120
        answer = daemon.http.post(
            "/jobs", json={"kind": "chat", "input": {"messages": [{"role": "user", "content": words}], "max_tokens": 4}}
        ).json()
        assert answer["warnings"][0].startswith("the prompt has 1")
        ended = daemon.wait_jobs_ended([answer["id"]], 120)[answer["id"]]
        assert ended["result"]["warnings"] == answer["warnings"]
        assert daemon.stop() == 0
    finally:
        daemon.http.close()
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
