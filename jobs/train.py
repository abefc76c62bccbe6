"""An adapter trained on examples, on what people corrected, or on the documents; worn only if it proves better.

Examples are turned into tokens exactly as the model is asked, some are held back, the rest is trained on in a process of its
own that a night's end or a crash only interrupts. Then base and adapter answer what was held back, and the gate decides.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from corpus.retrieval import Hit, hit_from_json
from jobs import fields, gate
from jobs.context import Ask, ChatMessage, Context
from jobs.evidence import check
from jobs.examples import Example, example_of, split, unique
from jobs.excerpts import fence, harmless

MOST_INLINE = 20_000
TRIALS = 16  # held-back questions that base and adapter answer
TRIAL_TOKENS = 200
PAIR_TOKENS = 220
CURVE_POINTS = 200  # of the loss that are kept in the result
PAIR_SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string", "minLength": 8}, "answer": {"type": "string", "minLength": 8}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
BARS = "▁▂▃▄▅▆▇█"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)
YES_OR_NO = 'root ::= "yes" | "no"'


def _adapter_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("use a-z, 0-9, dot, dash and underscore, beginning with a letter or digit")
    return value


class Input(fields.Input):
    """The adapter's name, at least one source of examples, and how to train; zeros are chosen by memory and time."""

    adapter: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_adapter_name)]
    examples: Annotated[
        list[dict[str, Any]],
        Field(default_factory=list, max_length=MOST_INLINE, description="Conversations with answers"),
    ]
    file: Annotated[str | None, Field(max_length=4096, description="JSONL in the inbox")] = None
    feedback: Annotated[bool, Field(description="Also what people marked useful or corrected")] = False
    corpus: Annotated[int, Field(ge=0, le=5000, description="Passages to write questions and answers on")] = 0
    base: Annotated[
        str | None,
        Field(max_length=4096, description="The same model in safetensors, for GGUF files that cannot be read"),
    ] = None
    rubric: Annotated[str | None, Field(max_length=4000, description="A rule that answers must meet")] = None
    rank: Annotated[int, Field(ge=0, le=256)] = 0
    learning_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    epochs: Annotated[int, Field(ge=0, le=1000)] = 0
    steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if not (self.examples or self.file or self.feedback or self.corpus):
            raise ValueError("nothing to learn from; give examples, file, feedback or corpus")
        for number, row in enumerate(self.examples, 1):
            try:
                example_of(row, str(number))
            except Exception as exc:
                raise ValueError(str(exc)) from exc
        return self


def run(ctx: Context) -> dict[str, Any]:
    """Gather, plan, train, keep, try, judge, offer."""
    teaching, name = ctx.training, ctx.input["adapter"]
    written = _written(ctx)
    gathered = ctx.step("examples", lambda: _gathered(ctx, written))
    wishes = {key: ctx.input[key] for key in ("rank", "learning_rate", "epochs", "steps")}
    plan = ctx.step("plan", lambda: teaching.plan(gathered["lengths"], gathered["longest"], wishes))
    trained = ctx.step(
        "train",
        lambda: teaching.train({**plan, "data": gathered["data"], "sha256": gathered["sha256"]}, ctx.input["base"]),
    )
    kept = ctx.step("keep", lambda: teaching.keep(name, trained["folder"]))
    trials = _trials(ctx, [Example.from_json(row) for row in gathered["judged"]], kept)
    verdict = ctx.step("gate", lambda: gate.verdict(trained["held"], trained["general"], trials))
    offered = ctx.step("offer", lambda: teaching.offer(name, kept["version"], verdict))
    teaching.leave()
    return _result(name, _Taught(gathered, plan, trained, kept, verdict, offered), trials)


# ── examples ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _written(ctx: Context) -> list[Example]:
    """Questions and answers that the model writes on passages of the corpus; only those that the passage bears out."""
    count = ctx.input["corpus"]
    if not count:
        return []
    hits = [
        hit_from_json(row) for row in ctx.step("passages", lambda: [h.to_json() for h in ctx.training.passages(count)])
    ]
    prompts = [
        [ChatMessage("user", ctx.prompt("pair", text=harmless(hit.text), fence=fence([hit.text])))] for hit in hits
    ]
    said = ctx.think_each("pair", prompts, Ask(max_tokens=PAIR_TOKENS, json_schema=PAIR_SCHEMA, repeat_penalty=1.1))
    pairs = (_pair(one.answer, hit) for one, hit in zip(said, hits, strict=True))
    return [pair for pair in pairs if pair is not None]


def _pair(text: str, hit: Hit) -> Example | None:
    """None for what is no pair, or says more than the passage."""
    try:
        row = json.loads(text)
        question, answer = str(row["question"]).strip(), str(row["answer"]).strip()
    except (ValueError, KeyError, TypeError):
        return None
    checked = check(answer, [hit], question)
    if not question or not checked.supported or checked.unsupported:
        return None
    return Example((("user", question),), answer, f"corpus:{hit.file}")


def _gathered(ctx: Context, written: list[Example]) -> dict[str, Any]:
    teaching, wanted = ctx.training, ctx.input
    given = [example_of(row, str(number)) for number, row in enumerate(wanted["examples"], 1)]
    filed = teaching.examples_in(wanted["file"]) if wanted["file"] else []
    marked = teaching.from_feedback() if wanted["feedback"] else []
    all_ = unique([*written, *filed, *given, *marked])  # of two answers to the same, a person's correction stays
    taught, held = split(all_)
    sources = {"given": len(given), "file": len(filed), "feedback": len(marked), "corpus": len(written)}
    return {
        **teaching.write(taught, held),
        "taught": len(taught),
        "held": len(held),
        "judged": [example.to_json() for example in held[:TRIALS]],
        "sources": {source: count for source, count in sources.items() if count},
    }


# ── the gate ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _trials(ctx: Context, asked: list[Example], kept: dict[str, Any]) -> list[gate.Trial]:
    """What base and adapter say to the examples that were held back."""
    most = [max(8, min(TRIAL_TOKENS, 2 * ctx.count_tokens(example.answer))) for example in asked]
    base = ctx.training.say("try-base", asked, most, None)
    adapter = ctx.training.say("try-adapter", asked, most, kept)
    passes: list[tuple[bool | None, bool | None]] = [(None, None)] * len(asked)
    if ctx.input["rubric"]:
        met = _met(ctx, asked * 2, base + adapter)
        passes = list(zip(met[: len(asked)], met[len(asked) :], strict=True))
    return [
        gate.Trial(example.question, example.answer, bare, worn, *passed)
        for example, bare, worn, passed in zip(asked, base, adapter, passes, strict=True)
    ]


def _met(ctx: Context, asked: list[Example], answers: list[str]) -> list[bool]:
    prompts = [
        [
            ChatMessage(
                "user", ctx.prompt("rubric", rubric=ctx.input["rubric"], question=example.question, answer=answer)
            )
        ]
        for example, answer in zip(asked, answers, strict=True)
    ]
    said = ctx.think_each("rubric", prompts, Ask(max_tokens=8, grammar=YES_OR_NO, thinking=0.0))
    return [one.answer.strip() == "yes" for one in said]


# ── the result ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Taught:
    """What each step of a training came to."""

    gathered: dict[str, Any]
    plan: dict[str, Any]
    trained: dict[str, Any]
    kept: dict[str, Any]
    verdict: dict[str, Any]
    offered: dict[str, Any]


MEASURED = ("ended", "steps", "planned_steps", "seconds", "tokens", "padding", "peak_bytes", "evaluations")


def _result(name: str, taught: _Taught, trials: list[gate.Trial]) -> dict[str, Any]:
    kept, plan, trained = taught.kept, taught.plan, taught.trained
    return {
        "answer": _told(name, taught),
        "adapter": {"name": name, "version": kept["version"], "sha256": kept["sha256"], "worn": taught.offered["worn"]},
        "verdict": taught.verdict,
        "trials": [trial.to_json() for trial in trials],
        "examples": {key: taught.gathered[key] for key in ("taught", "held", "sources")},
        "training": {
            **{key: trained[key] for key in MEASURED},
            "recipe": plan["recipe"],
            "planned_seconds": plan["seconds"],
            "planned_memory_bytes": plan["memory_bytes"],
            "curve": thinned(trained["curve"]),
        },
    }


def thinned(curve: list[float], most: int = CURVE_POINTS) -> list[list[float]]:
    """[[step, loss], ...], the mean of each stretch when there are many."""
    stretch = max(1, -(-len(curve) // most))
    parts = [curve[at : at + stretch] for at in range(0, len(curve), stretch)]
    return [[at * stretch + len(part), round(sum(part) / len(part), 4)] for at, part in enumerate(parts)]


def sparks(values: list[float], most: int = 40) -> str:
    """A curve as one line of bars."""
    rows = [loss for _, loss in thinned(values, most)]
    low, high = min(rows), max(rows)
    return "".join(BARS[round((value - low) / (high - low) * (len(BARS) - 1)) if high > low else 0] for value in rows)


def _told(name: str, taught: _Taught) -> str:
    gathered, trained, offered, verdict = taught.gathered, taught.trained, taught.offered, taught.verdict
    version, held, general = taught.kept["version"], verdict["held"], verdict["general"]
    if offered["worn"]:
        fate = f"Version {version} of the adapter `{name}` passed the gate, and jobs that name it wear it from now on."
    else:
        fate = (
            f"Version {version} of the adapter `{name}` did not pass the gate and is not worn: {'; '.join(verdict['reasons'])}. "
            f"It is kept: `monk adapter rollback {name} --to {version}` wears it all the same."
        )
    lines = [
        fate,
        "",
        "| | base | adapter |",
        "|---|---|---|",
        f"| loss on {gathered['held']} examples held back | {held['base']:.3f} | {held['adapter']:.3f} |",
        f"| loss on general questions | {general['base']:.3f} | {general['adapter']:.3f} |",
        f"| exact answers of {verdict['answers']} | {verdict['exact']['base']} | {verdict['exact']['adapter']} |",
        f"| words shared with the answers wanted | {verdict['overlap']['base']:.2f} | {verdict['overlap']['adapter']:.2f} |",
    ]
    if verdict["rubric"] is not None:
        lines.append(f"| answers that meet the rubric | {verdict['rubric']['base']} | {verdict['rubric']['adapter']} |")
    rate = trained["tokens"] / trained["seconds"] if trained["seconds"] else 0.0
    lines += [
        "",
        f"Trained on {gathered['taught']} examples, {trained['steps']} of {trained['planned_steps']} steps, "
        f"{trained['tokens']} tokens in {trained['seconds']:.0f} s ({rate:.0f} a second, {100 * trained['padding']:.1f} % "
        f"padding); it ended {ENDS[trained['ended']]}.",
        "",
        f"Loss while it learned: `{sparks(trained['curve'])}` {trained['curve'][0]:.3f} to {trained['curve'][-1]:.3f}; on what "
        f"was held back: `{sparks([one['loss'] for one in trained['evaluations']])}` "
        + ", ".join(f"{one['loss']:.3f}" for one in trained["evaluations"])
        + ".",
    ]
    return "\n".join(lines)


ENDS = {
    "steps": "with its last step",
    "early": "early, because the loss on what was held back fell no further",
    "minutes": "with its budget of minutes",
}
