"""Pictures as SVG: lines over two axes, heat maps, stacked bars beside lines.

Text in them stays text, and equal data makes equal bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Manner = Literal["measured", "predicted", "bound"]
_STYLES: dict[Manner, dict[str, object]] = {
    "measured": {"marker": "o", "markersize": 4, "linewidth": 1.8},
    "predicted": {"linestyle": "--", "linewidth": 1.4},
    "bound": {"linestyle": ":", "linewidth": 1.4},
}
_COLOURS = ("#1f4e79", "#b3541e", "#3b7a57", "#7a3b69", "#8a7a1f", "#4a4a4a", "#1f8a8a", "#a33b3b")
_FRAME = "#666666"
MOST_TICKS = 20


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) under one name. Lines of one `group` share a colour, so that what was measured stands beside what was
    predicted."""

    name: str
    points: Row[tuple[float, float]]
    manner: Manner = "measured"
    group: str = ""


def lines(title: str, x: str, y: str, drawn: Row[Line], *, log_x: bool = False, log_y: bool = False) -> str:
    """SVG of lines; `x` and `y` name the axes with their units. A line without points is left out."""
    figure, axes = _paper(title, x, y)
    _draw_lines(axes, drawn, log_x=log_x, log_y=log_y)
    return _svg(figure)


def _draw_lines(axes: Axes, drawn: Row[Line], *, log_x: bool, log_y: bool) -> None:
    colours: dict[str, str] = {}
    for line in drawn:
        if not line.points:
            continue
        colour = colours.setdefault(line.group or line.name, _COLOURS[len(colours) % len(_COLOURS)])
        across, up = zip(*line.points, strict=True)
        axes.plot(across, up, label=_plain(line.name), color=colour, **_STYLES[line.manner])  # type: ignore[arg-type]
    if log_x:
        least = min((point[0] for line in drawn for point in line.points if point[0] > 0), default=1.0)
        if any(point[0] <= 0 for line in drawn for point in line.points):  # nought has no logarithm, and is a depth
            axes.set_xscale("symlog", base=2, linthresh=least)
        else:
            axes.set_xscale("log", base=2)
        places = sorted({point[0] for line in drawn for point in line.points})
        places = places[:: -(-len(places) // MOST_TICKS) or 1]
        axes.set_xticks(places, [_told(place) for place in places], rotation=45 if len(places) > 8 else 0)
        axes.minorticks_off()
    if log_y:
        axes.set_yscale("log")
        _plain_numbers(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    if colours:
        axes.legend(frameon=False, fontsize=8)


@dataclass(frozen=True, slots=True)
class Stack:
    """Bars of parts, one on the other: (name of the bar, its parts by name), in the unit of `y`. `limits`: lines across."""

    title: str
    y: str
    bars: Row[tuple[str, Mapping[str, float]]]
    limits: Row[tuple[str, float]] = ()


def stack_and_lines(
    title: str, stack: Stack, lines_title: str, x: str, y: str, drawn: Row[Line], *, log_x: bool = False
) -> str:
    """SVG of two panels: stacked bars at the left, lines at the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=12)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.15))
    _dress(left, stack.title, "", stack.y)
    _draw_stack(left, stack)
    _dress(right, lines_title, x, y)
    _draw_lines(right, drawn, log_x=log_x, log_y=True)
    return _svg(figure)


def _draw_stack(axes: Axes, stack: Stack) -> None:
    """The first part lies at the bottom, and has one colour in all bars; a part that is too thin to read is not written on."""
    parts = list(dict.fromkeys(part for _, bar in stack.bars for part in bar))
    highest = max([value for _, value in stack.limits] + [sum(bar.values()) for _, bar in stack.bars], default=1.0)
    base = [0.0] * len(stack.bars)
    for number, part in enumerate(parts):
        values = [bar.get(part, 0.0) for _, bar in stack.bars]
        axes.bar(range(len(base)), values, 0.62, base, label=part, color=_COLOURS[number % len(_COLOURS)], alpha=0.88)
        for place, value in enumerate(values):
            if value > highest / 25:
                told = f"{value:.3g}"
                axes.text(place, base[place] + value / 2, told, ha="center", va="center", fontsize=8, color="white")
        base = [below + value for below, value in zip(base, values, strict=True)]
    for name, value in stack.limits:
        axes.axhline(value, color="#a33b3b", linestyle=":", linewidth=1.4)
        axes.text(len(base) - 0.52, value, f"{name} {value:.4g}", ha="right", va="bottom", fontsize=8, color="#a33b3b")
    axes.set_xticks(range(len(base)), [name for name, _ in stack.bars])
    axes.set_xlim(-0.5, len(base) - 0.5)
    axes.set_ylim(0, 1.12 * highest)
    axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)


def heat(
    title: str, x: str, y: str, columns: Row[str], rows: Row[str], values: Row[Row[float | None]], most: float = 1.0
) -> str:
    """SVG of a table [rows, columns] of shares from 0 to `most`, coloured and written out; None: not measured."""
    import numpy as np

    figure, axes = _paper(title, x, y)
    table = np.array([[np.nan if value is None else value for value in row] for row in values], dtype=float)
    axes.imshow(table, cmap="RdYlGn", vmin=0.0, vmax=most, aspect="auto")
    axes.set_xticks(range(len(columns)), [_plain(column) for column in columns])
    axes.set_yticks(range(len(rows)), [_plain(row) for row in rows])
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            told = "–" if value is None else f"{100 * value / most:.0f}"
            is_dark = value is not None and not 0.12 * most < value < 0.88 * most
            colour = "#ffffff" if is_dark else "#222222"
            axes.text(column, row, told, ha="center", va="center", fontsize=8, color=colour)
    return _svg(figure)


def _paper(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _dress(axes, title, x, y)
    return figure, axes


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(_plain(title), fontsize=11)
    axes.set_xlabel(_plain(x), fontsize=9)
    axes.set_ylabel(_plain(y), fontsize=9)
    axes.tick_params(labelsize=8, color=_FRAME)
    for spine in axes.spines.values():
        spine.set_color(_FRAME)


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "night-monk", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _plain(text: str) -> str:
    """Words are words: between two dollars matplotlib would set a formula, or fail."""
    return text.replace("$", r"\$")


def _plain_numbers(axes: Axes) -> None:
    """1, 2, 5, 10, 20 ... along a logarithmic axis, not powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _told(value: float) -> str:
    """8192 as 8k."""
    return f"{value / 1024:g}k" if value >= 1024 and value % 1024 == 0 else f"{value:g}"
