"""A model that cannot be used, too little memory, a prompt that does not fit: told once with figures, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine_models import write_tiny_model
from tests.running import RunningDaemon, running

SECONDS = 60.0
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf").read_bytes()


def problems(daemon: RunningDaemon) -> list[str]:
    """What /status wants a person to look at, once there is something."""
    return list(daemon.wait_for(lambda: daemon.get("/status")["problems"], SECONDS, "a problem"))


def error(jobs: dict[str, Any], job_id: str) -> dict[str, Any]:
    assert jobs[job_id]["state"] == "failed"
    return dict(jobs[job_id]["error"])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda whole: None, "{path} does not exist; check the path of the model"),
        (lambda whole: whole[:-1000], "{path} is truncated: its tensors end at byte {size}, the file has {less} bytes"),
        (lambda whole: b"hello" * 1000, "{path} is not a GGUF file (5000 bytes, no GGUF mark); give a model in GGUF"),
    ],
    ids=["missing", "truncated", "not GGUF"],
)
def test_a_model_that_cannot_be_used_is_told_once_and_its_jobs_wait_until_it_is_mended(
    home: Path, tmp_path: Path, tiny: bytes, spoil: Callable[[bytes], bytes | None], told: str
) -> None:
    path = tmp_path / "model.gguf"
    if (spoiled := spoil(tiny)) is not None:
        path.write_bytes(spoiled)

    with running(home, MONK_MODEL=str(path)) as daemon:
        job_id = daemon.submit("chat", CHAT)
        daemon.monk("night", "--now")
        (problem,) = problems(daemon)
        shown = daemon.monk("status").out
        waiting = daemon.get(f"/jobs/{job_id}")
        path.write_bytes(tiny)
        daemon.monk("night", "--close")
        daemon.monk("night", "--now")
        jobs = daemon.wait_jobs_ended([job_id], SECONDS)
        mended = daemon.get("/status")["problems"]
        logged = daemon.reasons(f'reason="{path}')

    assert told.format(path=path, size=len(tiny), less=len(tiny) - 1000) in problem
    assert shown.count(str(path)) == len(logged) == 1
    assert (waiting["state"], waiting["attempt"]) == ("queued", 0)
    assert (jobs[job_id]["state"], mended) == ("done", [])


def test_too_little_memory_is_refused_with_figures_and_the_job_waits_for_other_settings(
    home: Path, tmp_path: Path, tiny: bytes
) -> None:
    (tmp_path / "model.gguf").write_bytes(tiny)
    model = str(tmp_path / "model.gguf")
    with running(home, MONK_MODEL=model, MONK_MEMORY_RESERVE_BYTES="900TiB") as daemon:
        job_id = daemon.submit("chat", CHAT)
        daemon.monk("night", "--now")
        (problem,) = problems(daemon)
        assert daemon.get(f"/jobs/{job_id}")["state"] == "queued"
        assert daemon.stop() == 0

    with running(home, MONK_MODEL=model) as daemon:  # the night is still open: the job goes on by itself
        jobs = daemon.wait_jobs_ended([job_id], SECONDS)

    assert "model.gguf needs 0." in problem and "weights 0." in problem and "KV of 1 x " in problem
    assert "0.00 GiB are free after a reserve of 921600.00" in problem
    assert "lower MONK_MEMORY_RESERVE_BYTES" in problem
    assert jobs[job_id]["state"] == "done"


@pytest.mark.real
def test_a_prompt_longer_than_the_context_fails_with_both_figures_and_its_neighbours_go_on(home: Path) -> None:
    (home / "corpus").mkdir()
    (home / "corpus" / "pumps.md").write_text("# Pumps\n\nPump 9 was mended in March by the night shift.\n")
    long = "When was pump 9 mended in March by the night shift? " * 100
    with running(home, MONK_CONTEXT="512", MONK_SLOTS="4") as daemon:
        ids = [
            daemon.submit("chat", {"messages": [{"role": "user", "content": long}], "max_tokens": 50}),
            daemon.submit("think", {"question": long}),
            daemon.submit("answer", {"question": long}),
        ]
        good = daemon.submit("chat", CHAT)
        daemon.monk("night", "--now")
        jobs = daemon.wait_jobs_ended([*ids, good], SECONDS)
        watched = daemon.monk("submit", "--wait", "--quiet", "--kind", "think", long)

    for job_id in ids:
        found = error(jobs, job_id)
        assert (found["code"], jobs[job_id]["attempt"]) == ("context_too_long", 1)
        assert str(found["limit_tokens"]) in found["message"] and "MONK_CONTEXT" in found["message"]
        assert found["num_tokens"] > found["limit_tokens"]
    assert jobs[good]["state"] == "done"
    assert "a slot holds 512; shorten the prompt" in watched.refusal()
