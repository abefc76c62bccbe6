"""Writes to the vectors that fail in the middle, on a full disk: the next write must not wait for ever.

In a process of its own: what Chroma does wrong there stops every thread of Python, so no timeout inside would be heard.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import corpus.store
from monk.errors import HomeUnusable
from tests.commands import ROOT
from tests.small_disk import SmallDisk, why_not

SECONDS = 120.0
TURNS = 12  # without closing the client, it hung within five


def fail_and_go_on(folder: Path) -> None:
    """Let writes fail for want of room, and write again."""
    corpus.store._LEAST_FREE_BYTES, corpus.store._COPIES = 1, 0  # the guard that else keeps a write from beginning
    disk = SmallDisk(folder, 40)
    store = corpus.store.VectorStore(folder / "chroma", "model")
    failed = 0
    for turn in range(TURNS):
        disk.fill()
        try:
            store.add([f"lost{turn}"], vector(turn), ["a.md"])
        except Exception as exc:  # whatever class Chroma finds for it
            failed += not isinstance(exc, AssertionError)
        disk.free()
        store.add([f"kept{turn}"], vector(turn), ["a.md"])
    assert {f"kept{turn}" for turn in range(TURNS)} <= store.all_ids()
    assert failed > 0, "the disk was never full"


def vector(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((1, 384)).astype(np.float32)


def test_a_write_that_failed_on_a_full_disk_does_not_hold_up_the_next(home: Path) -> None:
    if (reason := why_not(home)) is not None:
        pytest.skip(reason)
    command = f"from pathlib import Path; from {__name__} import fail_and_go_on as go; go(Path({str(home)!r}))"
    private = ["unshare", "--mount"]  # its mount is gone with it, however it ends

    done = subprocess.run(
        [*private, sys.executable, "-c", command],
        cwd=ROOT,
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_a_write_does_not_begin_without_room_for_it(home: Path) -> None:
    if (reason := why_not(home)) is not None:
        pytest.skip(reason)
    disk = SmallDisk(home, 40)
    try:
        store = corpus.store.VectorStore(home / "chroma", "model")
        disk.fill()
        with pytest.raises(HomeUnusable, match=r"chroma: the disk is full \(0 KiB are free\)"):
            store.add(["a"], vector(0), ["a.md"])
        disk.free()
        store.add(["a"], vector(0), ["a.md"])
        assert store.all_ids() == {"a"}
        store.close()
    finally:
        disk.leave()
