"""Jobs that want the machine for themselves: nothing runs beside them, and they hold up nobody who ranks higher."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from corpus.embedding import HashingEmbedder
from db.database import Database
from db.queue import NewJob
from jobs.registry import Kind
from monk.daemon import Daemon, assemble, start, stop
from monk.engine.scripted import ScriptedEngine
from monk.run import Run
from monk.services import utc_now
from monk.settings import load
from monk.thinking import Paused
from tests.flow.test_one_night import STORY, engine, state, submit, wait, wait_state


class Alone(BaseModel):
    """Asks nothing."""


class Hermit:
    """A kind that holds the machine until it is let go, and looks around meanwhile."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.daemon: Daemon | None = None
        self.begun: list[str] = []
        self.beside: list[str] = []
        self.engine_states: list[str] = []

    def run(self, run: Any) -> dict[str, Any]:
        assert isinstance(run, Run) and self.daemon is not None
        self.begun.append(run.job_id)
        while not self.go.wait(0.01):
            self.engine_states.append(self.daemon.services.engine.status().state)
            others = self.daemon.services.queue.counts()["running"] - 1
            self.beside += [run.job_id] if others else []
            if run.must_stop() is not None:
                raise Paused
        return {"answer": "I was alone."}


@pytest.fixture
def hermit() -> Hermit:
    return Hermit()


@pytest.fixture
def daemon(home: Path, database: Database, hermit: Hermit) -> Iterator[Daemon]:
    (home / "corpus").mkdir()
    scripted = ScriptedEngine(answer=lambda *_: STORY, context=4096, slots=8, token_delay_seconds=0.0005)
    settings = load({}, home=home, night="never", timezone="UTC", jobs_at_once=4, lease_seconds=5.0, save_seconds=0.05)
    made = assemble(settings, database, scripted, HashingEmbedder)
    made.services.kinds._ours["hermit"] = Kind("hermit", "Is alone", Alone, hermit.run, "test", alone=True)
    hermit.daemon = made
    start(made)
    yield made
    hermit.go.set()
    stop(made, 10.0)


def be_alone(daemon: Daemon) -> str:
    job, _ = daemon.services.queue.submit(NewJob(kind="hermit", input={}), utc_now())
    daemon.workers.wake()
    return job.id


def running(daemon: Daemon) -> int:
    return daemon.services.queue.counts()["running"]


def test_it_waits_for_what_runs_and_nothing_runs_beside_it(daemon: Daemon, hermit: Hermit) -> None:
    before = [submit(daemon) for _ in range(2)]
    daemon.services.night.open_now(None)
    wait(lambda: running(daemon) == 2, "two stories")

    alone = be_alone(daemon)
    after = submit(daemon)

    wait_state(daemon, alone, "running")
    assert [state(daemon, job_id) for job_id in before] == ["done", "done"], "what ran came to its end"
    threading.Event().wait(0.3)
    assert state(daemon, after) == "queued", "nobody passes it, and nobody runs beside it"
    hermit.go.set()
    wait_state(daemon, after, "done")
    assert state(daemon, alone) == "done" and hermit.begun == [alone] and hermit.beside == []
    assert daemon.services.queue.get(alone).result == {"answer": "I was alone."}


def test_the_engine_gives_its_memory_back_meanwhile_and_comes_again(daemon: Daemon, hermit: Hermit) -> None:
    first = submit(daemon)
    daemon.services.night.open_now(None)
    wait_state(daemon, first, "done")

    alone = be_alone(daemon)
    wait(lambda: len(hermit.engine_states) > 5, "a look around")
    hermit.go.set()
    wait_state(daemon, alone, "done")

    assert set(hermit.engine_states) == {"off"}
    wait(lambda: engine(daemon).status().state == "ready", "the engine")
    last = submit(daemon)
    wait_state(daemon, last, "done")


def test_a_job_of_a_higher_priority_goes_first_also_in_the_middle(daemon: Daemon, hermit: Hermit) -> None:
    alone = be_alone(daemon)
    daemon.services.night.open_now(None)
    wait_state(daemon, alone, "running")

    equal = submit(daemon)
    urgent = submit(daemon, priority=1)
    wait_state(daemon, urgent, "done")

    assert state(daemon, equal) == "queued"
    wait(lambda: len(hermit.begun) == 2, "it goes on behind the urgent one")
    released = [event for event in daemon.services.events.after(0, job_id=alone) if event.type == "released"]
    assert [event.data["why"] for event in released] == ["a job of a higher priority goes first, and then this one on"]
    hermit.go.set()
    wait_state(daemon, equal, "done")
    assert state(daemon, alone) == "done" and hermit.beside == []
    assert daemon.services.queue.get(alone).errors == 0


def test_while_it_waits_for_its_turn_a_higher_priority_passes_it(daemon: Daemon, hermit: Hermit) -> None:
    long = submit(daemon)
    daemon.services.night.open_now(None)
    wait(lambda: running(daemon) == 1, "a story")

    alone = be_alone(daemon)
    urgent = submit(daemon, priority=3)
    wait(lambda: state(daemon, urgent) in ("running", "done"), "the urgent one")

    assert hermit.begun == [] or state(daemon, long) == "done"
    wait_state(daemon, alone, "running")
    assert state(daemon, urgent) == "done" and hermit.beside == []


def test_two_of_them_run_one_after_the_other(daemon: Daemon, hermit: Hermit) -> None:
    ids = [be_alone(daemon) for _ in range(2)]
    daemon.services.night.open_now(None)
    wait(lambda: len(hermit.begun) == 1, "the first")
    threading.Event().wait(0.2)

    assert [state(daemon, job_id) for job_id in ids] == ["running", "queued"]
    hermit.go.set()
    for job_id in ids:
        wait_state(daemon, job_id, "done")


def test_the_nights_end_pauses_it_and_the_next_night_goes_on(daemon: Daemon, hermit: Hermit) -> None:
    alone = be_alone(daemon)
    daemon.services.night.open_now(None)
    wait_state(daemon, alone, "running")

    daemon.services.night.close_now()
    wait_state(daemon, alone, "queued")

    assert engine(daemon).status().state == "off"
    daemon.services.night.open_now(None)
    wait(lambda: len(hermit.begun) == 2, "the second night")
    hermit.go.set()
    wait_state(daemon, alone, "done")
