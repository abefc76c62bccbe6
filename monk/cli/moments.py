"""Moments as people write and read them. Pure: the present moment and the zone are arguments."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from monk.errors import InvalidInput
from monk.windows import moment

_SPAN = re.compile(r"(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
WAYS = "06:30, 2h, or 2026-12-01T06:30:00+03:00"


def parse_span(text: str) -> timedelta | None:
    """ "2h", "90m", "1d12h" as a length of time; None when it is written otherwise."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def parse_moment(text: str, now: datetime, zone: ZoneInfo, param: str) -> datetime:
    """A clock time (its next coming in `zone`), a span from now, or RFC 3339; without an offset it is taken in `zone`.

    Raises InvalidInput, naming `param` and the three ways to write it.
    """
    try:
        if (span := parse_span(text)) is not None:
            return now + span
        if (clock := _CLOCK.fullmatch(text.strip())) is not None:
            return _next(time(int(clock[1]), int(clock[2])), now, zone)
        given = datetime.fromisoformat(text.strip())
        return given if given.tzinfo is not None else moment(zone, given)
    except (ValueError, OverflowError) as exc:
        raise InvalidInput(f"{param} {text!r} is no moment; write {WAYS}", param=param) from exc


def shown(text: str | None, zone: ZoneInfo | None = None) -> str:
    """An RFC 3339 moment in the reader's own time zone: 2026-12-01 06:30. "-" for None; another text as it is."""
    if text is None:
        return "-"
    try:
        return datetime.fromisoformat(text).astimezone(zone).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return text


def spelled(seconds: float) -> str:
    """A length of time in its two largest units: "2 d 3 h", "2 h 05 min", "3 min 20 s", "12 s"."""
    whole = max(0, round(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def _next(clock: time, now: datetime, zone: ZoneInfo) -> datetime:
    today = now.astimezone(UTC).astimezone(zone).date()
    coming = (moment(zone, datetime.combine(today + timedelta(days=days), clock)) for days in (0, 1, 2))
    return next(candidate for candidate in coming if candidate > now)
