"""What was measured, kept as JSON: one file for each key, whole or not at all, that a person can read."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from monk.errors import HomeUnusable


def name_of(stem: str, key: dict[str, Any]) -> str:
    """Of the file for all that a measurement hangs on. `key`: JSON values; equal ones give equal names."""
    digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    return f"{stem}-{digest}.json"


def write(path: Path, values: dict[str, Any]) -> None:
    """Put it there; what was there stays until all of it is on disk. Raises HomeUnusable."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as exc:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise HomeUnusable(f"{path} cannot be written: {exc.strerror}; make room, or check its owner") from exc
