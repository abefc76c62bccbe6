"""`/corpus`: what has been read, reading it anew, and looking something up in it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from corpus.retrieval import Hit
from db.library import LibraryTables
from jobs import fields
from monk.api.moments import iso
from monk.api.parts import parts_of
from monk.api.wire import JsonResponse
from monk.errors import InvalidInput
from monk.services import Services

router = APIRouter()
UNREADABLE_MOST = 1000


class Lookup(BaseModel):
    """What to look for, and how many passages to show."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field(min_length=1, max_length=10_000)
    k: int = Field(5, ge=1, le=100)
    folder: str = Field("", max_length=4096)
    type: fields.Names = Field([])
    file: fields.Names = Field([])
    tag: fields.Names = Field([])
    since: datetime | date | None = None
    until: datetime | date | None = None


@router.get("/corpus")
def look(request: Request) -> Response:
    """How far reading is, what is indexed, and what could not be read, and why."""
    return JsonResponse(_state(parts_of(request).services))


@router.post("/corpus/sync")
def sync(request: Request) -> Response:
    """202: reading begins soon; GET /corpus shows its progress."""
    services = parts_of(request).services
    services.reading.request_sync()
    return JsonResponse(_state(services), status_code=202)


@router.get("/corpus/search")
def search(request: Request, query: Annotated[Lookup, Query()]) -> Response:
    """The passages nearest to a question, best first."""
    if not query.q.strip() or "\x00" in query.q:
        raise InvalidInput("q is empty or contains U+0000; write what to look for", param="q")
    hits = parts_of(request).services.library.search(query.q, query.k, fields.documents(_only(query)))
    return JsonResponse({"query": query.q, "hits": [_hit(hit) for hit in hits]})


def _only(query: Lookup) -> fields.Only:
    return fields.Only(
        folder=query.folder,
        types=query.type,
        files=query.file,
        tags=query.tag,
        since=query.since,
        until=query.until,
    )


def _state(services: Services) -> dict[str, Any]:
    tables = LibraryTables(services.database)
    counts = tables.counts()
    unreadable = [
        {"path": document.path, "problem": document.problem} for document in tables.documents() if not document.readable
    ]
    return {
        **services.reading.progress(),
        "folder": str(services.settings.corpus_folder),
        "documents": counts.num_documents,
        "passages": counts.num_passages,
        "num_unreadable": counts.num_unreadable,
        "last_read_at": iso(counts.last_read_at),
        "unreadable": unreadable[:UNREADABLE_MOST],
    }


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "passage_id": hit.passage_id,
        "file": hit.file,
        "title": hit.title,
        "heading": hit.heading,
        "place": {hit.place.unit: hit.place.number},
        "score": round(hit.score, 4),
        "text": hit.text,
    }
