"""`/events` and `/jobs/{id}/events`: what happens, as it happens, as server-sent events.

`id:` is the event's row, so a watcher who was cut off goes on where it was: by the Last-Event-ID header, or `?after=`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from db.models import FINAL_STATES, Event
from monk.api.jobs import known_id
from monk.api.parts import Parts, parts_of
from monk.api.views import event_view
from monk.api.wire import dump
from monk.errors import InvalidInput

router = APIRouter()
BATCH = 500
KEEP_ALIVE_SECONDS = 15.0
RETRY_MS = 2000
_TYPE = re.compile(r"[\w.-]{1,100}", re.ASCII)


class After(BaseModel):
    """Where to begin."""

    model_config = ConfigDict(extra="forbid")

    after: int | None = Field(None, ge=0, lt=2**63)


@router.get("/events")
async def everything(request: Request, query: Annotated[After, Query()]) -> Response:
    """All events: from a cursor, or from now on."""
    parts = parts_of(request)
    newest = await run_in_threadpool(parts.services.events.newest)
    cursor = _cursor(request, query)
    return _stream(_Tail(parts, None, newest if cursor is None else min(cursor, newest)))


@router.get("/jobs/{job_id}/events")
async def of_job(request: Request, job_id: str, query: Annotated[After, Query()]) -> Response:
    """One job's events: from a cursor, or from its beginning, until it ends.

    204 for one that has ended and has nothing more to tell: it keeps an EventSource from asking again for ever.
    """
    parts = parts_of(request)
    job = await run_in_threadpool(parts.services.queue.get, known_id(job_id))
    newest = await run_in_threadpool(parts.services.events.newest)
    tail = _Tail(parts, job.id, min(_cursor(request, query) or 0, newest))
    if job.state in FINAL_STATES and not await run_in_threadpool(tail.read):
        return Response(status_code=204)
    return _stream(tail)


class _Tail:
    """The end of the log, of one job or of all, read from a cursor on."""

    def __init__(self, parts: Parts, job_id: str | None, cursor: int) -> None:
        self.parts = parts
        self.job_id = job_id
        self.cursor = cursor

    def read(self) -> list[Event]:
        """The next events."""
        return self.parts.services.events.after(self.cursor, job_id=self.job_id, limit=BATCH)

    def take(self) -> tuple[list[Event], bool]:
        """The next events, and whether they are the last there will be. Moves the cursor."""
        ended = self.job_id is not None and self.parts.services.queue.get(self.job_id).state in FINAL_STATES
        found = self.read()
        if found:
            self.cursor = found[-1].id
        return found, ended and len(found) < BATCH and not _revived(found)


async def _told(tail: _Tail) -> AsyncIterator[str]:
    watch, clock = tail.parts.watch, asyncio.get_running_loop().time
    yield f"retry: {RETRY_MS}\n\n"
    told_at = clock()
    with watch.listening() as flag:
        while not watch.closed:
            flag.clear()
            found, ended = await run_in_threadpool(tail.take)
            if found:
                yield "".join(_lines(event) for event in found)
                told_at = clock()
            if ended:
                return
            if len(found) == BATCH:
                continue
            if not await _woken(flag, told_at + tail.parts.keep_alive_seconds - clock()):
                yield ": still here\n\n"
                told_at = clock()


async def _woken(flag: asyncio.Event, seconds: float) -> bool:
    """Whether something was committed within the time."""
    try:
        await asyncio.wait_for(flag.wait(), max(seconds, 0.0))
    except TimeoutError:
        return False
    return True


def _stream(tail: _Tail) -> Response:
    return StreamingResponse(_told(tail), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _lines(event: Event) -> str:
    type_ = event.type if _TYPE.fullmatch(event.type) else "note"
    return f"id: {event.id}\nevent: {type_}\ndata: {dump(event_view(event))}\n\n"


def _revived(found: list[Event]) -> bool:
    """Whether a person put the job back after its last end among these events."""
    types = [event.type for event in found if event.type in (*FINAL_STATES, "retried")]
    return bool(types) and types[-1] == "retried"


def _cursor(request: Request, query: After) -> int | None:
    header = request.headers.get("last-event-id")
    if not header:
        return query.after
    if not header.isascii() or not header.isdigit() or len(header) > 18:
        raise InvalidInput(
            f"Last-Event-ID {header[:40]!r} is no event id; send the id of the last event you got",
            param="last-event-id",
        )
    return int(header)
