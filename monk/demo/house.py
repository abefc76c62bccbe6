"""The demo's home and the daemon in it: a real `monk serve`, begun in an empty folder and ended by SIGTERM."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from monk.errors import EngineFailed, HomeUnusable, Unavailable
from monk.lock import is_locked
from monk.settings import PREFIX, Settings

if TYPE_CHECKING:
    from monk.client import Client

MARK = ".night-monk-demo"  # only a folder with this file is ever emptied
START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.1
LAST_LINES = 20
KEPT = (
    "MODEL",
    "MODEL_SHA256",
    "EMBEDDING_MODEL",
    "THREADS",
    "CONTEXT",
    "SLOTS",
    "LOG_LEVEL",
)  # to try one's own model
QUICK = {"MONK_TUNE_SECONDS": "0"}  # the home is gone tomorrow, and so would be what was measured


class House:
    """A context manager: inside it the daemon runs. Leaving it stops the daemon and checks that it ended well."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._log = home / "daemon.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.settings = Settings(home=home, port=_free_port(), night="never", corpus=_starter_corpus())

    def __enter__(self) -> House:
        _empty(self.home)
        with self._log.open("wb") as log:
            self._process = _start(self.settings, log)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        status = self._stop()
        if status != 0 and exc is None:
            raise EngineFailed(f"the daemon ended with status {status} instead of 0; see {self._log}")

    def wait_until_healthy(self, daemon: Client) -> None:
        """Return when /health answers. Raises EngineFailed when the daemon ends first, Unavailable when it takes too long."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            if (status := self._process.poll()) is not None:
                raise EngineFailed(f"the daemon ended at its start with status {status}; see {self._log}")
            try:
                daemon.get("/health")
                return
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(LOOK_SECONDS)

    def last_words(self) -> list[str]:
        """The end of the daemon's log."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        except OSError:
            return []

    def files(self) -> list[tuple[str, Path]]:
        """What the night left behind, by name."""
        reports = sorted((self.home / "reports").glob("*"))
        newest = {file.suffix.lstrip("."): file for file in reports if file.is_file()}
        shown = [("report", file) for _, file in sorted(newest.items())]
        return [*shown, ("database", self.home / "monk.sqlite"), ("log", self._log)]

    def _stop(self) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _empty(home: Path) -> None:
    """An empty folder with our mark. Raises HomeUnusable for a folder that is not an earlier demo's."""
    if home.exists() and any(home.iterdir()) and not (home / MARK).exists():
        raise HomeUnusable(f"{home} is not empty and no earlier demo's; name another folder with --home", param="home")
    if is_locked(home):
        raise HomeUnusable(f"a daemon still runs in {home}; stop it or name another folder with --home", param="home")
    try:
        shutil.rmtree(home, ignore_errors=False) if home.exists() else None
        home.mkdir(parents=True)
        (home / MARK).touch()
    except OSError as exc:
        raise HomeUnusable(
            f"{home} cannot be made anew: {exc.strerror}; name another folder with --home", param="home"
        ) from exc


def _start(settings: Settings, log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "monk.cli", "serve", "--home", str(settings.home), "--port", str(settings.port)]
    return subprocess.Popen(
        command,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is ours; the daemon gets its SIGTERM from us
    )


def _environment(settings: Settings) -> dict[str, str]:
    kept = {PREFIX + name for name in KEPT}
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name in kept}
    return {**ours, "MONK_NIGHT": settings.night, "MONK_CORPUS": str(settings.corpus_folder), **QUICK}


def _starter_corpus() -> Path:
    import corpus

    return Path(corpus.__file__).parent / "starter"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
