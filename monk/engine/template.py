"""Chat messages to prompt segments, by the template the model's file carries.

Templates come with models from strangers: they run in an immutable sandbox, with a limit on output and time. What
people and documents wrote may not become control tokens: each spelling of one inside a message is taken out before
rendering, and put back as a literal segment. Knows text only, no token ids.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from monk.engine.client import ModelCard, Segment
from monk.errors import InvalidInput, ModelUnusable

ROLES = ("system", "user", "assistant")
MAX_OVERHEAD_CHARS = 1 << 20  # a template may add this much to what the messages hold
MAX_COPIES = 4  # and repeat the messages this often
MAX_SECONDS = 10.0
MAX_FACTOR = 1 << 20
MAX_EXPONENT = 64
FALLBACK_NAMES = {"system": "Instructions", "user": "User", "assistant": "Assistant"}
FALLBACK_STOP = ("\nUser:", "\nInstructions:")

Message = Mapping[str, str]


class ChatTemplate:
    """How one model wants to be spoken to. `fallback` tells that its file has no template and plain names are used.

    `stop` are stop strings the prompt's form calls for: none with a real template, the next speaker's name without one.
    """

    def __init__(
        self, source: str | None, *, bos: str = "", eos: str = "", control_tokens: tuple[str, ...] = ()
    ) -> None:
        self.fallback = source is None
        self.stop: tuple[str, ...] = FALLBACK_STOP if self.fallback else ()
        self._names = {"bos_token": bos, "eos_token": eos}
        self._control = control_tokens
        self._template = None
        if source is not None:
            try:
                self._template = _environment().from_string(source)
            except TemplateError as exc:
                raise ModelUnusable(f"the model's chat template cannot be read: {exc}") from exc

    @classmethod
    def of(cls, card: ModelCard) -> ChatTemplate:
        return cls(card.chat_template, bos=card.bos, eos=card.eos, control_tokens=card.control_tokens)

    def render(
        self,
        messages: Iterable[Message],
        *,
        add_generation_prompt: bool = True,
        thinking: bool | None = None,
        now: datetime | None = None,
    ) -> list[Segment]:
        """The prompt for `messages` ({"role", "content"}). `thinking` switches reasoning for templates that know it.

        A template that refuses system messages gets them at the head of the first user message. Raises InvalidInput
        when the messages are malformed or refused in any form.
        """
        checked = _checked(messages)
        literals = _Literals(checked, self._control)
        extra: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
        text = self._render_any(literals.hidden, add_generation_prompt, now or datetime.now().astimezone(), extra)
        return literals.reveal(text)

    def _render_any(self, messages: list[dict[str, str]], generate: bool, now: datetime, extra: dict[str, Any]) -> str:
        try:
            text = self._render(messages, generate, now, extra)
            if all(message["content"].strip() in text for message in messages if message["role"] == "system"):
                return text
        except TemplateError as exc:
            plain = _without_system(messages)
            if plain == messages:
                raise InvalidInput(
                    f"the model's chat template refuses these messages: {exc}", param="messages"
                ) from exc
        try:
            return self._render(_without_system(messages), generate, now, extra)
        except TemplateError as exc:
            raise InvalidInput(f"the model's chat template refuses these messages: {exc}", param="messages") from exc

    def _render(self, messages: list[dict[str, str]], generate: bool, now: datetime, extra: dict[str, Any]) -> str:
        if self._template is None:
            return _plain(messages, generate)
        values = {
            "messages": messages,
            "add_generation_prompt": generate,
            "tools": None,
            "documents": None,
            "strftime_now": now.strftime,
            **self._names,
            **extra,
        }
        content_chars = sum(len(message["content"]) for message in messages)
        try:
            return _limited(self._template.generate(values), MAX_OVERHEAD_CHARS + MAX_COPIES * content_chars)
        except TemplateError:
            raise
        except Exception as exc:  # the template is a stranger's program: it may fail in any way
            raise TemplateError(f"{type(exc).__name__}: {exc}") from exc


def opens_thinking(segments: list[Segment]) -> bool:
    """True if the prompt itself begins the thinking part, so that the answer starts in the middle of it."""
    tail = segments[-1].text.rstrip() if segments else ""
    return any(tail.endswith(opening) for opening, _ in THINKING_MARKS)


THINKING_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
)
_FINAL_CHANNEL = re.compile(r"(?:assistant)?<\|channel\|>\s*final\s*<\|message\|>")
_CHANNEL_MARK = re.compile(r"(assistant)?<\|channel\|>\s*\w*\s*(<\|message\|>)?")


def split_thinking(text: str, *, opened: bool = False) -> tuple[str, str]:
    """(reasoning, answer), both stripped. Thinking that never ends is all reasoning and no answer.

    `opened`: the prompt had opened the thinking part already (see `opens_thinking`). A mark in the middle of an answer
    is text.
    """
    if "<|channel|>" in text:
        return _split_channels(text)
    body = text.lstrip()
    for opening, closing in THINKING_MARKS:
        if body.startswith(opening):
            reasoning, _, answer = body[len(opening) :].partition(closing)
            return reasoning.strip(), answer.strip()
    for opening, closing in THINKING_MARKS:
        before, found, answer = text.partition(closing)
        if found and opening not in before:
            return before.strip(), answer.strip()
    return (text.strip(), "") if opened else ("", text.strip())


def _split_channels(text: str) -> tuple[str, str]:
    parts = _FINAL_CHANNEL.split(text)
    reasoning = _CHANNEL_MARK.sub("\n", parts[0]).strip()
    answer = parts[-1].strip() if len(parts) > 1 else ""
    return reasoning, answer


# --- messages


def _checked(messages: Iterable[Message]) -> list[dict[str, str]]:
    out = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise InvalidInput(f"message role {role!r}; use one of {', '.join(ROLES)}", param="messages")
        if not isinstance(content, str):
            raise InvalidInput(f"the content of a {role} message is not text", param="messages")
        if role == "assistant":
            content = split_thinking(content)[1] if any(mark in content for _, mark in THINKING_MARKS) else content
        out.append({"role": role, "content": content})
    if not out:
        raise InvalidInput("there are no messages", param="messages")
    return out


def _without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """System texts put at the head of the first user message, and neighbours of one role joined."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    out: list[dict[str, str]] = []
    for message in messages:
        if message["role"] == "system":
            continue
        if out and out[-1]["role"] == message["role"]:
            out[-1] = {**message, "content": f"{out[-1]['content']}\n\n{message['content']}"}
        else:
            out.append(dict(message))
    if not system:
        return out
    first = next((message for message in out if message["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": system}, *out]
    first["content"] = f"{system}\n\n{first['content']}"
    return out


class _Literals:
    """Messages with each spelling of a control token replaced by a mark, and the way back."""

    def __init__(self, messages: list[dict[str, str]], control_tokens: tuple[str, ...]) -> None:
        self._texts: list[str] = []
        self._open, self._close = _unused_characters("".join(message["content"] for message in messages))
        self._spelled = _spelling(control_tokens)
        self.hidden = [{**message, "content": self._hide(message["content"])} for message in messages]

    def _hide(self, content: str) -> str:
        return self._spelled.sub(self._mark, content) if self._spelled is not None else content

    def _mark(self, match: re.Match[str]) -> str:
        self._texts.append(match.group())
        return f"{self._open}{len(self._texts) - 1}{self._close}"

    def reveal(self, rendered: str) -> list[Segment]:
        """Template text and ordinary content as control segments, the literals between them as plain ones."""
        pieces = re.split(f"{self._open}(\\d+){self._close}", rendered)
        segments = [
            Segment(self._texts[int(piece)], control=False) if odd else Segment(piece, control=True)
            for place, piece in enumerate(pieces)
            for odd in (place % 2 == 1,)
        ]
        return [segment for segment in segments if segment.text]


@lru_cache(maxsize=8)
def _spelling(control_tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds whole control tokens anywhere, and a beginning of one at the end that template text might complete."""
    if not control_tokens:
        return None
    beginnings = {token[:length] for token in control_tokens for length in range(2, len(token))}
    whole = "|".join(re.escape(token) for token in control_tokens)
    tails = "|".join(re.escape(part) for part in sorted(beginnings, key=lambda part: (-len(part), part)))
    return re.compile(f"{whole}|(?:{tails})\\Z" if tails else whole)


def _unused_characters(text: str) -> tuple[str, str]:
    """Two private-use characters that do not occur in the text."""
    present = set(text)
    free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in present)
    first, second = next(free, None), next(free, None)
    if first is None or second is None:
        raise InvalidInput("the messages use every private-use character there is", param="messages")
    return first, second


def _plain(messages: list[dict[str, str]], generate: bool) -> str:
    """The form for models without a template."""
    parts = [f"{FALLBACK_NAMES[message['role']]}: {message['content']}" for message in messages]
    return "\n\n".join([*parts, "Assistant:"] if generate else parts)


# --- jinja


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers has it, so that templates behave as their authors saw them."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also stops products that would fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(value) if isinstance(value, str | list | tuple) else abs(value) for value in (left, right)]
        if max(sizes) > MAX_FACTOR or (operator == "**" and right > MAX_EXPONENT):
            raise TemplateError(f"it computes {operator} on something too large")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here it just shows it."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _limited(pieces: Iterator[str], max_chars: int) -> str:
    """Join what a template yields. Raises TemplateError when it is too much or takes too long."""
    out, total, deadline = [], 0, time.monotonic() + MAX_SECONDS
    for piece in pieces:
        total += len(piece)
        if total > max_chars or time.monotonic() > deadline:
            raise TemplateError(f"it wrote {total} characters and was stopped")
        out.append(piece)
    return "".join(out)
