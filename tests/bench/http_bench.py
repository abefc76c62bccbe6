"""HTTP on a long queue: submits per second, listing, position, health. `python -m tests.bench.http_bench [--jobs 100000]`

A real server in a process of its own, over a real database; the clients are threads of this process with plain sockets,
because a comfortable client costs more than the server it measures.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from monk.services import utc_now
from tests.small_house import a_job, opened, small_house

BATCH = 1000
CLIENTS = 8


def main() -> None:
    """Fill, serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in the queue before the measuring")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the clients submit")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        serve(chosen.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        fill(home, chosen.jobs)
        with server(home) as port:
            measure(port, chosen.seconds)


def fill(home: Path, num_jobs: int, quietly: bool = False) -> None:
    """Queue jobs through the queue itself."""
    database = opened(home)
    services, began = small_house(database), time.perf_counter()
    for done in range(0, num_jobs, BATCH):
        news = [a_job(f"Question {done + i}?", priority=i % 5 - 2) for i in range(min(BATCH, num_jobs - done))]
        services.queue.submit_many(news, utc_now())
    if not quietly:
        tell(f"{num_jobs} jobs queued", f"{time.perf_counter() - began:.1f} s")
    database.close()


def serve(home: Path) -> None:
    """Answer until stdin ends; the port goes to stdout."""
    from monk.api import create_app
    from monk.api.server import ApiServer

    database = opened(home)
    services = small_house(database, port=0)
    running = ApiServer(create_app(services), services.settings)
    running.start()
    print(running.port, flush=True)
    sys.stdin.read()
    running.stop(5.0)


@contextmanager
def server(home: Path) -> Iterator[int]:
    """A server in a process of its own; its port."""
    command = [sys.executable, "-m", "tests.bench.http_bench", "--serve", str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


def measure(port: int, seconds: float) -> None:
    """Each figure on a line of its own."""
    client = http.client.HTTPConnection("127.0.0.1", port)
    timed(client, "GET /health", "/health")
    listed = timed(client, "GET /jobs?state=queued", "/jobs?state=queued")
    timed(client, "GET /jobs?state=queued&limit=200", "/jobs?state=queued&limit=200")
    oldest = listed["jobs"][-1]["id"]
    timed(client, "GET /jobs/{id}", f"/jobs/{oldest}")
    timed(client, "GET /status", "/status")
    times = submit_from(CLIENTS, port, seconds)
    cut = quantiles(times, n=100)
    tell(f"POST /jobs from {CLIENTS} clients", f"{len(times) / seconds:.0f} per second")
    tell("  one of them", f"median {1000 * median(times):.1f} ms, 99th percentile {1000 * cut[98]:.1f} ms")
    times = submit_from(1, port, min(seconds, 3.0))
    tell("POST /jobs from 1 client", f"{len(times) / min(seconds, 3.0):.0f} per second")
    timed(client, "GET /jobs?state=queued after that", "/jobs?state=queued")


def timed(client: http.client.HTTPConnection, name: str, path: str, turns: int = 30) -> Any:
    """The last answer; prints median and worst time of `turns` requests."""
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        client.request("GET", path)
        text = client.getresponse().read()
        times.append(time.perf_counter() - began)
    tell(name, f"median {1000 * median(times):.1f} ms, worst {1000 * max(times):.1f} ms")
    return json.loads(text)


def submit_from(num_clients: int, port: int, seconds: float) -> list[float]:
    """Seconds of each submit, all clients together."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    one = lambda number: times.extend(submit_until(until, port, number))  # noqa: E731
    run_together(one, num_clients)
    return times


def submit_until(until: float, port: int, number: int) -> list[float]:
    """One client that submits one job after another."""
    client, times = http.client.HTTPConnection("127.0.0.1", port), []
    body = json.dumps({"kind": "answer", "input": {"question": f"What does client {number} want to know?"}})
    while (began := time.perf_counter()) < until:
        client.request("POST", "/jobs", body, {"Content-Type": "application/json"})
        response = client.getresponse()
        assert response.status == 201, response.read()
        response.read()
        times.append(time.perf_counter() - began)
    return times


def run_together(work: Callable[[int], None], count: int) -> None:
    """`work(0)` to `work(count - 1)` side by side."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def tell(name: str, value: str) -> None:
    """One line."""
    print(f"{name:<42}{value}", flush=True)


if __name__ == "__main__":
    main()
