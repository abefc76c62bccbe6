"""Reading a small JSON body."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from monk.api.wire import decode, load
from monk.errors import InvalidInput


async def read_fields(request: Request) -> dict[str, Any]:
    """The fields of a JSON object, whatever content type curl gave it; {} for an empty body. Raises InvalidInput."""
    text = decode(await request.body())
    value = load(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object such as {...}")
    return value
