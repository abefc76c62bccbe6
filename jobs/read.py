"""Questions about one whole document, read in the long context, part by part where it does not fit.

All questions on a part share its beginning, word for word, so an engine that shares prefixes computes the part once.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from corpus.library import WholeDocument
from corpus.retrieval import Hit
from jobs import fields
from jobs.context import Ask, ChatMessage, Context, Said
from jobs.evidence import nothing_found, result
from jobs.excerpts import LONGEST_FENCE, fence, harmless

MAX_TOKENS = 200
OVERLAP_CHARACTERS = 200  # a sentence across the cut is whole in one of the two parts
NOT_HERE = "NOT IN THIS PART"


class Input(fields.Input):
    """A document of the corpus by its path, and what to ask it."""

    document: Annotated[str, Field(min_length=1, max_length=4096)]
    questions: Annotated[list[fields.Question], Field(min_length=1, max_length=200)]


def run(ctx: Context) -> dict[str, Any]:
    """Cut into parts that fit, ask every part every question, combine, check."""
    questions = ctx.input["questions"]
    document = ctx.document(ctx.input["document"])
    spans = [tuple(span) for span in ctx.step("cut", lambda: cut(ctx, document, questions))]
    said = _ask_all(ctx, document, questions, spans)
    combined = [_combined(ctx, question, said[i], i) for i, question in enumerate(questions)]
    sources = [document.hit(start, end) for start, end in spans]
    return ctx.step("check", lambda: _result(document, questions, combined, sources))


def cut(ctx: Context, document: WholeDocument, questions: list[str]) -> list[list[int]]:
    """[start, end) character spans that fit into one thought with the longest question and its answer."""
    longest = max(questions, key=len)
    frame = ctx.prompt_tokens(_messages(ctx, document, longest, "", 99, 99))
    room = ctx.context_tokens - _budget(ctx) - frame - 8
    text, spans, start = document.text, [], 0
    while start < len(text):
        end = _fitting_end(ctx, text, start, room)
        spans.append([start, end])
        if end == len(text):
            break
        start = max(start + 1, end - OVERLAP_CHARACTERS)
    return spans


def _fitting_end(ctx: Context, text: str, start: int, room: int) -> int:
    """The farthest end whose text has at most `room` tokens, at a paragraph, line or word end if there is one."""
    low, high = start + 1, min(len(text), start + max(64, room * 12))
    if ctx.count_tokens(text[start:high]) <= room:
        return high if high == len(text) else _tidy(text, start, high)
    while high - low > 32:
        middle = (low + high) // 2
        if ctx.count_tokens(text[start:middle]) <= room:
            low = middle
        else:
            high = middle
    return _tidy(text, start, low)


def _tidy(text: str, start: int, end: int) -> int:
    for mark in ("\n\n", "\n", " "):
        at = text.rfind(mark, start + (end - start) // 2, end)
        if at > start:
            return at + len(mark)
    return end


def _ask_all(ctx: Context, document: WholeDocument, questions: list[str], spans: list[Any]) -> list[list[Said]]:
    """answers[question][part]; asked part by part, so that what shares a beginning is together."""
    prompts = [
        _messages(ctx, document, question, document.text[start:end], number, len(spans))
        for number, (start, end) in enumerate(spans, 1)
        for question in questions
    ]
    said = ctx.think_each("part", prompts, Ask(max_tokens=_part_tokens(ctx, len(prompts), len(spans))))
    return [[said[part * len(questions) + i] for part in range(len(spans))] for i in range(len(questions))]


def _combined(ctx: Context, question: str, said: list[Said], number: int) -> str | None:
    """One answer from the notes of all parts; None when no part had one."""
    notes = [one.answer.strip() for one in said if NOT_HERE not in one.answer.upper() and one.answer.strip()]
    if len(notes) <= 1:
        return notes[0] if notes else None
    prompt = [ChatMessage("user", _combining(ctx, question, _fitting_notes(ctx, notes)))]
    return ctx.think(f"combine-{number + 1}", prompt, Ask(max_tokens=_combining_tokens(ctx))).answer


def _combining(ctx: Context, question: str, notes: list[str]) -> str:
    return ctx.prompt("combine", question=question, notes=notes, fence=fence(notes))


def _fitting_notes(ctx: Context, notes: list[str]) -> list[str]:
    """Notes shortened evenly until all of them fit before the combining thought."""
    room = (ctx.context_tokens - _combining_tokens(ctx) - 300) // max(1, len(notes))
    return [note if ctx.count_tokens(note) <= room else note[: 2 * max(8, room)] for note in notes]


def _result(
    document: WholeDocument, questions: list[str], answers: list[str | None], sources: list[Hit]
) -> dict[str, Any]:
    answered = [
        {
            "question": question,
            **(nothing_found((), (), question) if answer is None else result(question, answer, sources)),
        }
        for question, answer in zip(questions, answers, strict=True)
    ]
    text = "\n\n".join(f"**{one['question']}**\n\n{one['answer']}" for one in answered)
    return {
        "answer": answered[0]["answer"] if len(answered) == 1 else text,
        "document": document.path,
        "parts_read": len(sources),
        "found": any(one["found"] for one in answered),
        "citations": [citation for one in answered for citation in one["citations"]],
        "parts": answered,
    }


def _messages(
    ctx: Context, document: WholeDocument, question: str, text: str, part: int, parts: int
) -> list[ChatMessage]:
    plain = harmless(text)
    values = {"title": " ".join(harmless(document.title).split()), "part": part, "parts": parts, "question": question}
    user = ctx.prompt("read", text=plain, fence=fence([plain]) if text else LONGEST_FENCE, **values)
    return [ChatMessage("system", ctx.prompt("read-system")), ChatMessage("user", user)]


def _budget(ctx: Context) -> int:
    """Tokens that one answer may have at most."""
    return int(ctx.budget.get("tokens") or MAX_TOKENS)


def _part_tokens(ctx: Context, num_prompts: int, num_parts: int) -> int:
    """Of one note. Where there are several parts, half of the job's tokens is kept for what is made of their notes."""
    tokens = ctx.budget.get("tokens")
    return MAX_TOKENS if tokens is None else max(1, int(tokens) // (num_prompts * (1 if num_parts == 1 else 2)))


def _combining_tokens(ctx: Context) -> int:
    """Of one answer that is made of notes."""
    tokens = ctx.budget.get("tokens")
    return MAX_TOKENS if tokens is None else max(1, int(tokens) // (2 * len(ctx.input["questions"])))
