"""Ids that sort by time: a prefix and 26 Crockford base32 characters (48 bits of milliseconds, 16 of order within one
process, 64 random), so `ORDER BY id` is the order of arrival and no two daemons collide."""

from __future__ import annotations

import secrets
import threading
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_lock = threading.Lock()
_last_ms = 0
_sequence = 0


def new_id(prefix: str, now: datetime) -> str:
    """`prefix_...`, later than every id made before it in this process, even if the clock has jumped back."""
    global _last_ms, _sequence
    with _lock:
        ms = int(now.timestamp() * 1000)
        if ms > _last_ms:
            _last_ms, _sequence = ms, 0
        else:
            _sequence += 1
            if _sequence == 1 << 16:
                _last_ms, _sequence = _last_ms + 1, 0
        number = (_last_ms << 80) | (_sequence << 64) | secrets.randbits(64)
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -5, -5))
