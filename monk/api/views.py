"""Rows as the JSON that people and programs read. Pure: the rows and the moment are arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from db.models import Event, Job, Night, Report, Schedule, Step, Thought, Verdict
from monk.api.moments import iso

SHORT_CHARACTERS = 2000  # of each text of an input in a listing: 200 jobs of 8 MB each must not be one answer
SHORT_ITEMS = 20
Forecasted = tuple[int | None, dict[str, str | None]]


def job_summary(job: Job, forecast: Forecasted) -> dict[str, Any]:
    """A job without what may be large: its result, steps and thoughts, and the length of its input."""
    position, expected = forecast
    return {
        "id": job.id,
        "state": job.state,
        "kind": job.kind,
        "input": shortened(job.input),
        "created_at": iso(job.created_at),
        "position": position,
        "forecast": expected,
        "priority": job.priority,
        "not_before": iso(job.not_before),
        "deadline": iso(job.deadline),
        "adapter": job.adapter,
        "model": job.model,
        "budget": job.budget,
        "used_seconds": round(job.used_seconds, 1),
        "seed": job.seed,
        "tags": job.tags,
        "idempotency_key": job.idempotency_key,
        "schedule_id": job.schedule_id,
        "late_by_seconds": job.late_by_seconds,
        "attempt": job.attempt,
        "errors": job.errors,
        "max_attempts": job.max_attempts,
        "ready_at": iso(job.ready_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "error": job.error,
    }


def job_whole(
    job: Job,
    forecast: Forecasted,
    inside: tuple[list[Step], list[Thought]],
    progress: list[Event],
    cursor: int,
    feedback: Verdict | None,
) -> dict[str, Any]:
    """Everything known of a job. `cursor` is where its event stream goes on from what is told here."""
    steps, thoughts = inside
    so_far = partial_texts(progress)
    return {
        **job_summary(job, forecast),
        "input": job.input,
        "result": job.result,
        "feedback": None if feedback is None else feedback_view(feedback),
        "steps": [step_view(step) for step in steps],
        "thoughts": [thought_view(thought, so_far.get(thought.id, "")) for thought in thoughts],
        "events": {"cursor": cursor, "url": f"/jobs/{job.id}/events?after={cursor}"},
    }


def feedback_view(given: Verdict) -> dict[str, Any]:
    """What a person thinks of the answer."""
    return {"verdict": given.verdict, "correction": given.correction, "note": given.note, "at": iso(given.at)}


def step_view(step: Step) -> dict[str, Any]:
    """A finished step."""
    return {
        "name": step.name,
        "result": step.result,
        "started_at": iso(step.started_at),
        "finished_at": iso(step.finished_at),
    }


def thought_view(thought: Thought, so_far: str) -> dict[str, Any]:
    """One call of the model. While it runs, `text` is what was said so far."""
    return {
        "id": thought.id,
        "name": thought.name,
        "sample": thought.sample,
        "state": "running" if thought.finished_at is None else "done",
        "reason": thought.reason,
        "text": so_far if thought.text is None else thought.text,
        "reasoning": thought.reasoning,
        "answer": thought.answer,
        "max_tokens": thought.max_tokens,
        "num_prompt_tokens": thought.num_prompt_tokens,
        "num_tokens": thought.num_tokens,
        "num_prefilled": thought.num_prefilled,
        "num_resumes": thought.num_resumes,
        "prefill_seconds": round(thought.prefill_seconds, 3),
        "decode_seconds": round(thought.decode_seconds, 3),
        "sampling": thought.sampling,
        "model_sha256": thought.model_sha256,
        "started_at": iso(thought.started_at),
        "finished_at": iso(thought.finished_at),
    }


def partial_texts(progress: Iterable[Event]) -> dict[str, str]:
    """What unfinished thoughts have said so far, by thought id, from their progress events in order."""
    pieces: dict[str, list[str]] = {}
    for event in progress:
        if event.thought_id is not None and event.type == "progress":
            pieces.setdefault(event.thought_id, []).append(str(event.data.get("text", "")))
    return {thought_id: "".join(texts) for thought_id, texts in pieces.items()}


def event_view(event: Event) -> dict[str, Any]:
    """Something that happened."""
    return {
        "id": event.id,
        "type": event.type,
        "job_id": event.job_id,
        "thought_id": event.thought_id,
        "at": iso(event.at),
        "data": event.data,
    }


def night_view(night: Night | None) -> dict[str, Any] | None:
    """A night, or None."""
    if night is None:
        return None
    return {
        "id": night.id,
        "reason": night.reason,
        "opened_at": iso(night.opened_at),
        "closes_at": iso(night.closes_at),
        "closed_at": iso(night.closed_at),
    }


def report_summary(report: Report) -> dict[str, Any]:
    """A report by what it covers; its text is behind the links."""
    return {
        "id": report.id,
        "night_id": report.night_id,
        "since": iso(report.since),
        "until": iso(report.until),
        "created_at": iso(report.created_at),
        "url": f"/reports/{report.id}",
    }


def schedule_view(schedule: Schedule) -> dict[str, Any]:
    """A job that comes back by the clock."""
    return {
        "id": schedule.id,
        "name": schedule.name,
        "cron": schedule.cron,
        "job": schedule.job,
        "created_at": iso(schedule.created_at),
        "last_at": iso(schedule.last_at),
        "next_at": iso(schedule.next_at),
    }


def shortened(value: Any) -> Any:
    """An input as a listing shows it: long texts end in …, of long lists the beginning is shown."""
    if isinstance(value, str):
        return value if len(value) <= SHORT_CHARACTERS else value[: SHORT_CHARACTERS - 1] + "…"
    if isinstance(value, dict):
        return {key: shortened(value[key]) for key in list(value)[:SHORT_ITEMS]}
    if isinstance(value, list):
        return [shortened(item) for item in value[:SHORT_ITEMS]]
    return value
