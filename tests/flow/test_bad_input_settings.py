"""Settings a daemon cannot start with: one line, status 2, and the home as it was."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.database import Database
from db.queue import Queue
from monk.services import utc_now
from tests.commands import monk
from tests.running import RunningDaemon, running
from tests.small_house import a_job


@pytest.fixture
def environ(home: Path, database: Database) -> Iterator[dict[str, str]]:
    """How to start a daemon on a home with one job; the job is there afterwards."""
    job, _ = Queue(database).submit(a_job("Why?"), utc_now())
    daemon = RunningDaemon(home)
    yield {**daemon.environ, "MONK_SOCKET": "", "MONK_PORT": "0"}
    assert daemon.rows("SELECT id, state FROM jobs") == [(job.id, "queued")]
    daemon.http.close()


def test_a_port_in_use_is_told_with_the_way_out(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = monk({**environ, "MONK_PORT": str(port)}, "serve").refusal()

    assert told == (
        f"monk: port {port} on 127.0.0.1 is in use; stop what listens there (ss -ltnp), or set MONK_PORT to another"
    )


def test_a_second_daemon_on_the_same_home_is_refused_and_leaves_the_first_alone(home: Path) -> None:
    with running(home) as first:
        job_id = first.submit("think", {"question": "Why?"})
        pid = first.process.pid if first.process else 0

        elsewhere = monk({**first.environ, "MONK_SOCKET": "", "MONK_PORT": "0"}, "serve").refusal()
        at_its_address = monk(first.environ, "serve").refusal()

        assert first.get(f"/jobs/{job_id}")["state"] == "queued"
        assert first.submit("think", {"question": "And now?"})
    for told in (elsewhere, at_its_address):
        assert told == (
            f"monk: another daemon (process {pid}) runs on the home {home}; stop it, or set another MONK_HOME"
        )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            b'night = "22:00\n',
            "is no valid TOML: Illegal character '\\n' (at line 1, column 15); mend it or move it away",
        ),
        (b"night = 22:00-07:00", "is no valid TOML: "),
        (b"\xff\xfe", "is no valid TOML: "),
        (b"prot = 8421", "unknown setting 'prot' in {file}; did you mean port?"),
        (b'night = "22-07"', "night = '22-07' (from {file}): "),
        (b'timezone = "Europe/Moskau"', "timezone = 'Europe/Moskau' (from {file}): no such time zone; use a name like"),
        (b"jobs_at_once = 0", "jobs_at_once = 0 (from {file}): "),
    ],
    ids=["unclosed string", "bare value", "no text", "unknown key", "night", "time zone", "range"],
)
def test_a_broken_settings_file_stops_every_command_with_its_place(
    environ: dict[str, str], home: Path, text: bytes, told: str
) -> None:
    del environ["MONK_NIGHT"]  # a variable would go before the file
    (home / "monk.toml").write_bytes(text)

    from_serve = monk(environ, "serve").refusal()
    from_jobs = monk(environ, "jobs").refusal()

    assert from_serve == from_jobs
    assert str(home / "monk.toml") in from_serve
    assert told.format(file=home / "monk.toml") in from_serve


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        (
            "MONK_TIMEZONE",
            "Mars/Base",
            "timezone = 'Mars/Base' (from MONK_TIMEZONE): no such time zone; use a name like",
        ),
        ("MONK_TIMEZONE", "../../etc/passwd", "no such time zone; use a name like Europe/Moscow"),
        ("TZ", "Mars/Base", "TZ='Mars/Base' is no time zone with a name; set MONK_TIMEZONE to one like Europe/Moscow"),
        ("MONK_NIGHT", "25:00-07:00", "night = '25:00-07:00' (from MONK_NIGHT): "),
    ],
)
def test_a_wrong_time_zone_or_window_is_told_with_its_source(
    environ: dict[str, str], variable: str, value: str, told: str
) -> None:
    assert told in monk({**environ, variable: value}, "serve").refusal()
