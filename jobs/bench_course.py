"""Which measurements a benchmark makes, in which order. Pure: over what was asked and what the machine and model are.

One dimension at a time around a base, which is the engine's own choice where nobody says otherwise; the whole product of all
dimensions would take weeks. First the curve over depths up to 4,096 tokens, then widths, flash attention, KV types and
threads, and last the great depths, whose beginnings may take hours to compute.
"""

from __future__ import annotations

from itertools import product
from typing import Any

KV_TYPES = ("f16", "bf16", "f32", "q8_0")
WIDTHS = (1, 2, 4, 8, 16, 32, 64)
OTHER_KV = (("q8_0", "f16"), ("q8_0", "q8_0"))
FIRST_DEPTH = 512
SHALLOW = 4096  # up to here depths come first
SIDE_DEPTH = 1024  # that widths, KV types and threads are measured behind
Point = dict[str, Any]


def course(wanted: dict[str, Any], here: dict[str, Any]) -> list[Point]:
    """Points in order, none twice. `wanted`: the job's input; `here`: see `jobs.context.Bench.look`."""
    room = max(wanted["prompt_tokens"], wanted["answer_tokens"])
    depths = sorted(set(wanted["depths"])) or ladder(here["base"]["context"], room)
    base = _base(wanted, here) | {"room": room}
    side = max([depth for depth in depths if depth <= SIDE_DEPTH], default=depths[0])
    plan = _Plan(wanted, here, base)
    points: list[Point] = []
    for depth in depths:
        if depth <= SHALLOW:
            points += plan.both(depth)
    points += plan.widths(side)
    points += plan.flash([side, max([depth for depth in depths if depth <= SHALLOW], default=side)])
    points += plan.kv_types(side)
    points += plan.threads(side)
    for depth in depths:
        if depth > SHALLOW:
            points += plan.both(depth)
    return list({title(point): point for point in points}.values())


def ladder(context: int, room: int) -> list[int]:
    """0, 512, 1024 ... as far as the context goes, and what is behind all of it but the measured tokens."""
    last = max(0, context - room - 1)
    depths = [0]
    depth = FIRST_DEPTH
    while depth <= last:
        depths.append(depth)
        depth *= 2
    if last > 1.25 * depths[-1] and last > FIRST_DEPTH:
        depths.append(last)
    return depths


def title(point: Point) -> str:
    """Short, and different for different points."""
    what = f"{point['test']} {point['tokens']}"
    if point["rows"] > 1:
        what += f" x {point['rows']}"
    flash = "on" if point["flash"] else "off"
    kv = point["type_k"] if point["type_k"] == point["type_v"] else f"{point['type_k']},{point['type_v']}"
    return (
        f"{what} behind {point['depth']}, flash {flash}, kv {kv}, {point['threads']} threads, ubatch {point['ubatch']}"
    )


def _base(wanted: dict[str, Any], here: dict[str, Any]) -> Point:
    """Settings that all else is measured with."""
    given = here["base"]
    type_k, type_v = given["type_k"], given["type_v"]
    if wanted["kv_types"]:
        type_k, type_v = _pair(wanted["kv_types"][0])
    flash = wanted["flash"][0] == "on" if wanted["flash"] else given["flash"]
    return {"flash": flash or type_v == "q8_0", "type_k": type_k, "type_v": type_v, "ubatch": given["ubatch"]}


def _pair(text: str) -> tuple[str, str]:
    type_k, _, type_v = (part.strip() for part in text.partition(","))
    return type_k, type_v or type_k


class _Plan:
    """Points of one dimension at a time."""

    def __init__(self, wanted: dict[str, Any], here: dict[str, Any], base: Point) -> None:
        self._wanted, self._here, self._base = wanted, here, base

    def both(self, depth: int, **settings: Any) -> list[Point]:
        """A prompt and an answer behind so many tokens."""
        return [self._prompt(depth, **settings), self._answer(1, depth, **settings)]

    def widths(self, depth: int) -> list[Point]:
        return [self._answer(rows, depth) for rows in self._wanted["widths"] or WIDTHS]

    def flash(self, depths: list[int]) -> list[Point]:
        """The other kernel, where it can be had."""
        values = [one == "on" for one in self._wanted["flash"]] or [True, False]
        others = [flash for flash in values if flash != self._base["flash"] and (flash or self._may_be_off())]
        return [point for flash, depth in product(others, depths) for point in self.both(depth, flash=flash)]

    def _may_be_off(self) -> bool:
        return bool(self._base["type_v"] != "q8_0")

    def kv_types(self, depth: int) -> list[Point]:
        """Each with the kernel it needs."""
        pairs = [_pair(text) for text in self._wanted["kv_types"]] or list(OTHER_KV)
        points: list[Point] = []
        for type_k, type_v in pairs:
            flash = self._base["flash"] or type_v == "q8_0"
            points += self.both(depth, type_k=type_k, type_v=type_v, flash=flash)
        return points

    def threads(self, depth: int) -> list[Point]:
        counts = self._wanted["threads"] or self._here["threads"]
        return [point for count in counts for point in self.both(depth, threads=count)]

    def _prompt(self, depth: int, **settings: Any) -> Point:
        return self._point("prompt", self._wanted["prompt_tokens"], 1, depth, "threads_prompt", settings)

    def _answer(self, rows: int, depth: int, **settings: Any) -> Point:
        which = "threads_step" if rows > 1 else "threads_single"
        return self._point("answer", self._wanted["answer_tokens"], rows, depth, which, settings)

    def _point(self, test: str, tokens: int, rows: int, depth: int, which: str, settings: dict[str, Any]) -> Point:
        threads = self._wanted["threads"][0] if self._wanted["threads"] else self._here["base"][which]
        point = {"test": test, "tokens": tokens, "rows": rows, "depth": depth, "threads": threads}
        return {**point, **self._base, **settings}
