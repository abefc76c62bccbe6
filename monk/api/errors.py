"""Every error as `{"error": {"code", "message", "param"}}`, whoever raised it. A traceback stays in the journal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from monk.api.wire import JsonResponse
from monk.errors import InvalidInput, MonkError

logger = logging.getLogger(__name__)


def error_response(
    status: int, code: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The one shape. `message` is one line for a person, `code` is stable for programs."""
    told = {"code": code, "message": " ".join(message.splitlines()), "param": param}
    return JsonResponse({"error": told}, status_code=status, headers=dict(headers or {}))


def internal_error(request_id: str) -> Response:
    """For what we did not foresee: the journal has the rest under this id."""
    return error_response(
        500, "internal", f"this is a mistake of ours; the journal tells more under request id {request_id}"
    )


def install(app: FastAPI) -> None:
    """Replace the framework's own shapes."""
    app.add_exception_handler(MonkError, _ours)
    app.add_exception_handler(RequestValidationError, _bad_query)
    app.add_exception_handler(HTTPException, _no_route)


def checked(model: type[BaseModel], data: Any) -> Any:
    """`data` as `model`. Raises InvalidInput naming the first wrong field, its value and what would do."""
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        raise invalid(exc.errors(include_url=False)[0], tuple(model.model_fields)) from exc


def invalid(error: Any, known: tuple[str, ...] = (), skip: int = 0) -> InvalidInput:
    """A pydantic error as one of ours; the first `skip` parts of its place are left out."""
    field = ".".join(str(part) for part in error["loc"][skip:])
    if error["type"] == "extra_forbidden":
        listed = f"; known: {', '.join(known)}" if known and "." not in field else ""
        return InvalidInput(f"there is no field {field[:80]!r} here{listed}", param=field[:80])
    if error["type"] == "missing":
        return InvalidInput(f"{field} is missing", param=field)
    if error["type"] == "model_type":
        return InvalidInput(f"{field or 'the body'} must be an object such as {{...}}", param=field or None)
    shown = repr(error["input"])
    message = error["msg"].removeprefix("Value error, ")
    return InvalidInput(f"{field}: {message} (got {shown if len(shown) <= 80 else shown[:77] + '...'})", param=field)


async def _ours(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, MonkError)
    if exc.http_status >= 500:
        logger.error("request refused", extra={"code": exc.code, "reason": exc.message, "path": request.url.path})
    return error_response(exc.http_status, exc.code, exc.message, exc.param)


async def _bad_query(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    told = invalid(exc.errors()[0], skip=1)  # the first part says "query" or "path"
    return error_response(400, told.code, told.message, told.param)


async def _no_route(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    headers = exc.headers or {}
    path = request.url.path if len(request.url.path) <= 80 else request.url.path[:77] + "..."
    if exc.status_code == 405:
        allowed = ", ".join(_methods(request))
        message = f"{request.method[:20]} is not possible on {path!r}; use {allowed}"
        return error_response(405, "method_not_allowed", message, headers={"allow": allowed})
    if exc.status_code == 404:
        return error_response(404, "not_found", f"nothing is at {path!r}; GET /status and the page at / are")
    return error_response(exc.status_code, "http_error", str(exc.detail), headers=headers)


def _methods(request: Request) -> list[str]:
    """The methods that some route takes at this path."""
    routes = request.app.router.routes
    scopes = {method: {**request.scope, "method": method} for method in ("GET", "POST", "DELETE")}
    return [name for name, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]
