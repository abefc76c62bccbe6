"""A question over the corpus, answered with checked quotations.

Looks up passages, widens the best of them to their sections, lets the model answer from them, then holds every sentence of
the answer against what it was shown. Where nothing near enough is found, the model is not asked at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from corpus.citations import find_quote
from corpus.retrieval import Hit, hit_from_json
from jobs import fields
from jobs.context import Ask, ChatMessage, Context
from jobs.evidence import nothing_found, result
from jobs.excerpts import fence, shown

PASSAGES = 6
MAX_TOKENS = 220
EVIDENCE = 0.22  # see is_evidence
WIDENED = 2  # of the passages, the best: an answer begins before its passage or goes on behind it there, if anywhere
SECTION_CHARACTERS = 2400  # a section of some 600 tokens, which costs a small model a second to read


class Input(fields.Input):
    """A question, how many passages to read for it, and in which documents."""

    question: fields.Question
    passages: Annotated[int, Field(ge=1, le=64)] = PASSAGES
    only: fields.Only | None = None


def run(ctx: Context) -> dict[str, Any]:
    """Retrieve, draft, check."""
    question = ctx.input["question"]
    only = fields.documents(ctx.input.get("only"))
    rows = ctx.step("retrieve", lambda: [hit.to_json() for hit in ctx.retrieve(question, ctx.input["passages"], only)])
    hits = [hit_from_json(row) for row in rows]
    if not is_evidence(hits):
        return ctx.step("check", lambda: nothing_found(hits, (), question))
    wide = [hit_from_json(row) for row in ctx.step("widen", lambda: [hit.to_json() for hit in _widened(ctx, hits)])]
    messages, sources = _fitting(ctx, question, hits, wide)
    said = ctx.think("draft", messages, Ask(max_tokens=_max_tokens(ctx)))
    return ctx.step("check", lambda: _linked(result(question, said.answer, sources), hits))


def is_evidence(hits: Sequence[Hit], least: float = EVIDENCE) -> bool:
    """Whether one passage is both about the question's matter and holds its words: cosine times coverage.

    The product forgives little of one for much of the other. `python -m tests.bench.retrieval.evidence` prints what a limit
    costs. 0.22 is the lowest at which under one in twenty unanswerable questions about the starter corpus passes: a refusal
    too many costs an answer, while an answer too many still meets the check of every sentence.

    2026-11-24, false answers and false refusals in percent, on the starter corpus (42 + 42 questions) and on 270 scientific
    claims with and without their source in the index: 2.4, 0.0; 59, 16. Dropped: cosine 0.30 and coverage 0.45, each for
    itself: 4.8, 4.8; 64, 17. The fused score, 0.36: 2.4, 4.8; 63, 14.
    """
    return any((hit.similarity or 0.0) * hit.coverage >= least for hit in hits)


def _widened(ctx: Context, hits: list[Hit]) -> list[Hit]:
    """The best hits as the sections they stand in, the others as they are; none that stands in one before it."""
    kept: list[Hit] = []
    for number, hit in enumerate(hits):
        wide = ctx.section_of(hit, SECTION_CHARACTERS) if number < WIDENED else hit
        if not any(_within(wide, other) for other in kept):
            kept = [other for other in kept if not _within(other, wide)] + [wide]
    return kept


def _within(hit: Hit, other: Hit) -> bool:
    return hit.file == other.file and other.start <= hit.start and hit.end <= other.end


def _linked(found: dict[str, Any], hits: list[Hit]) -> dict[str, Any]:
    """The result with the passage of every quotation that stands in one of the hits: a section has no page of its own."""
    for citation in found["citations"]:
        there = (hit for hit in hits if hit.file == citation["file"] and find_quote(hit.text, citation["quote"]))
        citation["passage"] = citation["passage"] or next((hit.passage_id for hit in there), "")
    return found


def _max_tokens(ctx: Context) -> int:
    return int(ctx.budget.get("tokens") or MAX_TOKENS)


def _fitting(ctx: Context, question: str, hits: list[Hit], wide: list[Hit]) -> tuple[list[ChatMessage], list[Hit]]:
    """The sections, or as many of the best passages as leave room for the answer; at least the question itself."""
    room = ctx.context_tokens - _max_tokens(ctx)
    for sources in (wide, *(hits[:count] for count in range(len(hits), 0, -1))):
        messages = _messages(ctx, question, sources)
        if ctx.prompt_tokens(messages) <= room:
            return messages, sources
    return _messages(ctx, question, hits[:1]), hits[:1]  # does not fit: the engine says so, with figures


def _messages(ctx: Context, question: str, hits: list[Hit]) -> list[ChatMessage]:
    excerpts = shown(hits)
    marks = fence([hit.text for hit in excerpts])
    return [
        ChatMessage("system", ctx.prompt("answer-system")),
        ChatMessage("user", ctx.prompt("answer", question=question, hits=excerpts, fence=marks)),
    ]
