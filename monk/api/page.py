"""The page at `/`: four files from `monk/web`, read once. They hold no data, so they need no token."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter()
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@router.get("/")
async def page() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/page.css")
async def style() -> Response:
    """Its style."""
    return _file("page.css")


@router.get("/page.js")
async def script() -> Response:
    """What moves it."""
    return _file("page.js")


@router.get("/icon.svg")
async def icon() -> Response:
    """The mark in a browser's tab."""
    return _file("icon.svg")


def _file(name: str) -> Response:
    if name not in _read:
        _read[name] = resources.files("monk.web").joinpath(name).read_bytes()
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(_read[name], media_type=TYPES[name[name.rindex(".") :]], headers=headers)


_read: dict[str, bytes] = {}
