"""What the report says, in words, before it is Markdown or HTML: both are laid out from this, so neither can say more.

Strings here are not escaped. Those that others wrote (questions, answers, quotes, files, messages) and ours look alike on
purpose: a format escapes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Quote:
    """A citation. `number` counts from 1 within its answer."""

    number: int
    file: str
    place: str
    text: str
    verified: bool
    mark: str  # whether it was verified, in words
    link: str = ""  # http(s) address of the daemon, percent-encoded, or empty


@dataclass(frozen=True, slots=True)
class Block:
    """One answer; `question` is set for the parts of a job that asked several."""

    anchor: str
    question: str
    answer: str  # Markdown, not ours
    note: str
    quotes: list[Quote]
    unsupported: list[str]
    aside: str  # the line above them


@dataclass(frozen=True, slots=True)
class Fold:
    """Long text that is shown on demand. `text` is Markdown, not ours."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What a job drew. `data` as `monk/drawings.py` takes it; `link`: where the daemon shows it, or empty."""

    title: str
    data: dict[str, Any]
    link: str


@dataclass(frozen=True, slots=True)
class JobView:
    """A job in any state. `facts` are short sentences about it."""

    id: str
    title: str
    question: str  # empty when the title says all of it
    kind: str
    tags: list[str]
    when: str
    facts: list[str]
    blocks: list[Block] = field(default_factory=list)
    votes: list[str] = field(default_factory=list)
    vote_title: str = ""
    folds: list[Fold] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    error: str = ""
    what_to_do: str = ""
    command: str = ""
    cost: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """The whole report. An empty one has a title and nothing else."""

    title: str
    hours: str
    tally: str
    times: str
    empty: bool
    done: list[JobView]
    failed: list[JobView]
    cancelled: list[JobView]
    left: list[JobView]
    left_note: str
    not_told: str
    unreadable: list[tuple[str, str, bool]]  # file, reason, new since the last report
    corpus: list[str]
    changes: list[tuple[str, list[str], int]]  # "added", files, how many more
    figures: list[tuple[str, str]]
    incidents: list[str]
    warnings: list[str]
    span: str
