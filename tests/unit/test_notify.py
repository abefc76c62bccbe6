"""Talking to systemd: real datagram sockets, no systemd."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monk.notify import Notifier, WatchdogFeeder, child_environment


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(5)
        yield line


def notifier_to(manager: socket.socket, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **more})


def test_every_message_arrives_as_systemd_spells_it(manager: socket.socket) -> None:
    notifier = notifier_to(manager)
    assert notifier.ready() and notifier.status("3 of 5 jobs\n done") and notifier.watchdog() and notifier.stopping()
    assert notifier.extend_start(2.5)
    heard = [manager.recv(1000).decode() for _ in range(5)]
    assert heard == ["READY=1", "STATUS=3 of 5 jobs done", "WATCHDOG=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=2500000"]


def test_an_abstract_socket_is_reached_by_its_at_sign() -> None:
    name = f"night-monk-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind("\0" + name)
        line.settimeout(5)
        assert Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert line.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_sent_and_nothing_fails() -> None:
    notifier = Notifier({})
    assert not notifier.present
    assert not notifier.ready() and not notifier.status("x") and not notifier.watchdog() and not notifier.stopping()


def test_a_manager_that_went_away_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    assert caplog.messages == ["systemd could not be told"]


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_s_time_is_read_if_it_is_meant_for_this_process(
    variables: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(variables).watchdog_seconds == seconds


def test_it_is_fed_only_while_every_check_says_yes(manager: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers: dict[str, bool | str] = {"api": True, "workers": True}
    checks = {"api": lambda: answers["api"], "workers": lambda: answers["workers"]}
    feeder = WatchdogFeeder(notifier_to(manager), checks)
    assert feeder.feed()
    answers["workers"] = "no beat for 70 s"
    assert not feeder.feed()
    assert not feeder.feed()
    answers["workers"] = True
    assert feeder.feed()
    told = [(record.getMessage(), getattr(record, "check", None)) for record in caplog.records]
    assert told == [("not alive, the watchdog is not fed", "workers"), ("alive again", "workers")]
    assert caplog.records[0].__dict__["why"] == "no beat for 70 s"


def test_a_check_that_fails_starves_the_watchdog(manager: socket.socket) -> None:
    def broken() -> bool:
        raise OSError("connection refused")

    feeder = WatchdogFeeder(notifier_to(manager), {"api": broken})
    assert not feeder.feed()
    feeder.register("api", lambda: False)
    assert not feeder.feed()


def test_the_feeder_feeds_by_the_clock_and_stops(manager: socket.socket) -> None:
    feeder = WatchdogFeeder(notifier_to(manager, WATCHDOG_USEC="100000"))
    asked = threading.Semaphore(0)
    feeder.register("counted", lambda: asked.release() is None)
    feeder.start()
    assert all(asked.acquire(timeout=5) for _ in range(3))
    feeder.stop()
    assert manager.recv(100) == b"WATCHDOG=1"
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())


def test_without_a_watchdog_no_thread_is_started() -> None:
    feeder = WatchdogFeeder(Notifier({}))
    feeder.start()
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())
    feeder.stop()


def test_a_child_process_does_not_inherit_the_line() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "PATH": "/bin"}
    assert child_environment(environ) == {"PATH": "/bin"}
