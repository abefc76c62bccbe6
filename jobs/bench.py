"""Tokens per second of the model on this machine: depths, widths, flash attention, KV types, threads; measured alone.

Every measurement is a step, so a crash or a night's end costs one at most. What tells most comes first, because the job's
minutes may end it anywhere.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jobs import fields
from jobs.bench_course import KV_TYPES, course, title
from jobs.bench_words import answer, pictures
from jobs.context import Context, MinutesUsed

ALONE = True
Depth = Annotated[int, Field(ge=0, le=1 << 24)]
Width = Annotated[int, Field(ge=1, le=256)]
Count = Annotated[int, Field(ge=1, le=4096)]
KvTypes = Annotated[str, Field(max_length=20, description='One type for both, or "K,V"')]


class Input(fields.Input):
    """What is measured. Where a list is given, its first value is what all else is measured with; empty: the engine's
    choice first, then all that is worth a try."""

    context: Annotated[
        int, Field(ge=0, le=1 << 24, description="Tokens up to which depths go; 0: what the engine opens")
    ] = 0
    depths: Annotated[list[Depth], Field(default_factory=list, max_length=64, description="Instead: 0, 512, 1024 ...")]
    widths: Annotated[list[Width], Field(default_factory=list, max_length=32, description="Thoughts at once")]
    flash: Annotated[list[Literal["on", "off"]], Field(default_factory=list, max_length=2)]
    kv_types: Annotated[list[KvTypes], Field(default_factory=list, max_length=16)]
    threads: Annotated[list[Count], Field(default_factory=list, max_length=16)]
    ubatch: Annotated[int, Field(ge=0, le=8192, description="Prompt tokens of one call; 0: the engine's choice")] = 0
    prompt_tokens: Annotated[int, Field(ge=16, le=65536, description="Of a measured prompt")] = 512
    answer_tokens: Annotated[int, Field(ge=1, le=8192, description="Of a measured answer")] = 64
    repeats: Annotated[int, Field(ge=1, le=100)] = 3

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        known = ", ".join(KV_TYPES)
        for text in self.kv_types:
            parts = text.split(",")
            if not 1 <= len(parts) <= 2 or any(part.strip() not in KV_TYPES for part in parts):
                raise ValueError(f'kv_types {text[:40]!r}: write one of {known}, or two such as "q8_0,f16"')
            if parts[-1].strip() == "q8_0" and self.flash == ["off"]:
                raise ValueError(f"kv_types {text!r}: values of q8_0 need flash attention; leave flash out, or add on")
        if 0 < self.ubatch < 16:
            raise ValueError("ubatch must be 0 or at least 16")
        longest = max(self.prompt_tokens, self.answer_tokens)
        deepest = max(self.depths, default=0) + longest
        if self.context and self.context < deepest:
            raise ValueError(
                f"context {self.context} has no room for {longest} tokens behind {max(self.depths, default=0)}; "
                f"it must be at least {deepest}"
            )
        return self


def run(ctx: Context) -> dict[str, Any]:
    """Look, measure point by point, keep, tell."""
    wanted, bench = ctx.input, ctx.bench
    needed = max([0, *wanted["depths"]]) + max(wanted["prompt_tokens"], wanted["answer_tokens"]) + 1
    context = wanted["context"] or (needed if wanted["depths"] else 0)
    try:
        here = ctx.step("machine", lambda: bench.look(context, wanted["ubatch"]))
        points = course(wanted, here)
        rows: list[dict[str, Any]] = []
        ended = "all"
        try:
            for number, point in enumerate(points, 1):
                measure = partial(bench.measure, point, wanted["repeats"], here)
                rows.append(ctx.step(f"{number} of {len(points)}: {title(point)}", measure))
        except MinutesUsed:
            ended = "minutes"
        kept = ctx.step("kept", lambda: bench.keep(rows, here))
        bench.leave()
    finally:
        bench.close()
    left = [title(point) for point in points[len(rows) :]]
    return {
        "answer": answer(wanted, here, rows, left),
        "here": here,
        "rows": rows,
        "left": left,
        "ended": ended,
        "kept": kept,
        "pictures": pictures(here, rows),
    }
