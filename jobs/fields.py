"""Fields that inputs of several kinds share, with their limits."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from corpus.tags import normal
from db.library import DocumentFilter

MAX_QUESTION = 1_000_000  # characters; the context of the model is the limit that counts


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; write what you want to know")
    return value


Question = Annotated[str, Field(max_length=MAX_QUESTION), AfterValidator(_not_blank)]


class Input(BaseModel):
    """Base of all inputs: frozen, and a field that does not exist is an error, not silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Name = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_not_blank)]
Names = Annotated[list[Name], Field(max_length=100)]


class Only(Input):
    """Which documents are looked into. What is not given does not restrict."""

    folder: Annotated[str, Field(max_length=4096, description="A folder of the corpus, with all below it")] = ""
    types: Annotated[Names, Field(description="pdf, markdown, md ...")] = []
    files: Annotated[Names, Field(description="Paths in the corpus")] = []
    tags: Annotated[Names, Field(description="Documents that carry any of these tags")] = []
    since: Annotated[datetime | date | None, Field(description="Files changed then or later")] = None
    until: Annotated[datetime | date | None, Field(description="Files changed before that")] = None


def documents(only: dict[str, Any] | Only | None) -> DocumentFilter:
    """The filter that an `only` means. A date is its first moment; without an offset it is taken in the machine's zone."""
    given = only if isinstance(only, Only) else Only.model_validate(only or {})
    return DocumentFilter(
        folder=given.folder.strip().removeprefix("./"),
        formats=tuple(name.strip().lower().lstrip(".") for name in given.types),
        paths=tuple(name.strip().removeprefix("./") for name in given.files),
        tags=tuple(normal(name) for name in given.tags),
        since=_moment(given.since),
        until=_moment(given.until),
    )


def _moment(value: date | None) -> datetime | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return moment if moment.tzinfo is not None else moment.astimezone()
