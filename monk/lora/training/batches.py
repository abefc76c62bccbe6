"""Which examples share a step. Pure: the same seed gives the same batches in the same order, whenever and wherever.

Examples of like length go together, so that little is spent on padding; in which order the batches come is drawn anew for
each epoch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence as Row

from monk.lora.training.recipe import Recipe

Batch = tuple[int, ...]  # places of its examples


def group(lengths: Row[int], most_tokens: int, most_examples: int, order: Row[int] | None = None) -> list[Batch]:
    """Batches of neighbours in length whose padded size stays within `most_tokens`; a longer example goes alone.

    `order`: in which examples of one length stand, as places; None: as they are.
    """
    places = sorted(order if order is not None else range(len(lengths)), key=lambda place: lengths[place])
    batches: list[list[int]] = [[]]
    for place in reversed(places):  # the longest first: it alone decides what a batch is padded to
        open_batch = batches[-1]
        widest = lengths[open_batch[0]] if open_batch else lengths[place]
        if open_batch and (len(open_batch) == most_examples or widest * (len(open_batch) + 1) > most_tokens):
            batches.append([place])
        else:
            open_batch.append(place)
    return [tuple(batch) for batch in batches if batch]


def schedule(lengths: Row[int], recipe: Recipe) -> list[Batch]:
    """The batches of all steps."""
    steps: list[Batch] = []
    epoch = 0
    while len(steps) < recipe.steps and lengths:
        chance = random.Random(f"{recipe.seed}/{epoch}")  # an order, not a secret
        order = list(range(len(lengths)))
        chance.shuffle(order)
        batches = group(lengths, recipe.batch_tokens, recipe.batch_examples, order)
        chance.shuffle(batches)
        steps += batches
        epoch += 1
    return steps[: recipe.steps]


def padding_share(lengths: Row[int], batches: Row[Batch]) -> float:
    """Part of all computed tokens that only fill up."""
    real = sum(lengths[place] for batch in batches for place in batch)
    padded = sum(max(lengths[place] for place in batch) * len(batch) for batch in batches)
    return 1.0 - real / padded if padded else 0.0
