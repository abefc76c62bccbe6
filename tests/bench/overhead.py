"""What the daemon adds to the engine's own time: the same thoughts asked of the engine alone, and as jobs over HTTP.

Method. Two engines are loaded with the same settings, one in this process's keeping, one in a daemon's; only one computes at
a time, turn by turn, three times each. The jobs are submitted by HTTP ahead of their moment (`not_before`), so that all
become due at once, as the thoughts of the engine alone are asked at once. Their time is from that moment to the last
`finished_at`, both by the same clock: claiming, rendering, tokens to SQLite, events and finishing are in it. Every round asks
something new, because a prompt that was seen before costs no prefill. Greedy texts may part at a near tie where batches had
another shape, and then end elsewhere: so seconds are counted per token, and rounds whose lengths differ by much are refused.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from monk.daemon import engine_config
from monk.engine.client import Finished, Sampling, ThoughtRequest
from monk.engine.process import EngineProcess
from monk.engine.template import ChatTemplate
from monk.settings import load
from tests.bench.figures import Figure
from tests.running import RunningDaemon, running

ROUNDS = 3
AHEAD = timedelta(seconds=3)
WAIT_SECONDS = 1800.0
CONTEXT = 2048
MOST_PERCENT = 3.0
MOST_APART = 0.15  # of the tokens of a round
SAMPLING = Sampling(temperature=0.0, top_k=40, top_p=0.95)  # as a chat job with temperature 0 asks


def measured(num_jobs: int, max_tokens: int) -> Iterator[Figure]:
    """Milliseconds per token of both ways, and what one adds to the other."""
    alone, as_jobs, tokens = both_ways(num_jobs, max_tokens)
    told = f"{num_jobs} thoughts"
    how = f"medians of {ROUNDS}, interleaved"
    yield Figure(f"{told} by the engine alone, per token", median(alone), "ms", how=how)
    yield Figure(f"{told} as jobs, {median(tokens):.0f} tokens, per token", median(as_jobs), "ms", how=how)
    added = 100 * (median(as_jobs) - median(alone)) / median(alone)
    yield Figure("what the daemon adds to the engine's time", added, "%", MOST_PERCENT, how=how)


def both_ways(num_jobs: int, max_tokens: int) -> tuple[list[float], list[float], list[int]]:
    """Milliseconds per token of each round alone, of each round as jobs, and the tokens of each round."""
    alone, as_jobs, tokens = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        numbers = {"MONK_JOBS_AT_ONCE": str(num_jobs), "MONK_SLOTS": str(num_jobs), "MONK_CONTEXT": str(CONTEXT)}
        numbers["MONK_TUNE_SECONDS"] = "0"
        engine = EngineProcess(engine_config(load(numbers, home=home)))
        engine.start()
        try:
            with running(home, MONK_NIGHT="always", **numbers) as daemon:
                daemon.wait_for(lambda: daemon.get("/status")["engine"]["state"] == "ready", WAIT_SECONDS, "the model")
                for number in range(ROUNDS + 1):
                    first = think_alone(engine, asked(number, num_jobs), max_tokens)
                    second = think_as_jobs(daemon, asked(number, num_jobs), max_tokens)
                    assert abs(first[1] - second[1]) <= MOST_APART * first[1], f"{first[1]} and {second[1]} tokens"
                    if number:  # the first round warms up
                        alone.append(1000 * first[0] / first[1])
                        as_jobs.append(1000 * second[0] / second[1])
                        tokens.append(first[1])
        finally:
            engine.stop()
    return alone, as_jobs, tokens


def asked(number: int, count: int) -> list[str]:
    """What nobody asked in another round."""
    return [f"Tell a long story about robot {i} on planet {number}. Begin with its name." for i in range(count)]


def think_alone(engine: EngineProcess, questions: list[str], max_tokens: int) -> tuple[float, int]:
    """Seconds and tokens of all thoughts at once, without a daemon."""
    template = ChatTemplate.of(engine.card())

    def one(place: int) -> int:
        segments = template.render([{"role": "user", "content": questions[place]}])
        prompt = tuple(engine.tokenize(segments))
        request = ThoughtRequest(f"t{time.monotonic_ns()}-{place}", prompt, max_tokens, SAMPLING, template.stop)
        end = list(engine.think(request))[-1]
        assert isinstance(end, Finished)
        return end.num_decoded

    began = time.perf_counter()
    with ThreadPoolExecutor(len(questions)) as pool:
        counts = list(pool.map(one, range(len(questions))))
    return time.perf_counter() - began, sum(counts)


def think_as_jobs(daemon: RunningDaemon, questions: list[str], max_tokens: int) -> tuple[float, int]:
    """Seconds from the moment all jobs are due to the end of the last, and the tokens they wrote."""
    due = datetime.now(UTC) + AHEAD
    ids = [
        daemon.submit(
            "chat",
            {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, "temperature": 0.0},
            not_before=due.isoformat(),
        )
        for question in questions
    ]
    time.sleep(AHEAD.total_seconds())
    jobs = wait_ended(daemon, ids)
    ends = [datetime.fromisoformat(job["finished_at"]) for job in jobs]
    return (max(ends) - due).total_seconds(), sum(int(job["result"]["tokens"]) for job in jobs)


def wait_ended(daemon: RunningDaemon, ids: list[str]) -> list[dict[str, Any]]:
    """The jobs once all are done; asked seldom, because asking costs what is measured."""
    deadline = time.monotonic() + WAIT_SECONDS
    while any(daemon.get("/status")["queue"][state] for state in ("waiting", "queued", "running")):
        assert time.monotonic() < deadline, daemon.tail()
        time.sleep(1.0)
    jobs = [daemon.get(f"/jobs/{job_id}") for job_id in ids]
    assert all(job["state"] == "done" for job in jobs), [job["error"] for job in jobs]
    return jobs
