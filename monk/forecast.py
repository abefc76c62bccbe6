"""When a job will run: its position in the queue, what such jobs have taken so far, and the nights to come.

A measured guess, and None where nothing was measured. The arithmetic is in pure functions and small values here;
`Forecast` keeps a picture of the queue that is at most a second old, because every submit and every line of a listing asks.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Protocol

from db.models import Job
from db.outlook import Busy, Key, Order, Outlook, Took, key_of
from monk.services import NightKeeper
from monk.windows import Span

PICTURE_SECONDS = 1.0
MARKS = 1000  # along the queue; up to this length positions are exact
TOOK_MOST = 200  # ended jobs that count: enough for a median, recent enough for today's model
NIGHTS_MOST = 60  # looked back and ahead; what needs longer is not forecast
Stretch = tuple[datetime, datetime | None]  # from, until; None: without an end
Told = dict[str, str | None]


class Almanac(Protocol):
    """Nights by the clock; `monk.windows.Calendar`."""

    def span(self, now: datetime) -> Span | None:
        """The night that contains a moment."""
        ...

    def next_open_at(self, now: datetime) -> datetime | None:
        """When the first night after a moment begins."""
        ...


@dataclass(slots=True)
class Picture:
    """The queue as it was a moment ago. Newer jobs that are asked about join it, so that a burst of submits counts itself."""

    order: Order
    busy: list[Busy]
    seconds: dict[str, float]  # median by kind; "" over all kinds; empty: nothing was measured yet
    nights: list[Stretch]  # that were
    newer: list[Key] = field(default_factory=list)
    keys: list[Key] = field(init=False)
    work: list[float] = field(init=False)  # seconds of the jobs before each mark

    def __post_init__(self) -> None:
        marks = self.order.marks
        self.keys = [mark.key for mark in marks]
        self.work = [0.0] * len(marks)
        for index, (mark, following) in enumerate(pairwise(marks)):
            self.work[index + 1] = self.work[index] + (following.rank - mark.rank) * self.seconds_of(mark.kind)

    def seconds_of(self, kind: str) -> float:
        """The median of its kind, or of all kinds, or 0 when nothing was measured."""
        return self.seconds.get(kind, self.seconds.get("", 0.0))

    def join(self, key: Key) -> None:
        """Count a job that came after the picture was taken. Ids sort by time, so an older one is counted already."""
        index = bisect_left(self.newer, key)
        if self._is_newer(key) and self.newer[index : index + 1] != [key]:
            insort(self.newer, key)

    def position(self, key: Key) -> int:
        """How many queued jobs go first: exact for a short queue and for new jobs, within one step for a long queue."""
        return self._rank(key) + bisect_left(self.newer, key)

    def seconds_ahead(self, key: Key) -> float:
        """Seconds of work of the jobs that go first, to the nearest mark."""
        index = bisect_left(self.keys, key)
        before = 0.0 if not self.work else self.work[min(index, len(self.work) - 1)]
        return before + bisect_left(self.newer, key) * self.seconds_of("")

    def _rank(self, key: Key) -> int:
        index, marks = bisect_left(self.keys, key), self.order.marks
        if index == len(marks):
            return marks[-1].rank if marks else 0
        if index == 0 or key == self.keys[index] or (self._is_newer(key) and key[1]):
            return marks[index].rank
        lowest = marks[index - 1].rank + (1 if marks[index - 1].kind else 0)  # the mark itself goes first too
        return (lowest + marks[index].rank) // 2

    def _is_newer(self, key: Key) -> bool:
        return key[3] > self.order.newest_id

    def seconds_left(self, kind: str, started_at: datetime, now: datetime) -> float:
        """Seconds a running job still needs, if it is like the others of its kind."""
        return max(0.0, self.seconds_of(kind) - working_seconds(started_at, now, self.nights, now))

    def seconds_until(self, key: Key, lanes: int, now: datetime) -> float | None:
        """Seconds of night until a queued job starts, with `lanes` jobs at once. None: nobody has measured."""
        if self.position(key) + len(self.busy) < lanes:
            return 0.0
        if not self.seconds:
            return None
        running = sum(self.seconds_left(busy.kind, busy.started_at, now) for busy in self.busy)
        return (running + self.seconds_ahead(key)) / lanes


class Forecast:
    """Thread-safe; implements `monk.services.Forecaster`."""

    def __init__(
        self,
        outlook: Outlook,
        keeper: NightKeeper,
        almanac: Almanac,
        jobs_at_once: int,
        now: Callable[[], datetime],
    ) -> None:
        self._outlook = outlook
        self._keeper = keeper
        self._ahead = Ahead(almanac)
        self._lanes = jobs_at_once
        self._now = now
        self._lock = threading.Lock()
        self._picture: Picture | None = None
        self._tonight: Stretch | None = None
        self._opens_at: datetime | None = None  # the next night, when none is open: a person may have closed this one
        self._taken_at = 0.0  # monotonic

    def of(self, job: Job) -> tuple[int | None, Told]:
        """(position, {"starts_at", "ends_at"}); position counts from 0 and is None unless the job is queued."""
        if job.state not in ("queued", "running"):
            return None, _told(None, None)
        now = self._now()
        with self._lock:
            picture = self._fresh(now)
            if job.state == "running":
                return None, self._of_running(picture, job, now)
            return self._of_queued(picture, job, now)

    def _of_queued(self, picture: Picture, job: Job, now: datetime) -> tuple[int, Told]:
        key = key_of(job.priority, job.deadline, job.id)
        picture.join(key)
        begin = picture.seconds_until(key, self._lanes, now)
        took = picture.seconds.get(job.kind)
        starts_at = None if begin is None else self._after(begin, now)
        ends_at = None if begin is None or took is None else self._after(begin + took, now)
        return picture.position(key), _told(starts_at, ends_at)

    def _of_running(self, picture: Picture, job: Job, now: datetime) -> Told:
        if job.started_at is None or job.kind not in picture.seconds:
            return _told(job.started_at, None)
        return _told(job.started_at, self._after(picture.seconds_left(job.kind, job.started_at, now), now))

    def _after(self, seconds: float, now: datetime) -> datetime | None:
        return after_working(self._ahead.nights(self._tonight, self._opens_at, now), seconds)

    def _fresh(self, now: datetime) -> Picture:
        if self._picture is None or time.monotonic() - self._taken_at > PICTURE_SECONDS:
            night = self._keeper.current()
            self._tonight = None if night is None else (now, night.closes_at)
            self._opens_at = self._keeper.next_open_at() if night is None else None
            self._picture = self._take(now)
            self._taken_at = time.monotonic()
        return self._picture

    def _take(self, now: datetime) -> Picture:
        nights = self._outlook.nights(NIGHTS_MOST)
        seconds = median_seconds(self._outlook.took(TOOK_MOST), nights, now)
        return Picture(self._outlook.order(MARKS), self._outlook.running(), seconds, nights)


class Ahead:
    """The nights to come. Each is computed once: the calendar's arithmetic takes milliseconds, and listings ask often."""

    def __init__(self, almanac: Almanac) -> None:
        self._almanac = almanac
        self._known: list[Span] = []  # in order, without gaps between them
        self._asked_at: datetime | None = None

    def nights(self, tonight: Stretch | None, opens_at: datetime | None, now: datetime) -> Iterator[Stretch]:
        """The rest of the open night, or what begins at `opens_at`; then those by the clock, at most NIGHTS_MOST."""
        if tonight is not None:
            yield tonight
        begin = opens_at if tonight is None else tonight[1]
        if begin is None:
            return
        begin = max(begin, now)
        for span in self._by_clock(now):
            if span.closes_at is None or span.closes_at > begin:
                yield max(begin, span.opened_at), span.closes_at

    def _by_clock(self, now: datetime) -> Iterator[Span]:
        if self._asked_at is None or now < self._asked_at:  # the clock went back: what was dropped may come again
            self._known = []
        self._asked_at = now
        self._known = [span for span in self._known if span.closes_at is None or span.closes_at > now]
        for index in range(NIGHTS_MOST):
            if index == len(self._known) and not self._learn(now):
                return
            yield self._known[index]

    def _learn(self, now: datetime) -> bool:
        """Append one more night; False when there is none."""
        after = self._known[-1].closes_at if self._known else now
        if after is None:
            return False
        span = None if self._known else self._almanac.span(now)
        if span is None:
            opens_at = self._almanac.next_open_at(after)
            span = None if opens_at is None else self._almanac.span(opens_at)
        if span is not None:
            self._known.append(span)
        return span is not None


def after_working(nights: Iterable[Stretch], seconds: float) -> datetime | None:
    """The moment at which so many seconds of night will have passed; None when the nights do not suffice."""
    left = timedelta(seconds=min(seconds, 1e9))
    for opens_at, closes_at in nights:
        if closes_at is None or opens_at + left < closes_at:
            return opens_at + left
        left -= max(closes_at - opens_at, timedelta(0))
    return None


def median_seconds(took: Iterable[Took], nights: Sequence[Stretch], now: datetime) -> dict[str, float]:
    """Working seconds by kind, and over all kinds under ""; empty when nothing was done yet."""
    by_kind: dict[str, list[float]] = {}
    for one in took:
        seconds = working_seconds(one.started_at, one.finished_at, nights, now)
        by_kind.setdefault(one.kind, []).append(seconds)
        by_kind.setdefault("", []).append(seconds)
    return {kind: median(each) for kind, each in by_kind.items()}


def working_seconds(begin: datetime, end: datetime, nights: Sequence[Stretch], now: datetime) -> float:
    """How much of [begin, end] lay in nights; all of it when it touches none that is remembered."""
    inside = [min(end, closed or now) - max(begin, opened) for opened, closed in nights]
    total = sum(piece.total_seconds() for piece in inside if piece > timedelta(0))
    return total or max(0.0, (end - begin).total_seconds())


def _told(starts_at: datetime | None, ends_at: datetime | None) -> Told:
    return {
        "starts_at": None if starts_at is None else starts_at.isoformat(),
        "ends_at": None if ends_at is None else ends_at.isoformat(),
    }
