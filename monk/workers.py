"""Runs jobs while the night is open: claims them, gives each a thread, renews their leases, and gives them back at the end.

    dispatcher ──claim──▶ thread of one job: kind.run(Run) ──▶ finish | fail | release
    keeper: renews leases, returns silent jobs to the queue, ends those whose deadline went by

Nothing is claimed before the model is loaded: a job must not wait with a lease in its hand.

A kind that runs alone (`jobs.registry.Kind.alone`) needs no model, and gets the memory of the engine's. When such a job is
the first in line, what runs comes to its end and nothing more is claimed, so nobody passes it; while it runs, nothing else
does. It blocks nobody who ranks higher: when a job of a higher priority is due, it is paused where it stands and goes on
behind that one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from db.queue import Queue
from jobs.registry import Kinds
from monk.errors import (
    EngineDied,
    EngineFailed,
    HomeUnusable,
    InternalError,
    LeaseLost,
    ModelUnusable,
    MonkError,
    Unavailable,
)
from monk.run import Run, Tools
from monk.thinking import Paused

logger = logging.getLogger(__name__)
OUTRANKED = "a job of a higher priority goes first, and then this one on"
POLL_SECONDS = 5.0  # a wake-up that got lost costs this much
MODEL_RETRY_SECONDS = 60.0  # an unusable model may be mended while we run
DISK_RETRY_SECONDS = 5.0


class Workers:
    """At most `jobs_at_once` jobs side by side. `open` and `close` are called by the night."""

    def __init__(
        self,
        queue: Queue,
        kinds: Kinds,
        tools: Tools,
        *,
        jobs_at_once: int,
        lease_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self._queue = queue
        self._kinds = kinds
        self._tools = tools
        self._jobs_at_once = jobs_at_once
        self._lease_seconds = lease_seconds
        self._now = now
        self._changed = threading.Condition()
        self._open = False
        self._stopped = False
        self._why_closed = "the night closed"
        self._runs: dict[str, tuple[Run, threading.Thread]] = {}
        self._ended: set[str] = set()
        self._threads = [
            threading.Thread(target=self._dispatch, name="dispatcher", daemon=True),
            threading.Thread(target=self._keep, name="keeper", daemon=True),
        ]
        self.beat_at = time.monotonic()
        self.problem: str | None = None

    def start(self) -> None:
        """Begin; nothing is claimed before `open`."""
        for thread in self._threads:
            thread.start()

    def open(self) -> None:
        """Let jobs run."""
        self._tools.engine.start()
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def close(self, seconds: float, why: str = "the night closed") -> bool:
        """Pause every job where it stands and wait until all are saved. False when some were not after `seconds`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._open = False
            self._why_closed = why
            for run, _ in self._runs.values():
                run.pause(why)
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._runs, timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            logger.warning("jobs did not pause in time", extra={"running": len(self._runs), "seconds": seconds})
        return done

    def stop(self, seconds: float) -> bool:
        """Pause all and end."""
        with self._changed:
            self._stopped = True
        saved = self.close(seconds)
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=2.0)
        return saved

    def wake(self) -> None:
        """There may be something to claim."""
        with self._changed:
            self._changed.notify_all()

    # ── the dispatcher ────────────────────────────────────────────────────────────────────────────────────────────────

    def _dispatch(self) -> None:
        while not self._stopped:
            self.beat_at = time.monotonic()
            try:
                if not (self._may_claim() and self._claim_one()):
                    self._rest()
            except Exception as exc:
                logger.exception("dispatcher stumbled", extra={"error": repr(exc)})
                self._rest()

    def _rest(self) -> None:
        with self._changed:
            if not self._stopped:
                self._changed.wait(timeout=self._idle_seconds())

    def _idle_seconds(self) -> float:
        """Until the next waiting job is due, or the polling interval."""
        if not self._open:
            return POLL_SECONDS
        due = self._queue.next_ready_at()
        return POLL_SECONDS if due is None else min(POLL_SECONDS, max(0.05, (due - self._now()).total_seconds()))

    def _may_claim(self) -> bool:
        if not self._open or self._stopped:
            return False
        runs = [run for run, _ in list(self._runs.values())]
        if len(runs) == 1 and self._kinds.runs_alone(runs[0].job.kind):
            self._make_way(runs[0])
            return False
        return len(runs) < self._jobs_at_once

    def _make_way(self, run: Run) -> None:
        """A job that has the machine for itself is paused where a more important one is due."""
        if not run.pausing.is_set() and self._queue.is_outranked(run.job.priority, self._now()):
            run.pause(OUTRANKED)

    def _may_run(self, kind: str, model_ready: bool) -> bool:
        return not self._runs if self._kinds.runs_alone(kind) else model_ready

    def _model_ready(self) -> bool:
        """Whether the model is loaded; an unusable one is tried again now and then, and said in `problem`."""
        try:
            self._tools.engine.card(timeout=1.0)
        except Unavailable:
            return False
        except ModelUnusable as exc:
            self.problem = exc.message  # the engine has put it into the log
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or not self._open, timeout=MODEL_RETRY_SECONDS)
            if self._open and not self._stopped:
                self._tools.engine.start()
            return False
        self.problem = None
        return True

    def _claim_one(self) -> bool:
        ready = self._model_ready()
        job = self._queue.claim(self._now(), self._lease_seconds, lambda kind: self._may_run(kind, ready))
        if job is None:
            return False
        run = Run(job, self._tools)
        thread = threading.Thread(target=self._work, args=(run,), name=job.id, daemon=True)
        with self._changed:
            self._runs[job.id] = (run, thread)
            if not self._open:
                run.pause(self._why_closed)
        logger.info("job claimed", extra={"job_id": job.id, "kind": job.kind, "attempt": job.attempt})
        thread.start()
        return True

    # ── one job ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self, run: Run) -> None:
        alone = self._kinds.runs_alone(run.job.kind)
        try:
            if alone:
                self._tools.engine.stop()
            self._until_written(run, self._attempt(run))
        except BaseException as exc:
            logger.exception("a worker ended badly", extra={"job_id": run.job.id, "error": repr(exc)})
        finally:
            if alone and self._open:
                self._tools.engine.start()
            with self._changed:
                self._runs.pop(run.job.id, None)
                self._changed.notify_all()

    def _attempt(self, run: Run) -> Callable[[], None]:
        """Run the kind; what comes back writes the outcome."""
        job = run.job
        try:
            result = self._kinds.get(job.kind).run(run)
        except Paused:
            return lambda: self._queue.release(job, self._now(), run.why_paused, run.used_seconds())
        except LeaseLost as exc:
            return _raising(exc)
        except MonkError as exc:
            error = exc
            return lambda: self._failed(run, error)
        except Exception as exc:
            logger.exception("a kind failed", extra={"job_id": job.id, "kind": job.kind})
            internal = InternalError(f"{type(exc).__name__}: {exc}"[:2000])
            return lambda: self._failed(run, internal)
        return lambda: self._done(run, result)

    def _done(self, run: Run, result: dict[str, object]) -> None:
        job = run.job
        self._queue.finish(job, run.with_warnings(result), self._now(), run.used_seconds())
        logger.info("job done", extra={"job_id": job.id, "kind": job.kind})

    def _failed(self, run: Run, error: MonkError) -> None:
        job = run.job
        retryable = isinstance(error, EngineFailed | EngineDied | HomeUnusable | Unavailable | InternalError)
        state = self._queue.fail(job, error, self._now(), retryable=retryable, used_seconds=run.used_seconds())
        logger.warning(
            "job failed", extra={"job_id": job.id, "code": error.code, "reason": error.message, "now": state}
        )

    def _until_written(self, run: Run, write: Callable[[], None]) -> None:
        """Write a job's outcome; a disk that is full for a while does not cost a night's work; told once."""
        told = False
        while True:
            try:
                return write()
            except LeaseLost:
                logger.info("job was taken away", extra={"job_id": run.job.id})
                return
            except HomeUnusable as exc:
                self.problem = exc.message
                if not told:
                    facts = {"job_id": run.job.id, "reason": exc.message}
                    logger.error("an outcome cannot be written, trying again", extra=facts)
                told = True
                with self._changed:
                    if self._changed.wait_for(lambda: self._stopped, timeout=DISK_RETRY_SECONDS):
                        return  # the next start finds the job as it was

    # ── the keeper ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        while not self._stopped:
            try:
                self._renew_all()
                self._sweep()
            except Exception as exc:
                logger.exception("keeper stumbled", extra={"error": repr(exc)})
            with self._changed:
                self._changed.wait_for(lambda: self._stopped, timeout=min(self._lease_seconds / 4, 10.0))

    def _renew_all(self) -> None:
        for run, _ in list(self._runs.values()):
            try:
                self._queue.renew(run.job, self._now(), self._lease_seconds, run.used_seconds())
            except LeaseLost:
                run.lost.set()

    def _sweep(self) -> None:
        now = self._now()
        returned = self._queue.expire_leases(now)
        overdue = self._queue.fail_overdue(now)
        for job_id in returned:
            logger.warning("a silent job went back to the queue", extra={"job_id": job_id})
        for job_id in overdue:
            logger.warning("a deadline passed", extra={"job_id": job_id})


def _raising(exc: LeaseLost) -> Callable[[], None]:
    def write() -> None:
        raise exc

    return write
