"""Jobs as they run: a table that moves on a terminal, lines where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monk.cli.moments import spelled
from monk.cli.terminal import console, one_line, say
from monk.cli.views import summary
from monk.errors import EngineFailed

if TYPE_CHECKING:
    from rich.table import Table

    from monk.client import Client

FINAL = ("done", "failed", "cancelled")
LOOK_SECONDS = 0.5
TELL_SECONDS = 10.0  # between two lines about a running job where nobody watches
RATE_SECONDS = 6.0  # tokens per second are counted over this long
TAIL_CHARACTERS = 60


@dataclass(slots=True)
class Row:
    """One job as shown. `rate` is tokens per second just now; 0 when it does not think."""

    kind: str
    asked: str
    state: str = "queued"  # as the daemon says; "reading" while a prompt is computed and no token is there yet
    tokens: int = 0
    rate: float = 0.0
    tail: str = ""
    seen: list[tuple[float, int]] = field(default_factory=list)  # (moment, tokens) of the last RATE_SECONDS

    def look(self, job: dict[str, Any], at: float) -> None:
        """Take over what the daemon says of the job at moment `at` (seconds of a monotonic clock)."""
        thoughts = job.get("thoughts") or []
        self.state, self.tokens = job["state"], sum(int(one.get("num_tokens") or 0) for one in thoughts)
        self.seen = [past for past in self.seen if at - past[0] <= RATE_SECONDS] + [(at, self.tokens)]
        self.rate = self._rate(at) if self.state == "running" else 0.0
        texts = [str(one.get("text") or "") for one in thoughts]
        self.tail = "…" + one_line(next((text for text in reversed(texts) if text), ""))[-TAIL_CHARACTERS:]
        if self.state == "running" and thoughts and not thoughts[-1].get("num_tokens"):
            self.state, self.tail = "reading", f"{thoughts[-1]['num_prompt_tokens']} tokens of prompt"

    def _rate(self, at: float) -> float:
        first_at, first = self.seen[0]
        return (self.tokens - first) / (at - first_at) if at > first_at else 0.0


def watch(daemon: Client, ids: list[str], most_seconds: float) -> list[dict[str, Any]]:
    """Look at the jobs until all have ended, and return them so. Raises EngineFailed after `most_seconds`, or
    when the engine cannot run at all."""
    began = time.monotonic()
    rows: dict[str, Row] = {}
    with _shown() as show:
        while True:
            jobs = [daemon.get(f"/jobs/{id_}") for id_ in ids]
            for job in jobs:
                rows.setdefault(job["id"], Row(job["kind"], summary(job))).look(job, time.monotonic())
            show(list(rows.values()), time.monotonic() - began)
            if all(job["state"] in FINAL for job in jobs):
                return jobs
            _check_engine(daemon)
            if time.monotonic() - began > most_seconds:
                raise EngineFailed(f"the night is not over after {spelled(most_seconds)}")
            time.sleep(LOOK_SECONDS)


def _check_engine(daemon: Client) -> None:
    """Raises EngineFailed when the model cannot be loaded: the jobs would wait for it until somebody mends that."""
    engine = daemon.get("/status")["engine"]
    if engine["state"] == "failed":
        raise EngineFailed(f"the engine failed: {engine['last_error']}")


@contextmanager
def _shown() -> Iterator[Callable[[list[Row], float], None]]:
    out = console()
    if not out.is_terminal:
        yield Plain().show
        return
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as live:
        yield lambda rows, seconds: live.update(_table(rows, seconds), refresh=True)


@dataclass(slots=True)
class Plain:
    """A line when a job's state changes, and every TELL_SECONDS while it thinks."""

    told: dict[str, tuple[str, int, float]] = field(default_factory=dict)  # state, tokens, moment by what was asked

    def show(self, rows: list[Row], seconds: float) -> None:
        """Lines for what is new."""
        for row in rows:
            state, tokens, at = self.told.get(row.asked, ("queued", 0, 0.0))
            thinking = row.tokens > tokens and seconds - at >= TELL_SECONDS
            if row.state != state or thinking:
                self.told[row.asked] = (row.state, row.tokens, seconds)
                say(plain_line(row, seconds))


def plain_line(row: Row, seconds: float) -> str:
    """One job on one line."""
    rate = f"{row.rate:6.1f} tokens/s" if row.rate else " " * 15
    return f"  {seconds:5.1f} s  {row.kind:<6} {row.state:<9} {row.tokens:5d} tokens {rate}  {one_line(row.asked, 60)}"


def _table(rows: list[Row], seconds: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for name in ("kind", "state"):
        table.add_column(name, no_wrap=True, min_width=10)  # wide enough for every state, so that nothing jumps
    for name in ("tokens", "tokens/s"):
        table.add_column(name, no_wrap=True, min_width=8, justify="right")
    table.add_column("asked, and its last words", overflow="ellipsis", no_wrap=True, ratio=1)
    for row in rows:
        words = f"{one_line(row.asked, 50)}  {row.tail}" if row.state in ("running", "reading") else row.asked
        rate = f"{row.rate:.1f}" if row.rate else ""
        table.add_row(row.kind, row.state, str(row.tokens), rate, Text(one_line(words)))
    total = sum(row.rate for row in rows)
    table.add_row(
        "all", f"{spelled(seconds)}", str(sum(row.tokens for row in rows)), f"{total:.1f}" if total else "", ""
    )
    return table
