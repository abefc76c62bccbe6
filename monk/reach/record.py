"""What was measured, kept as one JSON file for each way a model reads, in `$MONK_HOME/reach`.

A file and not a table: it belongs to a model and not to a job, a person can read it, and `monk doctor` needs no database for
it. Written whole or not at all. One that is damaged, or of another version, is as if it were not there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs.needle import RULE, reliable_tokens
from monk.engine import kept
from monk.reach.reading import Reading

VERSION = 1
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reach:
    """One file. `table` and `control` as `jobs/needle.py` makes them, a length from the newest job that measured it."""

    key: dict[str, Any]
    table: list[Row]
    control: list[Row]
    measured_at: str  # RFC 3339
    job_id: str
    reliable_tokens: int  # things are found in prompts up to this; 0: not even in the shortest tried
    rule: str = RULE

    @property
    def shortest_tokens(self) -> int:
        """That was tried."""
        return min(int(row["length"]) for row in self.table)

    @property
    def longest_tokens(self) -> int:
        """That was tried."""
        return max(int(row["length"]) for row in self.table)

    def summary(self) -> dict[str, Any]:
        """For `/status` and the job's result."""
        return {
            "reliable_tokens": self.reliable_tokens,
            "shortest_tokens": self.shortest_tokens,
            "longest_tokens": self.longest_tokens,
            "measured_at": self.measured_at,
            "job_id": self.job_id,
        }


class Reaches:
    """The folder. Safe from any thread: files are replaced, never written into."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, reading: Reading) -> Path:
        return self._folder / kept.name_of(reading.model_sha256[:12], reading.key())

    def find(self, reading: Reading) -> Reach | None:
        """What is known of this way to read; None when it was never measured."""
        found = _read(self.path_of(reading))
        return found if found is not None and found.key == reading.key() else None

    def keep(self, reading: Reading, table: Sequence[Row], control: Sequence[Row], now: datetime, job_id: str) -> Reach:
        """Write down what was measured; other lengths that were measured before stay. Raises HomeUnusable."""
        before = self.find(reading)
        fresh = {row["length"] for row in table}
        old_table = [row for row in (before.table if before else []) if row["length"] not in fresh]
        old_control = [row for row in (before.control if before else []) if row["length"] not in fresh]
        whole = sorted([*old_table, *table], key=lambda row: (row["length"], row["needles"], row["depth"]))
        controls = sorted([*old_control, *control], key=lambda row: int(row["length"]))
        at = now.isoformat(timespec="seconds")
        reach = Reach(reading.key(), whole, controls, at, job_id, reliable_tokens(whole, controls))
        kept.write(self.path_of(reading), {"version": VERSION, **asdict(reach)})
        return reach


def _read(path: Path) -> Reach | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("version") != VERSION:
            return None
        reach = Reach(**values)
        tried = reach.shortest_tokens, reach.longest_tokens
        return reach if tried[0] > 0 and 0 <= int(reach.reliable_tokens) <= tried[1] else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
