"""What a kind may use while it runs. The worker gives it; a kind knows nothing of leases, SQL, processes or the clock.

A kind is ordinary code, run from top to bottom, perhaps many times: after a crash or a night's end it begins again at its
first line, and every step and thought that had ended is read back instead of done. So: name each step once, keep what is
not in a step free of effects, and pass results through the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from corpus.library import WholeDocument
from corpus.retrieval import EVERYWHERE, Hit
from db.library import DocumentFilter
from jobs.examples import Example

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. role: system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Said:
    """What the model said in one finished thought."""

    thought_id: str
    answer: str
    reasoning: str  # the <think> part; empty for models that have none
    reason: str  # stop: it ended by itself; length: its limit of tokens did; minutes: the job's budget of time did
    num_tokens: int
    thinking_tokens: int = 0  # of them, those of the reasoning
    thinking_cut: bool = False  # its budget ended the reasoning
    prompt_tokens: int = 0
    seconds: float = 0.0  # of engine time, reading and writing; what another thought had read costs nothing again


@dataclass(frozen=True, slots=True)
class Ask:
    """How to think. Zero or None: the program's default for this model and kind.

    `thinking`: how much of max_tokens a reasoning model may think before it is made to answer, as a share or, above 1, in
    tokens. The grammar, the schema and the stop strings are those of the answer behind it.
    """

    max_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    thinking: float | None = None


class Training(Protocol):
    """What the kind `train` may do beyond thinking. Results are JSON, fit for steps."""

    def examples_in(self, file: str) -> list[Example]:
        """Of a JSONL file in the inbox. Raises NotFound, InvalidInput."""
        ...

    def from_feedback(self) -> list[Example]:
        """What people marked as useful, or corrected, in earlier jobs of this model."""
        ...

    def passages(self, count: int) -> list[Hit]:
        """So many of the corpus, spread over all of it, the same for the same seed."""
        ...

    def write(self, taught: list[Example], held: list[Example]) -> dict[str, Any]:
        """Turn them into tokens, exactly as the model is asked, and keep them: {"data", "sha256", "lengths", "longest"}."""
        ...

    def plan(self, lengths: list[int], longest: int, wishes: dict[str, Any]) -> dict[str, Any]:
        """{"recipe", "memory_bytes", "seconds", "tokens"}: what fits the memory and the night. Raises MemoryTooSmall.

        `lengths` of what is taught, `longest` of all examples, in tokens."""
        ...

    def train(self, plan: dict[str, Any], base: str | None) -> dict[str, Any]:
        """Train to the end, from where an earlier attempt was cut; losses, curve, speed and the folder of the adapter."""
        ...

    def keep(self, name: str, folder: str) -> dict[str, Any]:
        """Put it on the shelf as the name's next version, worn by nobody: {"name", "sha256", "version", "num_bytes"}."""
        ...

    def say(self, name: str, asked: list[Example], max_tokens: list[int], kept: dict[str, Any] | None) -> list[str]:
        """What the model says to each, greedily, wearing what was kept, or nothing."""
        ...

    def offer(self, name: str, version: int, verdict: dict[str, Any]) -> dict[str, Any]:
        """Write the verdict down; if it passed, the name means this version from now on: {"worn", "before"}."""
        ...

    def leave(self) -> None:
        """All is done: the checkpoints may go."""
        ...


class MinutesUsed(Exception):
    """The job's budget of minutes ended in the middle of a measurement; what was measured before stands."""


class Bench(Protocol):
    """What the kind `bench` may do: measure the model, alone on the machine. Results are JSON, fit for steps."""

    def look(self, context: int, ubatch: int) -> dict[str, Any]:
        """Host, model, the engine's choices for this context (0: its own) and what the machine can do: {"host", "build",
        "model", "base", "threads", "machine", "energy", ...}. Raises MemoryTooSmall, with the figures."""
        ...

    def measure(self, point: dict[str, Any], repeats: int, here: dict[str, Any]) -> dict[str, Any]:
        """The point with {"tokens_per_second": {"mean", "deviation", "median"}, "predicted", "bound", ...}, or with
        {"refused": why}. `here` is what `look` said. Raises MinutesUsed."""
        ...

    def keep(self, rows: list[dict[str, Any]], here: dict[str, Any]) -> str:
        """Write the rates down for others to reckon with; the file, or "" where there is nothing to keep."""
        ...

    def close(self) -> None:
        """End the measuring process, for now."""
        ...

    def leave(self) -> None:
        """All is done: what was kept for going on may go."""
        ...


class Context(Protocol):
    """One running job, seen from inside its kind."""

    @property
    def training(self) -> Training: ...

    @property
    def bench(self) -> Bench: ...

    @property
    def job_id(self) -> str: ...

    @property
    def input(self) -> dict[str, Any]: ...

    @property
    def budget(self) -> dict[str, Any]: ...

    @property
    def seed(self) -> int: ...

    @property
    def context_tokens(self) -> int:
        """Tokens one thought may hold, prompt and answer together."""
        ...

    def step(self, name: str, work: Callable[[], Result]) -> Result:
        """The saved result of this step, or `work()` run now and saved. The result must be JSON (lists, dicts, text, numbers)."""
        ...

    def think(self, name: str, messages: list[ChatMessage], ask: Ask) -> Said:
        """One call of the model; goes on from its last saved token if it was cut. Raises ContextTooLong."""
        ...

    def think_samples(self, name: str, messages: list[ChatMessage], ask: Ask, samples: int) -> list[Said]:
        """`samples` independent answers to one prompt, thought side by side, each with a seed of its own."""
        ...

    def think_each(self, name: str, prompts: list[list[ChatMessage]], ask: Ask) -> list[Said]:
        """One answer for each of several prompts, thought side by side."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text in the thinking model's vocabulary."""
        ...

    def prompt_tokens(self, messages: list[ChatMessage]) -> int:
        """Tokens of the messages in the model's chat template."""
        ...

    def retrieve(self, query: str, limit: int, only: DocumentFilter = EVERYWHERE) -> list[Hit]:
        """The nearest passages of the corpus, best first; empty when there is none. Raises NotFound when no document is of
        the kind that `only` asks for."""
        ...

    def passages_around(self, hit: Hit, max_characters: int) -> list[Hit]:
        """The passages of the widest section around a hit of at most `max_characters`, in order; at least the hit."""
        ...

    def document(self, name: str) -> WholeDocument:
        """A document of the corpus by its path. Raises NotFound, naming what is near, and DocumentUnreadable."""
        ...

    def prompt(self, name: str, **values: Any) -> str:
        """A prompt template by file name, the user's own before ours, filled with values."""
        ...

    def note(self, type_: str, data: dict[str, Any]) -> None:
        """An event for people watching."""
        ...

    def keep_reach(self, measured: dict[str, Any]) -> dict[str, Any]:
        """Write down how long a prompt the model finds things in, as it runs for this job: {"table", "control"} of
        `jobs/needle.py`. Returns what is known now, earlier jobs included. Raises HomeUnusable."""
        ...
