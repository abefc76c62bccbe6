"""One KV block as a file: written so that it is there whole or not at all, read so that it is right or refused.

Works on paths and blocks. Does not know which blocks are worth keeping.

A file appears under its name by rename, after its bytes have reached the disk. What a killed process leaves is a file
with a name of its own; it holds a lock while it writes, and the kernel drops the lock with the process, so left-overs are
told from the work of another living engine on the same folder without asking who is alive.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import numpy as np

from monk.engine import kv_block
from monk.engine.kv_block import HEAD_BYTES, Block, BlockDamaged, Head
from monk.engine.machine import allowed_cpus

NAME = re.compile(r"([0-9a-f]{64})\.kv")
_UNFINISHED = re.compile(r"[0-9a-f]{64}\.[0-9]+-[0-9]+\.kv-new")
_SYNC_BYTES = 32 << 20  # written in one go: the database's own fsync never waits behind more than this
_READERS = min(4, len(allowed_cpus()))  # check chunks while others are read; more outrun no disk we know of
_serial = count()


def path_of(folder: Path, key: str) -> Path:
    """Where the block lives. A key is checked before it becomes part of a path."""
    name = f"{key}.kv"
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{key!r} is no key of a block")
    return folder / name


def read(path: Path) -> Block:
    """The block, every byte of it checked. Raises BlockDamaged, OSError or MemoryError.

    Read into memory of its own (one payload, nothing else) rather than mapped: a page that fails to be read from a map
    kills the process, and one read again later may differ from the one that was checked.
    """
    with _opened(path) as file:
        head = _read_head(file, path)
        payload = np.empty(head.payload_bytes, np.uint8)
        _fill(file, head, payload.data)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)  # the page cache is for the model's weights
        return kv_block.assemble(head, payload)


def read_head(path: Path) -> tuple[Head, float]:
    """(the checked head, the file's time in Unix seconds). Raises BlockDamaged or OSError."""
    with _opened(path) as file:
        return _read_head(file, path), os.fstat(file).st_mtime


def write(folder: Path, block: Block, now: float) -> None:
    """Put the block in its place for good, its time set to `now`. Raises OSError and then has left nothing behind."""
    path = path_of(folder, block.key)
    unfinished = folder / f"{block.key}.{os.getpid()}-{next(_serial)}.kv-new"
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):  # a file system without locks: left-overs stay then, which only costs space
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_all(file, block, now)
        os.utime(file, (now, now))
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.rename(unfinished, path)
        unfinished = path
        _sync_folder(folder)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def make_folder(folder: Path) -> None:
    """For the owner's eyes only: a block is the attention state of private texts. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def free_bytes(folder: Path) -> int:
    """What the disk still has for this user. Raises OSError."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def remove_left_overs(folder: Path) -> int:
    """Delete what killed writers left; those still being written stay. Returns how many. Raises OSError."""
    removed = 0
    for path in [Path(entry) for entry in os.scandir(folder) if _UNFINISHED.fullmatch(entry.name)]:
        with suppress(OSError, BlockDamaged), _opened(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed += 1
    return removed


def keys_in(folder: Path) -> list[str]:
    """The keys of all files that look like blocks, in any order. Raises OSError."""
    with os.scandir(folder) as entries:
        found = [(NAME.fullmatch(entry.name), entry) for entry in entries]
    return [match[1] for match, entry in found if match and entry.is_file(follow_symlinks=False)]


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A regular file. Not through links, and without waiting: somebody may have put a pipe there."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise BlockDamaged(f"{path} is no file; it is left alone")
        yield file
    finally:
        os.close(file)


def _read_head(file: int, path: Path) -> Head:
    return kv_block.parse_head(os.pread(file, HEAD_BYTES, 0), path.stem, os.fstat(file).st_size)


def _fill(file: int, head: Head, payload: memoryview) -> None:
    """Read and check all chunks, several at once: reading, copying and hashing let other threads run."""

    def one(index: int) -> None:
        first = index * head.chunk_bytes
        chunk = payload[first : first + head.chunk_bytes]
        _read_exactly(file, chunk, HEAD_BYTES + first)
        kv_block.check_chunk(head, index, chunk)

    with ThreadPoolExecutor(min(_READERS, len(head.digests)), "kv-read") as readers:
        for _ in readers.map(one, range(len(head.digests))):
            pass


def _read_exactly(file: int, into: memoryview, offset: int) -> None:
    while into:
        done = os.preadv(file, [into], offset)
        if done == 0:
            raise BlockDamaged("a KV block cannot be used: it became shorter while it was read; it is computed again")
        into, offset = into[done:], offset + done


def _write_all(file: int, block: Block, now: float) -> None:
    """The payload, then the head: a file cut short by anything has no head."""
    payload = block.payload.data
    size = kv_block.chunk_bytes_for(len(payload))
    digests = []
    for first in range(0, len(payload), size):
        chunk = payload[first : first + size]
        digests.append(kv_block.chunk_digest(chunk))
        _write_exactly(file, chunk, HEAD_BYTES + first)
        if (first + size) % _SYNC_BYTES == 0:
            os.fdatasync(file)
    _write_exactly(file, memoryview(kv_block.pack_head(block, digests, now)), 0)


def _write_exactly(file: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(file, data, offset)
        data, offset = data[done:], offset + done


def _sync_folder(folder: Path) -> None:
    """A rename is durable when its folder is."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
