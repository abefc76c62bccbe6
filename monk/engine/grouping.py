"""Which waiting thoughts go on together from a beginning they share, and whether that pays. Pure arithmetic.

In the fork lane every row looks at the cells of all members, but what they share is read once for all. A step costs

    streams   F x (P + s)                 F members, P shared tokens, s of each one's own
    fork      ratio x F x (P + F x s)     ratio: of the price per row and cell

so forking pays while ratio x (P + F x s) < P + s: own tokens are paid for by everybody. The ratio is that of a matrix
product over many rows to one row at a time; measured without flash attention with 8 rows: 0.4 to 0.6 (16 heads of 128,
AVX2, 2026-11); with it there is no gain (44.9 against 46.3 ms), so nothing is forked.
"""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass

from monk.engine.sequence import Tokens, common_prefix

LEAST_SHARED_TOKENS = 256  # below, weights cost more than attention, and moving KV about costs more than both
CELL_RATIO = 0.6
ANSWER_SHARE = 0.5  # of max_tokens, taken as the average length a thought has while it runs


@dataclass(frozen=True, slots=True)
class Candidate:
    """A thought that could be forked. `tokens` are to be computed, then up to `max_new` more."""

    tokens: Tokens
    max_new: int


@dataclass(frozen=True, slots=True)
class Group:
    """`length` shared tokens, and places in the row of candidates; the first of them is the oldest."""

    length: int
    members: tuple[int, ...]


def best_group(candidates: Row[Candidate], num_cells: int, most_members: int) -> Group | None:
    """Those who share most with the first candidate that shares anything worth it; None if nobody does."""
    by_head: dict[bytes, list[int]] = {}
    for place, candidate in enumerate(candidates):
        if len(candidate.tokens) > LEAST_SHARED_TOKENS:
            by_head.setdefault(candidate.tokens[:LEAST_SHARED_TOKENS].tobytes(), []).append(place)
    groups = (_best_of(candidates, places, num_cells, most_members) for places in by_head.values() if len(places) > 1)
    return next((group for group in groups if group is not None), None)


def _best_of(candidates: Row[Candidate], places: list[int], num_cells: int, most_members: int) -> Group | None:
    """Of all lengths that the first of them shares with others, the one that spares most tokens and pays."""
    first = candidates[places[0]].tokens
    shared = {place: _shareable(first, candidates[place].tokens) for place in places[1:]}
    best: Group | None = None
    for length in sorted(set(shared.values()), reverse=True):
        friends = [place for place in places[1:] if shared[place] >= length]
        length = min(length, len(first) - 1)
        group = _that_fits(candidates, length, (places[0], *friends), num_cells, most_members)
        spared = length * (len(group.members) - 1)
        if len(group.members) > 1 and pays(group, candidates) and (best is None or spared > _spared(best)):
            best = group
    return best


def _shareable(left: Tokens, right: Tokens) -> int:
    """All but the last token of either may be shared: its logits are needed."""
    return min(common_prefix(left, right), len(left) - 1, len(right) - 1)


def _spared(group: Group) -> int:
    return group.length * (len(group.members) - 1)


def _that_fits(
    candidates: Row[Candidate], length: int, places: tuple[int, ...], num_cells: int, most_members: int
) -> Group:
    """As many of them, in order, as there are cells and seats for."""
    left, members = num_cells - length, []
    for place in places[:most_members]:
        left -= own_cells(candidates[place], length)
        if left < 0:
            break
        members.append(place)
    return Group(length, tuple(members))


def own_cells(candidate: Candidate, length: int) -> int:
    """Cells it needs beside the shared ones."""
    return len(candidate.tokens) - length + candidate.max_new


def pays(group: Group, candidates: Row[Candidate]) -> bool:
    """True if steps in the fork lane are cheaper than in streams."""
    own = [
        len(candidates[place].tokens) - group.length + ANSWER_SHARE * candidates[place].max_new
        for place in group.members
    ]
    return CELL_RATIO * (group.length + sum(own)) < group.length + sum(own) / len(own)
