"""The container of a KV block: whole or refused."""

from __future__ import annotations

import fcntl
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.engine import kv_block, kv_file
from monk.engine.kv_block import HEAD_BYTES, Block, BlockDamaged, BlockOutdated, Proof
from monk.engine.kv_key import chain, model_key
from tests.small_kv import forged

NOW = 1_795_000_000.0
KEYS = chain(model_key({"model": "a"}), np.arange(64, dtype=np.int32), 16)


def a_block(
    payload: bytes = b"attention" * 12, key: str = KEYS[1], parent: str = KEYS[0], seconds: float = 7.5
) -> Block:
    proof = Proof(np.array([7, 42, 3], np.int32), np.array([11.5, -0.25, math.nan], np.float32))
    return Block(key, parent, 16, 16, np.frombuffer(payload, np.uint8).copy(), proof, seconds)


def written(folder: Path, block: Block) -> Path:
    kv_file.write(folder, block, NOW)
    return kv_file.path_of(folder, block.key)


def assert_same(left: Block, right: Block) -> None:
    assert (left.key, left.parent, left.start) == (right.key, right.parent, right.start)
    assert (left.num_tokens, left.seconds) == (right.num_tokens, right.seconds)
    np.testing.assert_array_equal(left.payload, right.payload)
    assert left.proof.ids.tobytes() == right.proof.ids.tobytes()
    assert left.proof.logits.tobytes() == right.proof.logits.tobytes()


# --- there and back


@pytest.mark.parametrize("size", [1, 4095, 1 << 20, (1 << 20) + 1, (5 << 20) - 3])
def test_a_block_comes_back_as_it_was_written(tmp_path: Path, size: int) -> None:
    block = a_block(np.random.default_rng(size).bytes(size))

    path = written(tmp_path, block)

    assert_same(kv_file.read(path), block)
    assert path.stat().st_size == kv_block.file_bytes_of(block) == HEAD_BYTES + size
    assert os.listdir(tmp_path) == [path.name]


def test_the_first_block_has_no_parent_and_a_proof_may_be_empty(tmp_path: Path) -> None:
    empty = Proof(np.empty(0, np.int32), np.empty(0, np.float32))
    block = replace(a_block(), key=KEYS[0], parent="", start=0, proof=empty)

    assert_same(kv_file.read(written(tmp_path, block)), block)


def test_a_block_is_for_its_owners_eyes_and_has_the_time_it_was_given(tmp_path: Path) -> None:
    status = written(tmp_path, a_block()).stat()

    assert status.st_mode & 0o777 == 0o600
    assert status.st_mtime == NOW


def test_the_largest_head_fits_into_its_page(tmp_path: Path) -> None:
    most = kv_block.MAX_PROOF
    proof = Proof(np.arange(most, dtype=np.int32), np.ones(most, np.float32))
    block = replace(a_block(), payload=np.broadcast_to(np.uint8(0), kv_block.MAX_PAYLOAD_BYTES), proof=proof)
    digests = [bytes([index]) * 16 for index in range(kv_block.MAX_CHUNKS)]

    head = kv_block.parse_head(kv_block.pack_head(block, digests, NOW), block.key, kv_block.file_bytes_of(block))

    assert list(head.digests) == digests
    assert head.proof.ids.tolist() == list(range(most))
    assert head.created_at == NOW


@pytest.mark.parametrize(
    "change",
    [
        {"payload": np.empty(0, np.uint8)},
        {"payload": np.zeros((2, 2), np.uint8)},
        {"payload": np.zeros(8, np.int8)},
        {"payload": np.zeros(8, np.uint8)[::2]},
        {"payload": np.broadcast_to(np.uint8(0), kv_block.MAX_PAYLOAD_BYTES + 1)},
        {"proof": Proof(np.zeros(2, np.int32), np.zeros(3, np.float32))},
        {"proof": Proof(np.zeros(65, np.int32), np.zeros(65, np.float32))},
        {"key": "../../etc/passwd"},
        {"key": ""},
        {"key": KEYS[0].upper()},
        {"parent": "ab"},
        {"num_tokens": 0},
        {"start": -1},
        {"seconds": math.nan},
        {"seconds": -1.0},
    ],
)
def test_what_no_file_can_hold_is_refused_before_it_is_queued(change: dict[str, object]) -> None:
    kv_block.check(a_block())
    with pytest.raises(ValueError):
        kv_block.check(replace(a_block(), **change))  # type: ignore[arg-type]


# --- damage


def test_no_byte_of_a_file_can_change_unseen(tmp_path: Path) -> None:
    path = written(tmp_path, a_block())
    whole = path.read_bytes()

    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << place % 8]), place)
            with pytest.raises(BlockDamaged):
                kv_file.read(path)
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert_same(kv_file.read(path), a_block())


def test_no_cut_of_a_file_goes_unseen(tmp_path: Path) -> None:
    path = written(tmp_path, a_block())

    for size in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, size)
        with pytest.raises(BlockDamaged):
            kv_file.read(path)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """(a file of three chunks, its bytes)."""
    path = written(tmp_path_factory.mktemp("large"), a_block(np.random.default_rng(3).bytes((2 << 20) + 4711)))
    return path, path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_file_that_differs_in_any_way_is_never_used(large: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = large
    place = data.draw(st.integers(0, len(whole) - 1), "place")
    length = data.draw(st.integers(0, 9000), "length")
    other = data.draw(st.integers(0, len(whole) - 1), "other place")
    stretch, elsewhere = whole[place : place + length], whole[other : other + length]
    harm = data.draw(st.sampled_from(["flip", "cut", "append", "zero", "drop", "double", "stale"]), "harm")
    damaged = {
        "flip": whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :],
        "cut": whole[:place],
        "append": whole + stretch,
        "zero": whole[:place] + bytes(len(stretch)) + whole[place + length :],
        "drop": whole[:place] + whole[place + length :],
        "double": whole[:place] + stretch + whole[place:],
        "stale": whole[:place] + elsewhere + whole[place + len(elsewhere) :],
    }[harm]
    path.unlink()  # a new file: some file systems flush one that is overwritten
    path.write_bytes(damaged)

    if damaged == whole:
        assert kv_file.read(path).payload.tobytes() == whole[HEAD_BYTES:]
    else:
        with pytest.raises(BlockDamaged):
            kv_file.read(path)


def test_chunks_that_changed_places_are_seen(large: tuple[Path, bytes]) -> None:
    path, whole = large
    first, second = (whole[HEAD_BYTES + (i << 20) : HEAD_BYTES + (i + 1 << 20)] for i in range(2))
    path.write_bytes(whole[:HEAD_BYTES] + second + first + whole[HEAD_BYTES + (2 << 20) :])

    with pytest.raises(BlockDamaged):
        kv_file.read(path)


def test_another_models_block_under_this_name_is_refused(tmp_path: Path) -> None:
    foreign = chain(model_key({"model": "b"}), np.arange(64, dtype=np.int32), 16)
    path = written(tmp_path, a_block(key=foreign[1], parent=foreign[0]))
    path.rename(kv_file.path_of(tmp_path, KEYS[1]))

    with pytest.raises(BlockDamaged, match="another block"):
        kv_file.read(kv_file.path_of(tmp_path, KEYS[1]))


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (12, "<I", 0),  # chunk_bytes
        (12, "<I", 4096),
        (16, "<Q", 0),  # payload_bytes
        (16, "<Q", 100 << 30),
        (16, "<Q", 2**64 - 1),
        (92, "<I", 0),  # num_tokens
        (96, "<I", 65),  # num_proof
        (96, "<I", 2**32 - 1),
        (100, "<I", 0),  # num_chunks
        (100, "<I", 2**32 - 1),
        (104, "<d", math.nan),  # seconds
        (104, "<d", math.inf),
        (104, "<d", -1.0),
        (112, "<d", math.inf),  # created
    ],
)
def test_nonsense_under_a_right_seal_is_refused(tmp_path: Path, offset: int, form: str, value: float) -> None:
    path = written(tmp_path, a_block())
    forged(path, offset, form, value)

    with pytest.raises(BlockDamaged):
        kv_file.read(path)


def test_a_head_that_claims_100_gb_is_refused_at_once_though_the_file_is_that_long(tmp_path: Path) -> None:
    path = written(tmp_path, a_block())
    forged(path, 16, "<Q", 100 << 30)
    os.truncate(path, HEAD_BYTES + (100 << 30))  # sparse
    began = time.process_time()

    with pytest.raises(BlockDamaged, match="nonsense"):
        kv_file.read(path)

    assert time.process_time() - began < 1


def test_another_version_is_told_from_damage(tmp_path: Path) -> None:
    path = written(tmp_path, a_block())
    forged(path, 8, "<I", 2)

    with pytest.raises(BlockOutdated):
        kv_file.read(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_something_else_under_a_blocks_name_is_neither_read_nor_waited_for(tmp_path: Path, kind: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = written(tmp_path / "elsewhere", a_block())
    path = kv_file.path_of(tmp_path, KEYS[1])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)

    with pytest.raises((BlockDamaged, OSError)):
        kv_file.read(path)
    assert kv_file.keys_in(tmp_path) == []
    assert kv_file.keys_in(tmp_path / "elsewhere") == [KEYS[1]]


# --- unfinished files


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    dead = tmp_path / f"{KEYS[0]}.4711-0.kv-new"
    dead.write_bytes(b"half")
    alive = tmp_path / f"{KEYS[1]}.4712-0.kv-new"
    foreign = tmp_path / "notes.kv-new"
    foreign.write_text("not ours")

    with alive.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        removed = kv_file.remove_left_overs(tmp_path)

    assert removed == 1
    assert sorted(tmp_path.iterdir()) == sorted([alive, foreign])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    kv_file.path_of(tmp_path, KEYS[1]).mkdir()  # the rename will be refused

    with pytest.raises(OSError):
        kv_file.write(tmp_path, a_block(), NOW)

    assert [path.name for path in tmp_path.iterdir()] == [f"{KEYS[1]}.kv"]
