"""What the routes share, kept on the application: the daemon's services and the HTTP side's own parts."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from monk.api.metrics import Meter
from monk.api.submit import Submitter
from monk.api.watch import Watch
from monk.services import Services


@dataclass(frozen=True, slots=True)
class Parts:
    """One set for each application."""

    services: Services
    submitter: Submitter
    watch: Watch
    meter: Meter
    keep_alive_seconds: float


def parts_of(request: Request) -> Parts:
    """The parts of the application that serves this request."""
    parts: Parts = request.app.state.parts
    return parts
