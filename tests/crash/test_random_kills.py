"""One night, thirty SIGKILLs: of the daemon, of the engine, of both, at random moments, under the real model.

Every job ends exactly once, no saved step runs again, saved tokens only grow, and the report is right.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import RunningDaemon

KILLS = 30
SEED = int(os.environ.get("MONK_EVAL_SEED", "20261122"))
STARTER = Path(__file__).parents[2] / "corpus" / "starter"


@pytest.fixture
def daemon(home: Path) -> Iterator[RunningDaemon]:
    (home / "corpus").mkdir()
    for name in ("02-kv-cache.md", "05-experts.html", "11-a-nights-plan.md"):
        shutil.copy(STARTER / name, home / "corpus" / name)
    made = RunningDaemon(home, MONK_JOBS_AT_ONCE="6", MONK_CONTEXT="2048", MONK_SLOTS="8")
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.kill()


def submit_all(daemon: RunningDaemon) -> list[str]:
    """Every kind, long enough to be cut."""
    questions = ["How much memory does the KV cache take?", "Do more active experts need more memory?"]
    ids = [daemon.submit("answer", {"question": question}, budget={"tokens": 160}) for question in questions]
    ids += [
        daemon.submit("think", {"question": f"What is {n} times 7?"}, budget={"samples": 3, "tokens": 600}, seed=n)
        for n in (6, 12)
    ]
    ids.append(daemon.submit("read", {"document": "11-a-nights-plan.md", "questions": questions}))
    ids += [
        daemon.submit(
            "chat",
            {
                "messages": [{"role": "user", "content": f"Tell a long story about {hero}."}],
                "temperature": 0.0,
                "max_tokens": 500,
            },
        )
        for hero in ("a quiet server", "медведь", "an owl")
    ]
    return ids


class Watcher:
    """Looks into the database all the time and remembers the tokens it has seen: they may only grow."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._daemon = daemon
        self._seen: dict[str, tuple[int, ...]] = {}
        self.faults: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopped.wait(0.2):
            for thought_id, ids in self._saved().items():
                before = self._seen.get(thought_id, ())
                if ids[: len(before)] != before:
                    self.faults.append(f"{thought_id} had {before}, now {ids}")
                self._seen[thought_id] = ids

    def _saved(self) -> dict[str, tuple[int, ...]]:
        rows = self._daemon.rows(
            "SELECT t.id, t.token_ids, r.ids FROM thoughts t LEFT JOIN token_runs r ON r.thought_id = t.id"
            " ORDER BY t.id, r.first_index"
        )
        found: dict[str, bytes] = {}
        for thought_id, whole, run in rows:
            found[thought_id] = whole if whole is not None else found.get(thought_id, b"") + (run or b"")
        return {thought_id: struct.unpack(f"<{len(blob) // 4}i", blob) for thought_id, blob in found.items()}


def kill_something(daemon: RunningDaemon, dice: random.Random) -> str:
    """One blow. Whatever died, the daemon runs again afterwards."""
    what = dice.choice(["engine", "engine", "daemon", "both"])
    if what in ("engine", "both"):
        daemon.kill_engine()
    if what in ("daemon", "both"):
        daemon.kill()
        daemon.start(wait=dice.random() < 0.8)
    return what


@pytest.mark.real
@pytest.mark.timeout(1500)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets to daemons killed under them
def test_thirty_kills_in_one_night_lose_nothing_and_repeat_nothing(daemon: RunningDaemon) -> None:
    dice = random.Random(SEED)
    daemon.start()
    ids = submit_all(daemon)
    daemon.http.post("/night/open", json={"until": None}).raise_for_status()
    watcher = Watcher(daemon)
    blows: Counter[str] = Counter()
    while sum(blows.values()) < KILLS:
        time.sleep(dice.uniform(0.3, 5.0))  # the moment of the blow is what is random here
        blows[kill_something(daemon, dice)] += 1

    daemon.wait_healthy()
    jobs = daemon.wait_jobs_ended(ids, 900)
    watcher.stop()
    daemon.http.post("/night/close").raise_for_status()
    report = daemon.wait_for(lambda: _report_with(daemon, len(ids)), 60, "the report")

    assert watcher.faults == []
    assert {job_id: job["state"] for job_id, job in jobs.items()} == dict.fromkeys(ids, "done"), daemon.tail(60)
    check_once(daemon, ids)
    for job_id, job in jobs.items():
        assert job_id in report
        for citation in job["result"].get("citations", []):
            check_citation(daemon.home / "corpus", citation)
    assert daemon.stop() == 0


def _report_with(daemon: RunningDaemon, num_done: int) -> str | None:
    answer = daemon.http.get("/reports/latest.json")
    if answer.status_code != 200:
        return None
    return answer.text if answer.text.count("job_") >= num_done else None


def check_once(daemon: RunningDaemon, ids: list[str]) -> None:
    """Each job has one final event, each step one row and one event, each thought one end."""
    final = Counter(
        row[0] for row in daemon.rows("SELECT job_id FROM events WHERE type IN ('done', 'failed', 'cancelled')")
    )
    steps = daemon.rows(
        "SELECT job_id, json_extract(data, '$.name'), count(*) FROM events WHERE type = 'step' GROUP BY 1, 2"
    )
    ends = daemon.rows("SELECT thought_id, count(*) FROM events WHERE type = 'thought' GROUP BY 1")
    assert final == dict.fromkeys(ids, 1)
    assert [row for row in steps if row[2] != 1] == []
    assert [row for row in ends if row[1] != 1] == []
    assert daemon.rows("SELECT count(*) FROM token_runs") == [(0,)]
    assert daemon.rows("SELECT count(*) FROM thoughts WHERE finished_at IS NULL") == [(0,)]


def check_citation(corpus: Path, citation: dict[str, Any]) -> None:
    """The quote stands in the file. HTML is compared without its tags' white space."""
    text = (corpus / citation["file"]).read_text(encoding="utf-8")
    assert citation["verified"] is True
    if citation["file"].endswith(".md"):
        assert " ".join(citation["quote"].split()) in " ".join(text.split())
