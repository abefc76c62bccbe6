"""Counters over all children of an engine: those of the dead ones, plus the living one's last beat."""

from __future__ import annotations

from dataclasses import fields

from monk.engine.client import KvFigures

MOMENTARY = frozenset({"active", "waiting", "in_step", "progress_at", "kv_blocks_held", "kv_bytes_held"})


class Totals:
    """Names are those of the beat: `counters.py`, and the store's with `kv_` before them."""

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self.now: dict[str, float] = {}

    @property
    def active(self) -> int:
        return int(self.now.get("active", 0))

    @property
    def waiting(self) -> int:
        return int(self.now.get("waiting", 0))

    def sum(self, name: str) -> float:
        return self._before.get(name, 0.0) + self.now.get(name, 0.0)

    def whole(self, name: str) -> int:
        return int(self.sum(name))

    def kv(self) -> KvFigures:
        values = {field.name: self.sum(f"kv_{field.name}") for field in fields(KvFigures)}
        return KvFigures(**{name: value if name == "seconds_saved" else int(value) for name, value in values.items()})  # type: ignore[arg-type]

    def work(self) -> float:
        """Grows with whatever was computed."""
        return self.sum("prefill_tokens") + self.sum("decode_tokens")

    def end_of_child(self) -> None:
        for name in self.now.keys() - MOMENTARY:
            self._before[name] = self.sum(name)
        self.now = {}
