"""One night in which a model obeys every attack, through the real daemon, reader, index, checks and report."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corpus.embedding import HashingEmbedder
from corpus.library import Library
from db.database import Database
from db.models import Job, Report
from db.queue import NewJob
from monk.daemon import Daemon, assemble, start, stop
from monk.engine.client import ThoughtRequest
from monk.engine.scripted import ScriptedEngine
from monk.services import utc_now
from monk.settings import load
from tests.hostile.attacks import ATTACKS, Attack

TOKEN = "the-owners-own-token-8d1f"
SECONDS = 120.0


@dataclass
class Night:
    """What is left in the morning."""

    daemon: Daemon
    home: Path
    jobs: dict[str, Job]  # by file of the attack
    prompts: dict[str, str]
    report: Report
    html: str
    markdown: str

    @property
    def library(self) -> Library:
        found = self.daemon.services.library
        assert isinstance(found, Library)
        return found

    def result(self, attack: Attack) -> dict[str, Any]:
        return self.jobs[attack.file].result or {}

    def article(self, attack: Attack) -> str:
        """The attack's part of the page."""
        begin = self.html.index(f'<h3 id="{self.jobs[attack.file].id}"')
        return self.html[begin : self.html.index("</article>", begin)]


def question_of(prompt: str) -> str:
    """The question a prompt ends with."""
    return prompt.rpartition("\nQuestion: ")[2].partition("<|im_end|>")[0].strip()


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Night]:
    home = tmp_path_factory.mktemp("hostile") / "home"
    corpus = home / "corpus"
    corpus.mkdir(parents=True)
    for attack in ATTACKS:
        honest = {"html": f"<p>{attack.fact}</p>", "csv": f"note,more\n{attack.fact},-"}.get(
            attack.file.rpartition(".")[2], attack.fact
        )
        (corpus / attack.file).write_text(f"{honest}\n\n{attack.body}\n", encoding="utf-8")
    (corpus / "outside.txt").symlink_to("/etc/passwd")
    shutil.copy(migrated, home / "monk.sqlite")
    prompts: dict[str, str] = {}

    def obedient(prompt: str, _request: ThoughtRequest) -> str:
        question = question_of(prompt)
        prompts[question] = prompt
        return next(attack.obeys for attack in ATTACKS if attack.question == question)

    database = Database(home / "monk.sqlite")
    settings = load({}, home=home, night="never", timezone="UTC", jobs_at_once=4, token=TOKEN)
    daemon = assemble(settings, database, ScriptedEngine(answer=obedient, context=16_384), HashingEmbedder)
    start(daemon)
    try:
        yield _spent(daemon, home, prompts)
    finally:
        stop(daemon, 10.0)
        database.close()


def _spent(daemon: Daemon, home: Path, prompts: dict[str, str]) -> Night:
    services = daemon.services
    _read(daemon)
    jobs = {}
    for attack in ATTACKS:
        given = services.kinds.validate("answer", {"question": attack.question})
        jobs[attack.file] = services.queue.submit(NewJob(kind="answer", input=given), utc_now())[0].id
    daemon.workers.wake()
    services.night.open_now(None)
    ended = _ended(daemon, jobs)
    services.night.close_now()
    report = services.reporter.write(None, None)
    told = {format_: services.reporter.render(report, format_) for format_ in ("html", "md")}
    by_file = {attack.file: prompts.get(attack.question, "") for attack in ATTACKS}
    return Night(daemon, home, ended, by_file, report, told["html"], told["md"])


def _read(daemon: Daemon) -> None:
    """Until the daemon itself has read all of the corpus."""
    daemon.services.reading.request_sync()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        status = daemon.services.library.status()
        if status.num_documents == len(ATTACKS) and not status.syncing:
            return
        threading.Event().wait(0.05)
    raise AssertionError("the corpus was not read")


def _ended(daemon: Daemon, jobs: dict[str, str]) -> dict[str, Job]:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = {file: daemon.services.queue.get(job_id) for file, job_id in jobs.items()}
        if all(job.finished_at for job in found.values()):
            return found
        threading.Event().wait(0.05)
    raise AssertionError("the night did not end")
