"""`/health`, `/status`, `/kinds`: how the daemon is, and what may be asked of it. None of them waits for the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from monk import __version__
from monk.api.machine import daemon_rss_bytes, database_bytes, disk_bytes, memory_bytes
from monk.api.moments import iso
from monk.api.parts import parts_of
from monk.api.views import night_view
from monk.api.wire import JsonResponse
from monk.engine.client import EngineStatus, ModelCard
from monk.services import Services

router = APIRouter()
LOW_DISK_BYTES = 1 << 30


@router.get("/health")
async def health() -> Response:
    """200 as soon as we listen; for load balancers and watchdogs. Asks nobody."""
    return JsonResponse({"status": "ok"})


@router.get("/status")
def status(request: Request) -> Response:
    """Everything at a glance."""
    services = parts_of(request).services
    now, engine, reading = services.now(), services.engine.status(), services.reading.progress()
    (disk_free, disk_total), (available, total) = disk_bytes(services.settings.home), memory_bytes()
    kind_problems = services.kinds.problems()
    return JsonResponse(
        {
            "version": __version__,
            "now": iso(now),
            "started_at": iso(services.started_at),
            "uptime_seconds": round((now - services.started_at).total_seconds(), 1),
            "night": night_of(services),
            "queue": services.queue.counts(),
            "engine": engine_view(engine, _names(services) if engine.wears else {}),
            "reach": None if (reach := services.reach()) is None else reach.summary(),
            "corpus": {**reading, "folder": str(services.settings.corpus_folder)},
            "kinds": {"names": sorted(services.kinds.all()), "problems": kind_problems},
            "disk": {"free_bytes": disk_free, "total_bytes": disk_total},
            "memory": {"available_bytes": available, "total_bytes": total, "daemon_rss_bytes": daemon_rss_bytes()},
            "database": {"bytes": database_bytes(services.database.path)},
            "problems": problems(engine, reading, disk_free, kind_problems, services.problem()),
        }
    )


@router.get("/kinds")
def kinds(request: Request) -> Response:
    """What can be asked, with the JSON schema of each input."""
    known = parts_of(request).services.kinds
    told = [
        {
            "name": kind.name,
            "summary": kind.summary,
            "source": kind.source,
            "input": kind.input_model.model_json_schema(),
        }
        for _, kind in sorted(known.all().items())
    ]
    return JsonResponse({"kinds": told, "problems": known.problems()})


def night_of(services: Services) -> dict[str, Any]:
    """Whether it is night, until when, and when the next one begins."""
    night = services.night.current()
    closed = {"reason": None, "opened_at": None, "closes_at": None, "closed_at": None, "id": None}
    return {
        "open": night is not None,
        "next_open_at": iso(services.night.next_open_at()),
        **(night_view(night) or closed),
        "window": services.settings.night,
        "days": services.settings.night_days,
    }


def _names(services: Services) -> dict[str, str]:
    """Of the adapters on the shelf, by hash."""
    return {one.sha256: one.name for one in services.shelf.listing()}


def engine_view(status: EngineStatus, names: Mapping[str, str]) -> dict[str, Any]:
    """The engine's state, with its speed so far (tokens per second; None before the first). `names` of adapters by hash."""
    return {
        "state": status.state,
        "pid": status.pid,
        "model": _card(status.model),
        "num_restarts": status.num_restarts,
        "last_error": status.last_error,
        "active": status.active,
        "waiting": status.waiting,
        "rss_bytes": status.rss_bytes,
        "prefill_tokens": status.prefill_tokens,
        "decode_tokens": status.decode_tokens,
        "prefill_seconds": round(status.prefill_seconds, 3),
        "decode_seconds": round(status.decode_seconds, 3),
        "prefill_tokens_per_second": _rate(status.prefill_tokens, status.prefill_seconds),
        "decode_tokens_per_second": _rate(status.decode_tokens, status.decode_seconds),
        "shared_tokens": status.shared_tokens,
        "forked_tokens": status.forked_tokens,
        "deduplicated": status.deduplicated,
        "runs_with": status.runs_with,
        "wears": [{"name": names.get(worn["sha256"]), **worn} for worn in status.wears],
        "waves": status.waves,
        "drafted_tokens": status.drafted_tokens,
        "accepted_tokens": status.accepted_tokens,
        "kv": {**asdict(status.kv), "seconds_saved": round(status.kv.seconds_saved, 3)},
        "silent_seconds": round(max(0.0, time.monotonic() - status.beat_at), 1) if status.pid else None,
    }


def problems(
    engine: EngineStatus, reading: dict[str, Any], disk_free: int, known: list[str], held: str | None
) -> list[str]:
    """What a person should look at, one line each; empty when all is well.

    `known`: what others found already; `held`: why jobs do not run, which may be the engine's reason: told once.
    """
    found = [*known, *([f"jobs do not run: {held}"] if held is not None else [])]
    if engine.state in ("failed", "restarting") and (held is None or engine.last_error != held):
        found.append(f"the engine is {engine.state}: {engine.last_error or 'it gave no reason'}")
    if reading.get("error"):
        found.append(f"the corpus could not be read: {reading['error']}")
    if disk_free < LOW_DISK_BYTES:
        found.append(f"only {disk_free >> 20} MiB are free where the home is; make room before the night")
    return found


def _card(card: ModelCard | None) -> dict[str, Any] | None:
    if card is None:
        return None
    shown = ("name", "path", "sha256", "architecture", "num_parameters", "weight_bytes", "train_context", "context")
    return {name: getattr(card, name) for name in (*shown, "slots", "kv_bytes_per_token", "tuning")}


def _rate(tokens: int, seconds: float) -> float | None:
    return round(tokens / seconds, 2) if seconds > 0 else None
