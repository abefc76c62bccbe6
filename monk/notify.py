"""Speaks to the service manager: sd_notify(3) in its own words, a datagram to a socket. Without systemd, all of it does nothing.

Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are systemd's to set and no settings of ours.

The watchdog is fed from the checks, never from a timer alone: a daemon whose API hangs or whose workers stand still must be
restarted, though its process is alive and a thread of it could go on feeding forever.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

Check = Callable[[], bool | str]  # True: alive. False, or the reason as text: not


class Notifier:
    """Tells systemd how the daemon is. Safe from any thread; never raises, because nobody can mend it from here."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Reads its variables once. They stay for no child: see `child_environment`."""
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ)

    @property
    def present(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def ready(self) -> bool:
        """The daemon serves. Returns whether it was sent, like all of these."""
        return self._send("READY=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> bool:
        """The daemon has begun to stop."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """The daemon works."""
        return self._send("WATCHDOG=1")

    def extend_start(self, seconds: float) -> bool:
        """The start goes on and needs this much longer from now (a large migration, a slow disk)."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, message: str) -> bool:
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.settimeout(1.0)  # a service manager that does not read must not hold the daemon
                line.sendto(message.encode(), self._address)
        except OSError as exc:
            logger.warning("systemd could not be told", extra={"what": message.partition("=")[0], "why": str(exc)})
            return False
        return True


class WatchdogFeeder:
    """Feeds at half of the watchdog's time, as long as every check says the daemon is alive; else lets it starve, and says
    why. A check must answer soon; one that hangs starves the watchdog too."""

    def __init__(self, notifier: Notifier, checks: Mapping[str, Check] | None = None) -> None:
        """Checks by name; `register` adds more."""
        whole = notifier.watchdog_seconds
        self._notifier = notifier
        self._period_seconds = None if whole is None else whole / 2
        self._checks: dict[str, Check] = dict(checks or {})
        self._failing: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def register(self, name: str, alive: Check) -> None:
        """From now on this must hold for the watchdog to be fed. The same name replaces."""
        self._checks = {**self._checks, name: alive}

    def start(self) -> None:
        """Feed now, and then by the clock. Nothing when systemd asked for no watchdog."""
        if self._period_seconds is None:
            return
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more feeding; the stop has a time limit of its own."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def feed(self) -> bool:
        """One turn: ask every check, feed if all say yes."""
        failing = {name: why for name, alive in self._checks.items() if (why := _ask(alive)) is not None}
        self._log(failing)
        return not failing and self._notifier.watchdog()

    def _run(self) -> None:
        while True:
            self.feed()
            if self._stop.wait(self._period_seconds):
                return

    def _log(self, failing: dict[str, str]) -> None:
        for name, why in failing.items():
            if name not in self._failing:
                logger.error("not alive, the watchdog is not fed", extra={"check": name, "why": why})
        for name in self._failing.keys() - failing.keys():
            logger.info("alive again", extra={"check": name})
        self._failing = failing


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for a child process without the variables that belong to this process alone."""
    return {name: value for name, value in environ.items() if name not in _OURS}


_OURS = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


def _ask(alive: Check) -> str | None:
    """None: alive; else why not."""
    try:
        answer = alive()
    except Exception as exc:  # a check that cannot answer is no sign of life
        return f"{type(exc).__name__}: {exc}"
    if answer is True:
        return None
    return answer or "no sign of life"


def _address(path: str) -> str | None:
    """A socket's path, an abstract name (@ stands for the NUL byte), or None."""
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if path.startswith("/") else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    text, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or int(text) == 0 or (owner and owner != str(os.getpid())):
        return None
    return int(text) / 1e6
