"""`/jobs/{id}/feedback`: whether an answer was useful, and what would have been right."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from db.feedback import Feedback, teaches
from monk.api.bodies import read_fields
from monk.api.errors import checked
from monk.api.jobs import known_id
from monk.api.parts import parts_of
from monk.api.views import feedback_view
from monk.api.wire import JsonResponse
from monk.errors import InvalidInput

router = APIRouter()
MOST_CHARACTERS = 100_000
HOW = 'send {"verdict": "useful"}, or {"verdict": "wrong", "correction": "what is right"}'


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; write it, or leave the field out")
    return value


Words = Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(_not_blank)]


class Given(BaseModel):
    """A verdict as it is sent. `null` means the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: Literal["useful", "wrong"]
    correction: Words | None = None
    note: Words | None = None


@router.post("/jobs/{job_id}/feedback")
async def give(request: Request, job_id: str) -> Response:
    """201 and the verdict; 200 when it replaces an earlier one. `trains`: whether an adapter can learn from it."""
    services = parts_of(request).services
    fields = await read_fields(request)
    if fields.get("verdict") is None:
        raise InvalidInput(f"verdict is missing; {HOW}", param="verdict")
    given: Given = checked(Given, fields)
    if given.verdict == "useful" and given.correction is not None:
        raise InvalidInput(
            "a useful answer has no correction; leave it out, or send verdict wrong with it", param="correction"
        )
    kept, created = await run_in_threadpool(
        Feedback(services.database).give,
        known_id(job_id),
        given.verdict,
        given.correction,
        given.note,
        services.now(),
    )
    told = {"job_id": kept.job_id, **feedback_view(kept), "trains": teaches(kept)}
    return JsonResponse(told, status_code=201 if created else 200)
