"""Whether the daemon's own HTTP side answers: asked over its real address, because a thread that lives may still hang."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

SECONDS = 5.0


def answers(address: str) -> bool:
    """GET /health on a URL or the path of a unix socket comes back with 200 within 5 seconds."""
    connection = _connection(address)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _connection(address: str) -> http.client.HTTPConnection:
    if address.startswith("http://"):
        parts = urlsplit(address)
        return http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=SECONDS)
    connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(SECONDS)
    line.connect(address)
    connection.sock = line
    return connection
