"""Jobs as a person reads them. Pure: takes the daemon's JSON, gives text or rows; `terminal` cleans and prints."""

from __future__ import annotations

import json
from typing import Any

from monk.cli.moments import shown
from monk.cli.terminal import one_line
from monk.engine.model_use import said

SUMMARY_CHARACTERS = 200
JOB_HEADERS = ("id", "state", "kind", "created", "asked")


def summary(job: dict[str, Any]) -> str:
    """What a job asks, on one line."""
    given = job.get("input") or {}
    if "input" not in job:
        text = str(job.get("title") or "")
    elif "question" in given:
        text = str(given["question"])
    elif "questions" in given:
        text = f"{given.get('document', '?')}: {'; '.join(str(one) for one in given['questions'])}"
    elif "adapter" in given:
        text = f"train the adapter {given['adapter']}"
    elif "needles" in given and "depths" in given:
        text = "how long a prompt the model finds things in"
    elif job.get("kind") == "bench":
        text = f"measure tokens per second, up to {given.get('context') or 'the usual'} tokens of context"
    elif given.get("messages"):
        text = str(given["messages"][-1].get("content", ""))
    else:
        text = json.dumps(given, ensure_ascii=False)
    return one_line(text, SUMMARY_CHARACTERS)


def job_row(job: dict[str, Any]) -> tuple[str, ...]:
    """One line of `monk jobs`, under JOB_HEADERS."""
    return (str(job["id"]), str(job["state"]), str(job["kind"]), shown(job.get("created_at")), summary(job))


def job_facts(job: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say of a job, name by name, in the order of its life."""
    forecast = job.get("forecast") or {}
    facts = [
        ("state", str(job["state"])),
        ("kind", str(job["kind"])),
        ("asked", summary(job)),
        ("tags", ", ".join(job.get("tags") or [])),
        ("adapter", str(job.get("adapter") or "")),
        ("model", said(job.get("model") or {})),
        ("budget", _budget(job)),
        ("priority", str(job["priority"]) if job.get("priority") else ""),
        ("created", shown(job.get("created_at"))),
        ("not before", _moment(job.get("not_before"))),
        ("deadline", _moment(job.get("deadline"))),
        ("position", str(job["position"] + 1) if job.get("position") is not None else ""),
        ("starts", _moment(forecast.get("starts_at"))),
        ("ends", _moment(forecast.get("ends_at"))),
        ("started", _moment(job.get("started_at"))),
        ("finished", _moment(job.get("finished_at"))),
        ("attempt", str(job["attempt"]) if (job.get("attempt") or 0) > 1 else ""),
        ("error", _error(job)),
        ("warning", "; ".join((job.get("result") or {}).get("warnings") or [])),
        ("feedback", verdict_words(job["feedback"]) if job.get("feedback") else ""),
    ]
    return [(name, value) for name, value in facts if value]


def answer(job: dict[str, Any]) -> str:
    """The answer with its citations, in Markdown; a vote and what could not be borne out are told below."""
    result = job.get("result") or {}
    parts = [str(result.get("answer") or "").strip()]
    if result.get("citations"):
        lines = [citation(number, one) for number, one in enumerate(result["citations"], 1)]
        parts.append("\n".join(lines))
    if result.get("votes"):
        parts.append(_vote(result))
    if result.get("unsupported"):
        said = "\n".join(f"- {one_line(str(sentence))}" for sentence in result["unsupported"])
        parts.append(f"Said by the model, but not borne out by the documents:\n\n{said}")
    return "\n\n".join(part for part in parts if part)


def citation(number: int, cited: dict[str, Any]) -> str:
    """`[1] file, page 3: "quote"`: where it stands, and its very words."""
    place = next((f", {unit} {cited[unit]}" for unit in ("page", "line") if cited.get(unit) is not None), "")
    return f'[{number}] {one_line(str(cited.get("file")))}{place}: "{one_line(str(cited.get("quote")))}"'


def verdict_words(given: dict[str, Any]) -> str:
    """What a person thinks of an answer: "useful", "wrong", "wrong, with a correction"."""
    return f"{given['verdict']}{', with a correction' if given.get('correction') else ''}"


def thought_line(thought: dict[str, Any]) -> str:
    """One call of the model: its name, tokens, speed and how it ended."""
    tokens, seconds = thought.get("num_tokens") or 0, thought.get("decode_seconds") or 0.0
    speed = f", {tokens / seconds:.1f} tokens/s" if seconds else ""
    sample = f" #{thought['sample'] + 1}" if thought.get("sample") else ""
    resumed = f", resumed {thought['num_resumes']} times" if thought.get("num_resumes") else ""
    read = f"{thought.get('num_prompt_tokens') or 0} tokens read, {tokens} written"
    return f"{thought['name']}{sample}: {read}{speed}{resumed}, {thought.get('reason') or 'unfinished'}"


def tokens(job: dict[str, Any]) -> int:
    """Written by all its thoughts."""
    return sum(thought.get("num_tokens") or 0 for thought in job.get("thoughts") or [])


def seconds(job: dict[str, Any]) -> float:
    """Of engine time, reading and writing, in all its thoughts."""
    parts = ("prefill_seconds", "decode_seconds")
    return round(sum(thought.get(part) or 0.0 for thought in job.get("thoughts") or [] for part in parts), 3)


def cost(job: dict[str, Any]) -> str:
    """Tokens and seconds in words."""
    return f"{tokens(job)} tokens, {seconds(job):.1f} s"


def answer_or_error(job: dict[str, Any]) -> str:
    """What came of a job that has ended."""
    return answer(job) if job.get("result") else ": ".join(part for part in (str(job["state"]), _error(job)) if part)


def event_line(at: str | None, type_: str, data: dict[str, Any]) -> str:
    """One event: when, what, and its facts."""
    facts = " ".join(f"{key}={one_line(_short(value), 80)}" for key, value in data.items())
    return f"{shown(at)}  {type_:<12} {facts}".rstrip()


def _budget(job: dict[str, Any]) -> str:
    """What it may spend, and what of its minutes it has."""
    budget = job.get("budget") or {}
    told = [f"{value:g} {name}" for name, value in budget.items()]
    if "minutes" in budget:
        told.append(f"{(job.get('used_seconds') or 0.0) / 60:.1f} minutes used")
    return ", ".join(told)


def _moment(text: str | None) -> str:
    return shown(text) if text else ""


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _error(job: dict[str, Any]) -> str:
    error = job.get("error") or {}
    return f"{error.get('code')}: {error.get('message')}" if error else ""


def _vote(result: dict[str, Any]) -> str:
    votes = ", ".join(f"{one_line(str(vote['answer']), 80)} ({vote['count']})" for vote in result["votes"])
    how = {"vote": "the majority", "judge": "the model's own judgement", "single": "the only answer"}
    return f"Chosen by {how.get(result.get('decided_by', ''), '?')} of {result.get('samples', '?')} samples: {votes}"
