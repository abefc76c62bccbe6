"""A real daemon in a process of its own, for tests that drive it over HTTP and kill it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests import commands

START_SECONDS = 30.0


class RunningDaemon:
    """`monk serve` on a home, reached over a unix socket. Its log is `home/../daemon.log`, over all its lives."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        self.log = home.parent / "daemon.log"
        self.socket = home.parent / "s"  # short: the path of a socket has a limit
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MONK_")},
            "MONK_HOME": str(home),
            "MONK_SOCKET": str(self.socket),
            "MONK_NIGHT": "never",
            "MONK_TUNE_SECONDS": "0",
            **environ,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://monk", timeout=30.0
        )

    def start(self, wait: bool = True) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monk.cli", "serve"],
                env=self.environ,
                stdout=log,
                stderr=log,
                cwd=self.home.parent,
            )
        if wait:
            self.wait_healthy()

    def wait_healthy(self) -> None:
        """Until /health answers. Fails with the log when the daemon ended or is silent."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._listens() and self.http.get("/health").status_code == 200:
                return
            assert self.process is not None
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the daemon does not answer:\n{self.tail()}")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def monk(self, *arguments: str, stdin: str = "") -> commands.Ended:
        """A command in front of this daemon."""
        return commands.monk(self.environ, *arguments, stdin=stdin)

    def reasons(self, words: str) -> list[str]:
        """The lines of the log with these words."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if words in line]

    def submit(self, kind: str, input_: dict[str, Any], **more: Any) -> str:
        """POST /jobs; the id."""
        answer = self.http.post("/jobs", json={"kind": kind, "input": input_, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def get(self, path: str) -> Any:
        """A route's JSON."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for(self, what: Any, seconds: float, told: str) -> Any:
        """Poll `what()` until it is true; its value. Fails with the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := what():
                return value
            time.sleep(0.1)
        raise AssertionError(f"{told} did not come about within {seconds:.0f} s:\n{self.tail(80)}")

    def wait_jobs_ended(self, ids: list[str], seconds: float) -> dict[str, Any]:
        """Until all of these jobs are final; the jobs by id."""

        def ended() -> dict[str, Any]:
            jobs = {job_id: self.get(f"/jobs/{job_id}") for job_id in ids}
            return jobs if all(job["finished_at"] for job in jobs.values()) else {}

        return dict(self.wait_for(ended, seconds, "the end of all jobs"))

    def engine_pid(self) -> int | None:
        """The engine child, found among the daemon's children."""
        assert self.process is not None
        try:
            for child in psutil.Process(self.process.pid).children():
                if "monk.engine.child" in " ".join(child.cmdline()):
                    return child.pid
        except psutil.NoSuchProcess:
            pass
        return None

    def kill(self) -> None:
        """SIGKILL the daemon."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_engine(self) -> bool:
        """SIGKILL the engine child; False when there is none."""
        if (pid := self.engine_pid()) is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def stop(self, seconds: float = 25.0) -> int:
        """SIGTERM, and its exit status."""
        if self.process is None or self.process.poll() is not None:
            return 0 if self.process is None else self.process.returncode
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the daemon did not stop within {seconds:.0f} s:\n{self.tail(80)}") from None

    def rows(self, query: str, *values: Any) -> list[Any]:
        """A look into the database from outside, whoever is alive."""
        with closing(sqlite3.connect(f"file:{self.home / 'monk.sqlite'}?mode=ro", uri=True, timeout=10)) as raw:
            return raw.execute(query, values).fetchall()


@contextmanager
def running(home: Path, **environ: str) -> Iterator[RunningDaemon]:
    """A daemon that answers, for the length of a test; killed at its end if it still runs."""
    daemon = RunningDaemon(home, **environ)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.http.close()
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
