"""KV blocks of one prompt: which of them the store has, whether one that was fetched is right, and new ones for it.

Works with the store and with logits; the prefill lane (`study.py`) moves the KV itself.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from monk.engine.archive import Archive
from monk.engine.frames import Image
from monk.engine.kv_store import Block, Proof, chain
from monk.engine.native import Logits
from monk.engine.sequence import Tokens

PROOF_TOKENS = 16
# A block's last token, computed again behind the restored KV, must find the same likeliest tokens with the same logits,
# but for what another batch shape rounds differently. The bound is a share of how far the likeliest one lies above the
# average, which makes it the same for models of any scale. Seen on SmolLM2-135M Q4_1 (blocks of 64, 256 and 512 tokens
# against single rows; f16 and q8_0 keys, flash attention on and off): at most 0.020; with one block of 256 tokens from
# another text at least 0.245, usually 0.5. Nearer to the wrong side, since a mixture of experts may round its way to
# another expert, and identity is what keys and checksums stand for (2026-11-24).
PROOF_BOUND = 0.15
MOST_GIVEN = 4096  # keys remembered as handed to the store, which may still have them in its queue


def proof_of(logits: Logits) -> Proof:
    """The fingerprint of one row of logits [vocab]."""
    count = min(PROOF_TOKENS, len(logits))
    ids = np.argpartition(logits, len(logits) - count)[-count:]
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    return Proof(ids.astype(np.int32), logits[ids].astype(np.float32))


def disagreement(proof: Proof, logits: Logits) -> float:
    """How far logits [vocab] are from the proof: the largest difference, in units of the likeliest one's height."""
    if len(proof.ids) == 0 or int(proof.ids.max()) >= len(logits) or int(proof.ids.min()) < 0:
        return np.inf
    height = max(float(proof.logits.max() - logits.mean()), 1e-3)
    difference = float(np.abs(logits[proof.ids] - proof.logits).max()) / height
    return difference if np.isfinite(difference) else np.inf


def is_proved(proof: Proof, logits: Logits) -> bool:
    return disagreement(proof, logits) <= PROOF_BOUND


class Shelf:
    """The blocks of one row of tokens. `given`: keys handed to the store before, shared by all shelves."""

    def __init__(self, archive: Archive, tokens: Tokens, given: OrderedDict[str, None]) -> None:
        self._store = archive.store
        self._size = archive.block_tokens
        self._keys = chain(archive.key, tokens, archive.block_tokens)
        self._given = given
        self._num_stored = self._store.longest(self._keys)
        self._num_known = self._num_stored  # leading blocks that need not be written
        while self._num_known < len(self._keys) and self._keys[self._num_known] in given:
            self._num_known += 1

    @property
    def stored_tokens(self) -> int:
        return self._num_stored * self._size

    def next_boundary(self, position: int) -> int:
        """Where the block that holds this position ends."""
        return (position // self._size + 1) * self._size

    def fetch(self, start: int) -> Block | None:
        """The block from `start` on, checked byte by byte; None if there is none."""
        index = start // self._size
        if start % self._size or index >= self._num_stored:
            return None
        block = self._store.read(self._keys[index])
        if block is None or (block.start, block.num_tokens) != (start, self._size):
            self._forget(index)
            return None
        return block

    def distrust(self, start: int) -> None:
        """The block from `start` on is whole, and wrong: away with it and with all that stand on it."""
        self._store.distrust(self._keys[start // self._size])
        self._forget(start // self._size)

    def used(self, start: int, seconds_saved: float) -> None:
        self._store.used([self._keys[start // self._size]], seconds_saved)

    def missing_start(self, computed: int) -> int | None:
        """Where the first block begins that is computed and not on its way to the store; None if there is none."""
        start = self._num_known * self._size
        return start if self._num_known < len(self._keys) and start + self._size <= computed else None

    def put(self, start: int, image: Image, logits: Logits, seconds: float) -> None:
        """Hand the block from `start` on to the store, with the logits [vocab] of its last token."""
        index = start // self._size
        assert index == self._num_known, "a block without those before it is of no use"
        parent = self._keys[index - 1] if index else ""
        payload = np.ascontiguousarray(image.payload)
        self._store.write(Block(self._keys[index], parent, start, self._size, payload, proof_of(logits), seconds))
        self._num_known += 1
        self._given[self._keys[index]] = None
        while len(self._given) > MOST_GIVEN:
            self._given.popitem(last=False)

    def _forget(self, index: int) -> None:
        """From this block on everything has to be computed, and written."""
        self._num_stored = min(self._num_stored, index)
        self._num_known = min(self._num_known, index)
        for key in self._keys[index:]:
            self._given.pop(key, None)
