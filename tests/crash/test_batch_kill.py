"""SIGKILL in the middle of a batch of sixteen: each thought has lost at most the last second, and goes on from there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import RunningDaemon

WIDTH = 16
MAX_TOKENS = 64
NO_END = {"1": -100.0, "2": -100.0}  # <|im_start|> and <|im_end|>: all answers are to be long
NOUNS = ("owl", "bell", "river", "clock", "letter", "bridge", "candle", "garden", "map", "winter", "ship", "violin")


@pytest.fixture
def daemon(home: Path) -> Iterator[RunningDaemon]:
    (home / "corpus").mkdir()
    made = RunningDaemon(home, MONK_JOBS_AT_ONCE=str(WIDTH), MONK_CONTEXT="1024", MONK_SLOTS=str(WIDTH))
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.kill()


def saved(daemon: RunningDaemon) -> dict[str, int]:
    """Tokens on disk, by thought."""
    return dict(daemon.rows("SELECT id, num_tokens FROM thoughts"))


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets to daemons killed under them
def test_a_killed_batch_of_sixteen_has_lost_at_most_the_last_second_of_each(daemon: RunningDaemon) -> None:
    daemon.start()
    ids = [
        daemon.submit(
            "chat",
            {
                "messages": [{"role": "user", "content": f"Story {number} about a {NOUNS[number % len(NOUNS)]}."}],
                "max_tokens": MAX_TOKENS,
                "temperature": 0.0,
                "logit_bias": NO_END,
            },
        )
        for number in range(WIDTH)
    ]
    daemon.http.post("/night/open", json={"until": None}).raise_for_status()
    daemon.wait_for(lambda: len(saved(daemon)) == WIDTH and min(saved(daemon).values()) >= 8, 240, "the batch")

    drawn = daemon.get("/status")["engine"]["decode_tokens"]  # as of the engine's last beat
    time.sleep(1.0)  # the promise: what was drawn a second ago is on disk
    daemon.kill()
    kept = saved(daemon)

    assert len(kept) == WIDTH
    assert sum(kept.values()) >= drawn, daemon.tail()
    assert max(kept.values()) < MAX_TOKENS, "all of them are in the middle"
    daemon.start()
    jobs = daemon.wait_jobs_ended(ids, 400)
    assert {job["state"] for job in jobs.values()} == {"done"}
    assert set(saved(daemon)) == set(kept), "a cut thought goes on, it does not begin anew"
    assert set(saved(daemon).values()) == {MAX_TOKENS}
    resumed = daemon.rows("SELECT thought_id, json_extract(data, '$.saved_tokens') FROM events WHERE type = 'resumed'")
    assert dict(resumed) == kept
    assert daemon.stop() == 0
