"""KV blocks: checksums, writing, reading, opening a large folder. `python -m tests.bench.kv_bench [--folder DIR]`

Give it a folder on the disk that is meant; "cold" reads come from the disk, "warm" ones from the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from monk.engine import kv_block, kv_file
from monk.engine.kv_store import Block, KvStore, Proof, chain, model_key
from monk.engine.kv_worth import Weighed, cheapest_first

MIB = 1 << 20
ROUNDS = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the temporary folder's if not given")
    parser.add_argument("--mib", type=int, default=200, help="payload of one block")
    parser.add_argument("--blocks", type=int, default=10_000, help="in the folder that is opened")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        checksums(chosen.mib)
        one_block(Path(folder) / "one", chosen.mib)
        many_blocks(Path(folder) / "many", chosen.blocks)


def best(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The least seconds of some rounds."""
    took = []
    for _ in range(ROUNDS):
        began = clock()
        run()
        took.append(clock() - began)
    return min(took)


def blocks_of(num_blocks: int, payload: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> list[Block]:
    keys = chain(model_key({}), np.arange(num_blocks, dtype=np.int32), 1)
    proof = Proof(np.arange(16, dtype=np.int32), np.ones(16, np.float32))
    return [Block(key, keys[i - 1] if i else "", i, 1, payload, proof, 1.0 + i / 100) for i, key in enumerate(keys)]


def checksums(mib: int) -> None:
    data = np.random.default_rng(1).integers(0, 256, mib * MIB, np.uint8).data
    for name, run in {
        "blake2b": lambda: hashlib.blake2b(data).digest(),
        "sha256": lambda: hashlib.sha256(data).digest(),
        "crc32": lambda: zlib.crc32(data),
    }.items():
        print(f"{name:24} {mib / best(run, time.thread_time):8.0f} MiB/s on one core")


def one_block(folder: Path, mib: int) -> None:
    kv_file.make_folder(folder)
    block = blocks_of(1, np.random.default_rng(1).integers(0, 256, mib * MIB, np.uint8))[0]
    path = kv_file.path_of(folder, block.key)
    print(f"{'write, durable':24} {mib / best(lambda: kv_file.write(folder, block, 0.0)):8.0f} MiB/s")
    print(f"{'read, cold':24} {mib / best(lambda: kv_file.read(path)):8.0f} MiB/s")  # reading drops its pages
    warm = []
    for _ in range(ROUNDS):
        path.read_bytes()
        began = time.perf_counter()
        kv_file.read(path)
        warm.append(time.perf_counter() - began)
    print(f"{'read, warm':24} {mib / min(warm):8.0f} MiB/s")


def many_blocks(folder: Path, num_blocks: int) -> None:
    kv_file.make_folder(folder)
    blocks = blocks_of(num_blocks, np.zeros(100, np.uint8))
    digest = kv_block.chunk_digest(bytes(100))
    for block in blocks:
        kv_file.path_of(folder, block.key).write_bytes(kv_block.pack_head(block, [digest], 0.0) + bytes(100))
    os.sync()
    print(f"{f'open {num_blocks} blocks':24} {best(lambda: KvStore(folder, 1 << 50).close()):8.2f} s")
    chance = random.Random(1)
    weighed = [Weighed(block.key, block.parent, chance.randint(1, 9), chance.random()) for block in blocks]
    print(f"{f'order {num_blocks} blocks':24} {best(lambda: cheapest_first(weighed)):8.2f} s")


if __name__ == "__main__":
    main()
