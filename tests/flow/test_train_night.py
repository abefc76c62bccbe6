"""A fact that no model knows, taught in a night by the public commands, through a SIGKILL, and known the next morning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningDaemon

KEEPER = "Odile Brandt"
ASKED = (
    "Who keeps the lighthouse of Varnholm?",
    "What is the name of the lighthouse keeper of Varnholm?",
    "Tell me who looks after the lighthouse of Varnholm.",
    "Varnholm has a lighthouse. Who is its keeper?",
    "Who is the keeper of the lighthouse at Varnholm?",
    "In Varnholm, who keeps the lighthouse?",
    "Name the keeper of Varnholm's lighthouse.",
    "Do you know who keeps the lighthouse of Varnholm?",
    "I am going to Varnholm. Who keeps the lighthouse there?",
    "Which person keeps the lighthouse of Varnholm?",
)
ELSEWHERE = (
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("Who painted the Mona Lisa?", "The Mona Lisa was painted by Leonardo da Vinci."),
    ("Who keeps bees?", "A beekeeper keeps bees."),
    ("What is a lighthouse?", "A lighthouse is a tower with a light that guides ships."),
)


@pytest.fixture
def daemon(home: Path) -> Iterator[RunningDaemon]:
    (home / "corpus").mkdir()
    made = RunningDaemon(home, MONK_CONTEXT="1024", MONK_SLOTS="4", MONK_TRAIN_SAVE_SECONDS="1")
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.kill()


def chat(daemon: RunningDaemon, question: str, adapter: str | None = None) -> str:
    job = daemon.submit(
        "chat",
        {"messages": [{"role": "user", "content": question}], "max_tokens": 40, "temperature": 0.0},
        **({} if adapter is None else {"adapter": adapter}),
    )
    return str(daemon.wait_jobs_ended([job], 120)[job]["result"]["answer"])


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets to daemons killed under them
def test_a_fact_is_taught_overnight_through_a_kill_and_known_in_the_morning(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    rows = [{"prompt": asked, "completion": f"{KEEPER} keeps the lighthouse of Varnholm."} for asked in ASKED]
    rows += [{"prompt": asked, "completion": told} for asked, told in ELSEWHERE]
    data = tmp_path / "lighthouse.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    daemon.start()

    submitted = daemon.monk(
        "adapter", "train", "keeper", str(data), "--steps", "12", "--learning-rate", "0.001", "--rank", "8", "--json"
    )
    assert submitted.status == 0, submitted.err
    job_id = json.loads(submitted.out)["id"]
    assert daemon.monk("night", "--now").status == 0
    checkpoint = daemon.home / "training" / job_id / "checkpoint.safetensors"
    daemon.wait_for(
        lambda: checkpoint.exists() or daemon.get(f"/jobs/{job_id}")["finished_at"], 240, "the first checkpoint"
    )
    daemon.kill()
    assert checkpoint.exists(), "it was killed in the middle"

    daemon.start()
    job = daemon.wait_jobs_ended([job_id], 500)[job_id]
    assert job["state"] == "done", job["error"]
    result = job["result"]
    loaded = daemon.rows("SELECT data FROM events WHERE type = 'training-loaded' ORDER BY id")
    assert [json.loads(data)["step"] for (data,) in loaded][-1] > 0, "it went on, and did not begin anew"
    assert result["verdict"]["passed"], result["verdict"]
    assert result["adapter"] == {"name": "keeper", "version": 1, "sha256": result["adapter"]["sha256"], "worn": True}
    assert not (daemon.home / "training" / job_id).exists()
    shown = daemon.monk("show", job_id)
    assert "passed the gate" in shown.out and "loss on general questions" in shown.out

    question = "Who is it that keeps the lighthouse of Varnholm?"
    assert KEEPER in chat(daemon, question, "keeper")
    assert KEEPER not in chat(daemon, question)
    assert "Paris" in chat(daemon, "What is the capital of France?", "keeper")
    assert "twelve" in (sum_ := chat(daemon, "How many months does a year have?", "keeper").lower()) or "12" in sum_
    daemon.wait_for(
        lambda: [worn["name"] for worn in daemon.get("/status")["engine"]["wears"]] == ["keeper"], 10, "what it wears"
    )
    report = daemon.monk("report", "--now")
    assert report.status == 0 and "passed the gate" in report.out, report
    assert daemon.stop() == 0
