"""Which KV blocks are kept when the disk has no room for all: those that save the most seconds per byte.

Arithmetic over plain values. Knows no files, no clock and no model.

    worth of a block = seconds its prefill took x uses          density = worth / bytes
    uses             = sum over its making and every restore of 2 ** -(age / HALF_LIFE_SECONDS)

The seconds are what a restore spares, and the past uses, fading with age, are the best guess at the coming ones: a book
asked about every night stays, one read once goes within weeks. It is GreedyDual-Size-Frequency (Cherkasova 1998) with
the recency of LRFU (Lee et al. 2001) for its clock. A restore of a block uses all blocks before it, so a beginning that
many texts share is worth what all of them ask of it.

A block is nothing without those before it, so it must go before them. A late block costs more seconds per byte than an
early one (attention looks further back), yet keeping it means to keep its cheap beginning too. Hence blocks are weighed
together with those they need: a block whose descendants all have a higher density than itself is bound to them to one
bundle, and bundles go by their common density, lowest first. That is the optimal order for such trees (Horn 1972:
single-machine scheduling under tree precedence): every prefix of it that ends with a bundle loses the least seconds per
byte freed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

HALF_LIFE_SECONDS = 7 * 86400.0  # nights recur by the week: last week's book is worth half of tonight's
MOST_HALF_LIVES = 20.0  # a file's time in a far future counts as a million uses, not as infinity


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the order needs to know of a block."""

    key: str
    parent: str  # empty: none
    num_bytes: int
    worth: float  # seconds x uses


def standing_after(standing_at: float | None, now: float) -> float:
    """The moment that tells how much a block was used, after one more use now.

    uses(t) = 2 ** ((standing_at - t) / HALF_LIFE_SECONDS) holds for all t without being touched as time goes by: after
    one use it is the moment of that use, and every further one moves it ahead. So one number is the whole memory of a
    block's uses, and a file's time can hold it.
    """
    before = 0.0 if standing_at is None else uses(standing_at, now)
    return now + HALF_LIFE_SECONDS * math.log2(before + 1.0)


def uses(standing_at: float, now: float) -> float:
    """How many uses now the past ones amount to; more than 0."""
    half_lives = (standing_at - now) / HALF_LIFE_SECONDS
    return float(2.0 ** max(-1000.0, min(MOST_HALF_LIVES, half_lives)))


def cheapest_first(blocks: Iterable[Weighed]) -> list[str]:
    """All keys in the order in which they should go; a block always before the one it stands on.

    Blocks whose ancestors are not all given save nothing and go first, then bundles by density, lowest first. The same
    blocks in any order give the same result.
    """
    known = {block.key: block for block in sorted(blocks, key=lambda block: block.key)}
    children: dict[str, list[str]] = {}
    for block in known.values():
        children.setdefault(block.parent, []).append(block.key)
    rooted = _downwards(children, children.get("", []))
    bundles = _bundles(known, children, rooted)
    return _orphans(known, children, rooted) + [key for bundle in sorted(bundles) for key in bundle.in_order()]


@dataclass(slots=True)
class _Bundle:
    """A block with those descendants that must not go before their turn; compared by density, then by name."""

    key: str
    worth: float
    num_bytes: int
    before: list[_Bundle]  # they go first, last one first

    def __lt__(self, other: _Bundle) -> bool:
        return (self.density, self.key) < (other.density, other.key)

    @property
    def density(self) -> float:
        return self.worth / self.num_bytes

    def absorb(self, other: _Bundle) -> None:
        self.worth += other.worth
        self.num_bytes += other.num_bytes
        self.before.append(other)

    def in_order(self) -> list[str]:
        """Its blocks in the order in which they go. Without recursion: a long text is a deep tree."""
        found: list[str] = []
        stack = [self]
        while stack:
            bundle = stack.pop()
            found.append(bundle.key)
            stack.extend(reversed(bundle.before))
        return found[::-1]


_Heap = list[tuple[float, str, _Bundle]]  # (minus density, name, bundle): the densest on top


def _bundles(known: dict[str, Weighed], children: dict[str, list[str]], downwards: list[str]) -> list[_Bundle]:
    """All blocks in bundles; those of an ancestor are strictly denser than those of its descendants."""
    heaps: dict[str, _Heap] = {}
    for key in reversed(downwards):
        block = known[key]
        heap = _joined([heaps.pop(child) for child in children.get(key, ())])
        bundle = _Bundle(key, block.worth, block.num_bytes, [])
        while heap and -heap[0][0] >= bundle.density:
            bundle.absorb(heapq.heappop(heap)[2])
        heapq.heappush(heap, (-bundle.density, key, bundle))
        heaps[key] = heap
    return [bundle for heap in heaps.values() for _, _, bundle in heap]


def _joined(heaps: list[_Heap]) -> _Heap:
    """One heap of all; the small ones go into the largest, so that a deep tree stays cheap."""
    if not heaps:
        return []
    largest = max(heaps, key=len)
    for heap in heaps:
        if heap is not largest:
            for entry in heap:
                heapq.heappush(largest, entry)
    return largest


def _downwards(children: dict[str, list[str]], roots: list[str]) -> list[str]:
    """The roots and all below them, each before its children."""
    found = list(roots)
    for key in found:  # grows while it is walked
        found.extend(children.get(key, ()))
    return found


def _orphans(known: dict[str, Weighed], children: dict[str, list[str]], rooted: list[str]) -> list[str]:
    """Blocks that no root reaches, children first; parents that name each other in a ring come in order of name."""
    lost = known.keys() - set(rooted)
    heads = sorted(key for key in lost if known[key].parent not in lost)
    below = _downwards(children, heads)
    return sorted(lost - set(below)) + below[::-1]
