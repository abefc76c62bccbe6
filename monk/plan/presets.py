"""Three ways to set all knobs that nobody set by hand.

    max        the best weights of which one thought with 8,192 tokens fits; with them the longest context that fits, YaRN
               included; with that the most thoughts at once, up to 64, beside the lane that keeps long prompts
    balanced   weights q8_0, 32,768 tokens or what the model was trained for, as many thoughts as the engine opens by itself
    fast       weights q4_k_m, 8,192 tokens, 32 thoughts or as many as fit

The weights are only chosen for a model that is described; a file has those it has. Experts stay at the model's own number: the
router was trained with it, and more of them read more and are not known to answer better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.errors import InvalidInput
from monk.plan.described import BEST_FIRST
from monk.plan.fitting import PaceOf, best_weights, largest_context, most_slots, stretched
from monk.plan.source import Source

NAMES = ("max", "balanced", "fast")
LEAST_LONG, MIDDLE, SHORT = 8192, 32768, 8192
BALANCED_WEIGHTS, FAST_WEIGHTS, FAST_SLOTS = "q8_0", "q4_k_m", 32
HELP = (
    "max: the best weights (of a described model) with which 8,192 tokens fit, then the longest context (YaRN up to 4 times), "
    "then the most thoughts (up to 64) that fit; balanced: q8_0, 32,768 tokens, the engine's own number of thoughts; fast: "
    "q4_k_m, 8,192 tokens, up to 32 thoughts. What you say yourself stays."
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model in its weights, and all that was chosen for it."""

    model: GgufFile
    config: EngineConfig
    told: str


def choose(
    name: str, source: Source, weights: str | None, config: EngineConfig, available: int, pace_of: PaceOf
) -> Chosen:
    """`weights`: as said by hand; zeros in `config` are chosen. Raises InvalidInput."""
    if name not in NAMES:
        raise InvalidInput(f"preset {name[:40]!r}; use one of {', '.join(NAMES)}", param="preset")
    if name == "max":
        return _max(source, weights, config, available, pace_of)
    is_balanced = name == "balanced"
    if weights is None and not source.is_file:
        weights = BALANCED_WEIGHTS if is_balanced else FAST_WEIGHTS
    model = source.typed(weights)
    most = max(256, model.train_context // 256 * 256)
    context = config.context or min(MIDDLE if is_balanced else SHORT, most)
    config = stretched(model, replace(config, model_path=model.path), context)
    if not is_balanced and not config.slots:
        config = replace(config, slots=min(FAST_SLOTS, most_slots(model, config, available)))
    return Chosen(model, config, _told(name, weights, config))


def _max(source: Source, weights: str | None, config: EngineConfig, available: int, pace_of: PaceOf) -> Chosen:
    if weights is None and not source.is_file:
        least = replace(config, context=config.context or LEAST_LONG, slots=config.slots or 1)
        weights = best_weights(source.typed, BEST_FIRST, least, available, pace_of, None).tried[-1].weights
    model = source.typed(weights)
    config, context = replace(config, model_path=model.path), config.context
    if not context:
        alone = replace(config, slots=config.slots or 1)
        found = largest_context(model, alone, available, pace_of, None, weights or "").config
        context = LEAST_LONG if found is None else found.context
    config = stretched(model, config, context)
    if not config.slots:
        config = replace(config, slots=most_slots(model, config, available))
    return Chosen(model, config, _told("max", weights, config))


def _told(name: str, weights: str | None, config: EngineConfig) -> str:
    slots = f"{config.slots} thoughts at once" if config.slots else "thoughts as the engine chooses"
    return f"preset {name}: weights {weights or 'as in the file'}, {config.context} tokens each, {slots}"
