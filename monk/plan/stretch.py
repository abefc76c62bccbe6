"""Contexts beyond the training length: by how much YaRN must stretch the positions, from which length, and what that does
to the answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from monk.engine.client import ModelUse
from monk.engine.gguf_file import GgufFile

MOST_FACTOR = 4.0  # the makers of Qwen2.5 and Qwen3 have validated 4, from 32,768 tokens, and nobody more
MOST_STRETCHED = 131072  # tokens
# what was trained, where the file's context_length says something else: Qwen3 trained 32,768 and leaves room for an answer
TRAINED = {("qwen3", 40960): 32768, ("qwen3moe", 40960): 32768}


@dataclass(frozen=True, slots=True)
class Stretch:
    """YaRN by `factor` over `original` positions."""

    factor: float
    original: int

    def told(self) -> str:
        """What it does, for people."""
        text = (
            f"YaRN stretches {self.original} positions {self.factor:g} times (yarn_factor = {self.factor:g}, "
            f"yarn_original_context = {self.original}): near positions stay as they are, far ones are pressed together, for "
            "short texts too, which are read a little worse with it; use it only for jobs that need it"
        )
        if self.factor > MOST_FACTOR:
            text += (
                f". Makers have validated up to {MOST_FACTOR:g} times: beyond, expect things in the middle to be missed"
            )
        return text


def trained(model: GgufFile) -> int:
    """Positions that the model was trained on."""
    return TRAINED.get((model.architecture, model.train_context), model.train_context)


def needed(model: GgufFile, context: int) -> Stretch | None:
    """What a context of so many tokens takes; None within the training length. In quarters, as makers give it."""
    if context <= model.train_context:
        return None
    original = trained(model)
    return Stretch(-(-4 * context // original) / 4.0, original)


def longest(model: GgufFile) -> int:
    """Tokens of the longest context within what makers have validated."""
    return max(model.train_context, min(MOST_STRETCHED, int(MOST_FACTOR * trained(model))))


def applied(use: ModelUse, stretch: Stretch | None) -> ModelUse:
    """With YaRN, unless the positions are set otherwise already."""
    if stretch is None or use.yarn_factor is not None or use.rope_freq_scale is not None:
        return use
    return replace(use, yarn_factor=stretch.factor, yarn_original_context=stretch.original)
