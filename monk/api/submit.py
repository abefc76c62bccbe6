"""Group commit: jobs that arrive while one transaction is on its way to the disk share the next one.

Alone, a job waits for nobody; in a crowd, one fsync confirms all that came in meanwhile. A 201 still means: on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from db.models import Job
from db.queue import NewJob, Queue
from monk.api.views import job_summary
from monk.errors import Conflict
from monk.services import Forecaster

MOST_TOGETHER = 200  # a transaction that is still short for the workers who wait to write
Outcome = tuple[dict[str, Any], bool]


class Submitter:
    """Used from the event loop of one server. Stores in a thread of its own, in order of arrival."""

    def __init__(self, queue: Queue, forecaster: Forecaster, now: Callable[[], datetime]) -> None:
        self._queue = queue
        self._forecaster = forecaster
        self._now = now
        self._waiting: list[tuple[NewJob, asyncio.Future[Outcome]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="submit")

    async def submit(self, new: NewJob) -> Outcome:
        """(the job's summary, True), or (the earlier job's, False) for a repeated key; on disk when this returns.

        Raises Conflict for a key that asked something else, HomeUnusable when nothing can be written. A client that goes
        away meanwhile takes nothing back.
        """
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((new, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
            outcomes = await loop.run_in_executor(self._thread, self._store, [new for new, _ in batch])
            for (_, done), outcome in zip(batch, outcomes, strict=True):
                if done.done():  # its client is gone
                    continue
                if isinstance(outcome, Exception):
                    done.set_exception(outcome)
                else:
                    done.set_result(outcome)

    def _store(self, news: list[NewJob]) -> list[Outcome | Exception]:
        try:
            stored = self._queue.submit_many(news, self._now())
            return [each if isinstance(each, Conflict) else self._told(*each) for each in stored]
        except Exception as exc:  # of the whole transaction: nothing was kept, and every client must hear it
            return [exc] * len(news)

    def _told(self, job: Job, created: bool) -> Outcome:
        return job_summary(job, self._forecaster.of(job)), created
