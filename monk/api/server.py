"""Listens: binds first, so that a port in use is told at once, then serves in a thread of its own. The only import of
uvicorn."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from monk.errors import HomeUnusable, SettingsInvalid, Unavailable
from monk.settings import Settings

logger = logging.getLogger(__name__)
BACKLOG = 1024
START_SECONDS = 30.0
SOCKET_MODE = 0o660  # the daemon's user and group; a socket has no token to ask for otherwise


class ApiServer:
    """One server. `start` once, `stop` once."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns when requests are being answered.

        Raises SettingsInvalid when the address is taken or not ours, HomeUnusable for a socket file that cannot be made.
        """
        self._socket = bind(self._settings)
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody is believed about where a request came from
            lifespan="off",
            ws="none",
            timeout_keep_alive=30,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, args=(self._server, self._socket), name="http", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(START_SECONDS) or not self._server.started:
            raise Unavailable("the HTTP server did not start; the journal has the reason")
        logger.info("listening", extra={"address": self.address})

    @property
    def port(self) -> int | None:
        """The port that was bound, also when the setting was 0; None on a unix socket."""
        if self._socket is None or self._socket.family == socket.AF_UNIX:
            return None
        return int(self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Where to reach it: a URL, or the path of the socket."""
        if self._settings.socket is not None:
            return str(self._settings.socket)
        return self._settings.url.rpartition(":")[0] + f":{self.port}"

    def stop(self, seconds: float) -> None:
        """Accept no more, end the event streams, let running requests finish, at most this long."""
        if self._server is None or self._thread is None:
            return
        self._app.state.parts.watch.close()
        self._server.config.timeout_graceful_shutdown = max(1, int(seconds))
        self._server.should_exit = True
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(1.0)
        if self._settings.socket is not None:
            self._settings.socket.unlink(missing_ok=True)

    def _run(self, server: _Server, listening: socket.socket) -> None:
        try:
            server.run(sockets=[listening])
        except Exception:  # the rim of this thread
            logger.exception("the HTTP server ended")
        finally:
            server.ready.set()


class _Server(uvicorn.Server):
    """uvicorn's, telling when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


def bind(settings: Settings) -> socket.socket:
    """A socket that is bound and will listen. Raises as `ApiServer.start`."""
    if settings.socket is not None:
        return _bind_unix(settings.socket)
    return _bind_tcp(settings.host, settings.port)


def _bind_tcp(host: str, port: int) -> socket.socket:
    try:
        family, type_, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise SettingsInvalid(f"host {host!r} is no address: {exc.strerror}; set MONK_HOST", param="host") from exc
    listening = socket.socket(family, type_, proto)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        raise SettingsInvalid(_told(exc, host, port), param="port") from exc
    return listening


def _told(exc: OSError, host: str, port: int) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there (ss -ltnp), or set MONK_PORT to another"
    if exc.errno == errno.EACCES:
        return f"port {port} needs root; set MONK_PORT to 1024 or above"
    if exc.errno == errno.EADDRNOTAVAIL:
        return f"host {host} is not an address of this machine; set MONK_HOST to one that is (ip addr)"
    return f"cannot listen on {host} port {port}: {exc.strerror}; set MONK_HOST and MONK_PORT"


def _bind_unix(path: Path) -> socket.socket:
    _clear(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        os.chmod(path, SOCKET_MODE)  # before listening: until then nobody can connect
        listening.listen(BACKLOG)
    except OSError as exc:
        listening.close()
        why = exc.strerror or str(exc)
        raise HomeUnusable(f"socket {path} cannot be made: {why}; set MONK_SOCKET to another", param="socket") from exc
    return listening


def _clear(path: Path) -> None:
    """Remove the socket a killed daemon left behind. Raises SettingsInvalid for anything else that stands there."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return
    if not is_socket:
        raise SettingsInvalid(f"socket {path} is a file already; move it away or set MONK_SOCKET", param="socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise SettingsInvalid(f"socket {path} is in use by another daemon; stop it or set MONK_SOCKET", param="socket")
