"""Saves the tokens of all running thoughts together: one transaction every `save_seconds`, however many thoughts there are.

Sixteen thoughts that each wrote for themselves would make the disk the slowest part of the night. A disk that is full or
gone does not end the night either: what could not be written is kept and tried again, and `problem` says so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from db.steps import Steps, TokenBatch
from monk.errors import HomeUnusable, LeaseLost

logger = logging.getLogger(__name__)
TRY_AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class _Pending:
    job_id: str
    lease_token: str
    first_index: int
    ids: list[int]
    text: str

    def batch(self, thought_id: str) -> TokenBatch:
        return TokenBatch(self.job_id, self.lease_token, thought_id, self.first_index, tuple(self.ids), self.text)


class Scribe:
    """One thread that writes; any thread may hand it tokens."""

    def __init__(self, steps: Steps, save_seconds: float, now: Callable[[], datetime]) -> None:
        self._steps = steps
        self._save_seconds = save_seconds
        self._now = now
        self._changed = threading.Condition()
        self._pending: dict[str, _Pending] = {}
        self._writing: frozenset[str] = frozenset()
        self._lost: set[str] = set()
        self._stopped = False
        self._hurry = False
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._loop, name="scribe", daemon=True)

    def start(self) -> None:
        """Begin writing."""
        self._thread.start()

    def add(
        self, job_id: str, lease_token: str, thought_id: str, first_index: int, ids: tuple[int, ...], text: str
    ) -> None:
        """Hand over tokens that follow those handed over before. Raises LeaseLost when an earlier save found the job gone."""
        with self._changed:
            if lease_token in self._lost:
                raise LeaseLost(f"{job_id} is no longer this worker's")
            pending = self._pending.get(thought_id)
            if pending is None:
                self._pending[thought_id] = _Pending(job_id, lease_token, first_index, list(ids), text)
            else:
                assert pending.first_index + len(pending.ids) == first_index, "tokens handed over out of order"
                pending.ids.extend(ids)
                pending.text += text
            self._changed.notify_all()

    def flush(self, thought_id: str, lease_token: str) -> None:
        """Return when every token of this thought is on disk. Raises LeaseLost."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: thought_id not in self._pending and thought_id not in self._writing)
            if lease_token in self._lost:
                raise LeaseLost("the job is no longer this worker's")

    def forget(self, thought_id: str, lease_token: str) -> None:
        """Drop what is left of a lost job's thought."""
        with self._changed:
            self._pending.pop(thought_id, None)
            self._lost.discard(lease_token)

    def alive(self) -> bool:
        """Whether the writing thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what is there, then end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._stopped)
                if not self._pending:
                    return
                self._changed.wait_for(lambda: self._hurry or self._stopped, timeout=self._save_seconds)
                taken, self._pending, self._hurry = self._pending, {}, False
                self._writing = frozenset(taken)
            self._write(taken)

    def _write(self, taken: dict[str, _Pending]) -> None:
        batches = [pending.batch(thought_id) for thought_id, pending in taken.items()]
        try:
            lost_jobs = self._steps.append(batches, self._now())
        except HomeUnusable as exc:
            self._keep_for_later(taken, exc)
            return
        with self._changed:
            self.problem = None
            self._lost |= {pending.lease_token for pending in taken.values() if pending.job_id in lost_jobs}
            self._writing = frozenset()
            self._changed.notify_all()

    def _keep_for_later(self, taken: dict[str, _Pending], exc: HomeUnusable) -> None:
        if self.problem is None:
            logger.error("tokens cannot be saved, trying again", extra={"reason": exc.message})
        with self._changed:
            for thought_id, newer in self._pending.items():
                if thought_id in taken:
                    taken[thought_id].ids.extend(newer.ids)
                    taken[thought_id].text += newer.text
                else:
                    taken[thought_id] = newer
            self._pending = taken
            self._writing = frozenset()
            self.problem = exc.message
            if self._stopped:
                self._pending = {}  # the daemon ends; a restart goes on from the last save
                return
            self._changed.wait_for(lambda: self._stopped, timeout=TRY_AGAIN_SECONDS)
