"""Moments as they are sent: RFC 3339, always with their offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator

_SHAPE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)


def parse_moment(value: Any) -> datetime:
    """An aware moment in UTC. Raises ValueError with the way out, also for a moment without offset."""
    if not isinstance(value, str) or not _SHAPE.fullmatch(value):
        raise ValueError("write a moment like 2026-11-23T07:00:00+03:00")
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise ValueError("there is no such moment; write one like 2026-11-23T07:00:00+03:00") from exc
    raise ValueError(f"has no offset, so it could be any of 24 hours; write {value}+03:00, or {value}Z for UTC")


Moment = Annotated[datetime, BeforeValidator(parse_moment)]


def iso(moment: datetime | None) -> str | None:
    """RFC 3339 with offset, or None."""
    return None if moment is None else moment.isoformat()
