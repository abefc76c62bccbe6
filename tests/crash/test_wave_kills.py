"""A queue of jobs with other expert counts, rope settings and thinking budgets, killed in the middle: each job says what it says
alone."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.engine_models import write_tiny_model
from tests.running import RunningDaemon, running

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
ENDLESS = {str(token): -100 for token in (257, 258, 259, 260)}  # no marks and no end of its own
TOKENS = 300
MODELS: tuple[dict[str, Any], ...] = ({}, {"experts": 6}, {"rope_freq_base": 500.0}, {"experts": 1, "yarn_factor": 4.0})


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """f32 KV and no guesses: what is left of the differences between batch shapes is too small for a tie."""
    model = write_tiny_model(
        tmp_path / "moe.gguf", "qwen3moe", experts=8, template=TEMPLATE, marks=("<think>", "</think>")
    )
    return {
        "MONK_MODEL": str(model),
        "MONK_CONTEXT": "2048",
        "MONK_SLOTS": "4",
        "MONK_THREADS": "1",
        "MONK_KV_TYPE_K": "f32",
        "MONK_KV_TYPE_V": "f32",
        "MONK_SPECULATION": "off",
        "MONK_LEASE_SECONDS": "5",
        "MONK_SAVE_SECONDS": "0.1",
    }


def submit_one(daemon: RunningDaemon, number: int, *, waits: bool = True) -> str:
    """One of eight jobs; `waits`: it is alone in the house."""
    messages = [{"role": "user", "content": f"Why does pump {number} hum?"}]
    input_ = {"messages": messages, "temperature": 0.0, "max_tokens": TOKENS, "logit_bias": ENDLESS}
    job_id = daemon.submit("chat", input_, model=MODELS[number % 4], budget={"thinking": 0.2 + number / 10})
    if waits:
        daemon.wait_jobs_ended([job_id], 120)
    return job_id


def tokens_of(daemon: RunningDaemon, ids: list[str]) -> list[tuple[int, ...]]:
    rows = dict(daemon.rows("SELECT job_id, token_ids FROM thoughts WHERE finished_at IS NOT NULL"))
    return [struct.unpack(f"<{len(rows[job_id]) // 4}i", rows[job_id]) for job_id in ids]


def saved(daemon: RunningDaemon) -> int:
    return int(daemon.rows("SELECT coalesce(sum(num_tokens), 0) FROM thoughts")[0][0])


def test_a_mixed_queue_that_is_killed_says_what_each_job_says_alone(home: Path, settings: dict[str, str]) -> None:
    with running(home, **settings) as daemon:
        daemon.http.post("/night/open", json={"until": None}).raise_for_status()
        alone = [submit_one(daemon, number) for number in range(8)]
        before = saved(daemon)
        ids = [submit_one(daemon, number, waits=False) for number in range(8)]
        for share, victim in ((0.15, "engine"), (0.4, "daemon"), (0.7, "engine")):
            daemon.wait_for(lambda share=share: saved(daemon) > before + share * 8 * TOKENS, 120, "tokens")
            if victim == "engine":
                assert daemon.kill_engine()
            else:
                daemon.kill()
                daemon.start()
        jobs = daemon.wait_jobs_ended(ids, 120)
        status = daemon.get("/status")["engine"]
        told, expected = tokens_of(daemon, ids), tokens_of(daemon, alone)
        assert daemon.stop() == 0

    assert {job["state"] for job in jobs.values()} == {"done"}
    assert told == expected
    assert len({ids[:100] for ids in expected}) == 8
    assert status["num_restarts"] == 1, "since the daemon's own restart"
    for number, job_id in enumerate(ids):
        job = jobs[job_id]
        assert job["model"] == MODELS[number % 4]
        assert job["result"]["thinking_cut"] is True and job["result"]["answer"]
        assert job["thoughts"][0]["sampling"].get("model", {}) == MODELS[number % 4]


def test_settings_the_model_cannot_run_with_are_one_line_at_the_submit(home: Path, settings: dict[str, str]) -> None:
    with running(home, **settings) as daemon:
        for model, name, told in (
            ({"experts": 9}, "model.experts", "this model has 8 and uses 2 by itself, so give 1 to 8"),
            ({"experts": 0}, "model.experts", "experts is 0; it must be from 1 to 4096"),
            ({"yarn_factor": 2, "rope_freq_scale": 0.5}, "model.yarn_factor", "give one of them"),
            ({"expert": 2}, "model.expert", ""),
        ):
            answer = daemon.http.post("/jobs", json={"question": "Why?", "model": model})
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == name and told in answer.json()["error"]["message"]

        refused = daemon.monk("submit", "--experts", "9", "Why?")
        accepted = daemon.monk("submit", "--experts", "4", "--yarn-factor", "2", "--json", "Why?")

        assert refused.status == 2 and len(refused.err.strip().splitlines()) == 1 and "1 to 8" in refused.err
        assert accepted.status == 0 and '"yarn_factor": 2' in accepted.out
        assert daemon.http.get("/jobs").json()["jobs"][0]["model"] == {"experts": 4, "yarn_factor": 2.0}
