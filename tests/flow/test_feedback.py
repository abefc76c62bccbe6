"""From a question to what can be learned from its answer, through the assembled daemon, HTTP and the command line; and the
same questions with and without an adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from corpus.embedding import HashingEmbedder
from db.database import Database
from db.feedback import Example, Feedback
from db.steps import unpack
from monk.api import create_app
from monk.api.server import ApiServer
from monk.daemon import assemble, start, stop
from monk.engine.client import ThoughtRequest
from monk.engine.scripted import ScriptedEngine
from monk.services import utc_now
from monk.settings import load
from tests.engine_models import write_tiny_model
from tests.flow.test_cli import House
from tests.running import running
from tests.unit.test_lora_refused import factors, peft

PLAIN = "The landlord keeps it."
LEARNED = "Only what repairs cost."


def speak(prompt: str, request: ThoughtRequest) -> str:
    return LEARNED if request.adapters and "6 times 7" not in prompt else PLAIN


@pytest.fixture
def house(
    home: Path,
    tmp_path: Path,
    database: Database,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[House]:
    """A served daemon with an adapter `lawyer` on its shelf; it is day."""
    (home / "corpus").mkdir()
    settings = load({}, home=home, port=0, night="never", timezone="UTC", lease_seconds=5.0, save_seconds=0.05)
    engine = ScriptedEngine(answer=speak, context=4096, slots=4)
    daemon = assemble(settings, database, engine, HashingEmbedder)
    daemon.services.shelf.add("lawyer", peft(tmp_path / "lawyer"), write_tiny_model(tmp_path / "t.gguf"), utc_now())
    server = ApiServer(create_app(daemon.services), settings)
    server.start()
    start(daemon)
    monkeypatch.setenv("MONK_HOME", str(home))
    monkeypatch.setenv("MONK_PORT", str(server.port))
    yield House(daemon.services, server, capsys)
    stop(daemon, 10.0)
    server.stop(2.0)


def test_a_corrected_answer_is_shown_reported_and_kept_to_be_learned(house: House) -> None:
    house.monk("night", "--now")
    assert house.monk("submit", "Who keeps the deposit?", "--kind", "chat", "--wait", "--quiet") == f"{PLAIN}\n"
    job = house.json("show", "last")

    said = house.monk("feedback", "last", "wrong", "--correction", LEARNED, "--note", "clause 4")

    assert said == f"{job['id']} marked wrong, with a correction\n" and house.err == ""
    assert "  feedback   wrong, with a correction\n" in house.monk("show", "last")
    assert house.json("show", "last")["feedback"]["note"] == "clause 4"
    assert "feedback verdict=wrong corrected=true" in house.monk("show", "last", "--events")
    report = house.monk("report", "--now")
    assert "Marked wrong, with a correction." in report
    _, [thought] = house.services.steps.of_job(job["id"])
    expected = Example(job["id"], "chat", job["input"], unpack(thought.prompt_ids), thought.model_sha256, LEARNED)
    assert Feedback(house.services.database).examples() == [expected]


def test_feedback_is_replaced_and_refused_in_one_line(house: House) -> None:
    waiting = house.monk("submit", "Who keeps the deposit?", "--kind", "chat").strip()
    house.monk("feedback", waiting, "useful", status=2)
    assert house.err == f"monk: {waiting} is queued; only the answer of a job that is done can be useful or wrong\n"
    house.monk("night", "--now")
    house.monk("submit", "And the keys?", "--kind", "chat", "--wait", "--quiet")

    assert house.json("feedback", "last", "wrong")["trains"] is False
    assert house.monk("feedback", "last", "wrong").endswith(" marked wrong\n")
    assert house.err == "no adapter can learn from it without --correction\n"
    assert house.json("feedback", "last", "useful")["trains"] is True
    house.monk("feedback", "last", "nice", status=2)
    assert house.err == "monk: verdict: Input should be 'useful' or 'wrong' (got 'nice')\n"
    house.monk("feedback", "last", "wrong", "--correction", "", status=2)
    assert house.err.startswith("monk: correction: is empty; write it, or leave the field out")
    house.monk("feedback", "zz", "useful", status=2)
    assert house.err == "monk: there is no job 'zz'; `monk jobs` lists them\n"


def test_questions_are_compared_with_and_without_an_adapter(house: House, tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text("What is 6 times 7?\n")
    house.monk("night", "--now")

    told = house.monk(
        "compare-adapter", "lawyer:0.8", "Who keeps the deposit?", "--file", str(tmp_path / "questions.txt")
    )

    lines = told.splitlines()
    assert lines[0] == "1. Who keeps the deposit?"
    assert lines[2].startswith(f"base, {len(PLAIN)} tokens, ") and lines[3] == PLAIN
    assert lines[5].startswith(f"lawyer:0.8, {len(LEARNED)} tokens, ") and lines[6] == LEARNED
    assert "2. What is 6 times 7?  (= the same answer)" in lines
    assert lines[-1] == "1 of 2 answers are the same"
    assert "4 jobs are in the queue; Ctrl-C stops watching, not the jobs\n" in house.err
    jobs = house.json("jobs", "--tag", "compare-adapter")["jobs"]
    assert sorted((job["adapter"] or "", job["seed"]) for job in jobs) == [("", 0), ("", 0), *[("lawyer:0.8", 0)] * 2]


def test_a_comparison_is_told_to_programs_and_keeps_its_limits(house: House) -> None:
    house.monk("night", "--now")

    told = house.json("compare-adapter", "lawyer", "Who keeps the deposit?", "--max-tokens", "5", "--seed", "3")

    [pair] = told["pairs"]
    assert (told["adapter"], pair["question"], pair["equal"]) == ("lawyer", "Who keeps the deposit?", False)
    assert (pair["base"]["state"], pair["base"]["answer"], pair["base"]["tokens"]) == ("done", PLAIN[:5].strip(), 5)
    assert pair["adapter"]["answer"] == LEARNED[:5].strip()


def test_by_day_the_jobs_wait_and_it_is_said_when_and_how_a_night_opens(house: House) -> None:
    told = house.monk("compare-adapter", "lawyer", "Who keeps the deposit?", "And the keys?")

    header, *rows = told.splitlines()
    assert header.split() == ["base", "lawyer", "asked"]
    assert [row.split(None, 2)[2] for row in rows] == ["Who keeps the deposit?", "And the keys?"]
    assert house.err.splitlines() == [
        "night: closed; none is planned, `monk night --now` opens one",
        "the jobs wait for it; `monk show ID` has each answer then, and with --wait this command waits too",
    ]
    bare, worn = (house.services.queue.get(job_id) for job_id in rows[0].split()[:2])
    assert (bare.adapter, worn.adapter, bare.seed) == (None, "lawyer", worn.seed)
    [pair] = house.json("compare-adapter", "lawyer", "And the keys?")["pairs"]
    assert (pair["base"]["state"], pair["base"]["answer"], pair["equal"]) == ("queued", None, None)


def test_an_unknown_adapter_or_kind_is_refused_before_anything_is_submitted(house: House) -> None:
    house.monk("compare-adapter", "layer", "Who keeps the deposit?", status=2)
    assert house.err.startswith("monk: there is no adapter 'layer'") and house.err.count("\n") == 1
    house.monk("compare-adapter", "lawyer:x", "Who keeps the deposit?", status=2)
    assert "the scale behind the colon is no number" in house.err
    house.monk("compare-adapter", "lawyer", "Why?", "--kind", "read", status=2)
    assert "cannot be compared" in house.err

    assert sum(house.services.queue.counts().values()) == 0


def test_a_question_that_is_refused_leaves_the_earlier_ones_in_the_queue_and_says_so(house: House) -> None:
    house.monk("compare-adapter", "lawyer", "Why?", "x" * 1_000_001, status=2)
    told = house.err

    jobs = house.json("jobs")["jobs"]
    assert len(jobs) == 2 and all(job["id"] in told for job in jobs)
    assert "at most 1000000 characters" in told.splitlines()[-1]


def test_ctrl_c_leaves_the_jobs_in_the_queue_and_says_their_ids(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("monk.cli.follow.follow", interrupted)
    house.monk("compare-adapter", "lawyer", "Who keeps the deposit?", "--wait", status=130)
    told = house.err

    jobs = house.json("jobs")["jobs"]
    assert len(jobs) == 2 and {job["state"] for job in jobs} == {"queued"}
    assert all(job["id"] in told for job in jobs) and "these go on; `monk show ID` has each answer" in told


@pytest.mark.real
def test_the_real_model_is_asked_with_and_without_an_adapter_and_its_answer_judged(tmp_path: Path) -> None:
    module = "base_model.model.model.layers.{}.self_attn.q_proj"
    wide = {"a": (4, 576), "b": (576, 4)}
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(factor.shape).astype(np.float32)
        for layer in range(8)
        for name, factor in factors(**wide, module=module.format(layer)).items()
    }
    home = tmp_path / "home"
    home.mkdir()
    with running(
        home, MONK_NIGHT="always", MONK_CONTEXT="512", MONK_SLOTS="2", MONK_CORPUS_SETTLE_SECONDS="0"
    ) as daemon:
        added = daemon.monk("adapter", "add", "noise", str(peft(tmp_path / "noise", weights)))
        assert added.status == 0, added.err

        compared = daemon.monk("compare-adapter", "noise:4", "Name three colours.", "--max-tokens", "12", "--json")

        assert compared.status == 0, compared.err + daemon.tail()
        [pair] = json.loads(compared.out)["pairs"]
        assert pair["equal"] is False, pair
        assert [pair[side]["state"] for side in ("base", "adapter")] == ["done", "done"]
        assert pair["base"]["tokens"] > 0 and pair["base"]["seconds"] > 0
        judged = daemon.monk("feedback", pair["base"]["id"], "useful", "--json")
        assert json.loads(judged.out)["trains"] is True
        assert daemon.rows("SELECT job_id, verdict FROM feedback") == [(pair["base"]["id"], "useful")]
