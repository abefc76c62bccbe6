"""Night Monk as a service of a real machine: installed, started, killed, hung, stopped, removed.

These tests install the service, kill it and remove it with its home. So they run only when asked for by name, as root, on a
machine (a container or a virtual one) that systemd has booted and on which no Night Monk lives:

    python3 -m venv /opt/night-monk && /opt/night-monk/bin/pip install '.[dev]'
    /opt/night-monk/bin/pytest -m systemd tests/systemd

Everywhere else they are skipped, with a word why.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from monk import service
from monk.errors import InvalidInput, MonkError

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(900)]

DROP_IN = service.SYSTEM_UNITS / f"{service.UNIT}.d" / "test.conf"
ENDLESS = {"0": -100, "2": -100}  # <|endoftext|> and <|im_end|> of the embedded model: the thought cannot end by itself
PATIENCE_SECONDS = 240.0  # it runs at the lowest priority, and the machine may be busy


def why_not(asked_for: str) -> str | None:
    """Why these tests cannot run here; None when they can."""
    if "systemd" not in asked_for:
        return "installs and kills a real service; ask for it on a machine to throw away: pytest -m systemd"
    if os.geteuid() != 0:
        return "needs root"
    if not service.BOOTED.is_dir():
        return "systemd has not booted this machine"
    if (service.SYSTEM_UNITS / service.UNIT).exists() or service.STATE.exists():
        return "a Night Monk is installed on this machine"
    try:
        service.program()
    except InvalidInput as exc:
        return exc.message
    return None


class Installed:
    """The service as an administrator sees it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.jobs: list[str] = []

    def show(self, key: str) -> str:
        return systemctl("show", "--value", "-p", key, service.UNIT)

    @property
    def main_pid(self) -> int:
        return int(self.show("MainPID"))

    def engine(self) -> psutil.Process | None:
        """The engine's process, while there is one."""
        for child in psutil.Process(self.main_pid).children():
            with suppress(psutil.Error):  # gone, or dead and not yet buried
                if "monk.engine" in " ".join(child.cmdline()):
                    return child
        return None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/health"))
        except (urllib.error.URLError, OSError):
            return False

    def long_job(self) -> str:
        """A thought of many tokens, running."""
        asked = {
            "messages": [{"role": "user", "content": "Count from one to a thousand in words."}],
            "max_tokens": 4000,
            "temperature": 0,
            "logit_bias": ENDLESS,
        }
        job = self.ask("POST", "/jobs", {"kind": "chat", "input": asked})
        self.jobs.append(job["id"])
        self.ask("POST", "/night/open", {"until": None})
        wait_for(lambda: self.saved_tokens(job["id"]) >= 3, "the first saved tokens")
        return str(job["id"])

    def saved_tokens(self, job_id: str) -> int:
        """As the database says, whoever runs."""
        return int(self._row("SELECT coalesce(sum(num_tokens), 0) FROM thoughts WHERE job_id = ?", job_id))

    def state(self, job_id: str) -> str:
        return str(self._row("SELECT state FROM jobs WHERE id = ?", job_id))

    def _row(self, query: str, value: str) -> Any:
        with closing(sqlite3.connect(service.STATE / "monk.sqlite", timeout=30)) as database:
            return database.execute(query, (value,)).fetchone()[0]


def systemctl(*words: str) -> str:
    ended = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def wait_for(reached: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}\n{journal()[-6000:]}"
        time.sleep(0.1)  # systemd and a foreign process: nothing to wait on but a look


def journal() -> str:
    command = ["journalctl", "-u", service.ACCOUNT, "--no-pager", "-o", "cat"]
    return subprocess.run(command, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def monk(request: pytest.FixtureRequest) -> Iterator[Installed]:
    """Installed and started once for all, on a free port, with no night of its own; removed at the end."""
    if (reason := why_not(request.config.getoption("-m") or "")) is not None:
        pytest.skip(reason)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service.write_whole(service.ENVIRONMENT_FILE, f"MONK_PORT={port}\nMONK_NIGHT=never\n", 0o600)
    try:
        subprocess.run([str(service.program()), "service", "install"], check=True, cwd="/")
        yield Installed(port)
    finally:
        remove_all()


def remove_all() -> None:
    if (service.SYSTEM_UNITS / service.UNIT).exists():
        service.uninstall(user=False)
    shutil.rmtree(DROP_IN.parent, ignore_errors=True)
    shutil.rmtree(service.STATE, ignore_errors=True)
    service.ENVIRONMENT_FILE.unlink(missing_ok=True)
    subprocess.run(["userdel", service.ACCOUNT], capture_output=True)


@pytest.fixture(autouse=True)
def running(monk: Installed) -> Iterator[None]:
    """Each test begins with an answering daemon by day and leaves no job behind."""
    systemctl("start", service.UNIT)
    wait_for(monk.answers, "an answer of /health")
    yield
    systemctl("start", service.UNIT)
    wait_for(monk.answers, "an answer of /health")
    monk.ask("POST", "/night/close")
    while monk.jobs:
        monk.ask("POST", f"/jobs/{monk.jobs.pop()}/cancel")


# ── started ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_enabled_running_and_says_what_it_does(monk: Installed) -> None:
    assert (monk.show("ActiveState"), monk.show("UnitFileState")) == ("active", "enabled")
    wait_for(lambda: "by day" in monk.show("StatusText"), "a status line")


def test_it_runs_as_its_own_user_in_its_own_home(monk: Installed) -> None:
    daemon = psutil.Process(monk.main_pid)
    assert daemon.username() == service.ACCOUNT
    assert service.STATE.stat().st_mode & 0o777 == 0o700
    assert service.STATE.owner() == service.ACCOUNT
    assert (service.STATE / "monk.sqlite").stat().st_mode & 0o077 == 0


def test_it_takes_only_what_nobody_else_wants(monk: Installed) -> None:
    daemon = psutil.Process(monk.main_pid)
    assert daemon.nice() == 19
    assert os.sched_getscheduler(daemon.pid) == os.SCHED_IDLE
    assert daemon.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE


def test_the_walls_score_two_at_most_and_no_line_is_unknown(monk: Installed) -> None:
    told = subprocess.run(["systemd-analyze", "security", "--no-pager", service.UNIT], capture_output=True, text=True)
    exposure = re.search(r"exposure level for .*: ([\d.]+)", told.stdout)
    assert exposure is not None and float(exposure[1]) <= 2.0, told.stdout
    verified = subprocess.run(["systemd-analyze", "verify", service.UNIT], capture_output=True, text=True)
    assert service.UNIT not in verified.stderr, verified.stderr


def test_a_second_installation_restarts_it_with_the_new_unit(monk: Installed) -> None:
    before = monk.main_pid
    done = service.install(user=False, start=True)
    assert any("is up to date" in line for line in done)
    wait_for(monk.answers, "an answer of /health")
    assert monk.main_pid != before


# ── killed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_daemon_comes_back_and_its_job_goes_on(monk: Installed) -> None:
    job_id = monk.long_job()
    before, restarts = monk.main_pid, int(monk.show("NRestarts"))
    os.kill(before, signal.SIGKILL)
    saved = monk.saved_tokens(job_id)
    wait_for(lambda: monk.main_pid not in (0, before) and monk.answers(), "the next daemon")
    assert int(monk.show("NRestarts")) == restarts + 1
    wait_for(lambda: monk.saved_tokens(job_id) > saved, "more tokens of the cut thought")


def test_a_killed_engine_leaves_the_daemon_alone_and_its_job_goes_on(monk: Installed) -> None:
    job_id = monk.long_job()
    daemon, engine = monk.main_pid, monk.engine()
    assert engine is not None
    engine.kill()
    saved = monk.saved_tokens(job_id)
    wait_for(lambda: (new := monk.engine()) is not None and new.pid != engine.pid, "the next engine")
    wait_for(lambda: monk.saved_tokens(job_id) > saved, "more tokens of the cut thought")
    assert monk.main_pid == daemon
    assert monk.show("ActiveState") == "active"


def test_the_engine_is_the_first_that_the_oom_killer_takes(monk: Installed) -> None:
    monk.long_job()
    engine = monk.engine()
    assert engine is not None
    assert Path(f"/proc/{engine.pid}/oom_score_adj").read_text().strip() == "1000"
    assert int(Path(f"/proc/{monk.main_pid}/oom_score_adj").read_text()) <= 0
    assert monk.show("OOMPolicy") == "continue"


# ── hung ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hung_daemon_is_ended_by_the_watchdog_and_comes_back(monk: Installed) -> None:
    service.write_whole(DROP_IN, "[Service]\nWatchdogSec=20s\nTimeoutAbortSec=5s\n", 0o644)
    systemctl("daemon-reload")
    systemctl("restart", service.UNIT)
    before = monk.main_pid
    try:
        os.kill(before, signal.SIGSTOP)
        wait_for(lambda: monk.main_pid not in (0, before) and monk.answers(), "the next daemon")
        assert "Watchdog timeout" in journal()
        assert "most recent call first" in journal(), "it says where its threads stood"
    finally:
        DROP_IN.unlink()
        systemctl("daemon-reload")
        systemctl("restart", service.UNIT)


# ── stopped ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stop_saves_within_twenty_seconds_and_the_next_start_goes_on(monk: Installed) -> None:
    job_id = monk.long_job()
    seen = monk.saved_tokens(job_id)
    begun = time.monotonic()
    systemctl("stop", service.UNIT)
    took_seconds = time.monotonic() - begun
    assert (took_seconds < 20, monk.show("Result")) == (True, "success"), journal()[-6000:]
    assert monk.state(job_id) == "queued"
    saved = monk.saved_tokens(job_id)
    assert saved >= seen
    systemctl("start", service.UNIT)
    wait_for(lambda: monk.saved_tokens(job_id) > saved, "more tokens of the paused thought")


# ── walls ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_program_that_its_user_cannot_reach_is_refused(monk: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = Path("/root/night-monk-test")
    hidden.mkdir()
    (hidden / "monk").write_text("#!/bin/sh\necho monk\n")
    (hidden / "monk").chmod(0o755)
    mode = hidden.parent.stat().st_mode & 0o777
    hidden.parent.chmod(0o700)
    monkeypatch.setattr(service, "program", lambda: hidden / "monk")
    before = (service.SYSTEM_UNITS / service.UNIT).read_text()
    try:
        with pytest.raises(InvalidInput, match="cannot be run by the user night-monk: Permission denied"):
            service.install(user=False, start=True)
    finally:
        hidden.parent.chmod(mode)
        shutil.rmtree(hidden)
    assert (service.SYSTEM_UNITS / service.UNIT).read_text() == before


def test_embeddings_work_inside_the_walls(monk: Installed) -> None:
    document = service.STATE / "corpus" / "note.md"
    document.write_text("# Bees\n\nA hive holds about fifty thousand bees in summer.\n")
    document.chmod(0o644)
    monk.ask("POST", "/corpus/sync")

    def found() -> bool:
        try:
            hits = monk.ask("GET", "/corpus/search?q=how+many+bees")
        except urllib.error.HTTPError:
            return False
        return "fifty thousand" in json.dumps(hits)

    try:
        wait_for(found, "the passage about bees")
    finally:
        document.unlink()


# ── removed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_removed_service_leaves_its_home(monk: Installed) -> None:
    service.uninstall(user=False)
    assert not (service.SYSTEM_UNITS / service.UNIT).exists()
    assert (service.STATE / "monk.sqlite").exists()
    assert not monk.answers()
    with pytest.raises(MonkError, match="nothing was changed"):
        service.uninstall(user=False)
    service.install(user=False, start=True)
    wait_for(monk.answers, "an answer of /health")


# ── of an account ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def account() -> Iterator[pwd.struct_passwd]:
    """An ordinary user whose own service manager runs."""
    name = "night-monk-test"
    subprocess.run(["useradd", "--create-home", name], check=True)
    try:
        subprocess.run(["loginctl", "enable-linger", name], check=True)
        user = pwd.getpwnam(name)
        wait_for(Path(f"/run/user/{user.pw_uid}/systemd/private").exists, "the account's own systemd")
        yield user
    finally:
        subprocess.run(["loginctl", "terminate-user", name], capture_output=True)
        subprocess.run(["loginctl", "disable-linger", name], capture_output=True)
        wait_for(lambda: subprocess.run(["userdel", "-r", name], capture_output=True).returncode == 0, "its end")


def run_as(user: pwd.struct_passwd, *command: str, **environ: str) -> str:
    runtime = f"/run/user/{user.pw_uid}"
    known = {"HOME": user.pw_dir, "USER": user.pw_name, "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": runtime}
    ended = subprocess.run(
        command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", env=known | environ, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode().strip()


def test_an_account_has_its_own_service_without_root(account: pwd.struct_passwd) -> None:
    program, home = str(service.program()), f"{account.pw_dir}/my monk"
    settings = Path(account.pw_dir, ".config", "night-monk.env")
    service.write_whole(settings, "MONK_PORT=0\nMONK_NIGHT=never\n", 0o644)
    for path in (settings, settings.parent):
        os.chown(path, account.pw_uid, account.pw_gid)
    run_as(account, program, "service", "install", "--user", MONK_HOME=home)
    assert run_as(account, "systemctl", "--user", "is-active", service.UNIT) == "active"
    daemon = psutil.Process(
        int(run_as(account, "systemctl", "--user", "show", "--value", "-p", "MainPID", service.UNIT))
    )
    assert daemon.username() == account.pw_name
    assert (daemon.nice(), os.sched_getscheduler(daemon.pid)) == (19, os.SCHED_IDLE)
    assert Path(home, "monk.sqlite").exists()
    run_as(account, program, "service", "uninstall", "--user")
    assert not psutil.pid_exists(daemon.pid)
    assert Path(home, "monk.sqlite").exists()
