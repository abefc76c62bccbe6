"""A home on a disk that is full or cannot be written: one clear error, nothing confirmed is lost, and on it goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from db.database import Database
from db.queue import Queue
from monk.services import utc_now
from tests.commands import NOBODY, monk
from tests.running import RunningDaemon, running
from tests.small_disk import MIB, SmallDisk, read_only, why_not
from tests.small_house import a_job

SECONDS = 90.0
FULL = "the disk is full; free some space, nothing that was confirmed is lost"
STORY = {"messages": [{"role": "user", "content": "Tell a long story about a server."}], "temperature": 0.0}


@pytest.fixture
def disk(home: Path) -> Iterator[SmallDisk]:
    """The home on a disk of 40 MiB, 16 of them taken."""
    if (reason := why_not(home)) is not None:
        pytest.skip(reason)
    made = SmallDisk(home, 40)
    made.reserve(16 * MIB)
    yield made
    made.leave()


def submit_until_full(daemon: RunningDaemon) -> tuple[list[str], dict[str, Any]]:
    """The ids that were confirmed, and the first error."""
    body, ids = {"kind": "think", "input": {"question": "Why? " + "x" * 100_000}}, list[str]()
    while (answer := daemon.http.post("/jobs", json=body)).status_code == 201:
        ids.append(answer.json()["id"])
    assert answer.status_code == 500
    return ids, answer.json()["error"]


def refused(daemon: RunningDaemon, ids: list[str]) -> str:
    """The one line of the refusal. Small jobs may still find room in what the database took before: theirs are added."""
    while (done := daemon.monk("submit", "Why?")).status == 0:
        ids.append(done.out.strip())
        assert len(ids) < 1000, "the disk is not full"
    return done.refusal()


def stored(daemon: RunningDaemon) -> dict[str, str]:
    """State by id, of all jobs."""
    return dict(daemon.rows("SELECT id, state FROM jobs"))


def test_a_disk_filled_by_submits_loses_nothing_that_was_confirmed(disk: SmallDisk) -> None:
    with running(disk.path) as daemon:
        ids, error = submit_until_full(daemon)
        disk.fill()
        line = refused(daemon, ids)
        status = daemon.get("/status")
        daemon.kill()
        daemon.start()  # on a disk that is still full
        confirmed, after_the_crash = list(ids), stored(daemon)
        still = refused(daemon, ids)
        disk.free()
        taken = daemon.monk("submit", "Why?")
        assert daemon.stop() == 0
        assert set(stored(daemon)) == {*ids, taken.out.strip()}

    assert len(ids) > 20
    assert error == {"code": "home_unusable", "message": f"{disk.path / 'monk.sqlite'}: {FULL}", "param": None}
    assert line == still == f"monk: {disk.path / 'monk.sqlite'}: {FULL}"
    assert status["problems"] == ["only 0 MiB are free where the home is; make room before the night"]
    assert after_the_crash == dict.fromkeys(confirmed, "queued")


@pytest.mark.real
def test_a_disk_that_fills_up_in_the_middle_of_a_thought_costs_no_token(disk: SmallDisk) -> None:
    disk.free()
    with running(disk.path, MONK_CONTEXT="1024", MONK_SLOTS="2") as daemon:
        daemon.monk("night", "--now")
        job_id = daemon.submit("chat", {**STORY, "max_tokens": 400})
        daemon.wait_for(lambda: daemon.rows("SELECT 1 FROM token_runs"), SECONDS, "a saved token")
        disk.fill()
        problem = daemon.wait_for(
            lambda: [told for told in daemon.get("/status")["problems"] if FULL in told], SECONDS, "the problem"
        )
        seen = daemon.get(f"/jobs/{job_id}")["state"]
        disk.free()
        jobs = daemon.wait_jobs_ended([job_id], SECONDS)
        ((errors, crashes, attempt),) = daemon.rows("SELECT errors, crashes, attempt FROM jobs")
        thoughts = daemon.rows("SELECT num_tokens, num_resumes FROM thoughts")
        daemon.wait_for(lambda: not any(FULL in told for told in daemon.get("/status")["problems"]), SECONDS, "its end")

    assert problem == [f"jobs do not run: {disk.path / 'monk.sqlite'}: {FULL}"]
    assert (seen, jobs[job_id]["state"]) == ("running", "done")
    assert (errors, crashes, attempt, thoughts) == (0, 0, 1, [(400, 0)])


def test_a_corpus_that_cannot_be_stored_is_told_and_read_once_there_is_room(disk: SmallDisk) -> None:
    with running(disk.path) as daemon:
        daemon.wait_for(lambda: daemon.get("/corpus")["state"] == "idle", SECONDS, "the first look")
        (disk.path / "corpus" / "pumps.md").write_text("# Pumps\n\nPump 9 was mended in March.\n")
        disk.fill()
        failed = daemon.monk("corpus", "sync", "--wait")
        state = daemon.get("/corpus")
        disk.free()
        mended = daemon.monk("corpus", "sync", "--wait")
        found = daemon.get("/corpus")

    assert failed.status == 2 and "chroma: the disk is full (0 KiB are free); free some space" in failed.err
    assert (state["state"], state["code"]) == ("failed", "home_unusable")
    assert mended.status == 0
    assert (found["state"], found["documents"], found["passages"]) == ("idle", 1, 1)


@pytest.fixture
def kept(home: Path, database: Database) -> Iterator[dict[str, str]]:
    """How to start a daemon on a home with one job, which is there afterwards and can be run from."""
    job, _ = Queue(database).submit(a_job("Why?"), utc_now())
    database.close()
    daemon = RunningDaemon(home)
    yield daemon.environ
    with running(home) as again:
        assert stored(again) == {job.id: "queued"}
    daemon.http.close()


def test_a_read_only_home_is_refused_and_works_again_when_it_is_writable(home: Path, kept: dict[str, str]) -> None:
    if (reason := why_not(home)) is not None:
        pytest.skip(reason)

    with read_only(home):
        told = monk(kept, "serve").refusal()

    assert told == (
        f"monk: the home {home} cannot be written: Read-only file system; check its owner and mount, or set MONK_HOME"
    )


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user needs root")
def test_a_home_of_another_user_is_refused(home: Path, kept: dict[str, str]) -> None:
    for folder in (home, *home.parents):
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith(("home", "test_", "pytest-", "popen-")):
            folder.chmod(0o755)  # to be seen, not to be written

    told = monk(kept, "serve", user=NOBODY).refusal()

    assert told == (
        f"monk: the home {home} cannot be written: Permission denied; check its owner and mount, or set MONK_HOME"
    )


def test_a_home_that_is_a_file_is_refused(tmp_path: Path, kept: dict[str, str]) -> None:
    (tmp_path / "file").write_text("")

    told = monk({**kept, "MONK_HOME": str(tmp_path / "file")}, "serve").refusal()

    assert told.startswith(f"monk: the home {tmp_path / 'file'} cannot be written: ")
