"""Small KV blocks and disks for the tests of the store."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from monk.engine import kv_file
from monk.engine.kv_block import HEAD_BYTES
from monk.engine.kv_store import Block, KvStore, Proof, chain, model_key

MODEL = model_key({"model": "a"})
PLENTY = 1 << 40
SIZE = 5000  # payload bytes
FILE = SIZE + HEAD_BYTES
DAY = 86400.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def opened(folder: Path, clock: Clock, limit: int = PLENTY, min_free: int = 0) -> Iterator[KvStore]:
    store = KvStore(folder, limit, min_free, clock)
    try:
        yield store
    finally:
        store.close()


def text(seed: int, num_blocks: int = 3, *, after: list[Block] | None = None, seconds: float = 10.0) -> list[Block]:
    """The blocks of one text of 16-token blocks; it may begin as another one."""
    before = list(after or [])
    tokens = np.concatenate([*(np.full(16, one.payload[0]) for one in before), np.full(16 * num_blocks, seed)])
    keys = chain(MODEL, tokens, 16)
    proof = Proof(np.arange(4, dtype=np.int32), np.full(4, seed, np.float32))
    for index in range(len(before), len(keys)):
        payload = np.full(SIZE, seed, np.uint8)
        before.append(Block(keys[index], keys[index - 1] if index else "", index * 16, 16, payload, proof, seconds))
    return before


def keys_of(blocks: list[Block]) -> list[str]:
    return [block.key for block in blocks]


def write_all(store: KvStore, blocks: list[Block]) -> None:
    for block in blocks:
        store.write(block)
        assert store.flush(30)


def on_disk(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in folder.glob("*.kv")}


def harm(folder: Path, key: str, place: int = HEAD_BYTES + 7) -> Path:
    path = kv_file.path_of(folder, key)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))
    return path


def forged(path: Path, offset: int, form: str, value: float) -> None:
    """Change one figure of the head and seal it anew, as a faulty writer would."""
    page = bytearray(path.read_bytes()[:HEAD_BYTES])
    struct.pack_into(form, page, offset, value)
    page[-32:] = hashlib.blake2b(page[:-32], digest_size=32).digest()
    with path.open("r+b") as file:
        file.write(page)


@contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[Path]:
    """A real file system of that size."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small disk")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
