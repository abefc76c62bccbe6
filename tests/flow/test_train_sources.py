"""What people corrected, a file in the inbox and the documents, learnt from on a real daemon and the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningDaemon

ASKED = ("Who rings the bell of Varnholm?", "What colour is the gate of Varnholm?", "Where is the well of Varnholm?")
TOLD = ("Anna rings it.", "It is green.", "Behind the church.")


@pytest.fixture
def daemon(home: Path) -> Iterator[RunningDaemon]:
    corpus = home / "corpus"
    corpus.mkdir()
    (corpus / "well.md").write_text("# The well\n\nThe well of Varnholm is 31 metres deep and was dug in 1622.\n")
    made = RunningDaemon(home, MONK_CONTEXT="1024", MONK_SLOTS="4", MONK_CORPUS_SETTLE_SECONDS="0")
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.mark.real
@pytest.mark.timeout(600)
def test_corrections_are_learnt_with_the_very_prompt_they_correct(daemon: RunningDaemon) -> None:
    daemon.start()
    assert daemon.monk("night", "--now").status == 0
    asked = [
        daemon.submit("chat", {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0.0})
        for text in ASKED
    ]
    daemon.wait_jobs_ended(asked, 120)
    for job_id, told in zip(asked, TOLD, strict=True):
        assert daemon.monk("feedback", job_id, "wrong", "--correction", told).status == 0
    (daemon.home / "inbox").mkdir(exist_ok=True)
    (daemon.home / "inbox" / "more.jsonl").write_text(json.dumps({"prompt": "Who are you?", "completion": "The monk."}))

    job_id = daemon.submit(
        "train",
        {"adapter": "varnholm", "feedback": True, "file": "more.jsonl", "corpus": 3, "steps": 2, "learning_rate": 1e-6},
    )
    folder = daemon.home / "training" / job_id
    lessons = daemon.wait_for(
        lambda: (folder / "lessons.jsonl").exists() and (folder / "lessons.jsonl").read_text(), 200, "lessons"
    )
    job = daemon.wait_jobs_ended([job_id], 400)[job_id]

    assert job["state"] == "done", job["error"]
    sources = job["result"]["examples"]["sources"]
    assert (sources["feedback"], sources["file"]) == (3, 1) and sources.get("corpus", 0) <= 1
    rows = [json.loads(line) for line in lessons.splitlines()]
    prompts = dict(daemon.rows("SELECT job_id, prompt_ids FROM thoughts WHERE name = 'reply'"))
    known = {tuple(memoryview(blob).cast("i")) for blob in (prompts[one] for one in asked)}
    assert known <= {tuple(row["ids"][: row["prompt"]]) for row in rows}, "token for token what the model was asked"
    end = {row["ids"][-1] for row in rows}
    assert len(end) == 1, "every answer ends with the model's own mark"
    verdict = job["result"]["verdict"]
    assert not verdict["passed"] and not job["result"]["adapter"]["worn"], "two steps of next to nothing teach nothing"
    listed = json.loads(daemon.monk("adapter", "list", "--json").out)
    assert listed["adapters"] == []
    assert daemon.monk("adapter", "rollback", "varnholm", "--to", "1").status == 0
    shown = json.loads(daemon.monk("adapter", "show", "varnholm", "--json").out)
    assert shown["version"] == 1 and not shown["verdict"]["passed"]
    bad = daemon.submit("train", {"adapter": "x", "file": "../monk.toml"}, max_attempts=1)
    refused = daemon.wait_jobs_ended([bad], 60)[bad]
    assert refused["state"] == "failed" and "is not in" in refused["error"]["message"]
    assert daemon.stop() == 0
