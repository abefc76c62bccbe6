"""A process of ours that may die without us: spawned with a socket, listened to, and buried."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from monk.engine import wire

POLL_SECONDS = 0.5
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class Spawned:
    """The process, its socket and its last words."""

    def __init__(self, process: subprocess.Popen[bytes], channel: wire.Channel) -> None:
        self._process = process
        self.channel = channel
        self.heard_at = time.monotonic()
        self.verdict: str | None = None
        self._lines: deque[str] = deque(maxlen=20)
        self._listener = threading.Thread(target=self._listen, name="engine-stderr", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    def spawn(cls, module: str, environment: Mapping[str, str] | None = None) -> Spawned:
        """`module` is run as a program that takes --socket-fd and --parent, with more in its environment. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            command = [sys.executable, "-m", module]
            command += ["--socket-fd", str(theirs.fileno()), "--parent", str(os.getpid())]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env={**_environment(), **(environment or {})},
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(POLL_SECONDS)
        return cls(process, wire.Channel(ours))

    def _listen(self) -> None:
        stream: IO[bytes] | None = self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                self._lines.append(line.decode("utf-8", "replace").rstrip())

    def condemn(self, reason: str) -> None:
        """Kill a child that hangs; its socket then ends."""
        self.verdict = reason
        self._process.kill()

    def end_after(self, seconds: float) -> None:
        """Wait for its own end that long, then force it."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def bury(self) -> str:
        """Make sure it is dead, free everything; returns how it ended and what it said last."""
        self.channel.close()  # a child that still lives leaves when its socket ends
        self.end_after(1.0)
        code = self._process.wait()
        self._listener.join(1.0)
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        said = next((line for line in reversed(self._lines) if line.strip()), "")
        return f"{how}: {said}" if said else how


def _environment() -> dict[str, str]:
    """Ours; with the way to this package when it runs from a source tree."""
    environment = dict(os.environ)
    if PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{PACKAGE_ROOT}{os.pathsep}{known}" if known else str(PACKAGE_ROOT)
    return environment
