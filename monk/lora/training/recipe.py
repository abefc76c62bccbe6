"""How an adapter is trained, and what of that fits the memory and the night. Pure arithmetic over a model's shape.

memory   weights in f32, and once more while they are read; for each trained value itself, its gradient, two moments of
         Adam and the best so far; for each token of a batch what backward needs of every layer, and logits thrice
time     6 operations for each weight and token (forward 2, backward with frozen weights 2, and a half as much again
         for attention, the adapter and what a CPU loses)
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import asdict, dataclass
from typing import Any

from monk.engine.gguf_file import GgufFile
from monk.errors import InvalidInput, MemoryTooSmall

GIB = 1 << 30
LIBRARIES_BYTES = 700 << 20  # torch, transformers and the interpreter, measured
TRAINED_COPIES = 5
OPERATIONS_PER_WEIGHT = 6.0
LEAST_STEPS, USUAL_EPOCHS, MOST_EPOCHS = 60, 3, 40
BATCH_EXAMPLES, BATCH_TOKENS, LEAST_BATCH_TOKENS = 8, 2048, 64
EVALUATIONS = 12  # in a whole training
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, LEARNING_RATE = 16, 3e-4


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every choice made. Two trainings with the same recipe, data and model end with the same bytes."""

    rank: int
    alpha: int
    learning_rate: float
    steps: int
    batch_tokens: int  # of one step, padding included
    batch_examples: int
    evaluate_every: int  # steps
    patience: int  # evaluations without progress, after which it ends
    seed: int
    dropout: float = 0.0
    warmup: float = 0.05  # share of the steps in which the rate rises
    weight_decay: float = 0.0
    clip: float = 1.0  # norm of the gradient, at most

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0: it rises, then falls in a line to a tenth."""
        rise = max(1.0, self.warmup * self.steps)
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        return self.learning_rate * (1.0 - 0.9 * (step - rise) / max(1.0, self.steps - rise))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the owner wants; zeros are chosen."""

    rank: int = 0
    learning_rate: float = 0.0
    epochs: int = 0
    steps: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model decides about memory and time."""

    parameters: int
    layers: int
    width: int
    inner: int
    heads: int
    kv_width: int
    vocabulary: int
    context: int

    @classmethod
    def of(cls, model: GgufFile) -> Shape:
        kv_heads = max(model.kv_heads, default=0)
        inner = model.number("feed_forward_length")
        if model.num_experts:  # of a mixture a token meets only some
            inner = model.number("expert_feed_forward_length", inner) * max(1, model.number("expert_used_count", 1))
        return cls(
            parameters=model.num_parameters,
            layers=model.num_layers,
            width=model.embedding_length,
            inner=inner,
            heads=model.num_heads,
            kv_width=kv_heads * model.key_length,
            vocabulary=model.vocab_size,
            context=model.train_context,
        )

    def trained(self, rank: int) -> int:
        """Values of an adapter on all linear layers."""
        attention = 2 * (self.width + self.width) + 2 * (self.width + self.kv_width)
        return self.layers * rank * (attention + 3 * (self.width + self.inner))


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be done: the recipe, and the memory and time it is expected to take."""

    recipe: Recipe
    memory_bytes: int
    seconds: float
    tokens: int  # computed in all steps, about


def memory_bytes(shape: Shape, rank: int, batch_tokens: int) -> int:
    """Peak of the process, about."""
    weights = 4 * shape.parameters
    per_token = shape.layers * (14 * shape.width + 4 * shape.kv_width + 5 * shape.inner) + 3 * shape.vocabulary
    working = 4 * batch_tokens * per_token
    return LIBRARIES_BYTES + weights + max(weights, working) + 4 * TRAINED_COPIES * shape.trained(rank)


def seconds_of(shape: Shape, tokens: int, gflops: float) -> float:
    """For so many tokens on a machine with that rate of f32 matrix products."""
    return OPERATIONS_PER_WEIGHT * shape.parameters * tokens / (gflops * 1e9)


def propose(
    shape: Shape,
    lengths: Row[int],
    longest: int,
    wishes: Wishes,
    available_bytes: int,
    gflops: float,
    night_seconds: float,
) -> Proposal:
    """The recipe for taught examples of these lengths in tokens; `longest` of all, those held back included.

    Batches shrink until they fit the memory; where the owner gave neither steps nor epochs, there are as many as the night
    holds, from `LEAST_STEPS` on. Raises MemoryTooSmall, with all figures, and InvalidInput for an example that is longer
    than the model's context.
    """
    if longest > shape.context:
        raise InvalidInput(
            f"the longest example has {longest} tokens, the model takes {shape.context}; shorten it, or leave it out",
            param="examples",
        )
    rank = wishes.rank or RANK
    batch_tokens = _fitting(shape, rank, longest, available_bytes)
    per_epoch = max(1, sum(lengths) // batch_tokens, -(-len(lengths) // BATCH_EXAMPLES))
    steps = wishes.steps or (wishes.epochs * per_epoch if wishes.epochs else _steps(per_epoch))
    tokens = int(steps * sum(lengths) / per_epoch)
    if not wishes.steps and not wishes.epochs and (needed := seconds_of(shape, tokens, gflops)) > night_seconds > 0:
        steps = max(min(steps, LEAST_STEPS), int(steps * night_seconds / needed))
        tokens = int(steps * sum(lengths) / per_epoch)
    recipe = Recipe(
        rank=rank,
        alpha=2 * rank,
        learning_rate=wishes.learning_rate or LEARNING_RATE,
        steps=steps,
        batch_tokens=batch_tokens,
        batch_examples=BATCH_EXAMPLES,
        evaluate_every=max(1, -(-steps // EVALUATIONS)),
        patience=4,
        seed=wishes.seed,
    )
    return Proposal(recipe, memory_bytes(shape, rank, batch_tokens), seconds_of(shape, tokens, gflops), tokens)


def _steps(per_epoch: int) -> int:
    """A handful of examples is seen many times, a book three times."""
    epochs = min(MOST_EPOCHS, max(USUAL_EPOCHS, -(-LEAST_STEPS // per_epoch)))
    return epochs * per_epoch


def _fitting(shape: Shape, rank: int, longest: int, available_bytes: int) -> int:
    tokens = max(longest, min(BATCH_TOKENS, BATCH_EXAMPLES * longest))
    while tokens > max(longest, LEAST_BATCH_TOKENS) and memory_bytes(shape, rank, tokens) > available_bytes:
        tokens = max(longest, LEAST_BATCH_TOKENS, tokens // 2)
    needed = memory_bytes(shape, rank, tokens)
    if needed > available_bytes:
        raise MemoryTooSmall(
            f"training needs {needed / GIB:.2f} GiB (weights in f32 {4 * shape.parameters / GIB:.2f}, twice while they are "
            f"read; {tokens} tokens at once), {max(0, available_bytes) / GIB:.2f} GiB are free; shorten the longest example, "
            "stop other work, or train on a smaller model",
            needed_bytes=needed,
            available_bytes=available_bytes,
        )
    return tokens
