"""How far a sync has come, and what it did. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far a sync has come. `num_passages`: stored so far by this sync."""

    done: int
    total: int
    num_passages: int
    file: str


@dataclass(slots=True)
class SyncReport:
    """What a sync did. Paths are relative to the corpus folder; `unreadable` and `lost` are (path, reason)."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    outdated: int = 0  # indexed with an older model or reader, and left for the night
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    num_passages: int = 0  # stored by this sync
    num_embedded: int = 0  # of them, vectors that had to be computed
    seconds: float = 0.0
    complete: bool = False  # False: it was stopped; the next one goes on

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        pairs = {
            name: [{"file": file, "reason": why} for file, why in getattr(self, name)]
            for name in ("unreadable", "lost")
        }
        return {name: getattr(self, name) for name in self.__slots__} | pairs


Progress = Callable[[SyncProgress], None]
Stop = Callable[[], bool]
