"""How long a step and a prompt take, from what was measured of this very model on this host. Pure.

`monk tune` keeps the seconds of steps of several widths and of pieces of a prompt, behind nothing and behind some context;
`monk bench` those behind ever more. Between and beyond them:

    step     a + rows x depth x b    a: between measured widths on a straight line, beyond the widest on the last one's
                                     b: of the widths that were measured at both depths
    prompt   tokens x c + tokens x (depth + tokens / 2) x d          least squares of the relative error
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

from monk.engine.bench.rates import Rate
from monk.plan.speed import Pace

MOST_POINTS = 1000  # of a record; more is not ours


@dataclass(frozen=True, slots=True)
class Point:
    """One call that was timed: so many rows, each behind so many tokens."""

    rows: int
    depth: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a record holds. `steps`: a token of each of `rows` thoughts; `prompts`: `rows` tokens of one prompt."""

    steps: tuple[Point, ...]
    prompts: tuple[Point, ...]
    at: str  # when, RFC 3339
    by: str = "monk tune"  # the command

    @classmethod
    def of(cls, facts: dict[str, Any], at: str) -> Measured | None:
        """From the facts of a tuning record (`engine/tuning/choice.py`); None when they do not tell enough."""
        try:
            steps = _points(facts.get("step_points", ()))
            prompts = _points(facts.get("prompt_points", ()))
        except (TypeError, ValueError):
            return None
        return cls(steps, prompts, at) if steps and prompts else None

    @classmethod
    def of_bench(cls, rates: Row[Rate], *, flash: bool, types: tuple[str, str], threads: int) -> Measured | None:
        """Of benchmarks that ran with these settings; None when they do not tell enough: a prompt, and steps at two depths."""
        fitting = [
            rate
            for rate in rates
            if (rate.point.flash, rate.point.type_k, rate.point.type_v, rate.point.threads) == (flash, *types, threads)
        ]
        steps = [rate for rate in fitting if rate.point.test == "answer"]
        prompts = [rate for rate in fitting if rate.point.test == "prompt" and rate.point.rows == 1]
        if not prompts or len({rate.point.depth for rate in steps}) < 2:
            return None
        return cls(
            tuple(Point(rate.point.rows, rate.point.depth, rate.seconds) for rate in steps),
            tuple(Point(rate.point.tokens, rate.point.depth, rate.seconds) for rate in prompts),
            max(rate.measured_at for rate in fitting),
            "monk bench",
        )


def _points(rows: Row[Row[float]]) -> tuple[Point, ...]:
    points = tuple(Point(int(count), int(depth), float(seconds)) for count, depth, seconds in rows[:MOST_POINTS])
    return tuple(point for point in points if point.rows > 0 and point.depth >= 0 and point.seconds > 0.0)


class Calibrated:
    """A `Pace` through measured points. `general` tells what they do not. `chunk`: tokens of a prompt in one call; where
    calls of that very length were timed, their price is taken."""

    def __init__(self, measured: Measured, general: Pace, chunk: int = 0) -> None:
        self._general = general
        self._cell = _cells(measured.steps, general)
        self._empty = _line(
            {
                point.rows: max(0.0, point.seconds - point.rows * point.depth * self._cell(point.rows))
                for point in _least(measured.steps)
            }
        )
        self._token, self._position = _prompt_prices(_of_one_length(measured.prompts, chunk), general)

    def step_seconds(self, rows: int, depth: int) -> float:
        return self._empty(rows) + rows * depth * self._cell(rows)

    def prompt_seconds(self, tokens: int, depth: int = 0) -> float:
        return tokens * self._token + tokens * (depth + tokens / 2.0) * self._position


def _least(points: Row[Point]) -> list[Point]:
    """Of each width the point behind the fewest tokens comes last, and so wins in a mapping."""
    return sorted(points, key=lambda point: (point.rows, -point.depth, -point.seconds))


def _cells(steps: Row[Point], general: Pace) -> Callable[[int], float]:
    """Seconds of a row and position behind it, by the width of the step."""
    known: dict[int, float] = {}
    for rows in {point.rows for point in steps}:
        times: dict[int, float] = {}
        for point in steps:
            if point.rows == rows:
                times[point.depth] = min(point.seconds, times.get(point.depth, float("inf")))
        low, high = min(times), max(times)
        if high > low:
            known[rows] = max(0.0, (times[high] - times[low]) / (rows * (high - low)))
    if not known:
        return lambda rows: (general.step_seconds(rows, 4096) - general.step_seconds(rows, 0)) / (rows * 4096)
    return _line(known, flat=True)


def _line(known: dict[int, float], *, flat: bool = False) -> Callable[[int], float]:
    """Through the points, straight from each to the next; beyond the last as before it, or with `flat` as at its end."""
    places = sorted(known)

    def at(place: int) -> float:
        if len(places) == 1 or place <= places[0]:
            return known[places[0]]
        if place >= places[-1] and flat:
            return known[places[-1]]
        high = next((index for index in range(1, len(places)) if place <= places[index]), len(places) - 1)
        first, last = places[high - 1], places[high]
        slope = max(0.0, (known[last] - known[first]) / (last - first))
        return known[first] + slope * (place - first)

    return at


def _of_one_length(prompts: Row[Point], chunk: int) -> list[Point]:
    """Calls of one length: the chunk's, or of the length nearest to it that was timed at most depths."""
    lengths = {point.rows for point in prompts}
    depths = {length: len({point.depth for point in prompts if point.rows == length}) for length in lengths}
    main = min(lengths, key=lambda length: (-depths[length], abs(length - chunk)))
    points = [point for point in prompts if point.rows == main]
    if chunk in lengths and chunk != main:
        pairs = [(one, two) for one in prompts if one.rows == chunk for two in points if one.depth == two.depth]
        if pairs:
            scale = min(one.seconds / one.rows for one, _ in pairs) / min(two.seconds / two.rows for _, two in pairs)
            points = [Point(point.rows, point.depth, point.seconds * scale) for point in points]
    return points


def _prompt_prices(points: Row[Point], general: Pace) -> tuple[float, float]:
    """(seconds of a token, seconds of a token and position behind it)."""
    best: dict[int, Point] = {}
    for point in points:
        if point.depth not in best or point.seconds < best[point.depth].seconds:
            best[point.depth] = point
    if len(best) == 1:  # how it grows with depth was not measured
        point = next(iter(best.values()))
        scale = point.seconds / general.prompt_seconds(point.rows, point.depth)
        token = general.prompt_seconds(1) * scale
        return token, scale * (general.prompt_seconds(1, 1 << 20) - general.prompt_seconds(1)) / (1 << 20)
    rows = [
        (point.rows / point.seconds, point.rows * (point.depth + point.rows / 2.0) / point.seconds)
        for point in best.values()
    ]
    aa, ab, bb = (
        sum(one * two for one, two in ((row[i], row[j]) for row in rows)) for i, j in ((0, 0), (0, 1), (1, 1))
    )
    a, b = sum(row[0] for row in rows), sum(row[1] for row in rows)
    determinant = aa * bb - ab * ab
    token, position = (a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant
    if position < 0.0:
        return a / aa, 0.0
    if token < 0.0:
        return 0.0, b / bb
    return token, position
