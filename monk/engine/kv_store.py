"""The folder of KV blocks: prefills that were paid for once, kept for other thoughts, other nights and other processes.

Works on bytes and token ids. Never sees llama.cpp, jobs or sockets.

    kv_key     names: a hash of the model's facts and all tokens so far
    kv_block   the bytes of a block                     kv_file    one block as a file
    kv_worth   which blocks go first                    kv_index   which are held; kv_queue, which on their way
    KvStore    engine thread: longest, read, used, distrust, write ──▶ queue ──▶ writer thread: room, file

*A speed-up, never a duty.* No call raises for anything a disk can do. A block that cannot be read is computed again; one
that cannot be written is given up, and after an error the disk is left in peace for RETRY_SECONDS. A disk slower than
the prefill holds the engine up for at most WAIT_SECONDS, and then no more until it has caught up.

*Proved before use.* `read` returns a block whose every byte was checked, or nothing; a wrong file is deleted. That the
right bytes also mean the right thing to the model is the engine's proof; when it fails the engine calls `distrust`.

*Damaged or distrusted.* After damage the blocks behind stay: the block will be computed and written again, and then they
continue it. A distrusted block takes all that were computed on top of it along.

*Memory.* At most QUEUE_BLOCKS + 1 payloads, those waiting and the one being written, besides what `read` hands out.

*Several processes* may use one folder: files appear and go whole, and one that is gone is a miss. Each knows the blocks
of the others only from its start, and keeps the limit for those it knows.

*Counting.* `misses` are whole blocks that had to be computed: those given to `write` that were not there. `hits` are
those given to `used`; `failures` those found wrong, by checksum or proof, or not readable. `longest` counts nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from monk.engine import kv_block, kv_file
from monk.engine.kv_block import Block, BlockDamaged, BlockOutdated, Proof
from monk.engine.kv_index import Entry, Index
from monk.engine.kv_key import chain, model_key
from monk.engine.kv_queue import BlockQueue
from monk.engine.kv_worth import Weighed

__all__ = ["Block", "Counters", "KvStore", "Proof", "chain", "model_key"]

log = logging.getLogger(__name__)

QUEUE_BLOCKS = 2
RETRY_SECONDS = 60.0
WAIT_SECONDS = 2.0
MIN_FREE_BYTES = 2 << 30  # the database, the report and the journal must be able to write


@dataclass(slots=True)
class Counters:
    """Since this store was opened, but for blocks_held and bytes_held, which are of now."""

    hits: int = 0
    misses: int = 0
    failures: int = 0
    blocks_written: int = 0
    bytes_written: int = 0
    blocks_held: int = 0
    bytes_held: int = 0
    tokens_restored: int = 0
    seconds_saved: float = 0.0
    write_errors: int = 0  # blocks given up because the disk said no
    declined: int = 0  # not tried: no room, worth less than what is there, its parent is missing, pause, slow disk
    collected: int = 0  # deleted to make room, or of another version
    distrusted: int = 0  # deleted because they, or one they stand on, failed the engine's proof


class KvStore:
    """Every method may be called from any thread, none raises for the state of the disk. `close` it."""

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        min_free_bytes: int = MIN_FREE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Reads the head of every block and deletes what is above the limit; 0 keeps none. `clock` gives Unix seconds."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._index = Index()
        self._queue = BlockQueue(QUEUE_BLOCKS, WAIT_SECONDS)
        self._retry_at = float("-inf")  # the writer's
        self._lock = threading.Lock()  # guards the two below; no file is touched under it
        self._counters = Counters()
        self._complaints: set[tuple[str, object]] = set()
        self._open()
        self._writer = threading.Thread(target=self._write_queue, name="kv-write", daemon=True)  # a hung disk may stay
        self._writer.start()

    @property
    def counters(self) -> Counters:
        """A copy of this moment."""
        with self._lock:
            return replace(self._counters, bytes_held=self._index.num_bytes, blocks_held=len(self._index))

    # --- reading

    def longest(self, keys: Sequence[str]) -> int:
        """How many of the leading keys can be read."""
        return self._index.leading(keys)

    def holds(self, key: str) -> bool:
        """Whether the block is there or on its way, so that `write` would leave it out."""
        return key in self._index or key in self._queue

    def read(self, key: str) -> Block | None:
        """The block, checked; None if it is not there or cannot be had. Its payload is memory of its own."""
        if key not in self._index:
            return None
        try:
            return kv_file.read(kv_file.path_of(self._folder, key))
        except FileNotFoundError:  # another process made room
            self._index.forget(key)
        except BlockDamaged as exc:
            self._refuse(key, exc.message)
        except OSError as exc:
            self._shun(key, exc)
        except (MemoryError, RuntimeError) as exc:  # RuntimeError: no more threads are allowed
            self._count(failures=1)
            self._complain("kv blocks cannot be read", type(exc), key=key, reason=str(exc))
        return None

    def used(self, keys: Iterable[str], seconds_saved: float) -> None:
        """These blocks were restored, which spared the engine so many seconds. They stay longer for it."""
        now = self._clock()
        keys = list(keys)
        entries = {key: entry for key in keys if (entry := self._index.use(key, now)) is not None}
        num_tokens = sum(entry.num_tokens for entry in entries.values())
        self._count(hits=len(keys), tokens_restored=num_tokens, seconds_saved=seconds_saved)
        for key, entry in entries.items():
            with suppress(OSError):  # on a read-only disk the uses are forgotten at the end, nothing else
                os.utime(kv_file.path_of(self._folder, key), (now, entry.standing_at))

    def distrust(self, key: str) -> None:
        """The engine's proof failed: this block and all computed on top of it go."""
        doomed = self._index.forget_tree(key)
        self._count(failures=1, distrusted=len(doomed))
        log.warning("kv block failed its proof", extra={"key": key, "blocks": len(doomed)})
        for one in reversed(doomed):
            self._unlink(one)

    # --- writing

    def write(self, block: Block) -> None:
        """Keep this block, soon. The payload is the store's from now on: whoever changes it spoils the block.

        A block that is there or on its way is left out. Waits a little when the disk is behind. Raises ValueError for
        a block that no file can hold, see kv_block.check.
        """
        kv_block.check(block)
        if self.holds(block.key):
            return
        self._count(misses=1)
        if not self._queue.offer(block):
            self._count(declined=1)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was given to `write` is on the disk or given up; False if that took too long."""
        return self._queue.wait_empty(timeout_seconds)

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Take nothing more, write what is queued, but not for longer than that."""
        self._queue.close()
        self._writer.join(timeout_seconds)
        if self._writer.is_alive():
            log.warning("kv blocks were not written in time", extra={"seconds": timeout_seconds})

    def _write_queue(self) -> None:
        """The writer thread."""
        while (block := self._queue.take()) is not None:
            try:
                self._keep(block, self._clock())
            except OSError as exc:
                self._give_up(exc)
            except Exception:  # the thread's rim: one strange block must not end the cache for the night
                self._count(write_errors=1)
                log.exception("a kv block was lost")
            del block  # a payload is large, and the next one may be long in coming
            self._queue.done()

    def _keep(self, block: Block, now: float) -> None:
        """Write the block if it deserves it. Raises OSError."""
        if block.key in self._index:  # offered by two threads at once
            return
        if self._resting(now) or not self._index.carries(block.parent) or not self._make_room(block, now):
            self._count(declined=1)
            return
        kv_file.write(self._folder, block, now)
        num_bytes = kv_block.file_bytes_of(block)
        self._count(blocks_written=1, bytes_written=num_bytes)
        entry = Entry(block.parent, num_bytes, block.num_tokens, block.seconds, now)
        if not self._index.put_if_carried(block.key, entry):  # its parent was distrusted meanwhile
            self._unlink(block.key)

    def _give_up(self, exc: OSError) -> None:
        self._count(write_errors=1)
        self._retry_at = self._clock() + RETRY_SECONDS
        self._complain("kv blocks cannot be written", exc.errno, folder=str(self._folder), reason=exc.strerror)

    def _resting(self, now: float) -> bool:
        """Whether the last error is too young. A clock set back makes no longer pause."""
        return 0 < self._retry_at - now <= RETRY_SECONDS

    def _make_room(self, block: Block, now: float) -> bool:
        """Delete what is worth less until the block fits; False, and nothing deleted, if it does not deserve the room.

        Raises OSError if the disk cannot be asked or does not let go.
        """
        needed = kv_block.file_bytes_of(block)
        kv_file.make_folder(self._folder)  # somebody may have cleared it by hand
        free_bytes = kv_file.free_bytes(self._folder)
        spare = free_bytes - self._min_free_bytes
        if spare < 0 or needed > self._limit_bytes:
            self._complain("kv blocks find no room", "room", free_bytes=free_bytes, limit_bytes=self._limit_bytes)
            return False
        excess = needed - min(self._limit_bytes - self._index.num_bytes, spare)
        victims = self._index.victims(excess, now, Weighed(block.key, block.parent, needed, block.seconds))
        if block.key in victims:
            return False
        self._collect(victims)
        return True

    def _collect(self, keys: Iterable[str]) -> None:
        """Raises OSError when the disk does not let go; the block is still held then."""
        for key in keys:
            with suppress(FileNotFoundError):
                kv_file.path_of(self._folder, key).unlink()
            if self._index.forget(key):
                self._count(collected=1)

    # --- what is there

    def _open(self) -> None:
        try:
            kv_file.make_folder(self._folder)
            kv_file.remove_left_overs(self._folder)
            for key in kv_file.keys_in(self._folder):
                self._take_in(key)
            self._collect(self._index.victims(self._index.num_bytes - self._limit_bytes, self._clock()))
        except OSError as exc:
            self._complain("kv blocks cannot be kept", exc.errno, folder=str(self._folder), reason=exc.strerror)

    def _take_in(self, key: str) -> None:
        try:
            head, standing_at = kv_file.read_head(kv_file.path_of(self._folder, key))
        except FileNotFoundError:
            pass
        except BlockOutdated:
            self._count(collected=1)
            self._unlink(key)
        except BlockDamaged as exc:
            self._refuse(key, exc.message)
        except OSError as exc:
            self._shun(key, exc)
        else:
            self._index.put(key, Entry(head.parent, head.file_bytes, head.num_tokens, head.seconds, standing_at))

    def _refuse(self, key: str, reason: str) -> None:
        """A wrong file: counted and deleted."""
        self._index.forget(key)
        self._count(failures=1)
        self._complain("kv blocks were wrong and are deleted", reason, key=key, reason=reason)
        self._unlink(key)

    def _shun(self, key: str, exc: OSError) -> None:
        """A file that cannot be read is not asked for again; deleted only when the disk itself lost it."""
        self._index.forget(key)
        self._count(failures=1)
        self._complain("kv blocks cannot be read", exc.errno, key=key, reason=exc.strerror)
        if exc.errno == errno.EIO:
            self._unlink(key)

    def _unlink(self, key: str) -> None:
        with suppress(OSError):
            kv_file.path_of(self._folder, key).unlink(missing_ok=True)

    def _count(self, **more: float) -> None:
        with self._lock:
            for name, amount in more.items():
                setattr(self._counters, name, getattr(self._counters, name) + amount)

    def _complain(self, text: str, kind: object, **facts: object) -> None:
        """One line per kind of trouble: a full disk would otherwise fill the journal too."""
        with self._lock:
            known = (text, kind) in self._complaints
            self._complaints.add((text, kind))
        if not known:
            log.warning(text, extra=facts)
