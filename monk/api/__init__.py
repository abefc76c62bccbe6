"""The HTTP side: checks what comes in, asks the daemon's services, says what goes out. Knows no SQL and no model.

One file for each resource (`jobs.py`, `events.py`, `reports.py` ...); around them all stands `guard.py`. Bodies are read by
hand in `wire.py` and `requests.py`: curl's plain text is a question, and whatever is refused is refused in one sentence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from monk.services import Services


def create_app(services: Services, *, keep_alive_seconds: float = 15.0) -> FastAPI:
    """The application over a daemon's services. Event streams send a comment after `keep_alive_seconds` of silence."""
    from monk.api.application import build

    return build(services, keep_alive_seconds)


__all__ = ["create_app"]
