"""Settings and the daemon, as every command reaches them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monk.client import Client


def connect() -> Client:
    """The daemon that the settings name. Nothing is sent before the first call."""
    from monk.client import Client
    from monk.settings import load

    return Client(load())


def moment_from(text: str | None, param: str) -> str | None:
    """A moment as a person wrote it, as RFC 3339; clock times are in the night's time zone."""
    if text is None:
        return None
    from monk.cli.moments import parse_moment
    from monk.settings import load
    from monk.windows import named_zone

    return parse_moment(text, datetime.now(UTC), named_zone(load().timezone), param).isoformat()
