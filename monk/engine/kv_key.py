"""The names of KV blocks: a hash over everything that shapes what is in them.

Works on token ids and plain facts. A block's name depends on the model's facts and on every token from the first one to
the block's last, so blocks of another model, build, adapter or text have other names and are never even looked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from monk.engine.sequence import Tokens

KEY_BYTES = 32


def model_key(facts: Mapping[str, object]) -> bytes:
    """32 bytes, the same for the same facts in any order. The values are JSON values: whatever is none would be named
    by its `repr`, which may hold an address or hide a difference; such a value is a TypeError."""
    text = json.dumps(dict(facts), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=KEY_BYTES).digest()


def chain(model: bytes, tokens: Tokens | Sequence[int], block_tokens: int) -> list[str]:
    """The name of every whole leading block of `block_tokens` tokens, first to last, in hex.

    name(i) = blake2b(name(i-1) ‖ tokens of block i as little-endian int32), name(-1) = `model`.
    """
    if block_tokens < 1:
        raise ValueError(f"block_tokens is {block_tokens}; a block holds at least one token")
    row = np.ascontiguousarray(tokens, dtype="<i4")
    names: list[str] = []
    before = model
    for start in range(0, len(row) - block_tokens + 1, block_tokens):
        before = hashlib.blake2b(before + row[start : start + block_tokens].tobytes(), digest_size=KEY_BYTES).digest()
        names.append(before.hex())
    return names
