"""What a peer is and what it gives back; and where llama-server is, if it was built."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from monk.engine.child import NATIVE_ENVIRONMENT
from tests.bench.engine.workloads import Tokens, Work

REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = REPOSITORY / ".bench"  # in .gitignore
NAMES = ("ours", "naive", "server")
WARM_TOKENS = 8  # of a first answer that nobody measures


ENVIRONMENT = {**os.environ, **NATIVE_ENVIRONMENT}  # how threads wait decides on a busy machine: alike for all


class PeerFailed(Exception):
    """A peer did not do its work; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and with what a peer runs: the same for all."""

    model: Path
    threads: int
    slots: int  # ours; 0: its own choice
    folder: Path  # for KV and other files of this run
    no_end: dict[int, float]  # logit bias against every control token, so that no answer ends early


@dataclass(frozen=True, slots=True)
class Answer:
    """`ids` are empty where a peer tells only how many there were."""

    num_tokens: int
    text: str
    ids: Tokens = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answers in the order of the prompts, samples of one prompt in a row. Loading is not in `seconds`."""

    seconds: float
    answers: tuple[Answer, ...]
    facts: dict[str, float] = field(default_factory=dict)


class Peer(Protocol):
    name: str

    def run(self, work: Work, place: Place) -> Outcome:
        """Start afresh, do the work once, end. Raises PeerFailed."""
        ...


def checked(name: str, work: Work, outcome: Outcome) -> Outcome:
    """The outcome, if it has every answer at full length: otherwise the times cannot be compared. Raises PeerFailed."""
    shape = work.shape
    if len(outcome.answers) != shape.num_answers:
        raise PeerFailed(f"{name} gave {len(outcome.answers)} answers to {shape.name}, {shape.num_answers} were asked")
    for number, answer in enumerate(outcome.answers):
        if answer.num_tokens != shape.new_tokens:
            raise PeerFailed(
                f"{name} gave {answer.num_tokens} tokens in answer {number} of {shape.name}, "
                f"{shape.new_tokens} were asked"
            )
    return outcome


def find_server(version: str) -> Path | None:
    """llama-server: $LLAMA_SERVER, or what `make bench-peers` built. None if there is none."""
    named = os.environ.get("LLAMA_SERVER")
    path = Path(named) if named else CACHE / f"llama-{version}" / "bin" / "llama-server"
    if os.access(path, os.X_OK) and path.is_file():
        return path
    if named:
        raise PeerFailed(f"LLAMA_SERVER is {named}, which cannot be run; unset it, or run make bench-peers")
    return None
