"""Where the daemon listens: free, or ours."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from monk.doctor.finding import Finding
from monk.errors import MonkError, Unauthorized
from monk.settings import Settings


def port(settings: Settings) -> Iterator[Finding]:
    """Our daemon answers, or nobody does and we could listen."""
    where = str(settings.socket) if settings.socket else settings.url
    if answers(settings):
        yield Finding("port", "ok", f"the daemon answers at {where}")
    elif settings.socket is not None:
        yield _socket(settings)
    elif (problem := _cannot_bind(settings.host, settings.port)) is None:
        yield Finding("port", "ok", f"{where} is free; no daemon runs there")
    else:
        yield Finding("port", "fail", f"{where}: {problem}", "stop that program, or set MONK_PORT (MONK_HOST)")


def answers(settings: Settings) -> bool:
    """Whether a Night Monk is there, token or not."""
    from monk.client import Client

    if settings.socket is None and settings.port == 0:
        return False
    try:
        with Client(settings) as daemon:
            return isinstance(daemon.get("/health"), dict)
    except Unauthorized:
        return True
    except MonkError:
        return False


def _socket(settings: Settings) -> Finding:
    assert settings.socket is not None
    if settings.socket.exists():
        return Finding(
            "port", "warn", f"{settings.socket} exists, but nobody answers", "the daemon will replace it at its start"
        )
    if not settings.socket.parent.is_dir():
        return Finding("port", "fail", f"{settings.socket.parent} does not exist", "make it, or set MONK_SOCKET")
    return Finding("port", "ok", f"{settings.socket} is free; no daemon runs there")


def _cannot_bind(host: str, number: int) -> str | None:
    """Why nobody could listen there; None if one could."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    return None
