"""What was chosen, kept as one JSON file for each host, model, build and kind of settings in `$MONK_HOME/tune`.

A file and not a table: the engine's process needs it and never opens the database, a person can read it, and it goes
with the home. Written whole or not at all. One that is damaged, or of another version, is as if it were not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monk.engine import kept
from monk.engine.binding import THREADS
from monk.engine.config import EngineConfig
from monk.engine.model_use import QUANTISED_KV
from monk.engine.tuning import host
from monk.errors import HomeUnusable, MonkError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One file. `values` by field of EngineConfig; empty when the measuring failed, for the reason in `problem`."""

    key: dict[str, Any]
    values: dict[str, Any]
    measured_at: str  # RFC 3339
    seconds: float
    by_itself: bool  # the short version of a first start
    gain: dict[str, float | None]
    facts: dict[str, Any]
    report: list[dict[str, Any]]  # the table, see `table.py`
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **{name: getattr(self, name) for name in self.__dataclass_fields__}}


def key_of(config: EngineConfig, sha256: str) -> dict[str, Any]:
    """All that a measurement hangs on. Settings that only limit it (slots, threads, chunk) are not in it."""
    return {
        "host": host.host(),
        "build": host.build(),
        "model_sha256": sha256,
        "flash_attention": config.flash_attention,
        "kv_types": "free" if config.kv_types_free else f"{config.kv_type_k},{config.kv_type_v}",
        "repack": config.repack,
        "mmap": config.mmap,
        "numa": config.numa,
        "cpus": config.cpus,
        "huge_pages": config.huge_pages,
    }


def path_of(config: EngineConfig, key: dict[str, Any]) -> Path | None:
    """The file for this key; None when nothing is kept."""
    if config.tune_folder is None:
        return None
    return config.tune_folder / kept.name_of(config.model_path.stem[:60], key)


def find(config: EngineConfig, sha256: str) -> Record | None:
    """What is known of this model here."""
    key = key_of(config, sha256)
    path = path_of(config, key)
    found = None if path is None else _read(path)
    return found if found is not None and found.key == key else None


def _read(path: Path) -> Record | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("version") != VERSION:
            return None
        record = Record(**values)
        EngineConfig(path, **record.values)  # the values are in range
    except (OSError, ValueError, TypeError, KeyError, AttributeError, MonkError):
        return None
    return record


def keep(config: EngineConfig, record: Record) -> Path:
    """Write it, whole or not at all. Raises HomeUnusable."""
    path = path_of(config, record.key)
    assert path is not None, "there is a folder to keep it in"
    kept.write(path, record.to_json())
    return path


def forget(config: EngineConfig, sha256: str) -> bool:
    """Remove the record; False when there was none."""
    path = path_of(config, key_of(config, sha256))
    try:
        if path is not None:
            path.unlink()
            return True
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise HomeUnusable(f"{path} cannot be removed: {exc.strerror}; check its owner") from exc
    return False


def tuned(config: EngineConfig, sha256: str) -> dict[str, Any]:
    """What the record of this host and model fills in: values by field of EngineConfig, only where the owner chose none."""
    record = find(config, sha256)
    return {} if record is None else gaps(config, record.values)


def gaps(config: EngineConfig, values: dict[str, Any]) -> dict[str, Any]:
    """Of the values, those that the config leaves open."""
    filled: dict[str, Any] = {}
    if config.threads == 0:  # who sets it has set the others too, by "0: as threads"
        filled |= {name: values[name] for name in THREADS if name in values and getattr(config, name) == 0}
    if config.slots == 0 and "most_slots" in values:
        filled["most_slots"] = values["most_slots"]
    if config.ubatch == 0 and "most_ubatch" in values:
        filled["most_ubatch"] = values["most_ubatch"]
    if config.kv_types_free:
        filled |= {name: values[name] for name in ("kv_type_k", "kv_type_v") if name in values}
    quantised = filled.get("kv_type_v", config.kv_type_v) in QUANTISED_KV
    if config.flash_attention == "auto" and "flash_attention" in values and not quantised:
        filled["flash_attention"] = values["flash_attention"]
    return filled


def fill(config: EngineConfig, values: dict[str, Any]) -> EngineConfig:
    """The config with its gaps filled."""
    return replace(config, **gaps(config, values))


def now_text() -> str:
    """This moment, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
