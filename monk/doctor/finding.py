"""What a check found, and sizes as people read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about one thing. `remedy` says what to do; empty when there is nothing to do."""

    check: str
    state: State
    text: str
    remedy: str = ""


def gib(num_bytes: int) -> str:
    """Bytes as "1.2 GiB"."""
    return f"{num_bytes / (1 << 30):.1f} GiB"
