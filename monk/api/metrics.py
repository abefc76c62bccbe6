"""`/metrics`, for Prometheus. The only import of prometheus_client.

Requests are counted as they end; everything else is read from its owner at the moment of the scrape, so that a figure
here and in `/status` is the same figure.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from monk.api.machine import daemon_rss_bytes, database_bytes, disk_bytes
from monk.engine.client import EngineStatus
from monk.services import Services

router = APIRouter()
BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
ENGINE_STATES = ("off", "starting", "ready", "restarting", "failed")


class Meter:
    """One registry for each application: two daemons in one process must not share figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        labels = ("route", "method", "status")
        self._requests = Counter("monk_http_requests", "Requests answered", labels, registry=self.registry)
        self._seconds = Histogram(
            "monk_http_seconds", "Time to answer a request", ("route",), registry=self.registry, buckets=BUCKETS
        )

    def watch(self, services: Services) -> None:
        """Let a scrape read the daemon's own figures too."""
        self.registry.register(_Daemon(services))

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request that has ended; `route` is the pattern, so that ids do not become labels. Status 0: client gone."""
        method = method if method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
        self._requests.labels(route, method, str(status or 499)).inc()
        if not route.endswith("/events"):  # a stream's length is its watcher's patience
            self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """All figures."""
    meter: Meter = request.app.state.parts.meter
    return Response(meter.text(), headers={"content-type": CONTENT_TYPE_LATEST})


class _Daemon(Collector):
    """Figures read at the scrape."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        return []  # keeps registration from reading the database

    def collect(self) -> Iterator[Metric]:
        services = self._services
        yield from _queue(services)
        yield from _engine(services.engine.status())
        yield from _house(services)


def _queue(services: Services) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("monk_jobs", "Jobs by state", labels=["state"])
    for state, number in services.queue.counts().items():
        jobs.add_metric([state], number)
    yield jobs
    yield _gauge("monk_night_open", "1 while a night is open", services.night.current() is not None)


def _engine(status: EngineStatus) -> Iterator[Metric]:
    states = GaugeMetricFamily("monk_engine_state", "1 for the state the engine is in", labels=["state"])
    for state in ENGINE_STATES:
        states.add_metric([state], status.state == state)
    yield states
    tokens = CounterMetricFamily("monk_engine_tokens", "Tokens computed", labels=["phase"])
    seconds = CounterMetricFamily("monk_engine_seconds", "Time spent computing", labels=["phase"])
    for phase, number, spent in (
        ("prefill", status.prefill_tokens, status.prefill_seconds),
        ("decode", status.decode_tokens, status.decode_seconds),
    ):
        tokens.add_metric([phase], number)
        seconds.add_metric([phase], spent)
    yield from (tokens, seconds)
    yield CounterMetricFamily("monk_engine_restarts", "Times the engine was restarted", value=status.num_restarts)
    yield _gauge("monk_engine_thoughts_active", "Thoughts that hold a slot", status.active)
    yield _gauge("monk_engine_thoughts_waiting", "Thoughts that wait for a slot", status.waiting)
    yield _gauge("monk_engine_rss_bytes", "Resident memory of the engine", status.rss_bytes)
    yield from _sharing(status)


def _sharing(status: EngineStatus) -> Iterator[Metric]:
    """What did not have to be computed again, and the KV on disk that saves it."""
    spared = CounterMetricFamily(
        "monk_engine_spared_tokens",
        "Prompt tokens that were not computed: taken over, or read with others",
        labels=["by"],
    )
    spared.add_metric(["sharing"], status.shared_tokens)
    spared.add_metric(["forking"], status.forked_tokens)
    yield spared
    yield _counter("monk_engine_thoughts_deduplicated", "Thoughts that an identical one answered", status.deduplicated)
    yield _counter("monk_engine_drafted_tokens", "Guessed tokens that were computed", status.drafted_tokens)
    yield _counter("monk_engine_accepted_tokens", "Guessed tokens that answers went on with", status.accepted_tokens)
    kv = status.kv
    blocks = CounterMetricFamily("monk_kv_blocks", "KV blocks by what became of them", labels=["result"])
    for result in ("hits", "misses", "failures", "write_errors", "declined"):
        blocks.add_metric([result], getattr(kv, result))
    blocks.add_metric(["written"], kv.blocks_written)
    yield blocks
    yield _counter("monk_kv_written_bytes", "KV written to disk", kv.bytes_written)
    yield _counter("monk_kv_restored_tokens", "Prompt tokens restored from disk", kv.tokens_restored)
    yield _counter("monk_kv_saved_seconds", "Prefill time that KV from disk has saved", kv.seconds_saved)
    yield _gauge("monk_kv_held_bytes", "KV on disk", kv.bytes_held)


def _house(services: Services) -> Iterator[Metric]:
    yield _gauge("monk_rss_bytes", "Resident memory of the daemon", daemon_rss_bytes())
    yield _gauge("monk_database_bytes", "Size of the database with its log", database_bytes(services.database.path))
    yield _gauge("monk_disk_free_bytes", "Free space where the home is", disk_bytes(services.settings.home)[0])
    uptime = (services.now() - services.started_at).total_seconds()
    yield _gauge("monk_uptime_seconds", "Time since the daemon started", uptime)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=float(value))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
