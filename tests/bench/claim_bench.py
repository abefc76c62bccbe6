"""Claiming from a long queue, each claim on disk when it returns. `python -m tests.bench.claim_bench [--jobs 100000]`

The queue is filled through the queue itself, in five priorities; then one worker claims one job after another, as the
dispatcher does. Every fourth claimed job is finished in between, so that the index is not only read from its front.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from db.queue import Queue
from monk.services import utc_now
from tests.bench.figures import Figure, percentile, tell
from tests.bench.http_bench import fill
from tests.small_house import opened

LEASE_SECONDS = 3600.0
P99_MS = 5.0


def main() -> int:
    """Fill, claim, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in the queue before the measuring")
    parser.add_argument("--claims", type=int, default=2000, help="how many of them are claimed")
    parser.add_argument("--folder", type=Path, help="where the database is made: the disk that is measured")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        home = Path(folder) / "home"
        fill(home, chosen.jobs, quietly=chosen.json)
        return tell(measured(home, chosen.jobs, chosen.claims), chosen.json)


def measured(home: Path, num_jobs: int, num_claims: int) -> Iterator[Figure]:
    """The times of all claims, summed up."""
    times = claim_times(home, min(num_claims, num_jobs))
    told = f"claim, {num_jobs} jobs queued"
    yield Figure(f"{told}, median", percentile(times, 0.5), "ms")
    yield Figure(f"{told}, 99th percentile", percentile(times, 0.99), "ms", P99_MS)
    yield Figure(f"{told}, worst", max(times), "ms")


def claim_times(home: Path, num_claims: int) -> list[float]:
    """Milliseconds of each claim."""
    database, times = opened(home), []
    queue = Queue(database)
    for turn in range(num_claims):
        began = time.perf_counter()
        job = queue.claim(utc_now(), LEASE_SECONDS)
        times.append(1000 * (time.perf_counter() - began))
        assert job is not None, "the queue ran dry"
        if turn % 4 == 0:
            queue.finish(job, {"answer": "done"}, utc_now())
    database.close()
    return times


if __name__ == "__main__":
    sys.exit(main())
