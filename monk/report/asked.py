"""One job, from its row to what the report keeps of it: what was asked, what came of it, what it cost.

Tolerant of every shape: a kind written by the owner promises no more than an `answer`. All texts are scrubbed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from db.models import Job, Verdict
from db.reporting import Costs, Sample
from monk.drawings import checked, of_result
from monk.errors import InvalidInput
from monk.report.scrub import cut, harmless, one_line, plain
from monk.report.words import advice

QUESTION_CHARACTERS = 4_000
ANSWER_CHARACTERS = 100_000
QUOTE_CHARACTERS = 2_000
SAMPLE_CHARACTERS = 2_000
_PASSAGE = re.compile(r"[0-9a-f]{32}")
Time = Callable[[datetime | None], str | None]


def asked(job: Job, costs: Costs, num_steps: int, time: Time) -> dict[str, Any]:
    """What is told of a job in any state."""
    question = plain(_question(job.kind, job.input))
    return {
        "id": job.id,
        "kind": one_line(job.kind, 80),
        "state": job.state,
        "question": cut(question, QUESTION_CHARACTERS),
        "question_characters": len(question),
        "questions": [cut(plain(one), QUESTION_CHARACTERS) for one in _texts(job.input.get("questions"))],
        "document": one_line(job.input.get("document")) or None,
        "tags": [one_line(tag, 80) for tag in job.tags],
        "priority": job.priority,
        "asked_at": time(job.created_at),
        "started_at": time(job.started_at),
        "ended_at": time(job.finished_at),
        "deadline": time(job.deadline),
        "took_seconds": _took_seconds(job),
        "attempts": job.attempt,
        "errors": job.errors,
        "late_by_seconds": job.late_by_seconds,
        "adapter": one_line(job.adapter) or None,
        "model": harmless(job.model),
        "steps": num_steps,
        "budget": harmless(job.budget),
        "used_seconds": job.used_seconds,
        "cost": asdict(costs),
    }


def outcome(job: Job, samples: list[Sample]) -> dict[str, Any]:
    """What a done job adds: the answer with its citations, the vote, the parts."""
    result = job.result or {}
    told = _answered(result)
    told["parts"] = [
        {"question": cut(plain(part.get("question")), QUESTION_CHARACTERS), **_answered(part)}
        for part in _dicts(result.get("parts"))
    ]
    told["reasoning"] = cut(plain(result.get("reasoning")), SAMPLE_CHARACTERS) or None
    told["warnings"] = [one_line(text) for text in _texts(result.get("warnings"))]
    told["thinking_cut"] = bool(result.get("thinking_cut"))
    told["votes"] = [
        {"answer": one_line(vote.get("answer"), 300), "count": _whole(vote.get("count")) or 0}
        for vote in _dicts(result.get("votes"))
    ]
    told["decided_by"] = one_line(result.get("decided_by"), 40) or None
    told["num_samples"] = _whole(result.get("samples"))
    told["best_sample"] = _whole(result.get("best_sample"))
    told["samples"] = [_sample(sample) for sample in samples]
    told["pictures"] = _pictures(result)
    return told


def _pictures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Plain data of those that can be drawn, with their number in the result, which is that of their address."""
    found: list[dict[str, Any]] = []
    for number, data in enumerate(of_result(result), 1):
        try:
            picture = checked(harmless(data))
        except InvalidInput:
            continue
        found.append({"number": number, "title": one_line(picture.title, 200), "data": picture.model_dump(mode="json")})
    return found


def judged(given: Verdict | None, time: Time) -> dict[str, Any] | None:
    """What a person thinks of the answer; None where nobody said."""
    if given is None:
        return None
    return {
        "verdict": given.verdict,
        "correction": cut(plain(given.correction), ANSWER_CHARACTERS) or None,
        "note": cut(plain(given.note), ANSWER_CHARACTERS) or None,
        "at": time(given.at),
    }


def has_samples(job: Job) -> bool:
    """Whether a job's result was chosen out of several thoughts, which are then shown."""
    result = job.result or {}
    return bool(result.get("votes")) or (_whole(result.get("samples")) or 0) > 1


def failure(job: Job) -> dict[str, Any]:
    """What a failed job adds."""
    return {"error": told_error(job.error), "what_to_do": advice(str((job.error or {}).get("code")))}


def told_error(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """Code and message of an error; None for none."""
    if not error:
        return None
    return {
        "code": one_line(error.get("code"), 80) or "internal",
        "message": one_line(error.get("message"), 2000) or "no message was kept",
        "param": one_line(error.get("param"), 200) or None,
    }


def _answered(result: dict[str, Any]) -> dict[str, Any]:
    text = _answer(result.get("answer"))
    return {
        "answer": cut(text, ANSWER_CHARACTERS),
        "answer_characters": len(text),
        "found": result["found"] if isinstance(result.get("found"), bool) else None,
        "citations": [_citation(citation) for citation in _dicts(result.get("citations"))],
        "unsupported": [cut(plain(text), QUOTE_CHARACTERS) for text in _texts(result.get("unsupported"))],
    }


def _answer(value: Any) -> str:
    if value is None or isinstance(value, str):
        return plain(value).strip("\n")
    return plain("```json\n" + json.dumps(value, ensure_ascii=False, indent=2) + "\n```")


def _citation(citation: dict[str, Any]) -> dict[str, Any]:
    return {
        "file": one_line(citation.get("file"), 500),
        "page": _whole(citation.get("page")),
        "line": _whole(citation.get("line")),
        "quote": cut(plain(citation.get("quote")), QUOTE_CHARACTERS),
        "verified": citation.get("verified") is True,
        "passage": _passage_id(citation.get("passage")),
    }


def _passage_id(value: Any) -> str | None:
    """The id of a stored passage; None for what is none: it becomes a part of a link."""
    return value if isinstance(value, str) and _PASSAGE.fullmatch(value) else None


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "name": one_line(sample.name, 200),
        "sample": sample.sample,
        "ended_by": sample.reason,
        "decoded_tokens": sample.num_tokens,
        "answer": cut(plain(sample.answer), SAMPLE_CHARACTERS),
        "reasoning": cut(plain(sample.reasoning), SAMPLE_CHARACTERS) or None,
    }


def _question(kind: str, input_: dict[str, Any]) -> str:
    """What a person would recognise: the question, the questions, the last message, or the input itself; what is done where
    nothing is asked."""
    if kind == "needle":
        return "how long a prompt the model finds things in"
    if kind == "train":
        return f"train the adapter {input_.get('adapter')}"
    if kind == "bench":
        return f"measure tokens per second, up to {input_.get('context') or 'the usual'} tokens of context"
    if isinstance(input_.get("question"), str):
        return str(input_["question"])
    if questions := _texts(input_.get("questions")):
        return questions[0] if len(questions) == 1 else "\n".join(f"{i}. {one}" for i, one in enumerate(questions, 1))
    if messages := _dicts(input_.get("messages")):
        from_user = [message for message in messages if message.get("role") == "user"] or messages
        return str(from_user[-1].get("content") or "")
    texts = [value for value in input_.values() if isinstance(value, str) and value.strip()]
    return texts[0] if len(texts) == 1 else json.dumps(harmless(input_), ensure_ascii=False)


def _took_seconds(job: Job) -> float | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return max(0.0, (job.finished_at - job.started_at).total_seconds())


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
