"""One job of a report in words: its heading, how it ended or stands, what it cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from jobs.phrases import phrase
from monk.engine.model_use import said
from monk.report import words
from monk.report.scrub import one_line
from monk.report.view import Block, Fold, JobView, Picture, Quote
from monk.report.words import from_json as _time

TITLE_CHARACTERS = 140
Data = dict[str, Any]


def done(job: Data, until: datetime, links: str | None) -> JobView:
    """A job with its answer, or its answers part by part. `links`: what a link to a passage begins with."""
    parts = job.get("parts") or []
    several = parts if len(parts) > 1 else [{**job, "question": ""}]
    blocks = [
        _block(part, f"{job['id']}-{i}", links, part["question"] or job["question"])
        for i, part in enumerate(several, 1)
    ]
    return JobView(
        **_common(job),
        when=_asked(job, until) + (f", done {words.moment(_time(job['ended_at']), until)}"),
        facts=[*_found(job), *_remarks(job, until), *_warned(job), *_verdict(job.get("feedback"))],
        blocks=blocks,
        votes=[f"{vote['answer']}: {words.count(vote['count'], 'sample')}" for vote in job["votes"]],
        vote_title=_vote_title(job),
        folds=_folds(job),
        pictures=_pictures(job, links),
        cost=_cost(job),
    )


def _pictures(job: Data, links: str | None) -> list[Picture]:
    """Behind a token a link would lead nowhere: only the page knows it, and the page shows no pictures."""
    start = None if links is None or "#" in links else f"{links}/jobs/{job['id']}/pictures"
    return [
        Picture(one["title"], one["data"], "" if start is None else f"{start}/{one['number']}.svg")
        for one in job.get("pictures") or []
    ]


def _found(job: Data) -> list[str]:
    return ["Nothing was found in the documents."] if job["found"] is False else []


def _warned(job: Data) -> list[str]:
    return [f"Warning: {text}." for text in job.get("warnings") or []]


def _verdict(given: Data | None) -> list[str]:
    """What a person thought of the answer."""
    if given is None:
        return []
    corrected = ", with a correction" if given["correction"] else ""
    return [f"Marked {given['verdict']}{corrected}."]


def _block(part: Data, anchor: str, links: str | None, question: str) -> Block:
    """One answer; what is said around it is in the language of the question."""
    quotes = [_quote(number, citation, links, question) for number, citation in enumerate(part["citations"], 1)]
    note = "" if part["answer"] else "No answer was given."
    if part["answer_characters"] > len(part["answer"]):
        note = f"Cut here: {words.number(part['answer_characters'])} characters in all, kept with the job."
    aside = phrase("aside", question)
    return Block(anchor, part["question"], part["answer"], note, quotes, part["unsupported"], aside)


def _quote(number: int, citation: Data, links: str | None, question: str) -> Quote:
    return Quote(
        number=number,
        file=citation["file"],
        place=_place(citation),
        text=citation["quote"],
        verified=citation["verified"],
        mark=phrase("verified" if citation["verified"] else "unverified", question),
        link=link_to(citation, links),
    )


def _place(citation: Data) -> str:
    for unit in ("page", "line"):
        if citation[unit] is not None:
            return f"{unit} {citation[unit]}"
    return ""


def link_to(citation: Data, links: str | None) -> str:
    """The address at which the daemon shows the passage of a citation; empty where it cannot be reached by a browser."""
    if links is None:
        return ""
    if passage := citation.get("passage"):
        return f"{links}/corpus/passages/{passage}"
    place = {unit: citation[unit] for unit in ("page", "line") if citation[unit] is not None}
    return f"{links}/corpus/passages?{urlencode({'file': citation['file'], **place})}" if citation["verified"] else ""


def _vote_title(job: Data) -> str:
    if not job["votes"]:
        return ""
    samples = f" of {words.count(job['num_samples'], 'sample')}" if job["num_samples"] else ""
    how = {"judge": "Judged by the model, since no two agreed", "vote": "The vote"}.get(job["decided_by"], "The vote")
    return f"{how}{samples}"


def _folds(job: Data) -> list[Fold]:
    folds = [Fold("Reasoning", job["reasoning"])] if job["reasoning"] else []
    for place, sample in enumerate(job["samples"]):
        chosen = ", chosen" if sample["name"] == "sample" and sample["sample"] == job["best_sample"] else ""
        ended = {"length": ", cut at its limit", "minutes": ", cut by time"}.get(sample["ended_by"], "")
        title = (
            f"Thought {place + 1} ({sample['name']}, {words.count(sample['decoded_tokens'], 'token')}{ended}{chosen})"
        )
        reasoning = f"{sample['reasoning']}\n\n---\n\n" if sample["reasoning"] else ""
        folds.append(Fold(title, reasoning + sample["answer"]))
    return folds


def failed(job: Data, until: datetime) -> JobView:
    """A job with its error, what to do about it, and the command for it."""
    error, ended = job["error"] or {"code": "internal", "message": "no message was kept"}, _time(job["ended_at"])
    kept = words.count(job["steps"], "finished step")
    facts = [f"{kept} {'is' if job['steps'] == 1 else 'are'} kept and not done again."] if job["steps"] else []
    return JobView(
        **_common(job),
        when=f"{_asked(job, until)}, failed {words.moment(ended, until)}",
        facts=[*facts, *_remarks(job, until)],
        error=f"{error['code']}: {error['message']}",
        what_to_do=job["what_to_do"],
        command=f"monk retry {job['id']}",
        cost=_cost(job),
    )


def cancelled(job: Data, until: datetime) -> JobView:
    """A job that a person ended."""
    when = f"{_asked(job, until)}, cancelled {words.moment(_time(job['ended_at']), until)}"
    return JobView(
        **_common(job), when=when, facts=_remarks(job, until), command=f"monk retry {job['id']}", cost=_cost(job)
    )


def left(job: Data, until: datetime) -> JobView:
    """A job that is running, queued or waiting, with its forecast."""
    facts = [_standing(job, until), *_forecast(job, until), *_remarks(job, until)]
    if saved := job["cost"]["decoded_tokens"]:
        facts.append(f"{words.count(saved, 'token')} of it saved; it goes on from there.")
    if job["last_error"]:
        facts.append(f"Last error: {job['last_error']['code']}: {job['last_error']['message']}")
    return JobView(**_common(job), when=_asked(job, until), facts=facts, cost="")


def _standing(job: Data, until: datetime) -> str:
    if job["state"] == "running":
        return "Running."
    if job["state"] == "waiting":
        return f"Waiting until {words.moment(_time(job['ready_at']), until)}."
    ahead = job["position"]
    if ahead is None:
        return "Queued."
    return "Queued: next." if ahead == 0 else f"Queued: {words.count(ahead, 'job')} before it."


def _forecast(job: Data, until: datetime) -> list[str]:
    starts, ends = (words.moment(_time(job[key]), until) if job[key] else "" for key in ("starts_at", "ends_at"))
    if job["state"] == "running":
        return [f"Expected to end {ends}."] if ends else []
    told = [*([f"to start {starts}"] if starts else []), *([f"to end {ends}"] if ends else [])]
    return [f"Expected {' and '.join(told)}."] if told else []


def _common(job: Data) -> dict[str, Any]:
    return {
        "id": job["id"],
        "title": _heading(job),
        "question": _in_full(job),
        "kind": f"{job['kind']}, {job['document']}" if job["document"] else job["kind"],
        "tags": job["tags"],
    }


def _heading(job: Data) -> str:
    if len(job["questions"]) > 1:
        more = words.count(len(job["questions"]) - 1, "question")
        return f"{one_line(job['questions'][0], TITLE_CHARACTERS)} (and {more} more)"
    return one_line(job["question"], TITLE_CHARACTERS) or "(no question)"


def _in_full(job: Data) -> str:
    """The question where the heading does not say all of it, and no part of the answer says it again."""
    question = job["question"]
    if question.strip() == _heading(job) or len(job["questions"]) == len(job.get("parts") or ()) > 1:
        return ""
    if job["question_characters"] > len(question):
        question += f"\n({words.number(job['question_characters'])} characters in all, kept with the job.)"
    return str(question)


def _asked(job: Data, until: datetime) -> str:
    priority = f"priority {job['priority']}, " if job["priority"] else ""
    return f"{priority}asked {words.moment(_time(job['asked_at']), until)}"


def _remarks(job: Data, until: datetime) -> list[str]:
    """What is worth a word because it is not as usual."""
    cost, remarks = job["cost"], []
    if job["late_by_seconds"]:
        remarks.append(f"A recurring job that ran {words.duration(job['late_by_seconds'])} late.")
    if job["deadline"]:
        remarks.append(f"Deadline {words.moment(_time(job['deadline']), until)}.")
    if job["adapter"]:
        remarks.append(f"Adapter {job['adapter']}.")
    if model := job.get("model"):
        remarks.append(f"Run with {said(model)}.")
    if job["errors"] or job["attempts"] > 1:
        errors = f", {words.count(job['errors'], 'error')}" if job["errors"] else ""
        remarks.append(f"{words.count(job['attempts'], 'attempt')}{errors}.")
    if minutes := (job.get("budget") or {}).get("minutes"):
        remarks.append(f"Budget {words.duration(60 * minutes)}, used {words.duration(job['used_seconds'])}.")
    if job.get("thinking_cut"):
        remarks.append("Its thinking was ended by the budget; then it answered.")
    if cost["resumes"]:
        remarks.append(f"Cut {words.times(cost['resumes'])}, and went on.")
    if cost["cut_by_limit"]:
        thoughts = words.count(cost["cut_by_limit"], "thought")
        remarks.append(
            f"{thoughts} ended at the token limit, not by {'itself' if cost['cut_by_limit'] == 1 else 'themselves'}."
        )
    if cost.get("cut_by_minutes"):
        remarks.append(f"{words.count(cost['cut_by_minutes'], 'thought')} ended when the minutes were used up.")
    return remarks


def _cost(job: Data) -> str:
    cost = job["cost"]
    if not cost["thoughts"]:
        return f"Took {words.duration(job['took_seconds'])}, no thought." if job["took_seconds"] is not None else ""
    took = f"Took {words.duration(job['took_seconds'])}: " if job["took_seconds"] is not None else ""
    told = f"{words.count(cost['thoughts'], 'thought')}, {words.number(cost['prefilled_tokens'])} tokens read in "
    told += f"{words.duration(cost['prefill_seconds'])}, {words.number(cost['decoded_tokens'])} written in "
    return f"{took}{told}{words.duration(cost['decode_seconds'])} of engine time."
