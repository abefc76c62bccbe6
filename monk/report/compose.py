"""From a report's data to its words: the whole of it, and the night's own sentence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from monk.report import words
from monk.report.beside import changes, corpus, figures, incidents, unreadable, warnings
from monk.report.jobwords import cancelled, done, failed, left
from monk.report.view import View
from monk.report.words import from_json as _time

Data = dict[str, Any]


def view(data: Data) -> View:
    """Everything a report of schema 1 says."""
    until = _time(data["until"])
    return View(
        title=_title(data, until),
        hours=_nights(data),
        tally=_tally(data),
        times=f"Times are {data['time_zone']} ({words.offset(until)}).",
        empty=bool(data["empty"]),
        done=[done(job, until, data.get("links")) for job in data["done"]],
        failed=[failed(job, until) for job in data["failed"]],
        cancelled=[cancelled(job, until) for job in data["cancelled"]],
        left=[left(job, until) for job in data["left"]],
        left_note=_left_note(data, until),
        not_told=_not_told(data["counts"]["not_told"]),
        unreadable=unreadable(data),
        corpus=corpus(data),
        changes=changes(data),
        figures=figures(data),
        incidents=incidents(data),
        warnings=warnings(data, until),
        span=f"From {words.moment(_time(data['since']), until)} to {words.day(until)} {words.clock(until)}.",
    )


def _tally(data: Data) -> str:
    counts = data["counts"]
    told = [f"{words.number(counts['done'])} done", f"{words.number(counts['failed'])} failed"]
    told += [f"{words.number(counts['cancelled'])} cancelled"] if counts["cancelled"] else []
    return f"{', '.join(told)}, {words.number(counts['left'])} left."


def _title(data: Data, until: datetime) -> str:
    day = words.day(until)
    return f"{day}: an empty night. {_nights(data)} Nothing was asked, nothing is left." if data["empty"] else day


def _nights(data: Data) -> str:
    until = _time(data["until"])
    nights = data["nights"]
    if not nights:
        return "No night was open."
    if len(nights) > 3:
        total = sum(night["open_seconds"] for night in nights)
        return (
            f"{len(nights)} nights were open, {words.duration(total)} in all; the last one {_night(nights[-1], until)}."
        )
    return f"The night was open {', and '.join(_night(night, until) for night in nights)}."


def _night(night: Data, until: datetime) -> str:
    opened = words.moment(_time(night["opened_at"]), _time(night["closed_at"] or night["opened_at"]))
    hours = words.duration(night["open_seconds"])
    if shift := night["clock_shift_seconds"]:
        hours += f": the clocks went {'forward' if shift > 0 else 'back'} {words.duration(abs(shift))}"
    if night["closed_at"] is None:
        return f"since {words.moment(_time(night['opened_at']), until)} and still is ({hours})"
    closed = _time(night["closed_at"])
    same_night = (closed - _time(night["opened_at"])).total_seconds() < 86400
    opened = words.clock(_time(night["opened_at"])) if same_night else opened
    return f"{opened}–{words.clock(closed) if same_night else words.moment(closed, until)} ({hours})"


def _left_note(data: Data, until: datetime) -> str:
    if not data["counts"]["left"] or not data["next_night_at"]:
        return ""
    opens = _time(data["next_night_at"])
    return f"The next night opens {words.moment(opens, until)}." if opens > until else "The night is open."


def _not_told(count: int) -> str:
    return (
        f"{words.count(count, 'more job is', 'more jobs are')} not listed here; monk jobs shows all." if count else ""
    )
