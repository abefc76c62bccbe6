"""Raw messages, answered as they are, with sampling settings of your own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from jobs import fields
from jobs.context import Ask, ChatMessage, Context

MAX_TOKENS = 512


class Turn(fields.Input):
    """One message."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=fields.MAX_QUESTION)]


class Input(fields.Input):
    """Messages and how to sample."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=10_000)]
    max_tokens: Annotated[int, Field(ge=1, le=1_048_576)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.7
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] = 40
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=16)] = Field(default=[])
    json_schema: dict[str, Any] | None = None
    grammar: Annotated[str, Field(max_length=100_000)] | None = None
    logit_bias: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=-100, le=100)]] = Field(default={})


def run(ctx: Context) -> dict[str, Any]:
    """One thought."""
    given = ctx.input
    ask = Ask(
        max_tokens=int(given["max_tokens"] or ctx.budget.get("tokens") or MAX_TOKENS),
        temperature=given["temperature"],
        top_k=given["top_k"],
        top_p=given["top_p"],
        min_p=given["min_p"],
        repeat_penalty=given["repeat_penalty"],
        stop=tuple(given["stop"]),
        json_schema=given["json_schema"],
        grammar=given["grammar"],
        logit_bias={int(token): bias for token, bias in given["logit_bias"].items()},
    )
    messages = [ChatMessage(turn["role"], turn["content"]) for turn in given["messages"]]
    said = ctx.think("reply", messages, ask)
    return {
        "answer": said.answer,
        "reasoning": said.reasoning,
        "finish_reason": said.reason,
        "tokens": said.num_tokens,
        "thinking_tokens": said.thinking_tokens,
        "thinking_cut": said.thinking_cut,
    }
