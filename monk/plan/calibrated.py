"""How long a step and a prompt take, from what was measured of this very model on this host. Pure.

`monk tune` keeps the seconds of steps of several widths and of pieces of a prompt, behind nothing and behind some context;
`monk bench` those behind ever more. Between and beyond them:

    step     a + rows x depth x b    a: between measured widths on a straight line, beyond the widest on the last one's
                                     b: of the widths that were measured at several depths
    prompt   tokens x c + tokens x (depth + tokens / 2) x d

All by least squares of the relative error; `depth` is what the layers see of it, in the mean (`speed.Sight`).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass
from statistics import median
from typing import Any

from monk.engine.bench.rates import Rate
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import chunk_tokens, uses_flash
from monk.plan.speed import Machine, Pace, Roofline, Sight, Work

ALL = Sight()
FAR = 1 << 20  # a depth at which attention is all that counts
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


def pace_of(model: GgufFile, config: EngineConfig, machine: Machine, measured: Measured | None) -> Pace:
    """Through what was measured, or by the general shares where nothing was."""
    work = Work.of(model, config)
    general = Roofline(work, machine)
    if measured is None:
        return general
    context = config.context or model.train_context
    chunk = config.ubatch or chunk_tokens(model, context, uses_flash(config), config.most_ubatch)
    return Calibrated(measured, general, chunk, work.sight)


class Calibrated:
    """A `Pace` through measured points. `general` tells what they do not, `sight` how far back the layers look. `chunk`:
    tokens of a prompt in one call; where calls of that very length were timed, their price is taken."""

    def __init__(self, measured: Measured, general: Pace, chunk: int = 0, sight: Sight = ALL) -> None:
        self._sight = sight
        prompts = _of_one_length(_places(measured.prompts), chunk)
        self._empty, self._cell = _step_prices(_places(measured.steps), general, sight)
        self._token, self._position = _prompt_prices(prompts, general, sight)

    def step_seconds(self, rows: int, depth: int) -> float:
        return self._empty(rows) + rows * self._sight.behind(depth) * self._cell(rows)

    def prompt_seconds(self, tokens: int, depth: int = 0) -> float:
        return tokens * self._token + self._sight.of_prompt(tokens, depth) * self._position


Price = Callable[[int], float]  # seconds, by the rows of a step


def _places(points: Row[Point]) -> list[Point]:
    """One point for each number of rows and depth: the middle of those that were timed there."""
    times: dict[tuple[int, int], list[float]] = {}
    for point in points:
        times.setdefault((point.rows, point.depth), []).append(point.seconds)
    return [Point(rows, depth, median(seconds)) for (rows, depth), seconds in sorted(times.items())]


def _step_prices(steps: Row[Point], general: Pace, sight: Sight) -> tuple[Price, Price]:
    """(of a step behind nothing, of a row and position behind it)."""
    widths: dict[int, list[Point]] = {}
    for point in steps:
        widths.setdefault(point.rows, []).append(point)
    empty: dict[int, float] = {}
    cells: dict[int, float] = {}
    for rows, points in widths.items():
        if len(points) > 1:
            empty[rows], cells[rows] = _fit(
                [(1.0, rows * sight.behind(point.depth), point.seconds) for point in points]
            )
    cell = _line(cells, flat=True) if cells else _general_cell(general, sight)
    for rows, points in widths.items():
        if len(points) == 1:
            empty[rows] = max(0.0, points[0].seconds - rows * sight.behind(points[0].depth) * cell(rows))
    return _line(empty), cell


def _general_cell(general: Pace, sight: Sight, depth: int = 4096) -> Price:
    cells = sight.behind(depth)
    return lambda rows: (general.step_seconds(rows, depth) - general.step_seconds(rows, 0)) / (rows * cells)


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
            scale = median(one.seconds / one.rows * two.rows / two.seconds for one, two in pairs)
            points = [Point(point.rows, point.depth, point.seconds * scale) for point in points]
    return points


def _prompt_prices(points: Row[Point], general: Pace, sight: Sight) -> tuple[float, float]:
    """(seconds of a token, seconds of a token and position behind it)."""
    if len(points) == 1:  # how it grows with depth was not measured
        scale = points[0].seconds / general.prompt_seconds(points[0].rows, points[0].depth)
        token, far = general.prompt_seconds(1), general.prompt_seconds(1, FAR)
        return token * scale, scale * (far - token) / sight.behind(FAR)
    return _fit([(point.rows, sight.of_prompt(point.rows, point.depth), point.seconds) for point in points])


def _fit(rows: Row[tuple[float, float, float]]) -> tuple[float, float]:
    """Least squares of the relative error: a and b, neither below zero, of a x + b y = seconds for rows of (x, y, seconds).
    Where y tells nothing beside x, as behind more than the windows of all layers hold, b is 0."""
    shares = [(x / seconds, y / seconds) for x, y, seconds in rows]
    xx, xy, yy = (sum(share[i] * share[j] for share in shares) for i, j in ((0, 0), (0, 1), (1, 1)))
    x, y = (sum(share[i] for share in shares) for i in (0, 1))
    determinant = xx * yy - xy * xy
    if determinant <= 1e-9 * xx * yy:
        return x / xx, 0.0
    a, b = (x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant
    if b < 0.0:
        return x / xx, 0.0
    if a < 0.0:
        return 0.0, y / yy
    return a, b
