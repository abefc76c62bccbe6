"""Facts hidden in prompts of growing length, and asked for: how long a prompt this model still finds things in.

At one length all facts, one for each depth, stand in one text, and every question is asked behind it: the prompts begin alike,
so an engine that shares prefixes reads the text once, however many questions there are. Short lengths come first; each
text is a step, and each question a thought, so that whatever ends the night, the next one goes on from there.

A fact is a name of two words and a number of seven digits, all drawn: neither knowledge nor a guess helps. It counts as found
when its number is among the first as many numbers of the answer as were asked for, so that to list all one has seen finds
nothing. A fact that stands nowhere is asked for too, and must not be found. The question ends with the beginning of its answer,
as in RULER (Hsieh et al. 2024, arXiv:2404.06654), so that reading is measured and not obedience: with it the smallest of models
found 12 of 15 facts in 1,024 tokens, with "answer with the number alone" 6 (SmolLM2-135M, 2026-11-26).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jobs import fields, haystack
from jobs.context import Ask, ChatMessage, Context, Said
from monk.errors import InvalidInput

FIRST_LENGTH = 1024
NEAR_THE_END = 0.9  # of the longest length: a doubled one beyond this is left out, it would say the same
DEPTHS = (0.0, 25.0, 50.0, 75.0, 100.0)
NEEDLES = (1, 3)
MOST_NEEDLES, MOST_DEPTHS, MOST_TRIALS = 8, 16, 32
TRIALS = 3  # where short lengths cost little beside the longest
RELIABLE_PERCENT = 80
LEAST_LENGTH = 64
RULE = (
    f"at this length and every shorter one, at least {RELIABLE_PERCENT} % of what was asked for was found at every depth, "
    "with the fewest facts to a question, and nothing that is not there"
)
_NUMBER = re.compile(r"\d{5,}")  # "1." of a list and a year are none
_GROUPED = re.compile(r"(?<=\d)[,.' _\u00a0\u202f](?=\d{3}(?!\d))")
Row = dict[str, Any]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, int) else value


def _ascending(values: list[Any]) -> list[Any]:
    return sorted(set(values))


Depth = Annotated[float, Field(ge=0, le=100)]
Needles = Annotated[int, Field(ge=1, le=MOST_NEEDLES)]


class Input(fields.Input):
    """How far and how densely to measure. Zero or nothing: chosen."""

    context: Annotated[
        int, Field(ge=0, le=1 << 24, description="Longest prompt with its answer; 0: the full window")
    ] = 0
    lengths: Annotated[
        list[Annotated[int, Field(ge=LEAST_LENGTH, le=1 << 24)]],
        Field(max_length=64, description="Of prompts, in tokens; none: 1024, doubled up to the longest"),
        AfterValidator(_ascending),
    ] = Field(default=[])
    depths: Annotated[
        list[Depth],
        Field(min_length=1, max_length=MOST_DEPTHS, description="Where facts stand, in percent of the text"),
        AfterValidator(_ascending),
    ] = Field(default=[*DEPTHS])
    needles: Annotated[
        list[Needles],
        Field(min_length=1, max_length=MOST_NEEDLES, description="How many facts a question asks for"),
        BeforeValidator(_listed),
        AfterValidator(_ascending),
    ] = Field(default=[*NEEDLES])
    trials: Annotated[
        int, Field(ge=0, le=MOST_TRIALS, description="Texts of each length; 0: up to 3, fewer of long ones")
    ] = 0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.context and self.lengths and self.lengths[-1] > self.context - answer_tokens(self.needles):
            raise ValueError(_too_long(self.lengths[-1], self.context, self.needles, "context"))
        return self


@dataclass(frozen=True, slots=True)
class Fact:
    """One needle. `depth` in percent; None: it stands nowhere."""

    thing: str
    number: str
    depth: float | None


@dataclass(frozen=True, slots=True)
class Question:
    """What one prompt asks for; a single fact that stands nowhere is the control."""

    facts: tuple[Fact, ...]

    @property
    def is_control(self) -> bool:
        return self.facts[0].depth is None


class _OutOfTime(Exception):
    """The job's minutes ended in the middle of a length: nothing of it counts."""


def run(ctx: Context) -> dict[str, Any]:
    """Plan, read and ask length by length, judge, keep."""
    plan = ctx.step("plan", lambda: planned(ctx))
    texts, cut = _texts(ctx, plan)
    table, control = tabled(texts), _controls(texts)
    measured = {"table": table, "control": control, "rule": RULE, "seed": plan["seed"]}
    kept = ctx.step("keep", lambda: ctx.keep_reach(measured)) if table else None
    return _result(plan, texts, table, control, kept, cut)


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _too_long(length: int, context: int, needles: list[int], setting: str) -> str:
    room = answer_tokens(needles)
    return (
        f"a prompt of {length} tokens and {room} for the answer are more than the {context} of the context; lengths may go to "
        f"{context - room}, or raise {setting}"
    )


def planned(ctx: Context) -> dict[str, Any]:
    """What will be measured, settled once: the house may run with another window before it is done. Raises InvalidInput."""
    wanted, window = ctx.input, ctx.context_tokens
    context, room = wanted["context"] or window, answer_tokens(wanted["needles"])
    if context > window:
        raise InvalidInput(
            f"context is {context}; a thought holds {window} tokens here; raise MONK_CONTEXT", param="context"
        )
    most = min(context, window) - room
    if most < LEAST_LENGTH:
        raise InvalidInput(
            f"context is {context}; {room} of it are for the answer; give {room + FIRST_LENGTH}", param="context"
        )
    lengths = wanted["lengths"] or lengths_up_to(most)
    if lengths[-1] > most:
        raise InvalidInput(_too_long(lengths[-1], context, wanted["needles"], "MONK_CONTEXT"), param="lengths")
    plan = {
        "lengths": lengths,
        "depths": wanted["depths"],
        "needles": wanted["needles"],
        "trials": [wanted["trials"] or max(1, min(TRIALS, lengths[-1] // length)) for length in lengths],
        "seed": ctx.seed if wanted["seed"] is None else wanted["seed"],
        "window": window,
    }
    _affordable(ctx, plan, room)
    return plan


def lengths_up_to(most: int) -> list[int]:
    """1,024 and its doubles, then the longest itself."""
    doubled = [FIRST_LENGTH << i for i in range(24) if FIRST_LENGTH << i <= NEAR_THE_END * most]
    return [*doubled, most]


def answer_tokens(needles: Sequence[int]) -> int:
    """Room for a number in a sentence, and for some more of them."""
    return 24 + 12 * max(needles)


def _affordable(ctx: Context, plan: dict[str, Any], each: int) -> None:
    """An answer that a budget cut short must not look like a fact that was not found."""
    questions = len(plan["depths"]) * len(plan["needles"]) + 1
    need, given = sum(plan["trials"]) * questions * each, ctx.budget.get("tokens")
    if given is not None and given < need:
        raise InvalidInput(f"budget.tokens is {given}; these questions may take {need}; ask for fewer", param="budget")


# ── one text ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _texts(ctx: Context, plan: dict[str, Any]) -> tuple[list[Row], bool]:
    """What came of every text, shortest first, and whether the minutes ended before the last."""
    done: list[Row] = []
    for length, trials in zip(plan["lengths"], plan["trials"], strict=True):
        for trial in range(1, trials + 1):
            try:
                done.append(ctx.step(f"{length}-{trial}", partial(_asked, ctx, plan, length, trial)))
            except _OutOfTime:
                return [row for row in done if row["length"] < length], True
    return done, False


def _asked(ctx: Context, plan: dict[str, Any], length: int, trial: int) -> Row:
    """Hide the facts in one text, ask for them, score."""
    seed = f"{plan['seed']}/{length}/{trial}"
    questions = questions_of(seed, plan["depths"], plan["needles"])
    prompts = prompts_of(ctx, questions, length, seed)
    ask = Ask(max_tokens=answer_tokens(plan["needles"]), thinking=0.0)
    said = ctx.think_each(f"{length}-{trial}", prompts, ask)
    if any(one.reason == "minutes" for one in said):
        raise _OutOfTime
    row = {"length": length, "trial": trial, **scored(questions, said)}
    ctx.note("needle", {name: row[name] for name in ("length", "trial", "found", "asked", "seconds")})
    return row


def questions_of(seed: str, depths: Sequence[float], needles: Sequence[int]) -> list[Question]:
    """For each number of facts to a question as many questions as there are depths, so that each depth is asked for equally
    often; those that ask for several take them from depths that follow each other, around the end. Last the control."""
    drawn = random.Random(f"{seed}/facts")
    copies = -(
        -max(needles) // len(depths)
    )  # facts at one depth: more than one where a question asks for more than depths
    things = haystack.names(drawn, copies * len(depths) + 1)
    numbers = [str(number) for number in drawn.sample(range(1_000_000, 10_000_000), len(things))]
    named = list(zip(things, numbers, strict=True))
    absent = Fact(*named.pop(), None)
    facts = [
        [Fact(*named[copy * len(depths) + at], depth) for copy in range(copies)] for at, depth in enumerate(depths)
    ]
    asked = [
        Question(tuple(facts[(first + i) % len(depths)][i // len(depths)] for i in range(count)))
        for count in needles
        for first in range(len(depths))
    ]
    return [*asked, Question((absent,))]


def prompts_of(ctx: Context, questions: Sequence[Question], length: int, seed: str) -> list[list[ChatMessage]]:
    """One prompt for each question, all of them `length` tokens long and the same up to the last sentence. Raises
    InvalidInput where facts and question leave no room for a text."""
    placed = {fact for question in questions for fact in question.facts if fact.depth is not None}
    facts = [
        (fact.depth / 100, _fact(ctx, fact))
        for fact in sorted(placed, key=lambda fact: fact.thing)
        if fact.depth is not None
    ]
    widest = max(questions, key=lambda question: ctx.prompt_tokens(_messages(ctx, "", question)))
    text, size = haystack.longest(lambda text: ctx.prompt_tokens(_messages(ctx, text, widest)), length, seed, facts)
    if size + 1 < len(facts):
        need = ctx.prompt_tokens(_messages(ctx, haystack.with_facts([], facts), widest))
        raise InvalidInput(
            f"a prompt of {length} tokens has no room for a text: {len(facts)} facts and the question take {need}; give longer "
            "lengths or fewer needles",
            param="lengths",
        )
    cost = cache(ctx.count_tokens)
    return [_padded(ctx, text, question, length, seed, cost) for question in questions]


def _padded(
    ctx: Context, text: str, question: Question, length: int, seed: str, cost: Callable[[str], int]
) -> list[ChatMessage]:
    """Shorter questions have some more words of the prose before them."""
    missing = length - ctx.prompt_tokens(_messages(ctx, text, question))
    return _messages(ctx, text + haystack.padding(cost, missing, seed), question)


def _messages(ctx: Context, text: str, question: Question) -> list[ChatMessage]:
    things = [fact.thing for fact in question.facts]
    return [ChatMessage("user", ctx.prompt("needle", text=text, things=things))]


def _fact(ctx: Context, fact: Fact) -> str:
    return ctx.prompt("needle-fact", thing=fact.thing, number=fact.number)


# ── the score ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def numbers_in(answer: str) -> list[str]:
    """The numbers of five digits and more that an answer names, in order; 4,831,920 is 4831920."""
    return _NUMBER.findall(_GROUPED.sub("", answer))


def found_in(answer: str, question: Question) -> list[Fact]:
    """Which of the facts the answer gives."""
    named = numbers_in(answer)[: len(question.facts)]
    return [fact for fact in question.facts if fact.number in named]


def scored(questions: Sequence[Question], said: Sequence[Said]) -> Row:
    """{"rows": one for each depth and number of facts to a question, "control", "found", "asked", "seconds"}."""
    rows: dict[tuple[int, float], Row] = {}
    control = {"asked": 0, "right": 0, "named": 0}
    for question, one in zip(questions, said, strict=True):
        found = found_in(one.answer, question)
        if question.is_control:
            control["asked"] += 1
            control["right"] += len(found)
            control["named"] += bool(numbers_in(one.answer))
            continue
        for fact in question.facts:
            assert fact.depth is not None, "only the control asks for what stands nowhere"
            key = (len(question.facts), fact.depth)
            row = rows.setdefault(key, {"needles": key[0], "depth": key[1], "found": 0, "asked": 0, "seconds": 0.0})
            row["found"] += fact in found
            row["asked"] += 1
            row["seconds"] += one.seconds / len(question.facts)
    return {
        "rows": [rows[key] for key in sorted(rows)],
        "control": control,
        "found": sum(row["found"] for row in rows.values()),
        "asked": sum(row["asked"] for row in rows.values()),
        "seconds": round(sum(one.seconds for one in said), 3),
        "tokens": sorted({one.prompt_tokens for one in said}),
    }


def tabled(texts: Sequence[Row]) -> list[Row]:
    """All texts of a length together: {length, depth, needles, found, asked, seconds}, shortest first."""
    table: dict[tuple[int, int, float], Row] = {}
    for text in texts:
        for row in text["rows"]:
            key = (text["length"], row["needles"], row["depth"])
            sum_ = table.setdefault(key, {"length": text["length"], **row, "found": 0, "asked": 0, "seconds": 0.0})
            for name in ("found", "asked", "seconds"):
                sum_[name] = round(sum_[name] + row[name], 3)
    return [table[key] for key in sorted(table)]


def _controls(texts: Sequence[Row]) -> list[Row]:
    by_length: dict[int, Row] = {}
    for text in texts:
        row = by_length.setdefault(text["length"], {"length": text["length"], "asked": 0, "right": 0, "named": 0})
        for name in ("asked", "right", "named"):
            row[name] += text["control"][name]
    return [by_length[length] for length in sorted(by_length)]


def reliable_tokens(table: Sequence[Row], control: Sequence[Row], needles: int | None = None) -> int:
    """The largest length that meets RULE, for questions that ask for `needles` facts; None: for the fewest asked for at
    each length. 0: not even the shortest does."""
    deceived = {row["length"] for row in control if row["right"]}
    reliable = 0
    for length in sorted({row["length"] for row in table}):
        rows = [row for row in table if row["length"] == length]
        fewest = min(row["needles"] for row in rows) if needles is None else needles
        judged = [row for row in rows if row["needles"] == fewest]
        if (
            not judged
            or length in deceived
            or any(100 * row["found"] < RELIABLE_PERCENT * row["asked"] for row in judged)
        ):
            break
        reliable = length
    return reliable


# ── the result ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _result(
    plan: dict[str, Any], texts: list[Row], table: list[Row], control: list[Row], kept: Row | None, cut: bool
) -> dict[str, Any]:
    reliable = reliable_tokens(table, control)
    return {
        "answer": _told(plan, table, control, reliable, cut),
        "reliable_tokens": reliable,
        "reliable_by_needles": {str(count): reliable_tokens(table, control, count) for count in plan["needles"]},
        "rule": RULE,
        "seed": plan["seed"],
        "window": plan["window"],
        "table": table,
        "control": control,
        "texts": [
            {name: text[name] for name in ("length", "trial", "tokens", "found", "asked", "seconds")} for text in texts
        ],
        "kept": kept,
        "out_of_time": cut,
        "pictures": [picture(table, count) for count in plan["needles"] if table],
    }


def picture(table: Sequence[Row], needles: int) -> dict[str, Any]:
    """A heat map as plain data: a column for each length, a row for each depth, shares found from 0 to 1."""
    rows = {(row["depth"], row["length"]): row["found"] / row["asked"] for row in table if row["needles"] == needles}
    lengths, depths = (sorted({key[at] for key in rows}) for at in (1, 0))
    return {
        "form": "heat",
        "title": f"{_facts(needles)} asked for at once: percent found",
        "x": "prompt (tokens)",
        "y": "depth of the fact (%)",
        "columns": [f"{length:,}" for length in lengths],
        "rows": [f"{depth:g}" for depth in depths],
        "values": [[rows.get((depth, length)) for length in lengths] for depth in depths],
        "most": 1.0,
    }


def _facts(count: int) -> str:
    return "1 fact" if count == 1 else f"{count} facts"


def _told(plan: dict[str, Any], table: list[Row], control: list[Row], reliable: int, cut: bool) -> str:
    if not table:
        return "The minutes of the job ended before the shortest length was measured. Nothing can be said."
    longest = table[-1]["length"]
    lines = [_verdict(table, reliable, longest), ""]
    if cut:
        lines += [f"The minutes of the job ended there; it was to go on to {plan['lengths'][-1]:,} tokens.", ""]
    for count in plan["needles"]:
        lines += [*_grid(table, count), ""]
    asked, right, named = (sum(row[name] for row in control) for name in ("asked", "right", "named"))
    lines.append(
        f"Asked {_times(asked)} for a fact that stands nowhere, it gave its number {_times(right)}, and some other number "
        f"{_times(named - right)}."
    )
    return "\n".join(lines)


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _verdict(table: list[Row], reliable: int, longest: int) -> str:
    if not reliable:
        return f"The model does not find things reliably even in prompts of {table[0]['length']:,} tokens, the shortest tried."
    rest = "longer ones were not tried" if reliable == longest else f"{longest:,} were tried"
    return f"The model finds things in prompts of up to **{reliable:,} tokens** ({rest}): {RULE}."


def _grid(table: list[Row], needles: int) -> list[str]:
    """Percent found, a row for each depth; below, seconds of engine time for each length."""
    rows = [row for row in table if row["needles"] == needles]
    lengths, depths = (sorted({row[name] for row in rows}) for name in ("length", "depth"))
    cells = {(row["length"], row["depth"]): row for row in rows}

    def cell(length: int, depth: float) -> str:
        row = cells.get((length, depth))
        return "–" if row is None else f"{100 * row['found'] / row['asked']:.0f} % of {row['asked']}"

    seconds = [sum(row["seconds"] for row in rows if row["length"] == length) for length in lengths]
    return [
        f"| {_facts(needles)} asked for, at depth | {' | '.join(f'{length:,} tokens' for length in lengths)} |",
        f"|---{'|---' * len(lengths)}|",
        *(f"| {depth:g} % | {' | '.join(cell(length, depth) for length in lengths)} |" for depth in depths),
        f"| seconds | {' | '.join(f'{value:.1f}' for value in seconds)} |",
    ]
