"""What the report says beside the jobs, in words: the documents, the night in figures, what broke and went on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from monk.report import words

Data = dict[str, Any]


def unreadable(data: Data) -> list[tuple[str, str, bool]]:
    """File, reason, and whether it is new since the last report; new ones first."""
    found = [(item["file"], item["reason"], item["new"]) for item in data["corpus"]["unreadable"]]
    return sorted(found, key=lambda item: not item[2])


def corpus(data: Data) -> list[str]:
    """What the index holds, and what was left off the list of unreadable files."""
    held = data["corpus"]
    told = [f"{words.count(held['documents'], 'document')} and {words.count(held['passages'], 'passage')} are indexed."]
    if more := held["num_unreadable"] - len(held["unreadable"]):
        told.append(f"{words.count(more, 'more file')} could not be read; monk corpus status lists all.")
    return told


def changes(data: Data) -> list[tuple[str, list[str], int]]:
    """What was added, updated and removed: files, and how many more than are named."""
    held = data["corpus"]
    return [
        (f"{words.number(held[f'num_{name}'])} {name}", held[name], held[f"num_{name}"] - len(held[name]))
        for name in ("added", "updated", "removed")
        if held[f"num_{name}"]
    ]


def figures(data: Data) -> list[tuple[str, str]]:
    """The night in figures."""
    costs, engine = data["costs"], data["engine"]
    rows = [
        ("Thoughts ended", words.number(costs["thoughts"])),
        ("Read", _spent(costs, "prefill")),
        ("Written", _spent(costs, "decode")),
        ("Read before", _restored(data["spared"])),
        ("Read together", _shared(data["spared"])),
        ("Guessed right", _guessed(data["spared"])),
        ("Marked by you", _verdicts(data.get("feedback"))),
        ("Model", _model(engine)),
        ("Embedding model", data["corpus"]["embedding_model"] or ""),
        ("Engine", "failed" if engine["state"] == "failed" else ""),
        ("Engine memory", _memory(engine)),
    ]
    return [(label, value) for label, value in rows if value]


def incidents(data: Data) -> list[str]:
    """One sentence for each way something broke and went on."""
    told = data["incidents"]
    sentences = []
    if cut := told["cut_thoughts"]:
        kept = words.count(told["kept_tokens"], "token")
        sentences.append(f"{words.count(cut, 'thought was', 'thoughts were')} cut and went on: {kept} saved.")
    if jobs := told["recovered_jobs"]:
        sentences.append(f"{words.count(jobs, 'job')} went back to the queue after a crash.")
    if errors := told["retried_errors"]:
        sentences.append(f"{words.count(errors, 'error was', 'errors were')} followed by another attempt.")
    if failed := data["spared"]["failed_blocks"]:
        blocks = words.count(failed, "block of KV was", "blocks of KV were")
        sentences.append(f"{blocks} found wrong, deleted and computed anew.")
    if deaths := told["engine_deaths"]:
        sentences.append(f"The engine died {words.times(deaths)}.")
    if restarts := told["engine_restarts"]:
        sentences.append(f"The engine was restarted {words.times(restarts)}.")
    if error := data["engine"]["last_error"]:
        sentences.append(f"The engine's last error: {error}")
    return sentences


def warnings(data: Data, until: datetime) -> list[str]:
    """Warnings and late runs, each with its time."""
    told = []
    for item in (*data["warnings"], *data["late"]):
        times = f" ({words.times(item['times'])})" if item.get("times", 1) > 1 else ""
        told.append(f"{words.moment(words.from_json(item['at']), until)} {item['text']}{times}")
    return told


def _spent(costs: Data, phase: str) -> str:
    tokens, seconds = costs[f"{'prefilled' if phase == 'prefill' else 'decoded'}_tokens"], costs[f"{phase}_seconds"]
    if not tokens:
        return ""
    speed = costs[f"{phase}_tokens_per_second"]
    at = f", {words.speed(speed)}" if speed else ""
    return f"{words.count(tokens, 'token')} in {words.duration(seconds)} of engine time{at}"


def _restored(spared: Data) -> str:
    """Of prompts computed in this night or an earlier one, and kept on disk."""
    if not spared["restored_blocks"]:
        return ""
    blocks = words.count(spared["restored_blocks"], "proved block")
    saved = words.duration(spared["saved_seconds"])
    return f"{words.count(spared['restored_tokens'], 'token')} from disk in {blocks}, {saved} saved"


def _shared(spared: Data) -> str:
    tokens, twins = spared["shared_tokens"] - spared["restored_tokens"] + spared["forked_tokens"], ""
    if spared["identical_thoughts"]:
        twins = words.count(spared["identical_thoughts"], "identical thought")
    told = words.count(tokens, "token") + " of prompts that had the same beginning" if tokens > 0 else ""
    return ", ".join(part for part in (told, twins) if part)


def _guessed(spared: Data) -> str:
    if not spared["guessed_tokens"]:
        return ""
    return f"{words.number(spared['accepted_tokens'])} of {words.count(spared['guessed_tokens'], 'token')} tried"


def _verdicts(given: Data | None) -> str:
    """What people thought of answers, those of earlier nights among them."""
    if given is None:
        return ""
    told = [f"{words.number(given['useful'])} useful"] if given["useful"] else []
    corrected = f" ({words.number(given['corrected'])} with a correction)" if given["corrected"] else ""
    told += [f"{words.number(given['wrong'])} wrong{corrected}"] if given["wrong"] else []
    return ", ".join(told)


def _model(engine: Data) -> str:
    if not engine["model"]:
        return ""
    context = f", {words.number(engine['context_tokens'])} tokens of context" if engine["context_tokens"] else ""
    slots = f", {words.count(engine['slots'], 'slot')}" if engine["slots"] else ""
    return f"{engine['model']}{context}{slots}"


def _memory(engine: Data) -> str:
    peak, now = engine["peak_memory_bytes"], engine["memory_bytes"]
    if not peak:
        return ""
    return f"{words.size(peak)} at its most" + (f", {words.size(now)} now" if now and now != peak else "")
