"""A question over the corpus, answered with checked quotations.

Looks up passages, widens the best of them to their sections, lets the model answer from them, then holds every sentence of
the answer against the passages that were shown. Where nothing near enough is found, the model is not asked at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from corpus.retrieval import Hit, hit_from_json
from corpus.sections import together
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
    wide = ctx.step("widen", lambda: [[hit.to_json() for hit in group] for group in _widened(ctx, hits)])
    groups = [[hit_from_json(row) for row in group] for group in wide]
    messages, sources = _fitting(ctx, question, hits, groups)
    said = ctx.think("draft", messages, Ask(max_tokens=_max_tokens(ctx)))
    return ctx.step("check", lambda: result(question, said.answer, sources))


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


def _widened(ctx: Context, hits: list[Hit]) -> list[list[Hit]]:
    """The passages of the sections around the best hits, then the other hits; no passage twice."""
    groups: list[list[Hit]] = []
    seen: set[str] = set()
    for number, hit in enumerate(hits):
        around = ctx.passages_around(hit, SECTION_CHARACTERS) if number < WIDENED else [hit]
        if hit.passage_id not in seen:
            groups.append([one for one in around if one.passage_id not in seen])
            seen.update(one.passage_id for one in around)
    return groups


def _max_tokens(ctx: Context) -> int:
    return int(ctx.budget.get("tokens") or MAX_TOKENS)


def _fitting(
    ctx: Context, question: str, hits: list[Hit], groups: list[list[Hit]]
) -> tuple[list[ChatMessage], list[Hit]]:
    """(prompt, passages it shows): the sections, or as many of the best passages as leave room for the answer; at least one.

    What is said is held against passages and not sections: only a passage knows which heading it stands under.
    """
    room = ctx.context_tokens - _max_tokens(ctx)
    messages = _messages(ctx, question, [together(group) if len(group) > 1 else group[0] for group in groups])
    if ctx.prompt_tokens(messages) <= room:
        found = {hit.passage_id for hit in hits}
        return messages, [*hits, *(hit for group in groups for hit in group if hit.passage_id not in found)]
    for count in range(len(hits), 0, -1):
        messages = _messages(ctx, question, hits[:count])
        if ctx.prompt_tokens(messages) <= room:
            return messages, hits[:count]
    return _messages(ctx, question, hits[:1]), hits[:1]  # does not fit: the engine says so, with figures


def _messages(ctx: Context, question: str, hits: list[Hit]) -> list[ChatMessage]:
    excerpts = shown(hits)
    marks = fence([hit.text for hit in excerpts])
    return [
        ChatMessage("system", ctx.prompt("answer-system")),
        ChatMessage("user", ctx.prompt("answer", question=question, hits=excerpts, fence=marks)),
    ]
