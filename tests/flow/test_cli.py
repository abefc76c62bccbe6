"""The command line against a real HTTP server over real tables; only model and clock are small stand-ins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db.bell import ring
from db.database import Database
from db.listing import Listing
from monk.api import create_app
from monk.api.server import ApiServer
from monk.cli import run
from monk.errors import InvalidInput
from monk.services import Services, utc_now
from tests.small_house import a_job, run_to_the_end, small_house

ROOT = Path(__file__).parents[2]


@dataclass
class House:
    """A served home, and the command line in front of it."""

    services: Services
    server: ApiServer
    capsys: pytest.CaptureFixture[str]

    def monk(self, *arguments: str, status: int = 0) -> str:
        """Run a command in this process; what it printed."""
        self.capsys.readouterr()
        ended = run(list(arguments))
        printed = self.capsys.readouterr()
        assert ended == status, printed.err
        self.err = printed.err
        return printed.out

    def json(self, *arguments: str) -> Any:
        """What a command prints for programs."""
        return json.loads(self.monk(*arguments, "--json"))


@pytest.fixture
def house(database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    services = small_house(database, port=0)
    server = ApiServer(create_app(services), services.settings)
    server.start()
    monkeypatch.setenv("MONK_HOME", str(database.path.parent))
    monkeypatch.setenv("MONK_PORT", str(server.port))
    yield House(services, server, capsys)
    server.stop(2.0)


def test_a_question_is_submitted_listed_and_shown(house: House) -> None:
    job_id = house.monk("submit", "What bounds decoding?", "--tag", "speed").strip()

    listed = house.monk("jobs", "--tag", "speed").splitlines()
    shown = house.monk("show", job_id)

    assert listed[0].split() == ["id", "state", "kind", "created", "asked"]
    assert listed[1].startswith(f"{job_id}  queued  answer") and listed[1].endswith("What bounds decoding?")
    assert shown.startswith(f"{job_id}\n  state      queued\n") and "  tags       speed\n" in shown


def test_everything_about_a_job_can_be_given(house: House) -> None:
    job = house.json(
        *("submit", "Think.", "--kind", "think", "--priority", "5", "--not-before", "1h", "--deadline", "2d"),
        *("--tokens", "900", "--minutes", "1.5", "--samples", "3", "--thinking", "0.5", "--seed", "7"),
        *("--experts", "4", "--yarn-factor", "2", "--tag", "a", "--tag", "b"),
        *("--kv-type-k", "q8_0", "--flash-attention", "on"),
    )

    assert job["state"] == "waiting" and job["kind"] == "think" and job["priority"] == 5 and job["seed"] == 7
    assert job["budget"] == {"tokens": 900, "minutes": 1.5, "samples": 3, "thinking": 0.5} and job["tags"] == ["a", "b"]
    assert job["model"] == {"experts": 4, "yarn_factor": 2.0, "kv_type_k": "q8_0", "flash_attention": "on"}
    shown = house.monk("show", job["id"])
    assert "  model      experts 4, yarn_factor 2, kv_type_k q8_0, flash_attention on\n" in shown
    assert "  budget     900 tokens, 1.5 minutes, 3 samples, 0.5 thinking, 0.0 minutes used\n" in shown


def test_the_same_key_gives_the_same_job(house: House) -> None:
    first = house.monk("submit", "Once?", "--key", "k1")
    second = house.monk("submit", "Once?", "--key", "k1")
    house.monk("submit", "Another?", "--key", "k1", status=2)

    assert first == second
    assert house.err.startswith("monk: idempotency_key 'k1' belongs to") and house.err.count("\n") == 1


def test_the_daemons_refusal_is_printed_word_by_word(house: House) -> None:
    house.monk("submit", "x", "--kind", "thinc", status=2)

    assert house.err.startswith("monk: there is no kind 'thinc'; did you mean think?")


def test_a_job_is_found_by_last_and_by_the_beginning_of_its_id(house: House) -> None:
    first = house.monk("submit", "first").strip()
    last = house.monk("submit", "last").strip()
    alone = next(size for size in range(5, 31) if not last.startswith(first[:size]))

    assert house.json("show", "last")["id"] == last
    assert house.json("show", first[:alone])["id"] == first
    assert house.json("show", first.removeprefix("job_")[: alone - 4])["id"] == first
    house.monk("show", "job_", status=2)
    assert "several jobs begin with" in house.err or "no job" in house.err
    house.monk("show", "0", status=2)
    assert "several jobs begin with '0'" in house.err
    house.monk("show", "zz", status=2)
    assert house.err == "monk: there is no job 'zz'; `monk jobs` lists them\n"
    house.monk("show", "../../etc/passwd", status=2)
    assert "there is no job" in house.err


def test_last_of_nothing_is_a_sentence(house: House) -> None:
    house.monk("show", "last", status=2)

    assert house.err == "monk: there are no jobs yet; `monk submit` makes one\n"


def test_long_listings_are_paged_to_the_end(house: House) -> None:
    for number in range(7):
        house.services.queue.submit(a_job(f"question {number}"), utc_now())

    some = house.json("jobs", "--limit", "3")
    every = house.json("jobs", "--all")

    assert len(some["jobs"]) == 3 and some["next"]
    assert len(every["jobs"]) == 7 and every["next"] is None
    house.monk("jobs", "--limit", "3")
    assert "--all shows the rest" in house.err
    assert house.json("jobs", "--state", "running")["jobs"] == []


def test_jobs_are_cancelled_and_retried(house: House) -> None:
    job_id = house.monk("submit", "changed my mind").strip()

    assert house.monk("cancel", "last") == f"{job_id} cancelled\n"
    assert house.monk("retry", job_id) == f"{job_id} queued\n"
    assert house.json("cancel", job_id)["jobs"][0]["state"] == "cancelled"
    run_to_the_end_of_another(house)
    house.monk("cancel", "last", status=2)
    assert "is done; only a waiting, queued or running job can be cancelled" in house.err


def test_a_job_whose_deadline_passed_is_retried_with_a_new_one(house: House) -> None:
    past = utc_now() - timedelta(minutes=1)
    job, _ = house.services.queue.submit(a_job("too late", deadline=past), past - timedelta(minutes=1))
    house.services.queue.fail_overdue(utc_now())
    house.monk("retry", job.id, status=2)
    assert "the deadline of" in house.err and "give a new one" in house.err

    retried = house.json("retry", job.id, "--deadline", "2h")["jobs"][0]

    assert retried["state"] == "queued"
    wanted = utc_now() + timedelta(hours=2)
    assert abs((datetime.fromisoformat(retried["deadline"]) - wanted).total_seconds()) < 60


def run_to_the_end_of_another(house: House) -> None:
    house.services.queue.submit(a_job("another"), utc_now())
    run_to_the_end(house.services)


def test_an_answer_is_shown_with_its_citations_and_events(house: House) -> None:
    house.services.queue.submit(a_job(), utc_now())
    job = house.services.queue.claim(utc_now(), 60.0)
    assert job is not None
    cited = {"file": "\x1b[2Jhandbook.md", "line": 12, "quote": "bound by memory", "verified": True}
    house.services.queue.finish(job, {"answer": "By memory [1].", "citations": [cited]}, utc_now())

    shown = house.monk("show", "last", "--events")

    assert 'By memory [1].\n\n[1] handbook.md, line 12: "bound by memory"' in shown
    assert "\x1b" not in shown
    assert [line.split()[2] for line in shown.split("events\n")[1].splitlines()] == ["submitted", "claimed", "done"]


def test_waiting_for_a_job_shows_it_think_and_prints_the_answer(house: House) -> None:
    threading.Thread(target=work_on_the_next, args=(house.services,), daemon=True).start()

    answer = house.monk("submit", "What bounds decoding?", "--wait")

    assert answer == "Bandwidth.\n"
    assert "· running\n" in house.err and "Ctrl-C stops watching" in house.err


def test_waiting_for_a_job_that_is_cancelled_ends_with_status_1(house: House) -> None:
    def cancel() -> None:
        house.services.queue.cancel(next_queued(house.services), utc_now())
        ring()

    threading.Thread(target=cancel, daemon=True).start()

    house.monk("submit", "Never mind", "--wait", "--quiet", status=1)

    assert house.err.startswith("monk: job_") and house.err.endswith(" cancelled\n")


def work_on_the_next(services: Services) -> None:
    next_queued(services)
    run_to_the_end(services)
    ring()


def next_queued(services: Services) -> str:
    deadline = threading.Event()
    for _ in range(200):
        page = Listing(services.database).page(states=["queued"], limit=1, cursor=None)
        if page.jobs:
            return page.jobs[0].id
        deadline.wait(0.05)
    raise AssertionError("no job was submitted")


def test_the_night_is_told_opened_and_closed(house: House) -> None:
    assert house.monk("night").startswith("night: closed")
    assert "until `monk night --close`" in house.monk("night", "--now")
    assert house.json("night", "--until", "2h")["closes_at"] is not None
    assert house.json("night", "--close")["open"] is False
    house.monk("night", "--until", "2020-01-01T00:00:00Z", status=2)
    assert "has passed" in house.err


def test_status_is_a_page_of_lines(house: House) -> None:
    house.monk("submit", "waiting in line")

    lines = house.monk("status").splitlines()

    assert [line.split(":")[0] for line in lines] == ["daemon", "night", "queue", "engine", "reach", "corpus", "memory"]
    assert lines[2] == "queue: 1 queued" and "restarted 2 times" in lines[3]
    assert house.json("status")["queue"]["queued"] == 1


def test_a_report_is_written_listed_printed_and_saved(house: House, tmp_path: Path) -> None:
    assert house.monk("report", "--list") == "no reports yet; `monk report --now` writes one\n"
    house.monk("report", status=2)
    assert "monk report --now" in house.err

    assert house.monk("report", "--now") == "# a quiet night\n"
    assert house.json("report") == {"line": "a quiet night"}
    assert house.monk("report", "--html") == "<!doctype html><p>a quiet night</p>\n"
    house.monk("report", "latest", "--output", str(tmp_path / "morning.html"))
    assert (tmp_path / "morning.html").read_text().startswith("<!doctype html>")
    report_id = house.json("report", "--list")["reports"][0]["id"]
    assert house.monk("report", report_id) == "# a quiet night\n"
    assert report_id in house.monk("report", "--list")
    house.monk("report", "--output", str(tmp_path / "no" / "folder.md"), status=2)
    assert "cannot be written: No such file or directory" in house.err


def test_the_corpus_is_searched_synced_and_told(house: House) -> None:
    found = house.monk("corpus", "search", "memory bandwidth")
    nothing = house.monk("corpus", "search", "zebra")

    assert found.startswith("0.75  handbook.md, line 12  Decode\n      Decoding is bound by memory bandwidth")
    assert nothing.startswith("nothing found")
    assert house.monk("corpus", "search", "memory bandwidth", "--tagged", "board").startswith("nothing found")
    assert house.monk("corpus", "status") == "corpus: 0 documents, 0 passages\n"
    assert house.monk("corpus", "sync").startswith("corpus: reading")
    assert house.json("corpus", "search", "memory", "-k", "1")["hits"][0]["file"] == "handbook.md"


def test_kinds_are_listed_with_their_fields(house: House) -> None:
    listed = house.monk("kinds")

    assert {line.split()[0] for line in listed.splitlines()[1:]} >= {"answer", "think", "read", "chat"}
    assert "document, questions" in listed
    assert "question, [passages]" in listed


def test_a_schedule_is_added_listed_and_removed(house: House) -> None:
    assert house.monk("schedule", "list").startswith("no schedules")

    added = house.monk("schedule", "add", "weekly/1", "0 21 * * fri", "What happened?")
    listed = house.monk("schedule", "list")

    assert added.startswith("weekly/1: first on 20")
    assert "weekly/1" in listed and "0 21 * * fri" in listed and "What happened?" in listed
    assert house.monk("schedule", "remove", "weekly/1") == "removed weekly/1\n"
    house.monk("schedule", "remove", "weekly/1", status=2)
    assert "no schedule" in house.err
    house.monk("schedule", "add", "bad", "61 * * * *", "x", status=2)
    assert house.err.count("\n") == 1


def test_a_wrong_token_is_one_line(database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    services = small_house(database, port=0, token="a-token-long-enough")
    server = ApiServer(create_app(services), services.settings)
    server.start()
    monkeypatch.setenv("MONK_HOME", str(database.path.parent))
    monkeypatch.setenv("MONK_PORT", str(server.port))
    house = House(services, server, capsys)
    try:
        house.monk("jobs", status=2)
        assert "a bearer token is needed" in house.err
        monkeypatch.setenv("MONK_TOKEN", "a-token-long-enough")
        assert house.monk("jobs") == "no jobs\n"
    finally:
        server.stop(2.0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore leaves a refused socket open
def test_a_unix_socket_is_reached(database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    path = database.path.parent / "s"
    services = small_house(database, socket=path)
    server = ApiServer(create_app(services), services.settings)
    server.start()
    monkeypatch.setenv("MONK_HOME", str(database.path.parent))
    monkeypatch.setenv("MONK_SOCKET", str(path))
    house = House(services, server, capsys)
    try:
        assert house.monk("jobs") == "no jobs\n"
    finally:
        server.stop(2.0)
    house.monk("jobs", status=2)
    assert house.err.startswith(f"monk: no daemon at unix socket {path}; start it")


def test_ctrl_c_stops_watching_and_not_the_job(house: House) -> None:
    watcher = subprocess.Popen(
        [sys.executable, "-m", "monk.cli", "submit", "A long thought", "--wait"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # whoever runs the tests in the background has told all their children to ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert watcher.stderr is not None
    first = watcher.stderr.readline()
    assert "Ctrl-C stops watching" in first
    house.services.queue.claim(utc_now(), 60.0)
    ring()
    assert watcher.stderr.readline() == "· running\n"  # the stream is open
    watcher.send_signal(signal.SIGINT)

    out, err = watcher.communicate(timeout=10)

    assert watcher.returncode == 130 and out == ""
    assert "goes on; `monk show job_" in err and "Traceback" not in err
    assert house.services.queue.counts()["running"] == 1


def test_following_goes_on_where_it_was_when_the_daemon_restarts(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = small_house(database, port=0)
    first = ApiServer(create_app(services), services.settings)
    first.start()
    port = first.port
    monkeypatch.setenv("MONK_HOME", str(database.path.parent))
    monkeypatch.setenv("MONK_PORT", str(port))
    house = House(services, first, capsys)
    seconds: list[ApiServer] = []

    def restart_in_the_middle() -> None:
        next_queued(services)
        job = services.queue.claim(utc_now(), 60.0)
        assert job is not None
        services.events.tell("progress", {"text": "before "}, utc_now(), job.id)
        first.stop(2.0)
        again = small_house(database, port=port)
        seconds.append(ApiServer(create_app(again), again.settings))
        seconds[0].start()
        again.queue.finish(job, {"answer": "After."}, utc_now())
        ring()

    threading.Thread(target=restart_in_the_middle, daemon=True).start()
    try:
        assert house.monk("submit", "Will you survive?", "--wait") == "After.\n"
    finally:
        for server in seconds:
            server.stop(2.0)
    assert house.err.count("· running\n") == 1, "events before the cut are not told twice"


def test_backup_and_restore_bring_the_jobs_back(house: House, tmp_path: Path) -> None:
    job_id = house.monk("submit", "Keep me").strip()
    copy = tmp_path / "copy.sqlite"

    assert str(copy) in house.monk("backup", str(copy))
    house.monk("backup", str(copy), status=2)
    assert "exists already" in house.err
    house.monk("submit", "Lost after the restore")
    house.server.stop(2.0)
    house.services.database.close()
    told = house.monk("restore", str(copy))

    assert "the database that was there is" in told
    database = Database(house.services.database.path)
    try:
        assert [job.id for job in Listing(database).page(limit=10, cursor=None).jobs] == [job_id]
    finally:
        database.close()


def test_nothing_is_restored_while_a_daemon_holds_the_home_or_from_a_file_that_is_no_copy(
    house: House, tmp_path: Path
) -> None:
    from monk.lock import lock_home

    copy, text = tmp_path / "copy.sqlite", tmp_path / "text"
    house.monk("backup", str(copy))
    text.write_text("not a database, but long enough to look like one " * 50)
    before = house.services.database.path.stat().st_ino

    lock = lock_home(house.services.settings.home)
    house.monk("restore", str(copy), status=2)
    assert "another daemon" in house.err
    os.close(lock)
    house.monk("restore", str(text), status=2)
    assert "is no database of Night Monk" in house.err
    house.monk("restore", str(tmp_path / "missing"), status=2)
    assert "does not exist" in house.err
    (tmp_path / "cut").write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    house.monk("restore", str(tmp_path / "cut"), status=2)

    assert house.services.database.path.stat().st_ino == before
    assert InvalidInput.exit_status == 2


def test_watching_the_status_tells_changes_and_survives_an_absence(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: Iterator[Callable[[], object]] = iter(
        (lambda: house.services.queue.submit(a_job(), utc_now()), lambda: None, lambda: house.server.stop(2.0))
    )

    def next_turn(seconds: float) -> None:
        action = next(turns, None)
        if action is None:
            raise KeyboardInterrupt
        action()

    monkeypatch.setattr("monk.cli.status.time.sleep", next_turn)

    lines = house.monk("status", "--watch", status=130).splitlines()

    assert lines[1] == "queue: empty" and "queue: 1 queued" in lines
    assert lines[-1].startswith("no daemon at") and lines.count("queue: 1 queued") == 1


def test_thoughts_are_shown_with_their_cost(house: House) -> None:
    from db.steps import NewThought, Open

    house.services.queue.submit(a_job(), utc_now())
    job = house.services.queue.claim(utc_now(), 60.0)
    assert job is not None
    opened = house.services.steps.open_thought(job, NewThought("draft", 0, "h", "m", {}, 9, (1, 2, 3)), utc_now())

    assert isinstance(opened, Open)
    assert "\nthoughts\n  draft: 3 tokens read, 0 written, unfinished\n" in house.monk("show", "last", "--thoughts")
