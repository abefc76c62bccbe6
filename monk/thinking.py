"""One thought, from its prompt to its saved end: opened in the database, streamed from the engine, saved as it comes.

The way of a thought: `Thinker.think` → `Steps.open_thought` (finished already? cut after n tokens?) → `EngineClient.think`
→ tokens to the `Scribe` → `Steps.finish_thought`. When the engine dies, the same thought is asked again with the tokens it
had; when the window closes, it is left where it is and `Paused` ends the job's thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from db.models import Job, Thought
from db.steps import NewThought, Open, Steps, ThoughtEnd, unpack
from jobs.context import Ask, Said
from monk.budget import thinking_of
from monk.engine.client import (
    AdapterUse,
    EngineClient,
    Finished,
    ModelUse,
    NewTokens,
    PrefillProgress,
    Sampling,
    Stream,
    Thinking,
    ThoughtRequest,
    wave_of,
)
from monk.engine.model_use import told
from monk.engine.part import ThinkingPart
from monk.engine.template import split_thinking
from monk.errors import EngineDied, EngineFailed
from monk.scribe import Scribe

logger = logging.getLogger(__name__)
DEATHS_ALLOWED = 5  # of the engine in a row under one thought that got no token further: then the thought is to blame
LOOK_UP_SECONDS = 0.25  # how soon a quiet stream notices a pause or a spent budget


class Paused(BaseException):
    """Ends a job's thread at a point from which it can go on. Not an Exception: no kind may swallow it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which a job thinks: whose it is, when to pause, and how many seconds it still has."""

    job: Job
    pausing: threading.Event
    lost: threading.Event
    seconds_left: Callable[[], float]
    adapters: Callable[[], tuple[AdapterUse, ...]]
    model: Callable[[], ModelUse]


class Thinker:
    """Shared by all jobs; every call runs in the caller's thread."""

    def __init__(self, engine: EngineClient, steps: Steps, scribe: Scribe, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._steps = steps
        self._scribe = scribe
        self._now = now

    def think(
        self, terms: Terms, name: str, sample: int, prompt: tuple[int, ...], ask: Ask, seed: int, opened: bool
    ) -> Said:
        """The finished thought. `opened`: the prompt itself begins the thinking part, which the answer then goes on with.

        Raises Paused, LeaseLost, ContextTooLong, EngineFailed.
        """
        card = self._engine.card()
        sampling, adapters, model = _sampling(ask, seed), terms.adapters(), terms.model()
        thinking = thinking_of(self._engine, ask.thinking, ask.max_tokens, opened=opened)
        new = NewThought(
            name=name,
            sample=sample,
            request_hash=_request_hash(prompt, sampling, ask, card.sha256, wave_of(adapters, model), thinking),
            model_sha256=card.sha256,
            sampling=_told(sampling, ask) | _special(thinking, model),
            max_tokens=ask.max_tokens,
            prompt_ids=prompt,
        )
        found = self._steps.open_thought(terms.job, new, self._now())
        if isinstance(found, Thought):
            return _said(found, thinking)
        request = ThoughtRequest(
            id=found.id,
            prompt=prompt,
            max_tokens=ask.max_tokens,
            sampling=sampling,
            stop=ask.stop,
            thinking=thinking,
            saved=found.saved,
            adapters=adapters,
            model=model,
            group=terms.job.id,  # its steps quote the same documents and each other
            priority=terms.job.priority,
            deadline_seconds=_seconds_until(terms.job.deadline, self._now()),
        )
        return _said(self._run(terms, found, request, opened), thinking)

    def _run(self, terms: Terms, place: Open, request: ThoughtRequest, opened: bool) -> Thought:
        deaths, saved = 0, list(place.saved)
        while True:
            before = len(saved)
            try:
                end = self._listen(terms, request, saved)
                return self._close(terms, place.id, end, opened)
            except EngineDied as exc:
                deaths = 1 if len(saved) > before else deaths + 1
                logger.warning("the engine died under a thought", extra={"job_id": terms.job.id, "deaths": deaths})
                if deaths >= DEATHS_ALLOWED:
                    raise EngineFailed(
                        f"the engine died {deaths} times in a row at token {len(saved)} of this thought; see the journal"
                    ) from exc
                self._pause_if_asked(terms, place.id)
                request = replace(request, saved=tuple(saved))
            finally:
                if terms.lost.is_set():
                    self._scribe.forget(place.id, str(terms.job.lease_token))

    def _listen(self, terms: Terms, request: ThoughtRequest, saved: list[int]) -> Finished:
        """Follow one stream to its end, saving as it comes; `saved` grows with it."""
        stream = self._engine.think(request)
        asked_to_end = False
        while True:
            message = stream.receive(timeout=LOOK_UP_SECONDS)
            if isinstance(message, NewTokens):
                self._save(terms, request.id, saved, message, stream)
            elif isinstance(message, PrefillProgress):
                self._note_prefill(terms, message)
            elif isinstance(message, Finished):
                return message
            if not asked_to_end and self._must_end(terms):
                stream.cancel()
                asked_to_end = True

    def _save(self, terms: Terms, thought_id: str, saved: list[int], message: NewTokens, stream: Stream) -> None:
        if not message.ids:
            return
        try:
            self._scribe.add(
                terms.job.id, str(terms.job.lease_token), thought_id, len(saved), message.ids, message.text
            )
        except BaseException:
            stream.cancel()
            terms.lost.set()
            raise
        saved.extend(message.ids)

    def _note_prefill(self, terms: Terms, progress: PrefillProgress) -> None:
        logger.debug("prefill", extra={"job_id": terms.job.id, "done": progress.done, "total": progress.total})

    def _must_end(self, terms: Terms) -> bool:
        return terms.pausing.is_set() or terms.lost.is_set() or terms.seconds_left() <= 0

    def _close(self, terms: Terms, thought_id: str, end: Finished, opened: bool) -> Thought:
        self._scribe.flush(thought_id, str(terms.job.lease_token))
        ended = _thought_end(end, opened)
        if end.reason in ("cancelled", "paused") and not self._spent(terms):
            self._steps.pause_thought(thought_id, ended)
            raise Paused
        if end.reason in ("cancelled", "paused"):
            ended = replace(ended, reason="minutes")
        return self._steps.finish_thought(terms.job, thought_id, ended, self._now())

    def _spent(self, terms: Terms) -> bool:
        return not terms.pausing.is_set() and not terms.lost.is_set() and terms.seconds_left() <= 0

    def _pause_if_asked(self, terms: Terms, thought_id: str) -> None:
        if terms.pausing.is_set() or terms.lost.is_set():
            self._scribe.flush(thought_id, str(terms.job.lease_token))
            raise Paused


def seed_of(job_seed: int, name: str, sample: int) -> int:
    """The seed of one sample: 63 bits of a hash, so that samples differ and a rerun does not."""
    digest = hashlib.blake2b(f"{job_seed}/{name}/{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _seconds_until(deadline: datetime | None, now: datetime) -> float | None:
    return None if deadline is None else (deadline - now).total_seconds()


def _sampling(ask: Ask, seed: int) -> Sampling:
    return Sampling(
        temperature=ask.temperature,
        top_k=ask.top_k,
        top_p=ask.top_p,
        min_p=ask.min_p,
        repeat_penalty=ask.repeat_penalty,
        seed=seed,
        logit_bias=dict(ask.logit_bias),
        grammar=ask.grammar,
        json_schema=ask.json_schema,
    )


def _told(sampling: Sampling, ask: Ask) -> dict[str, Any]:
    values = {field: getattr(sampling, field) for field in Sampling.__dataclass_fields__}
    values["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return {**values, "stop": list(ask.stop)}


def _special(thinking: Thinking | None, model: ModelUse) -> dict[str, Any]:
    """What is told beside the sampling, where there is something to tell."""
    limit = {} if thinking is None else {"thinking_tokens": thinking.tokens}
    return limit | ({"model": told(model)} if told(model) else {})


def _request_hash(
    prompt: tuple[int, ...], sampling: Sampling, ask: Ask, model_sha256: str, wave: str, thinking: Thinking | None
) -> str:
    what: list[Any] = [prompt, _told(sampling, ask), ask.max_tokens, model_sha256]
    what += [wave] if wave else []
    what += [] if thinking is None else [asdict(thinking)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _thought_end(end: Finished, opened: bool) -> ThoughtEnd:
    reasoning, answer = split_thinking(end.text, opened=opened)
    return ThoughtEnd(
        reason=end.reason,
        text=end.text,
        reasoning=reasoning,
        answer=answer,
        num_prefilled=end.num_prefilled,
        prefill_seconds=end.prefill_seconds,
        decode_seconds=end.decode_seconds,
    )


def _said(thought: Thought, thinking: Thinking | None) -> Said:
    part = None if thinking is None else ThinkingPart.behind(thinking, unpack(thought.token_ids or b""))
    return Said(
        thought_id=thought.id,
        answer=thought.answer or "",
        reasoning=thought.reasoning or "",
        reason=thought.reason or "",
        num_tokens=thought.num_tokens,
        thinking_tokens=0 if part is None else part.num_tokens,
        thinking_cut=part is not None and part.was_cut,
        prompt_tokens=thought.num_prompt_tokens,
        seconds=thought.prefill_seconds + thought.decode_seconds,
    )
