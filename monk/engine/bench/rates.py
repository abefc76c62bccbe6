"""What was measured, kept as one JSON file for each host, model and build in `$MONK_HOME/bench`, for those who reckon.

Of a measurement made again only the newest is kept. A file that is damaged, or of another version, is as if it were not
there; one of another host or build is not this host's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monk.engine import kept
from monk.engine.bench.point import Point
from monk.engine.tuning import host

VERSION = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """One measurement. `tokens_per_second` of all rows together: the median of the repeats."""

    point: Point
    tokens_per_second: float
    measured_at: str  # RFC 3339

    @property
    def seconds(self) -> float:
        """Of the whole prompt, or of one step."""
        return (self.point.tokens if self.point.test == "prompt" else self.point.rows) / self.tokens_per_second


def measured(folder: Path, model_sha256: str) -> list[Rate]:
    """All that was measured of this model on this host with this build, in no order; empty when nothing was.

    `folder`: `$MONK_HOME/bench`.
    """
    key = key_of(model_sha256)
    found = _read(_path(folder, key), key)
    return [Rate(Point.from_json(row["point"]), row["tokens_per_second"], row["measured_at"]) for row in found.values()]


def key_of(model_sha256: str) -> dict[str, Any]:
    """All that a rate hangs on beside its settings."""
    return {"host": host.host(), "build": host.build(), "model_sha256": model_sha256}


def keep(folder: Path, model_sha256: str, rates: list[Rate]) -> Path:
    """Add them to what is known, whole or not at all. Raises HomeUnusable."""
    key = key_of(model_sha256)
    path = _path(folder, key)
    rows = _read(path, key)
    for rate in rates:
        name = json.dumps(rate.point.to_json() | {"room": 0}, sort_keys=True)
        rows[name] = {
            "point": rate.point.to_json(),
            "tokens_per_second": rate.tokens_per_second,
            "measured_at": rate.measured_at,
        }
    kept.write(path, {"version": VERSION, "key": key, "rates": rows})
    return path


def _path(folder: Path, key: dict[str, Any]) -> Path:
    return folder / kept.name_of(key["model_sha256"][:12], key)


def _read(path: Path, key: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows by the settings they were measured with."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["version"] != VERSION or values["key"] != key:
            return {}
        for row in values["rates"].values():
            Rate(Point.from_json(row["point"]), float(row["tokens_per_second"]), str(row["measured_at"]))
            if not row["tokens_per_second"] > 0:
                return {}
        return dict(values["rates"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
