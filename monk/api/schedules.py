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
from monk.api.requests import job_from
from monk.api.views import schedule_view
from monk.api.wire import JsonResponse
from monk.errors import InvalidInput
from monk.services import Services
from monk.windows import named_zone

router = APIRouter()
NOT_TWICE = ("idempotency_key", "not_before", "deadline")  # right for one job, wrong for the second


class NewSchedule(BaseModel):
    """A name, when, and the job as POST /jobs takes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    cron: Annotated[str, Field(min_length=1, max_length=200)]
    job: dict[str, Any]


@router.get("/schedules")
def listing(request: Request) -> Response:
    """All schedules, by name."""
    return JsonResponse({"schedules": [schedule_view(one) for one in parts_of(request).services.schedules.listing()]})


@router.post("/schedules")
async def add(request: Request) -> Response:
    """201 and the schedule with its next run."""
    wanted: NewSchedule = checked(NewSchedule, await read_fields(request))
    told = await run_in_threadpool(_add, parts_of(request).services, wanted)
    return JsonResponse(told, status_code=201)


@router.delete("/schedules/{name}")
def remove(request: Request, name: str) -> Response:
    """The schedule that was stopped, by name or id. Jobs it has made stay."""
    return JsonResponse(schedule_view(parts_of(request).services.schedules.remove(name[:200])))


def _add(services: Services, wanted: NewSchedule) -> dict[str, Any]:
    from monk.schedules import next_run

    now = services.now()
    next_at = next_run(wanted.cron, now, named_zone(services.settings.timezone))
    if next_at is None:
        raise InvalidInput(f"cron {wanted.cron!r} names no moment that will ever come; change it", param="cron")
    _check(services, wanted.job)
    return schedule_view(services.schedules.add(wanted.name, wanted.cron, wanted.job, next_at, now))


def _check(services: Services, job: dict[str, Any]) -> None:
    """The job must be one that could be submitted now, and again and again."""
    for field in NOT_TWICE:
        if job.get(field) is not None:
            raise InvalidInput(f"job.{field} cannot repeat; leave it out of a schedule", param=f"job.{field}")
    try:
        job_from(job, services.kinds, services.now())
    except InvalidInput as exc:
        param = f"job.{exc.param}" if exc.param else "job"
        raise type(exc)(f"job: {exc.message}", param=param) from exc
