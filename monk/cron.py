"""Cron expressions as crontab(5) means them, in a time zone. Pure; APScheduler counts the fields (`alarms.py`).

Where APScheduler's own reading differs from cron's, this file translates: 0 and 7 are Sunday (there, 0 is Monday), and when
both the day of the month and the weekday are restricted, either of them is enough (there, both must fit).

A run is due at the first moment at which the local clock shows its time or a later one (`windows.moment`): on the night
when an hour is skipped, all runs inside it fall on the jump, as one; in the doubled hour they come in its first showing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from monk.errors import InvalidInput
from monk.windows import moment

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
HOW = 'write minute, hour, day, month and weekday, such as "0 21 * * mon-fri", or @hourly, @daily, @weekly, @monthly'

_NUMBERS = re.compile(r"(\*|\d+(-\d+)?)(/\d+)?")
_MONTHS = re.compile(r"(\*|\d+(-\d+)?|[a-z]{3}(-[a-z]{3})?)(/\d+)?")
_WEEKDAYS = re.compile(r"(\*|([0-7]|[a-z]{3})(-([0-7]|[a-z]{3}))?)(/[1-7])?")

Fields = dict[str, str]


def next_run(cron: str, after: datetime, zone: ZoneInfo) -> datetime | None:
    """The first run strictly after `after`, in UTC. None: there is none within nine years (30 February).

    Raises InvalidInput for an expression that cannot be read.
    """
    runs = [_next_of(cron, fields, after, zone) for fields in parse(cron)]
    return min((run for run in runs if run is not None), default=None)


def count_runs(cron: str, first: datetime, until: datetime, zone: ZoneInfo, at_most: int) -> int:
    """How many runs lie in [first, until], counted to `at_most`."""
    count, run = 0, next_run(cron, first - timedelta(microseconds=1), zone)
    while run is not None and run <= until and count < at_most:
        count, run = count + 1, next_run(cron, run, zone)
    return count


def parse(cron: str) -> tuple[Fields, ...]:
    """The fields for APScheduler; two sets when cron joins day and weekday by "or". Raises InvalidInput."""
    plain = " ".join(cron.lower().split())
    parts = ALIASES.get(plain, plain).split(" ")
    if len(parts) != 5:
        raise InvalidInput(f"cron {cron!r} has {len(parts)} fields; {HOW}", param="cron")
    minute, hour, day, month, weekday = parts
    for part, pattern in (
        (minute, _NUMBERS),
        (hour, _NUMBERS),
        (day, _NUMBERS),
        (month, _MONTHS),
        (weekday, _WEEKDAYS),
    ):
        if not all(pattern.fullmatch(piece) for piece in part.split(",")):
            raise InvalidInput(f"cron {cron!r}: {part!r} cannot be read; {HOW}", param="cron")
    fields = {"minute": minute, "hour": hour, "day": day, "month": month, "day_of_week": _named(weekday, cron)}
    either = not day.startswith("*") and not weekday.startswith("*")
    found = ({**fields, "day_of_week": "*"}, {**fields, "day": "*"}) if either else (fields,)
    _try(cron, found)
    return found


def _next_of(cron: str, fields: Fields, after: datetime, zone: ZoneInfo) -> datetime | None:
    from monk.alarms import next_by_fields

    wall = after.astimezone(zone).replace(tzinfo=None, fold=0)
    while (found := next_by_fields(fields, wall)) is not None:
        if (run := moment(zone, found)) > after:
            return run
        wall = found + timedelta(minutes=1)  # it lies in the first showing of a doubled hour, or is this very minute
    return None


def _try(cron: str, found: tuple[Fields, ...]) -> None:
    from monk.alarms import next_by_fields

    try:
        for fields in found:
            next_by_fields(fields, datetime(2026, 1, 1))  # noqa: DTZ001
    except ValueError as exc:
        raise InvalidInput(f"cron {cron!r}: {exc}; {HOW}", param="cron") from exc


def _named(weekday: str, cron: str) -> str:
    """A weekday field with every day by its name, so that nobody counts from another day."""
    if weekday == "*":
        return "*"
    days: set[int] = set()
    for piece in weekday.split(","):
        days.update(_days(piece, cron))
    return ",".join(NAMES[day] for day in sorted(days))


def _days(piece: str, cron: str) -> list[int]:
    """The days, 0 (Sunday) to 6, of "2", "mon-fri", "5-7", "fri-mon", "*/2" or "1-5/2"."""
    span, _, step = piece.partition("/")
    first, dash, last = ("0", "-", "6") if span == "*" else span.partition("-")
    begin = _number(first, cron)
    end = _number(last, cron) if dash else (6 if step else begin)
    if end < begin:
        end += 7  # round the weekend
    return [day % 7 for day in range(begin, end + 1, int(step or 1))]


def _number(day: str, cron: str) -> int:
    if day.isdigit():
        return int(day)
    if day in NAMES:
        return NAMES.index(day)
    raise InvalidInput(f"cron {cron!r}: {day!r} is no weekday; use {', '.join(NAMES)} or 0 to 7", param="cron")
