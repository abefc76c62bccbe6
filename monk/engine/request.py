"""What a thought may ask for, checked before it comes near native code, where a bad id would end the process."""

from __future__ import annotations

import math

from monk.engine.client import Sampling, Thinking, ThoughtRequest
from monk.errors import ContextTooLong, InvalidInput

MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
MAX_LOGPROBS = 64
MAX_ADAPTERS = 8


def check_length(request: ThoughtRequest, context: int) -> None:
    """Raises ContextTooLong when prompt and answer together exceed `context` tokens."""
    wanted = len(request.prompt) + request.max_tokens
    if wanted > context:
        raise ContextTooLong(
            f"prompt has {len(request.prompt)} tokens and the answer up to {request.max_tokens}, a slot holds {context}"
            "; shorten the prompt, lower max_tokens or raise MONK_CONTEXT",
            param="prompt",
            num_tokens=wanted,
            limit_tokens=context,
        )


def check_request(request: ThoughtRequest, vocab_size: int, context: int) -> None:
    """Raises InvalidInput or ContextTooLong; what passes cannot make llama.cpp abort."""
    if not request.prompt:
        raise InvalidInput("prompt has no tokens", param="prompt")
    if request.max_tokens < 1:
        raise InvalidInput(f"max_tokens is {request.max_tokens}; at least 1 is needed", param="max_tokens")
    check_length(request, context)
    for name, ids in (("prompt", request.prompt), ("saved", request.saved), *_marks(request)):
        strange = next((token for token in ids if not 0 <= token < vocab_size), None)
        if strange is not None:
            raise InvalidInput(f"{name} has token {strange}; this model knows 0 to {vocab_size - 1}", param=name)
    if len(request.saved) > request.max_tokens:
        raise InvalidInput(
            f"{len(request.saved)} saved tokens are more than max_tokens {request.max_tokens}", param="saved"
        )
    if len(request.stop) > MAX_STOP_STRINGS or any(len(word) > MAX_STOP_CHARS for word in request.stop):
        raise InvalidInput(f"at most {MAX_STOP_STRINGS} stop strings of {MAX_STOP_CHARS} characters", param="stop")
    _check_thinking(request)
    _check_adapters(request)
    _check_sampling(request.sampling, vocab_size)


def _marks(request: ThoughtRequest) -> tuple[tuple[str, tuple[int, ...]], ...]:
    marks = request.thinking
    return () if marks is None else (("thinking", (*marks.opening, *marks.ending, *marks.closing)),)


def _check_thinking(request: ThoughtRequest) -> None:
    """A part that is ended leaves at least one token for the answer."""
    marks = request.thinking
    if marks is None:
        return
    if not (marks.opening and marks.ending and marks.closing):
        raise InvalidInput("a thinking part without marks cannot be followed", param="thinking")
    if marks.tokens is None:
        return
    if marks.tokens < 0:
        raise InvalidInput(f"{marks.tokens} tokens to think; 0 or more are possible", param="thinking")
    if not leaves_an_answer(marks, request.max_tokens):
        raise InvalidInput(
            f"{marks.tokens} tokens to think and {len(marks.closing)} to end it leave nothing of max_tokens "
            f"{request.max_tokens} for the answer; raise max_tokens or think less",
            param="thinking",
        )


def leaves_an_answer(marks: Thinking, max_tokens: int) -> bool:
    """True if the thinking part can be ended in time for one token of the answer."""
    opening = 0 if marks.opened else len(marks.opening)
    return max(marks.tokens or 0, opening) + len(marks.closing) < max_tokens


def _check_adapters(request: ThoughtRequest) -> None:
    if len(request.adapters) > MAX_ADAPTERS:
        raise InvalidInput(f"{len(request.adapters)} adapters at once; at most {MAX_ADAPTERS}", param="adapter")
    for adapter in request.adapters:
        if not math.isfinite(adapter.scale):
            raise InvalidInput(f"adapter {adapter.path} has scale {adapter.scale}; give a number", param="adapter")


def _check_sampling(sampling: Sampling, vocab_size: int) -> None:
    ranges: tuple[tuple[str, float, bool, str], ...] = (
        ("temperature", sampling.temperature, sampling.temperature >= 0, "0 or more"),
        ("top_k", sampling.top_k, sampling.top_k >= 0, "0 (off) or more"),
        ("top_p", sampling.top_p, 0 < sampling.top_p <= 1, "above 0 and at most 1"),
        ("min_p", sampling.min_p, 0 <= sampling.min_p < 1, "at least 0 and below 1"),
        ("repeat_penalty", sampling.repeat_penalty, sampling.repeat_penalty > 0, "above 0"),
        ("logprobs", sampling.logprobs, 0 <= sampling.logprobs <= MAX_LOGPROBS, f"from 0 to {MAX_LOGPROBS}"),
    )
    for name, value, good, wanted in ranges:
        if not good or not math.isfinite(value):
            raise InvalidInput(f"{name} is {value}; it must be {wanted}", param=name)
    if sampling.grammar is not None and sampling.json_schema is not None:
        raise InvalidInput("grammar and json_schema exclude each other; send one", param="json_schema")
    for token, bias in sampling.logit_bias.items():
        if not 0 <= token < vocab_size or math.isnan(bias) or bias == math.inf:
            raise InvalidInput(f"logit_bias names token {token} with {bias}", param="logit_bias")
