"""`monk compare-adapter`: the same questions with and without an adapter, answer beside answer.

All goes through the queue like any other job; both jobs of a pair differ in the adapter alone: same seed, same limits, and a
chat is not sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monk.cli import INTERRUPTED

if TYPE_CHECKING:
    from monk.client import Client

KINDS = ("chat", "answer", "think")
TAG = "compare-adapter"
Job = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """One question and its two jobs as the daemon told them last."""

    question: str
    base: Job
    adapter: Job

    @property
    def equal(self) -> bool | None:
        """Whether both gave the same answer; None while one of them has none."""
        said = [job["result"].get("answer") for job in (self.base, self.adapter) if job.get("result")]
        return said[0] == said[1] if len(said) == 2 else None


def compare_adapter(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help='What one of each pair wears: "lawyer", "lawyer:0.8", several with +.')
    ],
    question: Annotated[list[str] | None, typer.Argument(metavar="QUESTION...", help="What to ask both.")] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE|-", help='More questions, one a line; "-" reads stdin.')
    ] = None,
    kind: Annotated[str, typer.Option(metavar="KIND", help="chat, answer or think.")] = "chat",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens that each job may write in all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of both jobs of a pair.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait by day too, until a night has come.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Ask with and without an adapter, and show both answers.

    monk compare-adapter lawyer:0.8+poet "May a landlord keep the deposit?"

    monk compare-adapter lawyer --file questions.txt --max-tokens 200
    """
    from monk.cli.session import connect

    asked = questions(question or [], file)
    jobs = [job_of(one, kind, max_tokens, seed) for one in asked]
    with connect() as daemon:
        pairs = _submitted(daemon, name, asked, jobs)
        if not _is_night(daemon) and not wait:
            _say_waiting(name, pairs, json)
            return 0
        try:
            ended = _ended(daemon, pairs, json)
        except KeyboardInterrupt:
            _tell_left(pairs)
            return INTERRUPTED
    return _say_compared(name, ended, json)


def questions(given: list[str], file: str | None) -> list[str]:
    """What to ask: the arguments, then the lines of the file that are not blank. Raises InvalidInput for nothing."""
    from monk.errors import InvalidInput

    asked = [*given, *_lines(file)]
    if not asked:
        raise InvalidInput("nothing is asked; give questions, or --file with one on each line", param="question")
    if any(not one.strip() for one in asked):
        raise InvalidInput("a question is empty; write what you want to know, or leave it out", param="question")
    return asked


def job_of(question: str, kind: str, max_tokens: int | None, seed: int) -> Job:
    """The bare job of a pair. Raises InvalidInput for a kind that asks no plain question."""
    from monk.errors import InvalidInput

    if kind not in KINDS:
        raise InvalidInput(f"--kind {kind!r} cannot be compared; give chat, answer or think", param="kind")
    messages = [{"role": "user", "content": question}]
    input_ = {"messages": messages, "temperature": 0.0} if kind == "chat" else {"question": question}
    budget = {} if max_tokens is None else {"budget": {"tokens": max_tokens}}
    return {"kind": kind, "input": input_, "seed": seed, "tags": [TAG], **budget}


def _lines(file: str | None) -> list[str]:
    from monk.cli.files import text_of

    text = "" if file is None else text_of(file, "--file")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _submitted(daemon: Client, name: str, asked: list[str], jobs: list[Job]) -> list[Pair]:
    """Of each pair the one with the adapter first: an adapter that is not there is refused before anything is stored."""
    pairs: list[Pair] = []
    adapted: Job | None = None
    try:
        for question, job in zip(asked, jobs, strict=True):
            adapted = daemon.post("/jobs", {**job, "adapter": name})
            pairs.append(Pair(question, daemon.post("/jobs", job), adapted))
            adapted = None
    except BaseException:
        _tell_left(pairs, adapted)
        raise
    return pairs


def _ended(daemon: Client, pairs: list[Pair], json: bool) -> list[Pair]:
    from monk.cli.follow import follow
    from monk.cli.terminal import tell

    if not json:
        tell(f"{2 * len(pairs)} jobs are in the queue; Ctrl-C stops watching, not the jobs")
    ended = []
    for number, pair in enumerate(pairs, 1):
        base, adapter = (follow(daemon, job, live=False) for job in (pair.base, pair.adapter))
        ended.append(Pair(pair.question, base, adapter))
        if not json and number < len(pairs):
            tell(f"· {number} of {len(pairs)} questions answered")
    return ended


def _tell_left(pairs: list[Pair], adapted: Job | None = None) -> None:
    """Which jobs go on without us."""
    from monk.cli.terminal import tell

    ids = [job["id"] for pair in pairs for job in (pair.base, pair.adapter)] + ([adapted["id"]] if adapted else [])
    if ids:
        tell(f"\nthese go on; `monk show ID` has each answer, `monk cancel` ends them: {' '.join(ids)}")


def _is_night(daemon: Client) -> bool:
    """Whether jobs run now; if not, it is said when they will."""
    from monk.cli.night import sentence
    from monk.cli.terminal import tell

    night = daemon.get("/status")["night"]
    if not night["open"]:
        way_out = "; `monk night --now` opens one at once" if night["next_open_at"] else ""  # else the sentence has it
        tell(f"{sentence(night)}{way_out}")
    return bool(night["open"])


def _say_waiting(name: str, pairs: list[Pair], json: bool) -> None:
    from monk.cli.terminal import say_json, say_table, tell

    if json:
        say_json(told(name, pairs))
        return
    rows = [(pair.base["id"], pair.adapter["id"], pair.question) for pair in pairs]
    say_table(("base", name, "asked"), rows, may_shrink="asked")
    tell("the jobs wait for it; `monk show ID` has each answer then, and with --wait this command waits too")


def _say_compared(name: str, pairs: list[Pair], json: bool) -> int:
    from monk.cli.terminal import one_line, say, say_json, say_side_by_side
    from monk.cli.views import answer_or_error, cost

    if json:
        say_json(told(name, pairs))
    else:
        for number, pair in enumerate(pairs, 1):
            say(f"{number}. {one_line(pair.question)}{'  (= the same answer)' if pair.equal else ''}\n")
            left, right = (
                (f"{title}, {cost(job)}", answer_or_error(job))
                for title, job in (("base", pair.base), (name, pair.adapter))
            )
            say_side_by_side(left, right)
        if len(pairs) > 1:
            say(f"{sum(pair.equal is True for pair in pairs)} of {len(pairs)} answers are the same")
    done = all(job["state"] == "done" for pair in pairs for job in (pair.base, pair.adapter))
    return 0 if done else 1


def told(name: str, pairs: list[Pair]) -> Job:
    """A comparison for programs."""
    return {
        "adapter": name,
        "pairs": [
            {
                "question": pair.question,
                "equal": pair.equal,
                "base": _told_job(pair.base),
                "adapter": _told_job(pair.adapter),
            }
            for pair in pairs
        ],
    }


def _told_job(job: Job) -> Job:
    from monk.cli.views import seconds, tokens

    result = job.get("result") or {}
    return {
        "id": job["id"],
        "state": job["state"],
        "answer": result.get("answer"),
        "tokens": tokens(job),
        "seconds": seconds(job),
        "error": job.get("error"),
    }
