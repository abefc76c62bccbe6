"""What is the most that fits a machine and a night: searched over the engine's own memory plan, never by a formula.

context   the largest multiple of 256 at which the plan fits and one thought reads it whole and answers by morning
weights   the best format at which it does, for a context that is given
slots     the most thoughts at once that fit beside each other
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from monk.engine import memory
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.lane_plan import PAD
from monk.engine.memory import Plan
from monk.errors import MemoryTooSmall
from monk.plan.amounts import told_bytes, told_seconds
from monk.plan.described import BEST_FIRST
from monk.plan.source import Source
from monk.plan.speed import Pace
from monk.plan.stretch import applied, longest, needed, trained

UNBOUNDED = 1 << 62
LEAST_CONTEXT = 2 * PAD
WIDTHS = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)  # thoughts at once that are tried, most first
AS_IT_IS = "as it is"

PaceOf = Callable[[GgufFile, EngineConfig], Pace]


@dataclass(frozen=True, slots=True)
class Night:
    """A job that has to end by morning: one thought that fills its context, `answer_tokens` of them written."""

    seconds: float
    answer_tokens: int

    def told(self) -> str:
        return f"a thought that fills the context and writes {self.answer_tokens} of its tokens, in {told_seconds(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate. `seconds` of the job; `verdict`: "fits", or what stands in the way."""

    weights: str
    context: int
    needed_bytes: int
    seconds: float
    verdict: str

    @property
    def fits(self) -> bool:
        return self.verdict == "fits"

    def told(self) -> tuple[str, ...]:
        return (
            self.weights,
            str(self.context),
            told_bytes(self.needed_bytes),
            told_seconds(self.seconds),
            self.verdict,
        )


@dataclass(frozen=True, slots=True)
class Search:
    """What was found: a model and a config with it, or None; all that was tried that matters, and why it ends there."""

    model: GgufFile
    config: EngineConfig | None
    tried: tuple[Tried, ...]
    told: str


def tokens_of(night: Night, context: int) -> tuple[int, int]:
    """(read, written) of a thought that fills its context."""
    written = min(night.answer_tokens, context // 2)
    return context - written, written


def job_seconds(pace: Pace, night: Night, context: int) -> float:
    """Of the job, alone on the machine."""
    read, written = tokens_of(night, context)
    return pace.prompt_seconds(read) + written * pace.step_seconds(1, read + written // 2)


def needed_bytes(model: GgufFile, config: EngineConfig) -> int:
    """Of the plan the engine would make with all memory there is, its smallest: one lane and what it needs."""
    slots = config.slots or 1
    bare = replace(config, slots=slots, memory_reserve_bytes=0, kv_folder=None if slots > 1 else config.kv_folder)
    return _planned(model, bare, UNBOUNDED).total_bytes  # type: ignore[union-attr]  # nothing is too large for it


def _planned(model: GgufFile, config: EngineConfig, available: int) -> Plan | None:
    try:
        return memory.fit(model, config, available)
    except MemoryTooSmall:
        return None


def attempt(
    model: GgufFile, config: EngineConfig, available: int, pace_of: PaceOf, night: Night | None, name: str
) -> Tried:
    """Whether `config.context` fits, and with a night also whether it is read in it."""
    plan = _planned(model, config, available)
    seconds = 0.0 if night is None else job_seconds(pace_of(model, config), night, config.context)
    if plan is None:
        return Tried(name, config.context, needed_bytes(model, config), seconds, "does not fit the memory")
    verdict = "fits" if night is None or seconds <= night.seconds else "is not done by morning"
    return Tried(name, config.context, plan.total_bytes, seconds, verdict)


def stretched(model: GgufFile, config: EngineConfig, context: int) -> EngineConfig:
    """With that context, and YaRN where it is beyond the training length."""
    use = applied(config.model_use, needed(model, context))
    return replace(config, context=context, model_use=use)


def largest_context(
    model: GgufFile, config: EngineConfig, available: int, pace_of: PaceOf, night: Night | None, name: str
) -> Search:
    """By bisection: memory and time only grow with the context. Without a night only memory counts."""

    def tried(context: int) -> Tried:
        return attempt(model, stretched(model, config, context), available, pace_of, night, name)

    top = max(longest(model), _stretched_by_hand(model, config), LEAST_CONTEXT) // PAD
    low, high = LEAST_CONTEXT // PAD - 1, top
    while low < high:
        middle = (low + high + 1) // 2
        if tried(middle * PAD).fits:
            low = middle
        else:
            high = middle - 1
    if low * PAD < LEAST_CONTEXT:
        least = tried(LEAST_CONTEXT)
        return Search(model, None, (least,), f"not even {LEAST_CONTEXT} tokens: {least.verdict}")
    found, rows = tried(low * PAD), []
    if low < top:
        rows.append(tried((low + 1) * PAD))
        why = f"with {rows[0].context} it {rows[0].verdict}"
    else:
        why = "it is the longest that the model was trained for, or that YaRN was validated for"
    return Search(
        model, stretched(model, config, found.context), (found, *rows), f"the largest context is {found.context}: {why}"
    )


def _stretched_by_hand(model: GgufFile, config: EngineConfig) -> int:
    use = config.model_use
    return int((use.yarn_factor or 0.0) * (use.yarn_original_context or trained(model)))


def best_weights(
    typed: Callable[[str], GgufFile],
    formats: tuple[str, ...],
    config: EngineConfig,
    available: int,
    pace_of: PaceOf,
    night: Night | None,
) -> Search:
    """The first of the formats at which `config.context` fits and is read in time. `typed`: the model in a format."""
    rows = []
    for name in formats:
        model = typed(name)
        one = replace(stretched(model, config, config.context), model_path=model.path)
        rows.append(attempt(model, one, available, pace_of, night, name))
        if rows[-1].fits:
            told = f"the best weights are {name}" + (
                f"; {rows[-2].weights} {rows[-2].verdict}" if len(rows) > 1 else ""
            )
            return Search(model, one, tuple(rows), told)
    return Search(
        typed(formats[-1]), None, tuple(rows), f"no weights are small enough: {formats[-1]} {rows[-1].verdict}"
    )


def formats_of(source: Source) -> tuple[str, ...]:
    """To try, best first: of a file itself and what is smaller, since no format gives back what it has lost."""
    if source.file is None:
        return BEST_FIRST
    size = source.file.weight_bytes
    return (AS_IT_IS, *(name for name in BEST_FIRST if source.typed(name).weight_bytes < size))


def search(
    source: Source, weights: str | None, config: EngineConfig, available: int, pace_of: PaceOf, night: Night
) -> Search:
    """The largest context; for a context that is given, the best weights (those that are given, or all)."""

    def typed(name: str) -> GgufFile:
        return source.typed(None if name == AS_IT_IS else name)

    if config.context:
        formats = formats_of(source) if weights is None else (weights,)
        return best_weights(typed, formats, config, available, pace_of, night)
    model = source.typed(weights)
    name = weights or (AS_IT_IS if source.is_file else "bf16")
    return largest_context(model, replace(config, model_path=model.path), available, pace_of, night, name)


def way_out(found: Search, available: int, pace_of: PaceOf, night: Night, config: EngineConfig) -> str:
    """What would fit where nothing does: a shorter context with the smallest of the weights that were tried."""
    last = found.tried[-1]
    alone = replace(config, context=0, slots=0, model_path=found.model.path)
    shorter = largest_context(found.model, alone, available, pace_of, night, last.weights)
    if shorter.config is not None and shorter.config.context < last.context:
        return f"what would fit: {shorter.config.context} tokens with weights {last.weights}"
    return "a smaller model, more memory or a longer night is needed"


def most_slots(model: GgufFile, config: EngineConfig, available: int) -> int:
    """Thoughts at once that fit with that context, each with room for all of it, beside the lane that keeps long prompts; if
    there is no room for that lane, or the model cannot have one, without it. 0: not even one thought fits."""
    plans = {slots: _planned(model, replace(config, slots=slots), available) for slots in WIDTHS}
    fitting = [slots for slots, plan in plans.items() if plan is not None]
    keeping = [slots for slots, plan in plans.items() if plan is not None and plan.keeps_prompts]
    return max(keeping or fitting, default=0)
