"""`/corpus/passages`: where a citation's link leads, as data or as a page on which nothing of the document is live."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from corpus.retrieval import Hit
from monk.api.parts import parts_of
from monk.api.reports import PAGE_POLICY, TYPES, accepted
from monk.api.wire import JsonResponse
from monk.errors import InvalidInput
from monk.report.passage import to_page

router = APIRouter()


class Place(BaseModel):
    """A file of the corpus, and a page or a line in it."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(min_length=1, max_length=4096)
    page: int | None = Field(None, ge=1, le=2**31)
    line: int | None = Field(None, ge=1, le=2**31)


@router.get("/corpus/passages")
def at_place(request: Request, place: Annotated[Place, Query()]) -> Response:
    """The passage that begins last at or before a place of a document; its first one when no place is given."""
    if place.page is not None and place.line is not None:
        raise InvalidInput("page and line are both given; a document has one of them", param="line")
    number = place.page or place.line or 1
    return _shown(request, parts_of(request).services.library.passage_at(place.file, number))


@router.get("/corpus/passages/{passage_id}")
def by_id(request: Request, passage_id: str) -> Response:
    """One passage as it was indexed."""
    return _shown(request, parts_of(request).services.library.passage(passage_id[:80]))


def _shown(request: Request, hit: Hit) -> Response:
    if accepted(request.headers.get("accept", "")) != "html":
        return JsonResponse(_view(hit))
    headers = {"content-type": TYPES["html"], "content-security-policy": PAGE_POLICY}
    return Response(to_page(hit), headers=headers)


def _view(hit: Hit) -> dict[str, Any]:
    last = hit.end_page if hit.end_page is not None else hit.end_line
    return {
        "passage_id": hit.passage_id,
        "file": hit.file,
        "title": hit.title,
        "heading": hit.heading,
        "place": {hit.place.unit: hit.place.number},
        "to": {hit.place.unit: last},
        "text": hit.text,
    }
