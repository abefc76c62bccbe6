"""`/reports`: the morning report, as Markdown, as one HTML page, or as data."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from monk.api.bodies import read_fields
from monk.api.errors import checked
from monk.api.moments import Moment
from monk.api.parts import parts_of
from monk.api.views import report_summary
from monk.api.wire import JsonResponse
from monk.errors import InvalidInput

router = APIRouter()
TYPES = {"json": "application/json", "md": "text/markdown; charset=utf-8", "html": "text/html; charset=utf-8"}
# The page carries its own style and nothing else; whatever slipped into it could neither run nor call home.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


class Listing(BaseModel):
    """A page of reports."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, pattern=r"^report_[0-9a-z]{26}$")


class Period(BaseModel):
    """What to report on. null: from the end of the last night's report, until now."""

    model_config = ConfigDict(extra="forbid")

    since: Moment | None = None
    until: Moment | None = None


@router.get("/reports")
def listing(request: Request, query: Annotated[Listing, Query()]) -> Response:
    """Reports, newest first."""
    found, after = parts_of(request).services.reports.listing(limit=query.limit, cursor=query.cursor)
    return JsonResponse({"reports": [report_summary(report) for report in found], "next": after})


@router.post("/reports")
async def write(request: Request) -> Response:
    """Write one now."""
    wanted: Period = checked(Period, await read_fields(request))
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise InvalidInput("since is after until; turn them round", param="since")
    report = await run_in_threadpool(parts_of(request).services.reporter.write, wanted.since, wanted.until)
    headers = {"location": f"/reports/{report.id}"}
    return JsonResponse(report_summary(report), status_code=201, headers=headers)


@router.get("/reports/{name}")
def look(request: Request, name: str) -> Response:
    """One report by id, or `latest`; `.md`, `.html` or `.json` after it, or the Accept header, say in which form."""
    services = parts_of(request).services
    id_, dot, ending = name.rpartition(".")
    if not dot or ending not in TYPES:
        id_, ending = name, accepted(request.headers.get("accept", ""))
    report = services.reports.get(id_[:80])
    headers = {"content-type": TYPES[ending], **({"content-security-policy": PAGE_POLICY} if ending == "html" else {})}
    return Response(services.reporter.render(report, ending), headers=headers)


def accepted(accept: str) -> str:
    """The first known form an Accept header names; json when it names none."""
    for part in accept.lower().split(","):
        type_ = part.partition(";")[0].strip()
        for ending, known in TYPES.items():
            if type_ == known.partition(";")[0]:
                return ending
    return "json"
