"""The data of a report: everything it says, as JSON. The three formats are made from this and from nothing else.

Schema `night-monk.report/1`. Times are RFC 3339 in the night's zone, numbers are raw with the unit in the name, texts are
scrubbed of control characters but not escaped. A field may be null where nothing is known. New fields may be added; the
meaning of one changes only with the schema's number.

    schema, since, until, created_at, time_zone
    links                    where passages are opened: the daemon's address, or null when a browser cannot reach it
    empty                    nothing happened and nothing is left
    night                    the newest of `nights`, or null
    nights[]                 id, reason, opened_at, closes_at, closed_at, open_seconds, clock_shift_seconds
    next_night_at            when the next night opens by the clock
    counts                   done, failed, cancelled, left; of these running, queued, waiting; not_told (beyond the list's limit)
    done[] failed[] cancelled[] left[]      jobs, most important first; each has
        id, kind, state, question, question_characters, questions[], document, tags, priority, asked_at, started_at,
        ended_at, deadline, took_seconds, attempts, errors, late_by_seconds, adapter, model, steps, budget
        used_seconds         it has run, in all attempts
        cost                 thoughts, prompt_tokens, prefilled_tokens, decoded_tokens, prefill_seconds, decode_seconds,
                             resumes, cut_by_limit, cut_by_minutes
        done                 answer (Markdown), answer_characters, found, citations[] {file, page, line, quote, verified,
                             passage},
                             unsupported[], parts[] {question and the five before}, votes[] {answer, count}, decided_by,
                             num_samples, best_sample (from 0), samples[], reasoning, thinking_cut, warnings[],
                             pictures[] {number (from 1), title, data (see monk/drawings.py)},
                             feedback: null, or verdict (useful, wrong), correction, note, at
        failed               error {code, message, param}, what_to_do
        left                 position (jobs that go first), starts_at, ends_at (forecast), ready_at, last_error
    corpus                   embedding_model, documents, passages, num_unreadable, unreadable[] {file, reason, new};
                             changes: added[], updated[], removed[] and their counts num_added, num_updated, num_removed
    costs                    of the window, open thoughts included: thoughts (ended), prefilled_tokens, decoded_tokens,
                             prefill_seconds, decode_seconds; speeds are measured on thoughts that were never cut:
                             prefill_tokens_per_second, decode_tokens_per_second
    engine                   state, model, context_tokens, slots, memory_bytes, peak_memory_bytes, last_error
    spared                   what the engine did not have to compute: restored_tokens, restored_blocks, missed_blocks,
                             failed_blocks, saved_seconds (KV on disk); shared_tokens, forked_tokens (of prompts),
                             identical_thoughts, guessed_tokens, accepted_tokens
    incidents                engine_deaths, engine_restarts, cut_thoughts, kept_tokens, recovered_jobs, retried_errors
    warnings[]               at (first said), text, job_id, times
    late[]                   at, text, job_id: recurring jobs that ran late
    feedback                 given in the window, of any job: useful, wrong, corrected (of these)
    files[]                  names of the written files in the reports folder
    window                   bookkeeping by which the next report goes on: chained, after_event, last_event, open_costs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, tzinfo
from typing import Any

from db.models import Job, Night
from db.reporting import Costs, Reporting, Sample, Snapshot, Told, Window
from monk.report.asked import SAMPLE_CHARACTERS, asked, failure, has_samples, judged, outcome, told_error
from monk.report.happened import corpus_changes, feedback, incidents, late, spared, warnings
from monk.report.scrub import one_line
from monk.services import Forecaster

SCHEMA = "night-monk.report/1"
FINAL = ("done", "failed", "cancelled")
LEFT = ("running", "queued", "waiting")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is not in the database: where and when it is, and snapshots of the live parts."""

    zone: tzinfo
    now: datetime
    next_night_at: datetime | None
    engine: dict[str, Any]
    embedding_model: str | None
    forecaster: Forecaster
    links: str | None


def gather(reporting: Reporting, window: Window, told: Told | None, around: Surroundings) -> dict[str, Any]:
    """Look once, and say all of it. JSON values only."""
    seen = reporting.look(window)
    until = window.until or around.now
    since = min(window.since or seen.first_at or until, until)
    time = _local(around.zone)
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "since": time(since),
        "until": time(until),
        "created_at": time(around.now),
        "time_zone": str(around.zone),
        "links": around.links,
        "nights": [_night(night, until, around.zone) for night in seen.nights],
        "next_night_at": time(around.next_night_at),
        "counts": _counts(seen),
        **_jobs(reporting, seen, around.forecaster, time),
        "corpus": {"embedding_model": around.embedding_model, **_corpus(seen, told)},
        "costs": _costs(seen, told if window.chained else None, window.chained),
        "engine": _engine(around.engine, seen),
        "spared": spared(seen.events),
        "incidents": incidents(seen.events),
        "warnings": warnings(seen.events, time),
        "late": late(seen.events, time),
        "feedback": feedback(seen.events),
        "window": _window(window, seen),
    }
    data["night"] = data["nights"][-1] if data["nights"] else None
    data["empty"] = is_empty(data)
    return data


def is_empty(data: dict[str, Any]) -> bool:
    """Whether there is nothing to tell: no job ended or is left, nothing was read anew, nothing went wrong."""
    counts, corpus = data["counts"], data["corpus"]
    return not (
        any(counts[state] for state in (*FINAL, "left"))
        or any(corpus[key] for key in ("num_added", "num_updated", "num_removed"))
        or any(document["new"] for document in corpus["unreadable"])
        or any(data["incidents"].values())
        or data["warnings"]
        or data["late"]
    )


def _local(zone: tzinfo) -> Callable[[datetime | None], str | None]:
    return lambda at: None if at is None else at.astimezone(zone).isoformat()


def _night(night: Night, until: datetime, zone: tzinfo) -> dict[str, Any]:
    time = _local(zone)
    end = night.closed_at or max(until, night.opened_at)
    opened, closed = night.opened_at.astimezone(zone), end.astimezone(zone)
    shift = (closed.utcoffset() or opened - opened) - (opened.utcoffset() or opened - opened)
    return {
        "id": night.id,
        "reason": night.reason,
        "opened_at": time(night.opened_at),
        "closes_at": time(night.closes_at),
        "closed_at": time(night.closed_at),
        "open_seconds": (end - night.opened_at).total_seconds(),
        "clock_shift_seconds": int(shift.total_seconds()),
    }


def _counts(seen: Snapshot) -> dict[str, int]:
    ended = {state: seen.ended_counts.get(state, 0) for state in FINAL}
    left = {state: seen.left_counts.get(state, 0) for state in LEFT}
    not_told = sum(ended.values()) - len(seen.ended) + sum(left.values()) - len(seen.left)
    return {**ended, "left": sum(left.values()), **left, "not_told": not_told}


def _jobs(reporting: Reporting, seen: Snapshot, forecaster: Forecaster, time: Any) -> dict[str, list[Any]]:
    samples = reporting.samples([job.id for job in seen.ended if has_samples(job)], SAMPLE_CHARACTERS)
    lists: dict[str, list[Any]] = {state: [] for state in (*FINAL, "left")}
    for job in seen.ended:
        lists[job.state].append(_asked(job, seen, time) | _came_of(job, seen, samples, time))
    lists["left"] = [_asked(job, seen, time) | _forecast(job, forecaster, time) for job in seen.left]
    return lists


def _came_of(job: Job, seen: Snapshot, samples: dict[str, list[Sample]], time: Any) -> dict[str, Any]:
    if job.state == "done":
        given = judged(seen.verdicts_by_job.get(job.id), time)
        return {**outcome(job, samples.get(job.id, [])), "feedback": given}
    return failure(job) if job.state == "failed" else {}


def _asked(job: Job, seen: Snapshot, time: Any) -> dict[str, Any]:
    return asked(job, seen.costs_by_job.get(job.id, Costs()), seen.steps_by_job.get(job.id, 0), time)


def _forecast(job: Job, forecaster: Forecaster, time: Any) -> dict[str, Any]:
    position, forecast = forecaster.of(job)
    return {
        "position": position,
        "starts_at": _moved(forecast.get("starts_at"), time),
        "ends_at": _moved(forecast.get("ends_at"), time),
        "ready_at": time(job.ready_at) if job.state == "waiting" else None,
        "last_error": told_error(job.error),
    }


def _moved(moment: str | None, time: Any) -> Any:
    return None if not moment else time(datetime.fromisoformat(moment))


def _corpus(seen: Snapshot, told: Told | None) -> dict[str, Any]:
    before = {(item.get("file"), item.get("reason")) for item in (told.unreadable if told else ())}
    named = [(one_line(row.path), one_line(row.problem)) for row in seen.unreadable]
    return {
        "documents": seen.num_documents,
        "passages": seen.num_passages,
        "num_unreadable": seen.num_unreadable,
        "unreadable": [{"file": file, "reason": why, "new": (file, why) not in before} for file, why in named],
        **corpus_changes(seen.events),
    }


def _costs(seen: Snapshot, told: Told | None, chained: bool) -> dict[str, Any]:
    """Ended thoughts, plus what open ones cost by now, less what they had cost when the last report counted them."""
    before = told.open_costs if told else {}
    spent: dict[str, Any] = {"thoughts": seen.spent.thoughts}
    for name in ("prefilled_tokens", "decoded_tokens", "prefill_seconds", "decode_seconds"):
        still_open = getattr(seen.open, name) - (before.get(name) or 0) if chained else 0
        spent[name] = max(0, getattr(seen.spent, name) + still_open)
    spent["prefill_tokens_per_second"] = _speed(seen.uncut.prefilled_tokens, seen.uncut.prefill_seconds)
    spent["decode_tokens_per_second"] = _speed(seen.uncut.decoded_tokens, seen.uncut.decode_seconds)
    return spent


def _speed(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if tokens and seconds > 0 else None


def _engine(engine: dict[str, Any], seen: Snapshot) -> dict[str, Any]:
    """The snapshot, filled from the engine's events where it is off by now, and the most memory it was seen with."""
    told = [event.data for event in seen.events if event.type == "engine"]
    sizes = [data.get(name) for data in told for name in ("peak_rss_bytes", "rss_bytes")]
    known = [size for size in (*sizes, engine["memory_bytes"]) if isinstance(size, int) and size > 0]
    names = [one_line(data["model"], 200) for data in told if data.get("model")]
    model = engine["model"] or (names[-1] if names else None)
    return {**engine, "model": model, "peak_memory_bytes": max(known, default=None)}


def _window(window: Window, seen: Snapshot) -> dict[str, Any]:
    return {
        "chained": window.chained,
        "after_event": window.after_event,
        "last_event": seen.last_event,
        "open_costs": asdict(seen.open),
    }
