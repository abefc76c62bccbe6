"""`/schedules`: jobs that come back by the clock."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from monk.api.bodies import read_fields
from monk.api.errors import checked
from monk.api.parts import parts_of
from monk.api.views import schedule_view
from monk.api.wire import JsonResponse

router = APIRouter()


class NewSchedule(BaseModel):
    """A name, when, and the job as POST /jobs takes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    cron: Annotated[str, Field(min_length=1, max_length=200)]
    job: dict[str, Any]


@router.get("/schedules")
def listing(request: Request) -> Response:
    """All schedules, by name."""
    return JsonResponse({"schedules": [schedule_view(one) for one in parts_of(request).services.timetable.listing()]})


@router.post("/schedules")
async def add(request: Request) -> Response:
    """201 and the schedule with its next run."""
    wanted: NewSchedule = checked(NewSchedule, await read_fields(request))
    timetable = parts_of(request).services.timetable
    schedule = await run_in_threadpool(timetable.add, wanted.name, wanted.cron, wanted.job)
    return JsonResponse(schedule_view(schedule), status_code=201)


@router.delete("/schedules/{name}")
def remove(request: Request, name: str) -> Response:
    """The schedule that was stopped, by name or id. Jobs it has made stay."""
    return JsonResponse(schedule_view(parts_of(request).services.timetable.remove(name[:200])))
