"""The KV of a long beginning, on disk: cut into blocks while it is computed, read back for the next measurement.

A memory that cannot be cut (sliding windows, recurrent layers) is kept whole now and then, and the piece before is removed.

The blocks are those of `kv_block.py`, every byte checked. They have no proof of what the model says behind them: a
measurement asks how long, not what. Nothing here is worth keeping beyond its job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from monk.engine import kv_block, kv_file
from monk.engine.desk import PROMPT, SCRATCH
from monk.engine.frames import Image
from monk.engine.kv_block import Block, BlockDamaged, Proof
from monk.engine.kv_key import chain, model_key
from monk.engine.native import Lane
from monk.engine.sequence import Tokens

log = logging.getLogger(__name__)
BLOCK_TOKENS = 1024
WHOLE_TOKENS = 16384  # of a memory that cannot be cut
FREE_BYTES = 2 << 30  # that all blocks must leave on the disk
NO_PROOF = Proof(np.zeros(0, np.int32), np.zeros(0, np.float32))


class Deep:
    """`facts`: all that shapes the KV, as JSON values. `folder` None: nothing is kept."""

    def __init__(self, folder: Path | None, facts: Mapping[str, object], tokens: Tokens) -> None:
        self._folder = folder
        self._facts, self._tokens = facts, tokens
        self._whole: Path | None = None  # the newest one written here
        self._names = [] if folder is None else chain(model_key(facts), tokens, BLOCK_TOKENS)
        if folder is not None:
            kv_file.make_folder(folder)

    def restore(self, lane: Lane, held: int, depth: int) -> int:
        """Tokens that sequence PROMPT holds now, at most `depth`: what it held, and what was on the disk behind that."""
        while self._folder is not None and held % BLOCK_TOKENS == 0 and held + BLOCK_TOKENS <= depth:
            block = self._read(self._names[held // BLOCK_TOKENS])
            if block is None or not lane.restore(SCRATCH, Image.of(block.payload)):
                break
            lane.copy(SCRATCH, PROMPT)
            lane.clear(SCRATCH)
            held += BLOCK_TOKENS
        return held

    def _read(self, name: str) -> Block | None:
        assert self._folder is not None
        path = kv_file.path_of(self._folder, name)
        try:
            return kv_file.read(path)
        except FileNotFoundError:
            return None
        except (BlockDamaged, OSError) as exc:
            log.warning("a block of a measurement is computed again", extra={"file": path.name, "reason": str(exc)})
            with suppress(OSError):
                path.unlink()
            return None

    def keep(self, lane: Lane, end: int, seconds: float) -> bool:
        """Write the block that ends at `end`, which sequence PROMPT holds. False when the disk has no room for it."""
        number, odd = divmod(end, BLOCK_TOKENS)
        if self._folder is None or odd or not number:
            return True
        lane.copy(PROMPT, SCRATCH, end - BLOCK_TOKENS, end)
        image = lane.save(SCRATCH)
        lane.clear(SCRATCH)
        name, parent = self._names[number - 1], self._names[number - 2] if number > 1 else ""
        payload = np.ascontiguousarray(image.payload)
        return self._write(Block(name, parent, end - BLOCK_TOKENS, BLOCK_TOKENS, payload, NO_PROOF, seconds))

    def restore_whole(self, lane: Lane, depth: int) -> int:
        """The same for a memory that cannot be cut; the sequence is empty before."""
        if self._folder is None:
            return 0
        for count in sorted(self._wholes(depth), reverse=True):
            block = self._read(self._whole_name(count))
            if block is not None and lane.restore(PROMPT, Image.of(block.payload)):
                return count
        return 0

    def _wholes(self, depth: int) -> list[int]:
        """How many tokens those on the disk hold, that are of this kind and no longer than that."""
        assert self._folder is not None
        found = []
        for name in kv_file.keys_in(self._folder):
            with suppress(BlockDamaged, OSError):
                head, _ = kv_file.read_head(kv_file.path_of(self._folder, name))
                if head.num_tokens <= depth and name == self._whole_name(head.num_tokens):
                    found.append(head.num_tokens)
        return found

    def keep_whole(self, image: Image, count: int, seconds: float) -> bool:
        """Write all that the sequence holds, `count` tokens, in the place of what was written before."""
        if self._folder is None:
            return True
        payload = np.ascontiguousarray(image.payload)
        if payload.nbytes > kv_block.MAX_PAYLOAD_BYTES:
            return False
        name, before = self._whole_name(count), self._whole
        if not self._write(Block(name, "", 0, count, payload, NO_PROOF, seconds)):
            return False
        self._whole = kv_file.path_of(self._folder, name)
        if before is not None and before != self._whole:
            with suppress(OSError):
                before.unlink()
        return True

    def _whole_name(self, count: int) -> str:
        return chain(model_key({**self._facts, "whole": True}), self._tokens[:count], count)[0]

    def _write(self, block: Block) -> bool:
        assert self._folder is not None
        try:
            if kv_file.free_bytes(self._folder) < FREE_BYTES + kv_block.file_bytes_of(block):
                return False
            kv_file.write(self._folder, block, time.time())
        except OSError as exc:
            log.warning("a block of a measurement is not kept", extra={"reason": str(exc)})
            return False
        return True
