"""A problem thought through several times; the answer most samples agree on is given, with the vote.

Self-consistency (Wang et al. 2022, arXiv:2203.11171): independent samples, then a majority over their final answers. Where
no two agree, the model judges its own samples, and the result says that it was a judgement and not a vote.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Annotated, Any

from pydantic import Field

from jobs import fields
from jobs.context import Ask, ChatMessage, Context, Said

SAMPLES = 5
MAX_TOKENS = 400
VERDICT_TOKENS = 16  # a number, and the marks with which a reasoning model is kept from thinking about it
TEMPERATURE = 0.8
_FINAL = re.compile(r"^[\s*_#>-]*(?:final answer|answer|ответ|antwort|réponse|答案)[\s*_]*[:：]\s*(.+)$", re.I | re.M)
_BOXED = re.compile(r"\\boxed\{([^{}]+)\}")


class Input(fields.Input):
    """A problem, and how warm to think."""

    question: fields.Question
    temperature: Annotated[float, Field(ge=0, le=2)] = TEMPERATURE


def run(ctx: Context) -> dict[str, Any]:
    """Sample, vote, and judge if the vote is no vote."""
    samples = int(ctx.budget.get("samples") or SAMPLES)
    tokens = ctx.budget.get("tokens")
    limit = max(1, int(tokens) // samples) if tokens else MAX_TOKENS
    ask = Ask(max_tokens=limit, temperature=ctx.input["temperature"], top_k=40, top_p=0.95, repeat_penalty=1.05)
    prompt = [ChatMessage("user", ctx.prompt("think", question=ctx.input["question"]))]
    return vote_or_judge(ctx, ctx.input["question"], ctx.think_samples("sample", prompt, ask, samples))


def vote_or_judge(ctx: Context, question: str, said: list[Said]) -> dict[str, Any]:
    """The result of several samples of one question: the majority's answer, or the judged best where no two agree."""
    return ctx.step("vote", lambda: _verdict(said)) if _agreed(said) else _judged(ctx, question, said)


def final_answer(text: str) -> str | None:
    """What a sample gives as its answer: the last "Answer:" line or \\boxed{}; None when it gives none."""
    found = [*_FINAL.findall(text), *_BOXED.findall(text)]
    return found[-1].strip() if found else None


def normal_form(answer: str) -> str:
    """Answers that differ only in case, width, spaces, ornament or a closing point count as one."""
    folded = unicodedata.normalize("NFKC", answer).casefold()
    folded = re.sub(r"(?<=\d)[,\s](?=\d{3}\b)", "", folded)  # 97,200 is 97200
    return re.sub(r"[\s*_`$\"']+", " ", folded).strip(" .!;:")


def _agreed(said: list[Said]) -> bool:
    votes = _votes(said)
    return len(said) == 1 or (bool(votes) and votes.most_common(1)[0][1] > 1)


def _votes(said: list[Said]) -> Counter[str]:
    return Counter(normal_form(answer) for one in said if (answer := final_answer(one.answer)) is not None)


def _verdict(said: list[Said]) -> dict[str, Any]:
    votes = _votes(said)
    if not votes:
        return _result(said, 0, votes, "single")
    winner = votes.most_common(1)[0][0]
    best = next(i for i, one in enumerate(said) if normal_form(final_answer(one.answer) or "") == winner)
    return _result(said, best, votes, "single" if len(said) == 1 else "vote")


def _judged(ctx: Context, question: str, said: list[Said]) -> dict[str, Any]:
    numbers = " | ".join(f'"{i + 1}"' for i in range(len(said)))
    ask = Ask(max_tokens=VERDICT_TOKENS, grammar=f"root ::= {numbers}", thinking=0.0)
    answers = _shortened(ctx, [one.answer for one in said])
    prompt = [ChatMessage("user", ctx.prompt("judge", question=question, answers=answers))]
    judgement = ctx.think("judge", prompt, ask)
    chosen = int(judgement.answer.strip() or 1) - 1
    return ctx.step("vote", lambda: _result(said, chosen, _votes(said), "judge"))


def _shortened(ctx: Context, answers: list[str]) -> list[str]:
    """Answers cut at their heads so that all of them fit before the judge; the end of an answer matters most."""
    room = max(200, (ctx.context_tokens - 400) // len(answers))  # tokens each
    return [answer if ctx.count_tokens(answer) <= room else "… " + answer[-2 * room :] for answer in answers]


def _result(said: list[Said], best: int, votes: Counter[str], decided_by: str) -> dict[str, Any]:
    return {
        "answer": said[best].answer,
        "final": final_answer(said[best].answer),
        "decided_by": decided_by,
        "votes": [{"answer": answer, "count": count} for answer, count in votes.most_common()],
        "samples": len(said),
        "best_sample": best,
        "thought_id": said[best].thought_id,
        "cut_samples": sum(one.reason in ("length", "minutes") for one in said),
        "reasoning": said[best].reasoning,
        "thinking_cut": sum(one.thinking_cut for one in said),
    }
