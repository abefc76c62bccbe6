"""SIGKILL an engine that writes KV blocks, at random moments, alone or while the next one already starts on its folder.

Afterwards the folder opens and holds only whole blocks.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from monk.engine import kv_file
from monk.engine.kv_store import Block, KvStore, Proof, chain, model_key

KILLS = 10  # of each kind
SEED = int(os.environ.get("MONK_EVAL_SEED", "20261122"))
SIZE = 3 << 20
LIMIT = 24 * SIZE  # reached after some kills, so that deleting is cut short too


def text(seed: int, num_blocks: int = 4) -> list[Block]:
    keys = chain(model_key({}), np.full(16 * num_blocks, seed), 16)
    proof = Proof(np.array([seed], np.int32), np.array([0.5], np.float32))
    payload = np.random.default_rng(seed).integers(0, 256, SIZE, np.uint8)
    parents = ["", *keys]
    return [Block(key, parents[i], i * 16, 16, payload, proof, 1.0 + seed % 7) for i, key in enumerate(keys)]


def write_until_killed(folder: Path, first_seed: int) -> None:
    """The child: one line when it begins, then text after text."""
    store = KvStore(folder, LIMIT, 0)
    print("writing", flush=True)  # noqa: T201  # the signal to the parent
    for seed in range(first_seed, first_seed + 10_000):
        for block in text(seed):
            store.write(block)


def start(folder: Path, number: int) -> subprocess.Popen[str]:
    program = (
        "import sys; from pathlib import Path; from tests.crash.test_kv_store_kills import write_until_killed as w; "
    )
    arguments = [program + "w(Path(sys.argv[1]), int(sys.argv[2]))", str(folder), str(number * 10_000)]
    child = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    return child


def kill_at_random(child: subprocess.Popen[str], chance: random.Random) -> None:
    try:
        child.wait(chance.uniform(0, 0.3))
    except subprocess.TimeoutExpired:
        child.kill()
    assert child.wait(30) == -9, "it was writing until then"
    assert child.stdout is not None
    child.stdout.close()


def test_ten_kills_leave_whole_blocks_none_without_its_parent_and_nothing_half_written(tmp_path: Path) -> None:
    folder, chance, unfinished = tmp_path / "kv", random.Random(SEED), 0
    for number in range(KILLS):
        kill_at_random(start(folder, number), chance)
        unfinished += sum(path.suffix == ".kv-new" for path in folder.iterdir())
        check_whole(folder)
        parents = {key: kv_file.read(kv_file.path_of(folder, key)).parent for key in kv_file.keys_in(folder)}
        assert all(parent in parents for parent in parents.values() if parent)

    assert unfinished > 0, "no kill hit a write: the test shows nothing"
    check_opens(folder)


def test_ten_kills_with_the_next_engine_already_there_leave_whole_blocks(tmp_path: Path) -> None:
    folder, chance = tmp_path / "kv", random.Random(SEED)
    child = start(folder, 0)
    for number in range(1, KILLS):
        following = start(folder, number)
        kill_at_random(child, chance)
        check_whole(folder)
        child = following
    kill_at_random(child, chance)

    check_whole(folder)
    check_opens(folder)


def check_whole(folder: Path) -> None:
    """Every block can be read; one that a living engine deletes meanwhile is no fault."""
    for key in kv_file.keys_in(folder):
        with suppress(FileNotFoundError):
            assert kv_file.read(kv_file.path_of(folder, key)).payload.nbytes == SIZE


def check_opens(folder: Path) -> None:
    """A new engine finds no fault, keeps the limit and clears what the dead ones left."""
    store = KvStore(folder, LIMIT, 0)
    store.close()

    assert all(path.suffix == ".kv" for path in folder.iterdir())
    assert store.counters.failures == 0
    assert 0 < store.counters.bytes_held == sum(path.stat().st_size for path in folder.iterdir()) <= LIMIT
