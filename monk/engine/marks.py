"""How a model marks the part of its answer in which it thinks: read from its vocabulary, never guessed.

A family is known by control tokens that the model's file has; a model without them is taken for one that does not mark
its thinking, whatever its texts look like.
"""

from __future__ import annotations

from dataclasses import dataclass

from monk.engine.client import ModelCard


@dataclass(frozen=True, slots=True)
class Marks:
    """Texts of control tokens with what stands between them. `closing` is said for a model that has to end its thinking."""

    opening: str
    ending: str
    closing: str
    tokens: tuple[str, ...]  # all that must be in the vocabulary


FAMILIES = (
    Marks("<think>", "</think>", "</think>\n\n", ("<think>", "</think>")),
    Marks("[THINK]", "[/THINK]", "[/THINK]", ("[THINK]", "[/THINK]")),
    Marks(
        "<|channel|>analysis<|message|>",
        "<|channel|>final<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        ("<|channel|>", "<|message|>", "<|start|>", "<|end|>"),
    ),
)


def marks_of(card: ModelCard) -> Marks | None:
    """The family of a loaded model; None for one that marks no thinking."""
    known = set(card.control_tokens)
    return next((marks for marks in FAMILIES if known.issuperset(marks.tokens)), None)
