"""`/night`: open one now, or close the one that is open."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from monk.api.bodies import read_fields
from monk.api.errors import checked
from monk.api.moments import Moment, iso
from monk.api.parts import parts_of
from monk.api.status import night_of
from monk.api.wire import JsonResponse
from monk.errors import InvalidInput

router = APIRouter()


class Opening(BaseModel):
    """Until when; null: until it is closed by a person."""

    model_config = ConfigDict(extra="forbid")

    until: Moment | None = None


@router.get("/night")
def look(request: Request) -> Response:
    """Whether it is night."""
    return JsonResponse(night_of(parts_of(request).services))


@router.post("/night/open")
async def open_now(request: Request) -> Response:
    """Open a night at once; an open one gets the new end."""
    services = parts_of(request).services
    wanted: Opening = checked(Opening, await read_fields(request))
    if wanted.until is not None and wanted.until <= services.now():
        raise InvalidInput(f"until {iso(wanted.until)} has passed; give a later moment, or null", param="until")
    await run_in_threadpool(services.night.open_now, wanted.until)
    return JsonResponse(await run_in_threadpool(night_of, services))


@router.post("/night/close")
def close_now(request: Request) -> Response:
    """Close the open night: running thoughts are saved and paused. By day, nothing happens."""
    services = parts_of(request).services
    services.night.close_now()
    return JsonResponse(night_of(services))
