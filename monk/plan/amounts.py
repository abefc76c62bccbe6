"""Amounts as people write them: 1.5TB, 256GiB, 460GB/s, 9h. Text in, numbers out. Pure."""

from __future__ import annotations

import re

from monk.errors import InvalidInput

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?(?:/s)?", re.I)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])", re.I)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def num_bytes(text: str, name: str) -> int:
    """Of "1.5TB", "256GiB" or "460GB/s". Raises InvalidInput, naming the option."""
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"{name} {text[:40]!r}: write it as 1.5TB, 256GiB or 460GB/s", param=name)
    value = round(float(match[1]) * _UNITS[(match[2] or "").lower()])
    if value <= 0:
        raise InvalidInput(f"{name} {text[:40]!r}: it must be above 0", param=name)
    return value


def seconds(text: str, name: str) -> float:
    """Of "9h", "30m" or "2d". Raises InvalidInput."""
    match = _TIME.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise InvalidInput(f"{name} {text[:40]!r}: write it as 9h, 30m or 2d", param=name)
    return float(match[1]) * _SECONDS[match[2].lower()]


def told_bytes(value: float) -> str:
    """In GiB, or smaller where that says more."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if value >= size / 10 and value >= 2**20:
            return f"{value / size:.2f} {unit}"
    return f"{value / 2**10:.0f} KiB"


def told_seconds(value: float) -> str:
    """In the largest unit of which there are two or more."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.1f} s"
