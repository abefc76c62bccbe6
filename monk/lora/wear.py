"""What a job wears: `lawyer`, `lawyer:0.8`, or several as `lawyer:0.8+poet:0.5`. Text in, names and scales out."""

from __future__ import annotations

from dataclasses import dataclass

from monk.errors import InvalidInput
from monk.lora.shelf import Shelf, check_name, check_scale

MOST_AT_ONCE = 8  # each costs another pass over its factors in every layer


@dataclass(frozen=True, slots=True)
class Wish:
    """One adapter as a job names it. `scale` None: the one it has on the shelf."""

    name: str
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class Worn:
    """One adapter as the engine gets it. The hash tells versions of one name apart."""

    name: str
    sha256: str
    scale: float


def parse(text: str) -> tuple[Wish, ...]:
    """Raises InvalidInput for what cannot be names and scales."""
    parts = [part.strip() for part in text.split("+")]
    if len(parts) > MOST_AT_ONCE:
        raise InvalidInput(f"{len(parts)} adapters at once; at most {MOST_AT_ONCE} can be worn", param="adapter")
    wishes = tuple(_wish(part) for part in parts)
    if len({wish.name for wish in wishes}) < len(wishes):
        raise InvalidInput(f"adapter {text[:200]!r} names one twice; give each once, with a scale", param="adapter")
    return wishes


def choose(text: str, shelf: Shelf) -> tuple[Worn, ...]:
    """The adapters a job wants, as they are on the shelf now. Raises InvalidInput or NotFound."""
    worn = []
    for wish in parse(text):
        adapter = shelf.get(wish.name)
        shelf.weights(adapter)
        worn.append(Worn(adapter.name, adapter.sha256, adapter.scale if wish.scale is None else wish.scale))
    return tuple(worn)


def _wish(part: str) -> Wish:
    name, colon, number = part.partition(":")
    check_name(name)
    if not colon:
        return Wish(name)
    try:
        scale = float(number)
    except ValueError as exc:
        raise InvalidInput(f"adapter {part[:200]!r}: the scale behind the colon is no number", param="adapter") from exc
    check_scale(scale)
    return Wish(name, scale)
