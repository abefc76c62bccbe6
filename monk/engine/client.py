"""What the rest of the program may ask of an engine, and what comes back.

Works on token ids and prompt segments. Never sees jobs, documents or SQL. Three engines keep this promise and run the
same contract tests: the child process (`process.py`), the scripted one (`scripted.py`), and later engines on other
hosts.

    thread of a job                      engine
      tokenize(segments)      ──────▶    ids
      think(ThoughtRequest)   ──────▶    a Stream: PrefillProgress* NewTokens* (Finished | an error)
      stream.cancel()         ──────▶    frees the slot; the stream ends with Finished("cancelled")

A stream that breaks with `EngineDied` loses nothing: ask again with the tokens received so far in `saved`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length", "cancelled", "paused"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of prompt text. Only `control` text may become control tokens such as <|im_end|>; what people or
    documents wrote never does, whatever it spells."""

    text: str
    control: bool


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. temperature 0 is greedy and ignores the rest but penalties, bias and grammar.

    The choice depends only on the logits, `seed` and the token's index in the answer, so a resumed thought goes on as
    it would have: no generator state has to be saved.
    """

    temperature: float = 0.0  # >= 0
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # (0, 1]
    min_p: float = 0.0  # [0, 1)
    repeat_penalty: float = 1.0  # 1: off; over the last repeat_last_n tokens
    repeat_last_n: int = 64
    seed: int = 0
    logit_bias: dict[int, float] = field(default_factory=dict)
    grammar: str | None = None  # GBNF
    json_schema: dict[str, Any] | None = None  # translated to GBNF by the engine
    logprobs: int = 0  # 0: none; n: the n likeliest beside the chosen one


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """A LoRA that the model wears for a thought. `sha256` in hex stands for the file's content wherever KV is kept."""

    path: str  # a GGUF file
    sha256: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Thinking:
    """How this model marks the part of an answer in which it thinks, and how long that part may be.

    Stop strings and the grammar begin behind it. When `tokens` of the answer were thought (the opening mark counts) and
    the part is still open, `closing` is said for the model, token by token; it must end with what `ending` stands for.
    A thought that opens no such part is not touched.
    """

    opening: tuple[int, ...]  # what an answer begins with that thinks
    ending: tuple[int, ...]  # what the model says when it has done
    closing: tuple[int, ...]
    opened: bool = False  # the prompt has said `opening` already
    tokens: int | None = None  # None: it may think to the end of max_tokens


@dataclass(frozen=True, slots=True)
class ModelUse:
    """How the model runs for a thought. None: as it does for the house, and there as its file says (see `model_use.py`)."""

    experts: int | None = None  # of a mixture, used for each token
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None  # of positions: 0.5 makes twice as many fit
    yarn_factor: float | None = None  # the same by YaRN: 2 makes twice as many fit
    yarn_original_context: int | None = None  # tokens it was trained for before that
    kv_type_k: str | None = None  # what KV is stored as, and how it is attended to; the house's are in `EngineConfig`
    kv_type_v: str | None = None
    flash_attention: str | None = None  # "on" or "off"


AS_ITS_FILE_SAYS = ModelUse()


def wave_of(adapters: tuple[AdapterUse, ...], model: ModelUse = AS_ITS_FILE_SAYS) -> str:
    """The same for the same contents and scales in any order and equal settings; empty for the bare model as its file is."""
    worn = "+".join(sorted(f"{adapter.sha256}:{adapter.scale!r}" for adapter in adapters))
    values = [(field.name, getattr(model, field.name)) for field in fields(model)]
    run = ",".join(f"{name}={value!r}" for name, value in values if value is not None)
    return f"{worn}|{run}" if run else worn


@dataclass(frozen=True, slots=True)
class ThoughtRequest:
    """One call of the model. `saved` are tokens an earlier, cut run of the same thought has already produced: they are
    prefilled after the prompt and count towards `max_tokens`.

    The last three only advise the order of admission and the guessing of tokens; the answer is the same without them.
    """

    id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    saved: tuple[int, ...] = ()
    adapters: tuple[AdapterUse, ...] = ()
    thinking: Thinking | None = None  # None: the model marks none
    model: ModelUse = AS_ITS_FILE_SAYS
    group: str = ""  # thoughts of one group have much in common: samples of one prompt, questions on one document
    priority: int = 0  # higher is admitted first, -100..100
    deadline_seconds: float | None = None  # from now, until the answer is of no use


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """`done` of `total` prompt tokens (saved tokens included) are computed."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log of the probability of the chosen token before temperature, with the likeliest alternatives."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class NewTokens:
    """Tokens since the last message, in order. `text` is what they add to the answer as whole characters (a character
    whose bytes are still incomplete waits for the next message)."""

    ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a stream. `text` is the whole answer, saved tokens included, without the stop string or end token.
    Bytes of a last character that never became whole are left out; a paused engine that had to be killed tells no text.

    `prefill_seconds` and `decode_seconds` are this run's share of engine time: a step's wall time divided evenly among
    the sequences in it. `num_prefilled` counts tokens computed in this run, `num_decoded` those of the answer that were
    drawn in it.
    """

    reason: FinishReason
    text: str
    num_prefilled: int
    num_decoded: int
    prefill_seconds: float
    decode_seconds: float


Message = PrefillProgress | NewTokens | Finished


class Stream(Protocol):
    """The mailbox of one thought. Iterate from one thread until Finished or an error; cancel from any thread."""

    def __iter__(self) -> Iterator[Message]:
        """Messages until Finished, inclusive. Raises EngineDied, EngineFailed, ContextTooLong, InvalidInput."""
        ...

    def receive(self, timeout: float | None) -> Message | None:
        """The next message, or None after `timeout` seconds without one. Raises as iteration does."""
        ...

    def cancel(self) -> None:
        """Ask for an early end. The stream still ends with Finished: "cancelled", or what came first."""
        ...


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of the loaded model. Bytes are measured from the file or the loader's own figures, not guessed."""

    name: str
    path: str
    sha256: str
    architecture: str
    num_parameters: int
    weight_bytes: int
    train_context: int
    context: int  # tokens one thought may hold, prompt and answer together
    slots: int  # thoughts decoded at once
    kv_bytes_per_token: int
    vocab_size: int
    chat_template: str | None
    bos: str
    eos: str
    control_tokens: tuple[str, ...]  # their texts, longest first: content that spells one is kept literal
    tuning: dict[str, Any] = field(
        default_factory=dict
    )  # which settings are in force and whence, see `tuning/force.py`


EngineState = Literal["off", "starting", "ready", "restarting", "failed"]


@dataclass(frozen=True, slots=True)
class KvFigures:
    """The store of KV blocks on disk (see `kv_store.py`). All but what is held: totals since the daemon started."""

    hits: int = 0  # blocks restored and proved
    misses: int = 0  # blocks that had to be computed
    failures: int = 0  # blocks found wrong, by checksum or by proof, and deleted
    tokens_restored: int = 0
    seconds_saved: float = 0.0  # of prefill
    blocks_written: int = 0
    bytes_written: int = 0
    write_errors: int = 0
    declined: int = 0  # not written: no room, or the disk too slow
    blocks_held: int = 0
    bytes_held: int = 0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A snapshot for /status, /metrics and the watchdog. `beat_at` is the monotonic time of the last sign of life."""

    state: EngineState
    pid: int | None
    model: ModelCard | None
    num_restarts: int
    last_error: str | None
    active: int  # sequences holding a slot
    waiting: int  # thoughts that have none yet
    rss_bytes: int
    prefill_tokens: int  # totals since the daemon started
    decode_tokens: int
    prefill_seconds: float
    decode_seconds: float
    beat_at: float
    shared_tokens: int = 0  # of prompts, taken from a neighbour, a slot or the disk instead of being computed
    forked_tokens: int = 0  # of prompts, read together with others in the fork lane
    deduplicated: int = 0  # thoughts that an identical one answered
    kv: KvFigures = KvFigures()
    drafted_tokens: int = 0  # guesses computed beside the last tokens of answers
    accepted_tokens: int = 0  # of them, those that the answers went on with
    runs_with: dict[str, Any] = field(
        default_factory=dict
    )  # settings of the running wave, where its file says otherwise
    wears: tuple[dict[str, Any], ...] = ()  # its adapters: {"sha256", "scale"}
    waves: int = 0  # changes of adapters or settings


class EngineClient(Protocol):
    """Thread-safe. Calls that need the model block until it is loaded, or raise ModelUnusable when it cannot be."""

    def start(self) -> None:
        """Begin loading in the background; returns at once. Nothing happens if it is running already."""
        ...

    def card(self, timeout: float | None = None) -> ModelCard:
        """The loaded model. Raises ModelUnusable, MemoryTooSmall, or Unavailable after `timeout` seconds."""
        ...

    def tokenize(self, segments: list[Segment], *, add_bos: bool = True) -> list[int]:
        """Token ids of the segments in a row. Raises EngineDied."""
        ...

    def detokenize(self, ids: list[int]) -> str:
        """Text of the ids; bytes that are no UTF-8 become U+FFFD."""
        ...

    def think(self, request: ThoughtRequest) -> Stream:
        """Queue one thought. Raises ContextTooLong, with figures, when prompt + max_tokens exceed a slot."""
        ...

    def status(self) -> EngineStatus: ...

    def stop(self) -> None:
        """End the child politely, then by force; open streams end with Finished("paused").

        Afterwards calls that need the model raise Unavailable until `start`.
        """
        ...
