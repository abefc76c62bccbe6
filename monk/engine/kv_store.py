"""The folder of KV blocks: prefills that were paid for once, kept for other thoughts, other nights and other processes.

Works on bytes and token ids. Never sees llama.cpp, jobs or sockets.

    engine thread   longest, read, used, distrust, write ──▶ queue of at most QUEUE_BLOCKS ──▶ writer thread: room, file

*A speed-up, never a duty.* No call raises for anything a disk can do. A block that cannot be read is computed again; one
that cannot be written is given up, and after an error the disk is left in peace for RETRY_SECONDS. A disk slower than the
prefill holds the engine up by at most WAIT_SECONDS, and then no more until it has caught up.

*Proved before use.* `read` returns a block whose every byte was checked, or nothing; a wrong file is deleted. That the
right bytes also mean the right thing to the model is the engine's proof; when it fails the engine calls `distrust`.

*Damaged or distrusted.* After damage the blocks behind stay: the block will be computed and written again, and then they
continue it. A distrusted block takes all that were computed on top of it along.

*Memory.* The queue and the block being written: at most QUEUE_BLOCKS + 1 payloads; some 500 bytes per block held.

*Several processes* may use one folder: files appear whole, deleting is atomic, and a file that is gone is a miss. Each
knows the blocks of the others only from its start, so the limit is kept by each for what it knows.

*Counting.* `misses` are whole blocks that had to be computed: those given to `write` that were not there. `hits` are
blocks given to `used`. `failures` are blocks found wrong, by checksum or by proof. `longest` counts nothing, so planning
may ask as often as it likes.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from monk.engine import kv_block, kv_file, kv_worth
from monk.engine.kv_block import Block, BlockDamaged, BlockOutdated, Proof
from monk.engine.kv_key import chain, model_key
from monk.engine.kv_worth import Weighed

__all__ = ["Block", "Counters", "KvStore", "Proof", "chain", "model_key"]

log = logging.getLogger(__name__)

QUEUE_BLOCKS = 2
RETRY_SECONDS = 60.0
WAIT_SECONDS = 2.0
MIN_FREE_BYTES = 2 << 30  # the database, the report and the journal must be able to write


@dataclass(slots=True)
class Counters:
    """Since this process began, but for bytes_held and blocks_held."""

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


@dataclass(slots=True)
class _Entry:
    parent: str
    num_bytes: int
    num_tokens: int
    seconds: float
    standing_at: float  # see kv_worth.standing_after; the file's time


class KvStore:
    """All methods from any thread, none raises for the state of the disk. `close` it."""

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        min_free_bytes: int = MIN_FREE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Reads the head of every block. `clock` gives Unix seconds."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._counters = Counters()
        self._complaints: set[object] = set()
        self._paused_until = float("-inf")
        self._changed = threading.Condition()  # guards everything above and below; no file is touched under it
        self._queue: deque[Block] = deque()
        self._busy: str | None = None  # the key of the block being written
        self._slow = False
        self._closed = False
        self._open()
        self._writer = threading.Thread(
            target=self._write_queue, name="kv-write", daemon=True
        )  # a hung disk holds no exit
        self._writer.start()

    # --- asking and reading

    @property
    def counters(self) -> Counters:
        """A copy of this moment."""
        with self._changed:
            held = sum(entry.num_bytes for entry in self._entries.values())
            return replace(self._counters, bytes_held=held, blocks_held=len(self._entries))

    def longest(self, keys: Sequence[str]) -> int:
        """How many of the leading keys can be read."""
        with self._changed:
            return next((index for index, key in enumerate(keys) if key not in self._entries), len(keys))

    def read(self, key: str) -> Block | None:
        """The block, checked; None if it is not there or cannot be had. Its payload is memory of its own."""
        with self._changed:
            if key not in self._entries:
                return None
        path = kv_file.path_of(self._folder, key)
        try:
            return kv_file.read(path)
        except FileNotFoundError:  # another process made room
            self._forget(key)
        except BlockDamaged as exc:
            self._refuse(key, exc.message)
        except OSError as exc:
            self._fail(key, exc)
        except MemoryError:
            self._complain("a KV block does not fit into memory", "memory", file=str(path))
            with self._changed:
                self._counters.failures += 1
        return None

    def used(self, keys: Iterable[str], seconds_saved: float) -> None:
        """These blocks were restored, which spared the engine so many seconds. They stay longer for it."""
        now = self._clock()
        moved: list[tuple[str, float]] = []
        with self._changed:
            self._counters.seconds_saved += seconds_saved
            for key in keys:
                self._counters.hits += 1
                if (entry := self._entries.get(key)) is not None:
                    self._counters.tokens_restored += entry.num_tokens
                    entry.standing_at = kv_worth.standing_after(entry.standing_at, now)
                    moved.append((key, entry.standing_at))
        for key, standing_at in moved:
            with suppress(OSError):  # on a read-only disk uses are forgotten at the end, nothing else
                os.utime(kv_file.path_of(self._folder, key), (now, standing_at))

    def distrust(self, key: str) -> None:
        """The engine's proof failed: this block and all computed on top of it go."""
        with self._changed:
            known = key in self._entries
            doomed = [key, *self._descendants(key)]
            self._counters.failures += 1
            self._counters.distrusted += len(doomed) if known else 0
            for one in doomed:
                self._entries.pop(one, None)
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
        with self._changed:
            if block.key in self._entries or self._on_its_way(block.key):
                return
            self._counters.misses += 1
            if not self._slow:
                self._slow = not self._changed.wait_for(self._has_room, WAIT_SECONDS)
            if self._closed or not self._has_room():
                self._counters.declined += 1
                return
            self._slow = False
            self._queue.append(block)
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was given to `write` is on the disk or given up; False if that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and self._busy is None, timeout_seconds)

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Take nothing more, write what is queued, but not for longer than that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._writer.join(timeout_seconds)
        if self._writer.is_alive():
            log.warning("kv blocks were not written in time", extra={"seconds": timeout_seconds})

    def _has_room(self) -> bool:
        return self._closed or len(self._queue) < QUEUE_BLOCKS

    def _on_its_way(self, key: str) -> bool:
        return self._busy == key or any(block.key == key for block in self._queue)

    def _write_queue(self) -> None:
        """The writer thread."""
        while (block := self._next()) is not None:
            try:
                self._keep(block)
            except OSError as exc:
                self._give_up(block, exc)
            except Exception:  # the thread's rim: one strange block must not end the cache for the night
                log.exception("a kv block was lost")
            with self._changed:
                self._busy = None
                self._changed.notify_all()

    def _next(self) -> Block | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            block = self._queue.popleft()
            self._busy = block.key
            self._changed.notify_all()
            return block

    def _keep(self, block: Block) -> None:
        """Write the block if it deserves it. Raises OSError."""
        now = self._clock()
        if now < self._paused_until or not self._continues(block) or not self._make_room(block, now):
            with self._changed:
                self._counters.declined += 1
            return
        kv_file.write(self._folder, block, now)
        num_bytes = kv_block.file_bytes_of(block)
        with self._changed:
            self._counters.blocks_written += 1
            self._counters.bytes_written += num_bytes
            if still_wanted := self._continues(block):  # its parent may have been distrusted meanwhile
                self._entries[block.key] = _Entry(block.parent, num_bytes, block.num_tokens, block.seconds, now)
        if not still_wanted:
            self._unlink(block.key)

    def _continues(self, block: Block) -> bool:
        with self._changed:
            return not block.parent or block.parent in self._entries

    def _give_up(self, block: Block, exc: OSError) -> None:
        with self._changed:
            self._counters.write_errors += 1
            self._paused_until = self._clock() + RETRY_SECONDS
        self._complain("kv blocks cannot be written", exc.errno, file=str(self._folder), reason=exc.strerror)

    # --- room

    def _make_room(self, block: Block, now: float) -> bool:
        """Delete what is worth less than this block until it fits; False, and nothing deleted, if it does not deserve it.

        Raises OSError if the disk cannot be asked or does not let go.
        """
        needed = kv_block.file_bytes_of(block)
        disk = os.statvfs(self._folder)
        spare_bytes = disk.f_bavail * disk.f_frsize - self._min_free_bytes
        held = self.counters.bytes_held
        if spare_bytes < 0 or needed > self._limit_bytes:
            self._complain("kv blocks find no room", "room", free_bytes=spare_bytes + self._min_free_bytes)
            return False
        excess = held + needed - min(self._limit_bytes, held + spare_bytes)
        if excess <= 0:
            return True
        newcomer = Weighed(block.key, block.parent, needed, block.seconds)
        victims = self._victims(excess, now, newcomer)
        if block.key in victims:
            return False
        self._collect(victims)
        return True

    def _victims(self, excess: int, now: float, newcomer: Weighed | None = None) -> list[str]:
        """The cheapest blocks that together have `excess` bytes or more, in the order in which they go."""
        with self._changed:
            weighed = [
                Weighed(key, entry.parent, entry.num_bytes, entry.seconds * kv_worth.uses(entry.standing_at, now))
                for key, entry in self._entries.items()
            ]
            sizes = {key: entry.num_bytes for key, entry in self._entries.items()}
        if newcomer is not None:
            weighed.append(newcomer)
        victims: list[str] = []
        for key in kv_worth.cheapest_first(weighed):
            if excess <= 0:
                break
            victims.append(key)
            excess -= sizes.get(key, 0)
        return victims

    def _collect(self, keys: Iterable[str]) -> None:
        """Raises OSError when the disk does not let go; the block is still held then."""
        for key in keys:
            with suppress(FileNotFoundError):
                kv_file.path_of(self._folder, key).unlink()
            with self._changed:
                if self._entries.pop(key, None) is not None:
                    self._counters.collected += 1

    # --- what is there

    def _open(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the attention state of private texts
            kv_file.remove_left_overs(self._folder)
            for key in kv_file.keys_in(self._folder):
                self._take_in(key)
            excess = self.counters.bytes_held - self._limit_bytes
            if excess > 0:
                self._collect(self._victims(excess, self._clock()))
        except OSError as exc:
            self._complain("kv blocks cannot be kept", exc.errno, file=str(self._folder), reason=exc.strerror)

    def _take_in(self, key: str) -> None:
        try:
            head, standing_at = kv_file.read_head(kv_file.path_of(self._folder, key))
        except BlockOutdated:
            self._counters.collected += 1
            self._unlink(key)
        except BlockDamaged as exc:
            self._refuse(key, exc.message)
        except FileNotFoundError:
            pass
        except OSError as exc:
            self._fail(key, exc)
        else:
            self._entries[key] = _Entry(head.parent, head.file_bytes, head.num_tokens, head.seconds, standing_at)

    def _descendants(self, key: str) -> list[str]:
        """All that were computed on top of it, each before its own."""
        children: dict[str, list[str]] = {}
        for other, entry in self._entries.items():
            children.setdefault(entry.parent, []).append(other)
        found = children.pop(key, [])
        for one in found:  # grows while it is walked; popping ends rings
            found.extend(children.pop(one, []))
        return found

    def _refuse(self, key: str, reason: str) -> None:
        """A wrong file: counted and deleted."""
        log.warning("kv block was wrong and is deleted", extra={"key": key, "reason": reason})
        with self._changed:
            self._counters.failures += 1
        self._forget(key)
        self._unlink(key)

    def _fail(self, key: str, exc: OSError) -> None:
        """A file that cannot be read: not asked for again. Deleted only when the disk itself lost it."""
        self._complain("kv blocks cannot be read", exc.errno, key=key, reason=exc.strerror)
        with self._changed:
            self._counters.failures += 1
        self._forget(key)
        if exc.errno == errno.EIO:
            self._unlink(key)

    def _forget(self, key: str) -> None:
        with self._changed:
            self._entries.pop(key, None)

    def _unlink(self, key: str) -> None:
        with suppress(OSError):
            kv_file.path_of(self._folder, key).unlink(missing_ok=True)

    def _complain(self, text: str, kind: object, **facts: object) -> None:
        """One line per kind of trouble: a full disk would otherwise fill the journal too."""
        with self._changed:
            known = (text, kind) in self._complaints
            self._complaints.add((text, kind))
        if not known:
            log.warning(text, extra=facts)
