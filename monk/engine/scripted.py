"""An engine that speaks a script: a byte tokenizer and answers from a plain function, for tests of everything above.

Keeps the same contract as the real one, stop strings, resume, limits and death included. One loop thread gives every
seated thought one token per tick.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

from monk.engine import words
from monk.engine.client import (
    EngineState,
    EngineStatus,
    Finished,
    FinishReason,
    ModelCard,
    NewTokens,
    PrefillProgress,
    Segment,
    Stream,
    ThoughtRequest,
    TokenLogprob,
)
from monk.engine.mailbox import Mailbox
from monk.engine.model_use import DENSE, OwnSettings, check
from monk.engine.part import ThinkingPart
from monk.engine.request import check_length, check_request
from monk.engine.sequence import Sequence
from monk.errors import Conflict, EngineDied, InvalidInput, ModelUnusable, MonkError, Unavailable

CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|begin|>")
THINKING_TOKENS = ("<think>", "</think>")  # of an engine that thinks; their text is part of the answer
FIRST_CONTROL = 256  # ids below are bytes
END = FIRST_CONTROL + 1
BEGIN = FIRST_CONTROL + 2
VOCAB_SIZE = FIRST_CONTROL + len(CONTROL_TOKENS) + len(THINKING_TOKENS)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Answer = Callable[[str, ThoughtRequest], str]


def echo(prompt: str, _request: ThoughtRequest) -> str:
    """The default script: says the last line of what was asked, without control tokens."""
    for token in CONTROL_TOKENS:
        prompt = prompt.replace(token, "\n")
    lines = [line for line in prompt.splitlines() if line.strip() and line not in ("user", "assistant", "system")]
    return f"You said: {lines[-1].strip() if lines else 'nothing'}"


class ByteVocabulary:
    """Every byte is a token; the control tokens follow."""

    adds_bos = True

    def __init__(self, *, thinks: bool = False) -> None:
        self.control_tokens = (*CONTROL_TOKENS, *(THINKING_TOKENS if thinks else ()))

    def tokenize(self, text: str, *, control: bool, add_special: bool) -> list[int]:
        names = self.control_tokens if control else ()
        ids = [BEGIN] if add_special else []
        while text:
            token = next((name for name in names if text.startswith(name)), None)
            if token is not None:
                ids.append(FIRST_CONTROL + names.index(token))
                text = text[len(token) :]
            else:
                places = [at for name in names if (at := text.find(name)) > 0]
                end = min(places, default=len(text))
                ids += text[:end].encode("utf-8", "replace")
                text = text[end:]
        return ids

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < FIRST_CONTROL else self.name_of(token).encode() * (token > BEGIN)

    def name_of(self, token: int) -> str:
        """A control token as it is spelled."""
        return (*CONTROL_TOKENS, *THINKING_TOKENS)[token - FIRST_CONTROL]

    def bos_text(self) -> str:
        return "<|begin|>"


class ScriptedEngine:
    """An `EngineClient`. `answer(prompt_text, request)` is what the "model" says; it must be a pure function.

    `load_error` makes it an engine whose model cannot be loaded; `thinks` one that marks its thinking as Qwen3 does. `die()`
    kills it as SIGKILL would; it comes back by itself.
    """

    def __init__(
        self,
        answer: Answer = echo,
        *,
        token_delay_seconds: float = 0.0,
        restart_seconds: float = 0.0,
        context: int = 4096,
        slots: int = 16,
        load_error: ModelUnusable | None = None,
        thinks: bool = False,
        own: OwnSettings = DENSE,
    ) -> None:
        self._answer = answer
        self._own = own
        self._delay = token_delay_seconds
        self._restart_seconds = restart_seconds
        self._load_error = load_error
        self._vocabulary = ByteVocabulary(thinks=thinks)
        self._card = make_card(context, slots, self._vocabulary.control_tokens)
        self._lock = threading.Condition()
        self._state: EngineState = "off"
        self._thoughts: dict[str, _Thought] = {}
        self._stopped = False
        self._generation = 0  # a loop thread of an older one leaves
        self._num_restarts = 0
        self._last_error: str | None = None
        self._prefill_tokens = self._decode_tokens = 0
        self.requests: list[ThoughtRequest] = []  # all that were taken, for tests to look at

    # --- the contract

    def start(self) -> None:
        with self._lock:
            self._stopped = False
            if self._state == "ready":
                return
            if self._load_error is not None:
                self._state, self._last_error = "failed", self._load_error.message
                return
            self._state = "ready"
            self._generation += 1
            threading.Thread(target=self._loop, args=(self._generation,), name="scripted", daemon=True).start()
            self._lock.notify_all()

    def card(self, timeout: float | None = None) -> ModelCard:
        if self._state == "off" and not self._stopped:
            self.start()
        with self._lock:
            if self._state == "off":
                raise Unavailable("the engine is stopped")
            if self._state == "failed" and self._load_error is not None:
                raise self._load_error
            if not self._lock.wait_for(lambda: self._state == "ready", timeout):
                raise Unavailable(f"the model is not loaded after {timeout} s")
        return self._card

    def tokenize(self, segments: list[Segment], *, add_bos: bool = True) -> list[int]:
        self.card()
        return words.tokenize(self._vocabulary, segments, self._card.control_tokens, add_bos)

    def detokenize(self, ids: list[int]) -> str:
        self.card()
        return words.detokenize(self._vocabulary, ids)

    def think(self, request: ThoughtRequest) -> Stream:
        card = self.card()
        check_length(request, card.context)
        mailbox = Mailbox(lambda: self._cancel(request.id))
        with self._lock:
            if request.id in self._thoughts:
                raise Conflict(f"thought {request.id} is open already")
            try:
                self._thoughts[request.id] = self._begin(request, mailbox)
            except MonkError as error:
                mailbox.put(error)
            self._lock.notify_all()
        return mailbox

    def status(self) -> EngineStatus:
        with self._lock:
            active = min(len(self._thoughts), self._card.slots)
            return EngineStatus(
                state=self._state,
                pid=None,
                model=self._card if self._state == "ready" else None,
                num_restarts=self._num_restarts,
                last_error=self._last_error,
                active=active,
                waiting=len(self._thoughts) - active,
                rss_bytes=0,
                prefill_tokens=self._prefill_tokens,
                decode_tokens=self._decode_tokens,
                prefill_seconds=0.0,
                decode_seconds=self._decode_tokens * self._delay,
                beat_at=time.monotonic(),
            )

    def stop(self) -> None:
        with self._lock:
            self._generation += 1
            self._state = "off"
            self._stopped = True
            thoughts, self._thoughts = list(self._thoughts.values()), {}
            for thought in thoughts:
                thought.end("paused")
            self._lock.notify_all()

    # --- for tests

    def die(self, reason: str = "killed by the script") -> None:
        """Every open stream raises EngineDied; the engine is ready again after `restart_seconds`."""
        with self._lock:
            self._generation += 1
            self._num_restarts += 1
            self._last_error = reason
            self._state = "restarting"
            thoughts, self._thoughts = list(self._thoughts.values()), {}
            for thought in thoughts:
                thought.mailbox.put(EngineDied(f"the engine process died ({reason}); ask again"))
        if self._restart_seconds:
            threading.Timer(self._restart_seconds, self._come_back).start()
        else:
            self._come_back()

    def _come_back(self) -> None:
        if self._state == "restarting":
            self.start()

    # --- the loop

    def _begin(self, request: ThoughtRequest, mailbox: Mailbox) -> _Thought:
        check_request(request, VOCAB_SIZE, self._card.context)
        check(request.model, self._own)
        if request.sampling.grammar is not None and "root" not in request.sampling.grammar:
            raise InvalidInput("grammar is not valid GBNF: it has no root", param="grammar")
        self.requests.append(request)
        answer = self._answer(self._text_of(request.prompt), request)
        script = self._vocabulary.tokenize(answer, control=request.thinking is not None, add_special=False)
        return _Thought(request, mailbox, _in_time([*script, END], request), self._vocabulary)

    def _text_of(self, prompt: tuple[int, ...]) -> str:
        """Control tokens shown by name, so that scripts can tell who speaks."""
        name_of = self._vocabulary.name_of
        pieces = (bytes([t]) if t < FIRST_CONTROL else name_of(t).encode() for t in prompt)
        return b"".join(pieces).decode("utf-8", "replace")

    def _cancel(self, thought_id: str) -> None:
        with self._lock:
            thought = self._thoughts.get(thought_id)
            if thought is not None:
                thought.cancelled = True
                self._lock.notify_all()

    def _loop(self, generation: int) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._thoughts or self._generation != generation)
                if self._generation != generation:
                    return
                self._tick()
            if self._delay:
                time.sleep(self._delay)

    def _tick(self) -> None:
        """One token for each seated thought."""
        for thought in itertools.islice(list(self._thoughts.values()), self._card.slots):
            if not thought.sequence.computed:
                thought.prefill()
                self._prefill_tokens += thought.sequence.num_prefilled
            reason = thought.step()
            self._decode_tokens += reason is None
            if reason is not None:
                del self._thoughts[thought.sequence.id]
                thought.end(reason)


class _Thought:
    """One answer being read out."""

    def __init__(
        self, request: ThoughtRequest, mailbox: Mailbox, script: list[int], vocabulary: ByteVocabulary
    ) -> None:
        self.mailbox = mailbox
        self.cancelled = False
        self.sequence = Sequence.begin(request)
        self._script = script
        self._vocabulary = vocabulary
        for token in request.saved:
            self.sequence.say(token, vocabulary.piece(token))

    def prefill(self) -> None:
        sequence = self.sequence
        sequence.computed = sequence.num_prefilled = sequence.target
        self.mailbox.put(PrefillProgress(sequence.target, sequence.target))

    def step(self) -> FinishReason | None:
        """Say the next token; a reason if the answer is over instead."""
        sequence = self.sequence
        if self.cancelled:
            return "cancelled"
        if sequence.text.stopped:
            return "stop"
        if sequence.remaining <= 0:
            return "length"
        token = self._script[sequence.num_answered] if sequence.num_answered < len(self._script) else END
        if token == END:
            return "stop"
        sequence.tokens.append(token)
        sequence.num_decoded += 1
        text = sequence.say(token, self._vocabulary.piece(token))
        certain = (TokenLogprob(0.0, ((token, 0.0),)),) if sequence.request.sampling.logprobs else ()
        self.mailbox.put(NewTokens((token,), text, certain))
        return None

    def end(self, reason: FinishReason) -> None:
        rest = "" if reason == "paused" else self.sequence.text.finish()
        if rest:
            self.mailbox.put(NewTokens((), rest))
        finished: Finished = self.sequence.finished(reason)
        self.mailbox.put(finished)


def _in_time(script: list[int], request: ThoughtRequest) -> list[int]:
    """The script as it is said under a thinking budget: what comes after its limit and before its own end is left out."""
    if request.thinking is None:
        return script
    part, said, rest = ThinkingPart(request.thinking), list[int](), list(script)
    while rest or part.forced is not None:
        forced = part.forced
        if forced is not None and not part.was_cut:
            rest = _behind(rest, request.thinking.ending)
        said.append(rest.pop(0) if forced is None else forced)
        part.push(said[-1])
    return said


def _behind(script: list[int], ending: tuple[int, ...]) -> list[int]:
    """What a script says behind its thinking; nothing more if it never ends."""
    size = len(ending)
    ends = (at + size for at in range(len(script)) if tuple(script[at : at + size]) == ending)
    return script[next(ends, len(script) - 1) :]


def make_card(context: int, slots: int, control_tokens: tuple[str, ...]) -> ModelCard:
    return ModelCard(
        name="scripted",
        path="",
        sha256="0" * 64,
        architecture="script",
        num_parameters=0,
        weight_bytes=0,
        train_context=context,
        context=context,
        slots=slots,
        kv_bytes_per_token=0,
        vocab_size=VOCAB_SIZE,
        chat_template=TEMPLATE,
        bos="<|begin|>",
        eos="<|im_end|>",
        control_tokens=control_tokens,
    )
