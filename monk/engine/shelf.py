"""KV blocks of one prompt: which of them the store has, whether one that was fetched is right, and new ones for it.

Works with the store and with logits; the prefill lane (`study.py`) moves the KV itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

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
LEAST_TAIL_TOKENS = 64  # of what is left at a row's end, kept by itself
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


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the row that is kept as one block. `key` names it and all before it; `parent`: the one before."""

    key: str
    parent: str
    start: int
    end: int

    @property
    def num_tokens(self) -> int:
        return self.end - self.start


class Shelf:
    """The blocks of one row of tokens. `given`: keys handed to the store before, shared by all shelves.

    Whole blocks stand at multiples of their size. What is left at the end of the row is kept in halves, quarters and so on
    of a block, each at most once, the largest first: another question on the same document ends in other tokens, and takes
    over all but the last few of those they share.
    """

    def __init__(self, archive: Archive, tokens: Tokens, given: OrderedDict[str, None]) -> None:
        self._store = archive.store
        self._given = given
        size = archive.block_tokens
        keys = chain(archive.key, tokens, size)
        whole = [
            Piece(key, keys[index - 1] if index else "", index * size, (index + 1) * size)
            for index, key in enumerate(keys)
        ]
        self._own = whole + _tail(archive, tokens, whole, lambda _: True)
        stored = whole[: self._store.longest(keys)]
        self._stored = stored + _tail(archive, tokens, stored, lambda key: self._store.longest([key]) == 1)
        self._next = 0  # of its own, the first that has to be written
        self._pass_known()

    @property
    def stored_tokens(self) -> int:
        return self._stored[-1].end if self._stored else 0

    def next_boundary(self, position: int) -> int | None:
        """Where the block that holds this position ends; None behind the last."""
        return next((piece.end for piece in self._own if piece.start <= position < piece.end), None)

    def next_stored(self, position: int) -> Piece | None:
        """What can be fetched for this position: the piece that holds it."""
        return next((piece for piece in self._stored if piece.start <= position < piece.end), None)

    def fetch(self, piece: Piece) -> Block | None:
        """Its block, checked byte by byte; None if there is none."""
        block = self._store.read(piece.key)
        if block is None or (block.start, block.num_tokens) != (piece.start, piece.num_tokens):
            self._forget(piece)
            return None
        return block

    def distrust(self, piece: Piece) -> None:
        """Its block is whole, and wrong: away with it and with all that stand on it."""
        self._store.distrust(piece.key)
        self._forget(piece)

    def used(self, piece: Piece, seconds_saved: float) -> None:
        self._store.used([piece.key], seconds_saved)

    def missing(self, computed: int) -> Piece | None:
        """The first that is computed and not on its way to the store; None if there is none."""
        piece = self._own[self._next] if self._next < len(self._own) else None
        return piece if piece is not None and piece.end <= computed else None

    def put(self, piece: Piece, image: Image, logits: Logits, seconds: float) -> None:
        """Hand a block to the store, with the logits [vocab] of its last token."""
        assert piece == self._own[self._next], "a block without those before it is of no use"
        payload = np.ascontiguousarray(image.payload)
        self._store.write(
            Block(piece.key, piece.parent, piece.start, piece.num_tokens, payload, proof_of(logits), seconds)
        )
        self._given[piece.key] = None
        self._pass_known()
        while len(self._given) > MOST_GIVEN:
            self._given.popitem(last=False)

    def _pass_known(self) -> None:
        """Those that are stored or on their way need not be written."""
        stored = {piece.key for piece in self._stored}
        while self._next < len(self._own) and (
            self._own[self._next].key in stored or self._own[self._next].key in self._given
        ):
            self._next += 1

    def _forget(self, piece: Piece) -> None:
        """From this block on everything has to be computed, and written."""
        self._stored = [one for one in self._stored if one.end <= piece.start]
        for one in self._own:
            if one.end > piece.start:
                self._given.pop(one.key, None)
        behind = next((index for index, one in enumerate(self._own) if one.end > piece.start), len(self._own))
        self._next = min(self._next, behind)


def _tail(archive: Archive, tokens: Tokens, whole: list[Piece], takes: Callable[[str], bool]) -> list[Piece]:
    """The pieces behind these whole blocks that `takes` a key, each half as long as the one before, or shorter."""
    start, parent = (whole[-1].end, whole[-1].key) if whole else (0, "")
    found: list[Piece] = []
    size = archive.block_tokens // 2
    while size >= LEAST_TAIL_TOKENS:
        if start + size <= len(tokens):
            seed = bytes.fromhex(parent) if parent else archive.key
            key = chain(seed, tokens[start : start + size], size)[0]
            if takes(key):
                found.append(Piece(key, parent, start, start + size))
                start, parent = start + size, key
        size //= 2
    return found
