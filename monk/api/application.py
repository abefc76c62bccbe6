"""Puts the routes, the guard and their shared parts together."""

from __future__ import annotations

from fastapi import FastAPI

from monk import __version__
from monk.api import (
    corpus,
    errors,
    events,
    feedback,
    jobs,
    metrics,
    night,
    page,
    passages,
    pictures,
    reports,
    schedules,
    status,
)
from monk.api.guard import Guard
from monk.api.parts import Parts
from monk.api.submit import Submitter
from monk.api.watch import Watch
from monk.services import Services

RESOURCES = (jobs, pictures, feedback, events, status, metrics, reports, passages, corpus, schedules, night, page)


def build(services: Services, keep_alive_seconds: float) -> FastAPI:
    """The application. Its parts are at `app.state.parts`."""
    app = FastAPI(
        title="Night Monk",
        version=__version__,
        openapi_url=None,  # its pages load scripts from elsewhere; GET /kinds says what may be sent
        redirect_slashes=False,
    )
    meter = metrics.Meter()
    meter.watch(services)
    submitter = Submitter(services.queue, services.forecaster, services.now)
    app.state.parts = Parts(services, submitter, Watch(services.events), meter, keep_alive_seconds)
    errors.install(app)
    for resource in RESOURCES:
        app.include_router(resource.router)
    app.add_middleware(Guard, settings=services.settings, meter=meter)
    return app
