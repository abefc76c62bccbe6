"""The door: who may come in, how much they may carry, and what every answer says about itself.

Plain ASGI around the whole application, so that it holds for every route, for errors, and for what no route matches.

    bearer token      on everything but /health and the page, which holds no data; compared in constant time
    Host              when no token guards us: a page of a foreign site may not reach the loopback by renaming it
    Origin            a browser may change state only from our own page
    body              cut off at the limit while it streams, with or without a Content-Length
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
import secrets
from time import perf_counter

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monk.api.errors import error_response, internal_error
from monk.api.metrics import Meter
from monk.errors import BodyTooLarge, Unauthorized
from monk.settings import Settings

logger = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/health", "/", "/page.css", "/page.js", "/icon.svg"})  # no data behind them
READING = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL_NAMES = frozenset({"localhost", "ip6-localhost"})
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:]+)(:\d+)?", re.ASCII)
SECURITY_HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """ASGI middleware. Nothing of a request that is refused here reaches a route."""

    def __init__(self, app: ASGIApp, settings: Settings, meter: Meter) -> None:
        self._app = app
        self._settings = settings
        self._meter = meter
        token = settings.token
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = Answer(scope, send)
        began = perf_counter()
        scope = _head_as_get(scope)
        try:
            await self._serve(scope, receive, answer)
        except ClientDisconnect:
            logger.debug("client went away", extra={"request_id": answer.request_id, "path": scope["path"]})
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._meter.count(route, answer.method, answer.status, perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        headers = Headers(scope=scope)
        if (refused := self._refusal(scope, headers)) is not None:
            await refused(scope, receive, answer.send)
            return
        try:
            await self._app(scope, _limited(receive, self._settings.max_body_bytes), answer.send)
        except ClientDisconnect:
            raise
        except Exception:  # the rim: whatever it is, the client gets one line and the journal the rest
            logger.exception("request failed", extra={"request_id": answer.request_id, "path": scope["path"]})
            if answer.status:
                raise  # half an answer is out already; cutting the connection is the only honest end
            await internal_error(answer.request_id)(scope, receive, answer.send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that may not come in, or None."""
        checks = (self._wrong_host, self._wrong_token, self._wrong_origin, self._wrong_size)
        return next((refused for check in checks if (refused := check(scope, headers)) is not None), None)

    def _wrong_host(self, scope: Scope, headers: Headers) -> Response | None:
        settings = self._settings
        host = headers.get("host")
        if self._token is not None or settings.socket is not None or host is None:
            return None
        if is_own_host(host, settings.host):
            return None
        message = f"host {host[:80]!r} is not this machine's own name; use {settings.url}, or set MONK_TOKEN"
        return error_response(403, "forbidden", message, "host")

    def _wrong_token(self, scope: Scope, headers: Headers) -> Response | None:
        if self._token is None or scope["path"] in OPEN_PATHS:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            return None
        what = "the bearer token is wrong" if given else "a bearer token is needed"
        message = f"{what}; send the header Authorization: Bearer <MONK_TOKEN>"
        return error_response(401, Unauthorized.code, message, headers={"www-authenticate": "Bearer"})

    def _wrong_origin(self, scope: Scope, headers: Headers) -> Response | None:
        if scope["method"] in READING or is_own_origin(headers):
            return None
        origin = headers.get("origin", "another site")
        message = f"a page of {origin[:80]!r} may not change anything here; use the page at / or the command line"
        return error_response(403, "forbidden", message, "origin")

    def _wrong_size(self, scope: Scope, headers: Headers) -> Response | None:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._settings.max_body_bytes:
            told = _too_large(self._settings.max_body_bytes)
            return error_response(told.http_status, told.code, told.message)
        return None


class Answer:
    """What goes out for one request: adds our headers to its start and remembers its status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self.method: str = scope["method"]
        self.status = 0
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if _GOOD_ID.fullmatch(given) else secrets.token_hex(8)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            present = {name for name, _ in headers}
            headers += [pair for pair in SECURITY_HEADERS.items() if pair[0] not in present]
            headers.append((b"x-request-id", self.request_id.encode()))
            message = {**message, "headers": headers}
        await self._send(message)


def is_own_host(host: str, configured: str) -> bool:
    """Whether a Host header names this machine's loopback, or the address that was configured."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found["name"].strip("[]").rstrip(".")
    if name in LOCAL_NAMES or name == configured.lower():
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_own_origin(headers: Headers) -> bool:
    """Whether a request comes from our own page or from no browser at all."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    _, _, place = origin.partition("://")
    return place != "" and place.lower() == headers.get("host", "").lower()


def _limited(receive: Receive, limit_bytes: int) -> Receive:
    """`receive`, until the body grows beyond the limit: then BodyTooLarge, and what came is dropped."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit_bytes:
            raise _too_large(limit_bytes)
        return message

    return counted


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is larger than {limit_bytes} bytes; shorten it, put documents into the corpus folder, or raise "
        "MONK_MAX_BODY_BYTES",
        limit_bytes=limit_bytes,
    )


def _head_as_get(scope: Scope) -> Scope:
    """HEAD runs as GET, and the server leaves the body out. Not for streams, which would never end."""
    if scope["method"] != "HEAD" or scope["path"].endswith("/events"):
        return {**scope}
    return {**scope, "method": "GET"}
