"""`/jobs/{id}/pictures/{n}.svg`: pictures of a job's result, drawn when somebody looks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from monk.api.jobs import known_id
from monk.api.parts import parts_of
from monk.drawings import draw, of_result
from monk.errors import NotFound

router = APIRouter()
# An SVG that is opened alone is a document of its own: it may style itself, and neither run nor load anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"


@router.get("/jobs/{job_id}/pictures/{name}")
def look(request: Request, job_id: str, name: str) -> Response:
    """The n-th picture of a job that is done, counted from 1. A result whose picture cannot be drawn is told as such."""
    job = parts_of(request).services.queue.get(known_id(job_id))
    found = of_result(job.result)
    number = name.removesuffix(".svg")
    if not (name.endswith(".svg") and number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= len(found)):
        raise NotFound(
            f"job {job.id} has no picture {name[:40]!r}; "
            + (f"it has 1.svg to {len(found)}.svg" if found else "its result has none"),
            param="name",
        )
    svg = draw(found[int(number) - 1])
    headers = {"content-type": "image/svg+xml; charset=utf-8", "content-security-policy": POLICY}
    return Response(svg.encode(), headers=headers)
