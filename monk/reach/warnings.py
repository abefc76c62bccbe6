"""Whether a prompt is longer than the model was found to read reliably, and what to say then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from db.queue import NewJob
from monk.engine.client import AdapterUse, EngineClient, ModelUse, Segment
from monk.engine.model_use import over
from monk.engine.template import ChatTemplate
from monk.errors import MonkError
from monk.lora.shelf import Shelf
from monk.lora.wear import choose
from monk.model_check import ModelCheck
from monk.reach.reading import of_card
from monk.reach.record import Reach, Reaches

logger = logging.getLogger(__name__)
MEASURED_BY = "needle"  # the kind that is not warned: it is what measures


def beyond(reach: Reach | None, prompt_tokens: int, *, at_least: bool = False) -> str:
    """The warning, in one line; empty when there is nothing to say. `at_least`: there will be more tokens than these."""
    if reach is None or prompt_tokens <= reach.reliable_tokens or prompt_tokens < reach.shortest_tokens:
        return ""
    size = f"the prompt has {'at least ' if at_least else ''}{prompt_tokens} tokens"
    if not reach.reliable_tokens:
        return f"{size}; this model lost what it was asked for at {reach.shortest_tokens}, the shortest that was tried"
    rest = ", and longer ones were not tried" if reach.reliable_tokens == reach.longest_tokens else ""
    return f"{size}; this model found what it was asked for up to {reach.reliable_tokens}{rest}"


class Foresight:
    """What can be said of a job when it is submitted: nothing while the model is not loaded, as only it counts tokens."""

    def __init__(
        self,
        engine: EngineClient,
        template: Callable[[], ChatTemplate],
        reaches: Reaches,
        shelf: Shelf,
        check: ModelCheck,
        house: ModelUse,
    ) -> None:
        self._engine = engine
        self._template = template
        self._reaches = reaches
        self._shelf = shelf
        self._check = check
        self._house = house

    def __call__(self, new: NewJob) -> list[str]:
        """Warnings, one line each. Never raises: the job is stored already, and is told of again when it thinks."""
        try:
            warning = self._warning(new)
        except MonkError as exc:
            logger.info("a prompt could not be counted", extra={"kind": new.kind, "reason": exc.message})
            return []
        return [warning] if warning else []

    def _warning(self, new: NewJob) -> str:
        turns, whole = turns_of(new)
        status = self._engine.status()
        if not turns or status.state != "ready" or status.model is None:
            return ""
        use = self._check.plain(over(ModelUse(**new.model), self._house))
        reach = self._reaches.find(of_card(status.model, use, self._worn(new.adapter)))
        num_bytes = sum(len(turn["content"].encode("utf-8", "replace")) for turn in turns)
        if (
            reach is None or num_bytes < reach.reliable_tokens // 2
        ):  # a token is a byte at least, a template not as long
            return ""
        segments = self._template().render(turns) if whole else [Segment(turn["content"], False) for turn in turns]
        return beyond(reach, len(self._engine.tokenize(segments, add_bos=whole)), at_least=not whole)

    def _worn(self, adapter: str | None) -> tuple[AdapterUse, ...]:
        worn = [] if adapter is None else choose(adapter, self._shelf)
        return tuple(AdapterUse("", one.sha256, one.scale) for one in worn)


def turns_of(new: NewJob) -> tuple[list[dict[str, str]], bool]:
    """(messages that will stand in one prompt, whether they are all of it); nothing for kinds whose prompts are made later."""
    messages: Any = new.input.get("messages")
    if new.kind == "chat" and isinstance(messages, list):
        return [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in messages], True
    question = new.input.get("question")
    if isinstance(question, str):
        return [{"role": "user", "content": question}], False
    return [], False
