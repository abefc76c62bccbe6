"""When it is night: pure arithmetic over windows, days and a time zone. Knows no clock, no thread and no database.

A window is given in local time and a night is what comes out in real time, so four rules decide the odd cases:

1. A day names the night that *begins* on it: "22:00-07:00" on `fri` ends on Saturday morning.
2. An edge is the first moment at which the local clock shows that time or a later one. So an edge inside the hour that is
   skipped in spring falls on the jump itself, and one inside the hour that is doubled in autumn on its first showing.
   Hence 22:00-07:00 in Berlin lasts 8 or 10 real hours in these two nights, and no window opens twice.
3. A window that lies wholly inside the skipped hour does not occur that day.
4. Windows that overlap or touch are one night.

Windows that leave no gap in the whole week ("always") make a night without an end. It is cut at 07:00 local time, so that
there is a report every morning; each cut counts as the beginning of a new span.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monk.errors import InvalidInput, SettingsInvalid

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
MORNING_MINUTES = 7 * 60  # when a night without an end is cut: before people come, after the cheap hours
LOOK_BACK = timedelta(days=16)  # a night with an end is under a week long; two, if the skipped hour was its only gap
LOOK_AHEAD_DAYS = 24  # a weekly window may fall into the skipped hour; three weeks always hold one that does not

_WINDOW = re.compile(r"(\d{1,2}):(\d{2})\s*[-\u2013]\s*(\d{1,2}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """Local minutes since midnight. `closes` greater than a day's minutes means: on the next day."""

    opens_minutes: int  # 0..1439
    closes_minutes: int  # opens + 1 .. opens + 1440


@dataclass(frozen=True, slots=True)
class Span:
    """One night by the clock: opened_at <= t < closes_at. `closes_at` None: without an end."""

    opened_at: datetime
    closes_at: datetime | None


def parse_windows(text: str) -> tuple[Window, ...]:
    """ "22:00-07:00", several by comma, "always" (one window of a whole day) or "never" (none).

    Raises InvalidInput naming the part that is wrong.
    """
    plain = text.strip().lower()
    if plain == "never":
        return ()
    if plain == "always":
        return (Window(0, DAY_MINUTES),)
    return tuple(sorted((_window(part.strip()) for part in plain.split(",")), key=lambda window: window.opens_minutes))


def parse_days(text: str) -> frozenset[int]:
    """ "mon-fri", "sat,sun", "fri-mon" (round the weekend): days as 0 (Monday) to 6. Raises InvalidInput."""
    days: set[int] = set()
    for part in text.strip().lower().split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        begin, end = _day(first, text), _day(last, text) if dash else _day(first, text)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)


def named_zone(name: str | None) -> ZoneInfo:
    """A zone by name, or the system's for None. Raises SettingsInvalid."""
    if name is None:
        return system_zone(os.environ.get("TZ"))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise SettingsInvalid(
            f"there is no time zone {name!r}; use a name like Europe/Moscow (timedatectl list-timezones)",
            param="timezone",
        ) from exc


def system_zone(tz: str | None, localtime: Path = Path("/etc/localtime")) -> ZoneInfo:
    """The zone of this machine, as its C library sees it: TZ if set, else /etc/localtime, else UTC.

    Raises SettingsInvalid when TZ holds something without a name, such as "MSK-3".
    """
    if tz:
        return _zone_of_variable(tz.removeprefix(":"))
    if not localtime.exists():
        return ZoneInfo("UTC")
    return _zone_of_file(localtime)


def moment(zone: ZoneInfo, wall: datetime) -> datetime:
    """The first moment, in UTC, at which the zone's clock shows `wall` (naive) or later: rule 2."""
    early, late = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if _shown(zone, early) == wall:
        return early
    while late - early > timedelta(seconds=1):  # skipped: the clock jumps somewhere in (early, late]
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
        early, late = (early, middle) if _shown(zone, middle) >= wall else (middle, late)
    return late


class Calendar:
    """Which moments are night. Frozen after it is made; safe to use from any thread."""

    def __init__(self, windows: tuple[Window, ...], days: frozenset[int], zone: ZoneInfo | None = None) -> None:
        """Windows and days as parsed; zone None: the system's. Raises SettingsInvalid when that has no name."""
        self.zone = zone or named_zone(None)
        self._windows = tuple(sorted(windows, key=lambda window: window.opens_minutes))
        self._days = days
        self.endless = _covers_week(windows, days)
        self._edge = lru_cache(1024)(self._edge_of)  # forecasts ask for the same sixty nights every second

    @classmethod
    def parse(cls, night: str, days: str, timezone: str | None) -> Calendar:
        """From the three settings. Raises InvalidInput or SettingsInvalid."""
        return cls(parse_windows(night), parse_days(days), named_zone(timezone))

    def longest_seconds(self) -> float:
        """Of one window, by the clock's face; a day where the night has no end, 0 where there is none."""
        if self.endless:
            return 86400.0
        return 60.0 * max((window.closes_minutes - window.opens_minutes for window in self._windows), default=0)

    def span(self, now: datetime) -> Span | None:
        """The night that contains `now`, or None by day."""
        if self.endless:
            return Span(self.last_morning(now), None)
        for span in self._spans(_shown(self.zone, now - LOOK_BACK).date()):
            assert span.closes_at is not None
            if span.opened_at > now:
                return None
            if now < span.closes_at:
                return span
        return None

    def next_open_at(self, now: datetime) -> datetime | None:
        """When the first night after `now` begins; one that is on at `now` does not count. None: never."""
        if self.endless:
            return self.next_morning(now)
        spans = self._spans(_shown(self.zone, now - LOOK_BACK).date())
        return next((span.opened_at for span in spans if span.opened_at > now), None)

    def last_morning(self, now: datetime) -> datetime:
        """The newest 07:00 local time that is not after `now`."""
        today = _shown(self.zone, now).date()
        mornings = (self._edge(today + timedelta(days=back), MORNING_MINUTES) for back in (1, 0, -1, -2))
        return next(morning for morning in mornings if morning <= now)

    def next_morning(self, now: datetime) -> datetime:
        """The first 07:00 local time after `now`."""
        today = _shown(self.zone, now).date()
        mornings = (self._edge(today + timedelta(days=ahead), MORNING_MINUTES) for ahead in (-1, 0, 1, 2))
        return next(morning for morning in mornings if morning > now)

    def _spans(self, first: date) -> Iterator[Span]:
        """Nights that begin on `first` or later, in order, merged."""
        open_at = close_at = None
        for opens, closes in self._occurrences(first):
            if open_at is not None and close_at is not None and opens <= close_at:
                close_at = max(close_at, closes)
                continue
            if open_at is not None:
                yield Span(open_at, close_at)
            open_at, close_at = opens, closes
        if open_at is not None:
            yield Span(open_at, close_at)

    def _occurrences(self, first: date) -> Iterator[tuple[datetime, datetime]]:
        for ahead in range(LOOK_BACK.days + LOOK_AHEAD_DAYS):
            day = first + timedelta(days=ahead)
            if day.weekday() not in self._days:
                continue
            for window in self._windows:
                opens, closes = self._edge(day, window.opens_minutes), self._edge(day, window.closes_minutes)
                if opens < closes:
                    yield opens, closes

    def _edge_of(self, day: date, minutes: int) -> datetime:
        return moment(self.zone, datetime(day.year, day.month, day.day) + timedelta(minutes=minutes))  # noqa: DTZ001


def _window(part: str) -> Window:
    match = _WINDOW.fullmatch(part)
    if match is None:
        raise InvalidInput(
            f'{part!r} is no window; write "22:00-07:00", several by comma, "always" or "never"', param="night"
        )
    opens, closes = _minutes(part, match[1], match[2]), _minutes(part, match[3], match[4])
    if opens == closes:
        raise InvalidInput(
            f'{part!r} begins and ends at the same time; write "always" for the whole day', param="night"
        )
    if opens == DAY_MINUTES:
        raise InvalidInput(f"{part!r} begins at 24:00; write 00:00", param="night")
    return Window(opens, closes if closes > opens else closes + DAY_MINUTES)


def _minutes(part: str, hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > DAY_MINUTES:
        raise InvalidInput(f"{part!r}: there is no time {hours}:{minutes}; hours go from 00:00 to 24:00", param="night")
    return total


def _day(name: str, text: str) -> int:
    for number, known in enumerate(_LONG_NAMES):
        if len(name) >= 3 and known.startswith(name):
            return number
    raise InvalidInput(
        f'{name!r} in {text!r} is no day; use {", ".join(DAY_NAMES)}, such as "mon-fri" or "sat,sun"',
        param="night_days",
    )


_LONG_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _covers_week(windows: tuple[Window, ...], days: frozenset[int]) -> bool:
    """Whether no minute of the week, by the clock on the wall, is left out."""
    begins = sorted(
        (day * DAY_MINUTES + window.opens_minutes, day * DAY_MINUTES + window.closes_minutes)
        for day in days
        for window in windows
    )
    if not begins:
        return False
    round_the_week = [*begins, (begins[0][0] + WEEK_MINUTES, 0)]
    reach = max(end for _, end in begins) - WEEK_MINUTES  # what the week before still covers
    for (_, end), (following, _) in pairwise(round_the_week):
        reach = max(reach, end)
        if following > reach:
            return False
    return True


def _shown(zone: ZoneInfo, at: datetime) -> datetime:
    """What the zone's clock shows, naive."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _zone_of_variable(value: str) -> ZoneInfo:
    try:
        return _zone_of_file(Path(value)) if value.startswith("/") else ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise SettingsInvalid(
            f"TZ={value!r} is no time zone with a name; set MONK_TIMEZONE to one like Europe/Moscow", param="timezone"
        ) from exc


def _zone_of_file(file: Path) -> ZoneInfo:
    """The zone a file of the zoneinfo tree describes, under its name if the path shows it."""
    _, found, name = str(file.resolve()).partition("/zoneinfo/")
    if found:
        try:
            return ZoneInfo(name.removeprefix("posix/").removeprefix("right/"))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # a name this machine's tree does not list: the file itself is what counts
    with file.open("rb") as data:
        return ZoneInfo.from_file(data, key=str(file))
