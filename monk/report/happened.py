"""What happened beside the jobs, from events: cuts that were survived, engine deaths, warnings, late runs, documents.

Events are written by many hands, so every field is optional here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any

from db.models import Event
from monk.engine.spared import Spared
from monk.report.scrub import cut, one_line
from monk.report.words import duration

NAMED_MOST = 100  # files of one change, warnings, late runs
Time = Callable[[datetime | None], str | None]


def incidents(events: list[Event]) -> dict[str, int]:
    """How often something broke and went on. `kept_tokens`: for each cut thought, the most that was saved when it went on."""
    engine = [event.data.get("what") for event in events if event.type == "engine"]
    kept: dict[str | None, int] = {}
    for event in events:
        if event.type == "resumed":
            kept[event.thought_id] = max(kept.get(event.thought_id, 0), _whole(event.data.get("saved_tokens")))
    return {
        "engine_deaths": engine.count("died"),
        "engine_restarts": engine.count("restarted"),
        "cut_thoughts": len(kept),
        "kept_tokens": sum(kept.values()),
        "recovered_jobs": len({event.job_id for event in events if event.type == "recovered"}),
        "retried_errors": sum(event.type == "error" for event in events),
    }


def spared(events: list[Event]) -> dict[str, float]:
    """What the engine did not have to compute, by all its notes together."""
    notes = [event.data for event in events if event.type == "engine" and event.data.get("what") == "spared"]
    return {field.name: sum(_amount(note.get(field.name)) for note in notes) for field in fields(Spared)}


def warnings(events: list[Event], time: Time) -> list[dict[str, Any]]:
    """Warnings and engine deaths, oldest first; the same words once, with the time they were first said."""
    told: dict[str, dict[str, Any]] = {}
    for event in events:
        text = _warning(event)
        if text:
            told.setdefault(text, {"at": time(event.at), "text": text, "job_id": event.job_id, "times": 0})[
                "times"
            ] += 1
    return list(told.values())[:NAMED_MOST]


def late(events: list[Event], time: Time) -> list[dict[str, Any]]:
    """Recurring jobs that ran later than they should have."""
    return [
        {"at": time(event.at), "text": _late(event.data), "job_id": event.job_id}
        for event in events
        if event.type == "late"
    ][:NAMED_MOST]


def feedback(events: list[Event]) -> dict[str, int]:
    """How many answers were found useful or wrong, and how many of these were corrected; the last word on each counts."""
    last = {event.job_id: event.data for event in events if event.type == "feedback"}
    wrong = [data for data in last.values() if data.get("verdict") == "wrong"]
    corrected = sum(data.get("corrected") is True for data in wrong)
    return {"useful": len(last) - len(wrong), "wrong": len(wrong), "corrected": corrected}


def corpus_changes(events: list[Event]) -> dict[str, Any]:
    """Files added, updated and removed by all syncs together, each once, in its last role."""
    role: dict[str, str] = {}
    counted = {"added": 0, "updated": 0, "removed": 0}
    for event in events:
        if event.type == "corpus":
            for name in counted:
                counted[name] += _count(event.data.get(name))
                role.update(dict.fromkeys(_files(event.data.get(name)), name))
    lists = {name: sorted(file for file, last in role.items() if last == name) for name in counted}
    changes: dict[str, Any] = {}
    for name, files in lists.items():
        changes[name] = files[:NAMED_MOST]
        changes[f"num_{name}"] = len(files) if role else counted[name]
    return changes


def _warning(event: Event) -> str:
    if event.type == "warning":
        data = event.data
        return one_line(data.get("message") or data.get("text") or data.get("reason") or _spelled(data), 1000)
    if event.type == "engine" and event.data.get("what") == "died":
        why = one_line(event.data.get("error") or event.data.get("message") or event.data.get("reason"), 600)
        return f"the engine died: {why}" if why else "the engine died"
    return ""


def _late(data: dict[str, Any]) -> str:
    name = one_line(data.get("name") or data.get("schedule") or data.get("schedule_id"), 200)
    seconds = data.get("late_by_seconds")
    by = f" {duration(seconds)} late" if isinstance(seconds, int | float) else " late"
    missed = _whole(data.get("runs_missed"))
    for_all = f", once for {missed} missed runs" if missed > 1 else ""
    return f"{name or 'a recurring job'} ran{by}{for_all}"


def _spelled(data: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in data.items()) or "no words were kept"


def _files(value: Any) -> Iterable[str]:
    if not isinstance(value, list):
        return []
    named = (item.get("file") if isinstance(item, dict) else item for item in value)
    return [cut(one_line(file), 500) for file in named if isinstance(file, str)]


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else _whole(value)


def _amount(value: Any) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
