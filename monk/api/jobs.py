"""`/jobs`: submit, list, look into, cancel, retry."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from db.feedback import Feedback
from db.listing import Listing as Jobs
from db.models import Event, Job
from db.queue import NewJob
from jobs.needle import LEAST_LENGTH
from monk.api.bodies import read_fields
from monk.api.errors import checked
from monk.api.moments import Moment, iso
from monk.api.parts import parts_of
from monk.api.requests import Sent, new_job
from monk.api.views import job_summary, job_whole
from monk.api.wire import JsonResponse
from monk.errors import InvalidInput, NotFound
from monk.services import Services

router = APIRouter()
LARGE_BODY_BYTES = 64 << 10  # above this, reading it is work for a thread and not for the event loop
EVENTS_AT_ONCE = 5000
FORESEE_SECONDS = 2.0
_JOB_ID = re.compile(r"job_[0-9a-z]{26}", re.ASCII)
State = Literal["waiting", "queued", "running", "done", "failed", "cancelled"]


class Listing(BaseModel):
    """What to list."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = Field(default_factory=list)
    kind: str | None = None
    tag: str | None = None
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, pattern=r"^job_[0-9a-z{]{26}$")  # "{" sorts after every character of an id


class Retry(BaseModel):
    """What may change when a job is tried again."""

    model_config = ConfigDict(extra="forbid")

    deadline: Moment | None = None


@router.post("/jobs")
async def submit(request: Request) -> Response:
    """201 and the stored job; 200 and the earlier one for a repeated idempotency key."""
    if request.url.query:
        raise InvalidInput(f"POST /jobs takes its fields in the body, not after '?' ({request.url.query[:80]!r})")
    parts = parts_of(request)
    sent = Sent(await request.body(), request.headers.get("content-type", ""), request.headers.get("idempotency-key"))
    services = parts.services
    read = asyncio.to_thread if len(sent.body) > LARGE_BODY_BYTES else _at_once
    new = await read(new_job, sent, services.kinds, services.shelf, services.now(), services.check_model)
    told, created = await parts.submitter.submit(new)
    services.work_came()
    if len(sent.body) > LEAST_LENGTH and (warnings := await _foreseen(services, new)):
        told = {**told, "warnings": warnings}
    location = {"location": f"/jobs/{told['id']}"}
    return JsonResponse(told, status_code=201 if created else 200, headers=location)


@router.get("/jobs")
def listing(request: Request, query: Annotated[Listing, Query()]) -> Response:
    """A page of jobs, newest first."""
    services = parts_of(request).services
    page = Jobs(services.database).page(
        states=query.state, kind=query.kind, tag=query.tag, limit=query.limit, cursor=query.cursor
    )
    return JsonResponse({"jobs": [_summary(services, job) for job in page.jobs], "next": page.next})


@router.get("/jobs/{job_id}")
def look(request: Request, job_id: str) -> Response:
    """Everything about one job."""
    parts = parts_of(request)
    services = parts.services
    cursor = services.events.newest()  # before the rest: an event between the two is told twice rather than never
    job = services.queue.get(known_id(job_id))
    progress = _progress(services, job, cursor)
    feedback = Feedback(services.database).of(job.id)
    inside = services.steps.of_job(job.id)
    return JsonResponse(job_whole(job, services.forecaster.of(job), inside, progress, cursor, feedback))


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, job_id: str) -> Response:
    """The cancelled job."""
    services = parts_of(request).services
    job = services.queue.cancel(known_id(job_id), services.now())
    return JsonResponse(_summary(services, job))


@router.post("/jobs/{job_id}/retry")
async def retry(request: Request, job_id: str) -> Response:
    """The job, queued again."""
    services = parts_of(request).services
    wanted: Retry = checked(Retry, await read_fields(request))
    now = services.now()
    if wanted.deadline is not None and wanted.deadline <= now:
        raise InvalidInput(f"deadline {iso(wanted.deadline)} has passed; give a later one", param="deadline")
    job = await run_in_threadpool(services.queue.retry, known_id(job_id), now, wanted.deadline)
    services.work_came()
    return JsonResponse(await run_in_threadpool(_summary, services, job))


def known_id(job_id: str) -> str:
    """The id, if it can be one. Raises NotFound."""
    if not _JOB_ID.fullmatch(job_id):
        raise NotFound(f"there is no job {job_id[:80]!r}; `monk jobs` lists them", param="id")
    return job_id


def _summary(services: Services, job: Job) -> dict[str, Any]:
    return job_summary(job, services.forecaster.of(job))


def _progress(services: Services, job: Job, until: int) -> list[Event]:
    """What unfinished thoughts said up to event `until`. A job that does not run has none."""
    if job.finished_at is not None:
        return []
    found: list[Event] = []
    after = 0
    while batch := services.events.after(after, job_id=job.id, limit=EVENTS_AT_ONCE):
        found += [event for event in batch if event.type == "progress" and event.id <= until]
        after = batch[-1].id
        if len(batch) < EVENTS_AT_ONCE or after >= until:
            break
    return found


async def _foreseen(services: Services, new: NewJob) -> list[str]:
    """What can be said of a job now. It is stored: an engine that does not answer costs a word, not the job."""
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(asyncio.to_thread(services.foresee, new), FORESEE_SECONDS)
    return []


async def _at_once(work: Any, *arguments: Any) -> Any:
    return work(*arguments)
