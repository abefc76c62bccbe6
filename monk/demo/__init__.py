"""`monk demo`: a whole night in a few minutes, nothing of it pretended.

    empty home ─▶ daemon (a process of its own) ─▶ corpus read ─▶ five jobs over HTTP ─▶ night opened ─▶ watched to the end
    ─▶ night closed ─▶ report written and printed ─▶ daemon stopped, its exit status checked

A step that fails ends the demo with the daemon's last words.
"""

from __future__ import annotations

import io
import signal
import sys
import time
from pathlib import Path
from typing import Any

from monk.cli.corpus import wait_for_sync
from monk.cli.moments import spelled
from monk.cli.terminal import one_line, say, say_markdown, tell
from monk.cli.views import summary
from monk.client import Client
from monk.demo.house import House
from monk.demo.questions import JOBS
from monk.demo.screen import watch
from monk.errors import EngineFailed, MonkError

NIGHT_SECONDS = 900.0  # a night that is not over by then has a fault; it takes one to three minutes on two cores
TITLE_CHARACTERS = 90


def run(home: Path) -> int:
    """The whole story. 0: every step went well. Raises MonkError after showing the daemon's last log lines."""
    began = time.monotonic()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # also through a pipe it is told as it happens
    house = House(home.absolute())
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the daemon must not outlive us
        signal.signal(number, signal.default_int_handler)
    try:
        with house:
            _night(house)
    except MonkError:
        for line in house.last_words():
            tell(f"  {line}")
        raise
    _farewell(house, time.monotonic() - began)
    return 0


def _night(house: House) -> None:
    with Client(house.settings) as daemon:
        house.wait_until_healthy(daemon)
        _step(f"The daemon listens at {house.settings.url}, its home is {house.home}")
        _read_corpus(daemon)
        jobs = [_submit(daemon, job) for job in JOBS]
        daemon.post("/night/open", {})
        _step("The night is open (POST /night/open)")
        ended = watch(daemon, [job["id"] for job in jobs], NIGHT_SECONDS)
        daemon.post("/night/close")
        _step("The night is closed (POST /night/close)")
        _report(daemon)
        _check(ended)


def _read_corpus(daemon: Client) -> None:
    daemon.post("/corpus/sync")
    state = wait_for_sync(daemon)
    if state.get("error") or not state.get("documents"):
        raise EngineFailed(f"the starter corpus was not read: {state.get('error') or 'no documents'}")
    _step(f"The handbook is read: {state['documents']} documents, {state['passages']} passages (GET /corpus)")


def _submit(daemon: Client, job: dict[str, Any]) -> dict[str, Any]:
    accepted: dict[str, Any] = daemon.post("/jobs", job)
    _step(f"POST /jobs: {job['kind']:<6} {one_line(summary(job), TITLE_CHARACTERS)}")
    return accepted


def _report(daemon: Client) -> None:
    daemon.post("/reports")
    _step("The morning report (GET /reports/latest.md)")
    say()
    say_markdown(daemon.text("/reports/latest.md"))


def _check(jobs: list[dict[str, Any]]) -> None:
    lost = [
        f"{job['id']} {job['state']}: {(job.get('error') or {}).get('message', '')}"
        for job in jobs
        if job["state"] != "done"
    ]
    if lost:
        raise EngineFailed(f"not every job was done: {'; '.join(lost)}")


def _farewell(house: House, seconds: float) -> None:
    _step(f"The daemon has stopped cleanly. All of it took {spelled(seconds)}.")
    for name, path in house.files():
        say(f"  {name:<9}{path}")
    say('\nYour own: `monk serve` in one terminal, `monk submit "..." --wait` and `monk night --now` in another.')


def _step(text: str) -> None:
    say(f"▸ {text}")
