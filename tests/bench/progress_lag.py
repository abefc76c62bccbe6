"""How long a token takes from the engine's message to the row in SQLite and to a watcher's event.

Method. The daemon's own parts run in this process on the real engine, and only the engine's streams are wrapped: every
message is stamped with the monotonic clock when the daemon takes it. Two watchers stamp with the same clock: one reads
`thoughts.num_tokens` over a connection of its own every 10 ms (which adds up to as much to its figure), the other is a
plain HTTP client of `GET /events`. A token's lag is the time from its message to the first row, or event, that counts it.
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import tempfile
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from corpus.embedding import HashingEmbedder
from db.queue import NewJob
from monk.api import create_app
from monk.api.server import ApiServer
from monk.daemon import Daemon, assemble, engine_config, start, stop
from monk.engine.client import Message, NewTokens, Stream, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.services import utc_now
from monk.settings import load
from tests.bench.figures import Figure, percentile
from tests.small_house import opened

LOOK_SECONDS = 0.01
WAIT_SECONDS = 600.0
MOST_SECONDS = 1.0
Seen = dict[str, list[tuple[int, float]]]  # by thought: how many tokens were there, and when


class StampedStream:
    """A stream whose tokens are counted and timed as they are taken."""

    def __init__(self, stream: Stream, seen: list[tuple[int, float]]) -> None:
        self._stream, self._seen = stream, seen

    def receive(self, timeout: float | None) -> Message | None:
        message = self._stream.receive(timeout)
        if isinstance(message, NewTokens) and message.ids:
            before = self._seen[-1][0] if self._seen else 0
            self._seen.append((before + len(message.ids), time.monotonic()))
        return message

    def __iter__(self) -> Iterator[Message]:
        while (message := self.receive(None)) is not None:
            yield message

    def cancel(self) -> None:
        self._stream.cancel()


class StampedEngine(EngineProcess):
    """The real engine; `taken` holds what its streams told, and when."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.taken: Seen = defaultdict(list)

    def think(self, request: ThoughtRequest) -> Stream:
        return StampedStream(super().think(request), self.taken[request.id])


def measured(num_jobs: int, max_tokens: int) -> Iterator[Figure]:
    """Two lags over all tokens of `num_jobs` jobs side by side."""
    with tempfile.TemporaryDirectory() as folder:
        taken, rows, events = watched(Path(folder) / "home", num_jobs, max_tokens)
    for name, seen in (("SQLite", rows), ("server-sent event", events)):
        lags = lags_of(taken, seen)
        told = f"token to {name}, {num_jobs} jobs, {len(lags)} tokens"
        yield Figure(f"{told}, median", percentile(lags, 0.5), "s")
        yield Figure(f"{told}, worst", max(lags), "s", MOST_SECONDS)


def lags_of(taken: Seen, seen: Seen) -> list[float]:
    """Seconds for each token that was told."""
    lags = []
    for thought_id, messages in taken.items():
        counts = [count for count, _ in seen[thought_id]]
        begin = 1
        for count, at in messages:
            for token in range(begin, count + 1):
                place = bisect_left(counts, token)
                assert place < len(counts), f"token {token} of {thought_id} was never seen"
                lags.append(seen[thought_id][place][1] - at)
            begin = count + 1
    assert lags, "no token was thought"
    return lags


def watched(home: Path, num_jobs: int, max_tokens: int) -> tuple[Seen, Seen, Seen]:
    """What the engine told, what the rows counted, and what the events counted."""
    (home / "corpus").mkdir(parents=True)
    settings = load({}, home=home, night="always", timezone="UTC", port=0, jobs_at_once=num_jobs, slots=num_jobs)
    database = opened(home)
    engine = StampedEngine(engine_config(settings.model_copy(update={"context": 2048, "tune_seconds": 0.0})))
    daemon = assemble(settings, database, engine, HashingEmbedder)
    server = ApiServer(create_app(daemon.services), settings)
    server.start()
    ended = threading.Event()
    rows: Seen = defaultdict(list)
    events: Seen = defaultdict(list)
    watchers = [
        threading.Thread(target=watch_rows, args=(home, rows, ended)),
        threading.Thread(target=watch_events, args=(server.port, events), daemon=True),
    ]
    for watcher in watchers:
        watcher.start()
    try:
        start(daemon)
        run_jobs(daemon, num_jobs, max_tokens)
        time.sleep(1.0)  # what is on its way to the watchers arrives
    finally:
        ended.set()
        stop(daemon, 10.0)
        server.stop(2.0)
        watchers[0].join()
        database.close()
    return engine.taken, rows, events


def run_jobs(daemon: Daemon, num_jobs: int, max_tokens: int) -> None:
    """Submit, and wait until all are done."""
    queue = daemon.services.queue
    for number in range(num_jobs):
        turns = [{"role": "user", "content": f"Tell a long story about robot number {number}."}]
        given = {"messages": turns, "max_tokens": max_tokens, "temperature": 0.8}
        queue.submit(NewJob(kind="chat", input=daemon.services.kinds.validate("chat", given), seed=number), utc_now())
    daemon.workers.wake()
    deadline = time.monotonic() + WAIT_SECONDS
    while (counts := queue.counts())["done"] < num_jobs:
        assert time.monotonic() < deadline and not counts["failed"], f"the jobs did not end: {counts}"
        time.sleep(0.25)


def watch_rows(home: Path, seen: Seen, ended: threading.Event) -> None:
    """Note every growth of a thought's count of saved tokens."""
    with closing(sqlite3.connect(f"file:{home / 'monk.sqlite'}?mode=ro", uri=True)) as raw:
        while not ended.wait(LOOK_SECONDS):
            for thought_id, count in raw.execute("SELECT id, num_tokens FROM thoughts WHERE num_tokens > 0"):
                note(seen, thought_id, count)


def watch_events(port: int | None, seen: Seen) -> None:
    """Note every `progress` event of all jobs."""
    connection = http.client.HTTPConnection("127.0.0.1", port or 0)
    connection.request("GET", "/events")
    for line in connection.getresponse():
        if not line.startswith(b"data:"):
            continue
        event: dict[str, Any] = json.loads(line[5:])
        if event.get("type") == "progress":
            note(seen, event["thought_id"], int(event["data"]["tokens"]))


def note(seen: Seen, thought_id: str, count: int) -> None:
    """Remember a count the first time it is seen."""
    if not seen[thought_id] or seen[thought_id][-1][0] < count:
        seen[thought_id].append((count, time.monotonic()))
