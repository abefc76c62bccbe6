"""Which waiting thoughts go on together from a beginning they share, and whether that pays. Pure arithmetic.

In the fork lane every row looks at the cells of all members, but what they share is read once for all. Counted in cells,
a step costs each member

    streams   W / F + P + s                 F thoughts at once, P shared tokens, s of each one's own
    fork      W / F + ratio x (P + F x s)   W: cells that cost as much as a pass over the weights
                                            ratio: of the price per row and cell

Own tokens are paid for by everybody, so a fork lane has a best width: more members share the weights, and look at more of
each other's cells; W / F + ratio x F x s is least at F = sqrt(W / (ratio x s)). Who finds it taken waits for a seat rather
than be computed elsewhere at the higher price. The ratio is that of a matrix product over many rows to one row at a time;
measured without flash attention: 0.4 to 0.6 (8 rows, 16 heads of 128), 0.3 to 0.6 (16 rows, 9 heads of 64; AVX2,
2026-11); with it there is no gain (44.9 against 46.3 ms), so nothing is forked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Row
from dataclasses import dataclass

from monk.engine.sequence import Tokens, common_prefix

LEAST_SHARED_TOKENS = 256  # below, weights cost more than attention, and moving KV about costs more than both
CELL_RATIO = 0.5
ANSWER_SHARE = 0.5  # of max_tokens, taken as the average length a thought has while it runs


@dataclass(frozen=True, slots=True)
class Prices:
    """What decides on this host and for this model. `weight_cells`: W above; `cell_ratio`: the ratio, as measured if it was."""

    weight_cells: float
    cell_ratio: float = CELL_RATIO


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


def best_group(candidates: Row[Candidate], num_cells: int, most_members: int, prices: Prices) -> Group | None:
    """Those who share most with the first candidate that shares anything worth it; None if nobody does."""
    by_head: dict[bytes, list[int]] = {}
    for place, candidate in enumerate(candidates):
        if len(candidate.tokens) > LEAST_SHARED_TOKENS:
            by_head.setdefault(candidate.tokens[:LEAST_SHARED_TOKENS].tobytes(), []).append(place)
    groups = (
        _best_of(candidates, places, num_cells, most_members, prices) for places in by_head.values() if len(places) > 1
    )
    return next((group for group in groups if group is not None), None)


def _best_of(
    candidates: Row[Candidate], places: list[int], num_cells: int, most_members: int, prices: Prices
) -> Group | None:
    """Of all lengths that the first of them shares with others, the one that spares most tokens and pays."""
    first = candidates[places[0]].tokens
    shared = {place: _shareable(first, candidates[place].tokens) for place in places[1:]}
    best: Group | None = None
    best_spared = 0
    for length in sorted(set(shared.values()), reverse=True):
        friends = [place for place in places[1:] if shared[place] >= length]
        length = min(length, len(first) - 1)
        kin = (places[0], *friends)
        own = mean_own([candidates[place] for place in kin], length)
        widest = best_width(own, most_members, prices)
        group = _that_fits(candidates, length, kin, num_cells, widest)
        alone = min(len(kin), most_members)  # as many would be computed side by side in streams
        gains = len(group.members) > 1 and pays(length, own, len(group.members), alone, prices)
        if gains and (best is None or len(kin) * length > best_spared):
            best, best_spared = group, len(kin) * length
    return best


def _shareable(left: Tokens, right: Tokens) -> int:
    """All but the last token of either may be shared: its logits are needed."""
    return min(common_prefix(left, right), len(left) - 1, len(right) - 1)


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


def mean_own(members: Row[Candidate], length: int) -> float:
    """Tokens of its own that one of them has on average while it runs."""
    return sum(expected_own(len(member.tokens), member.max_new, length) for member in members) / len(members)


def expected_own(num_tokens: int, max_new: int, length: int) -> float:
    """Of a thought with so many tokens now, behind `length` shared ones."""
    return num_tokens - length + ANSWER_SHARE * max_new


def best_width(own: float, most_members: int, prices: Prices) -> int:
    """How many members make a step cheapest for each; at least two, if that many are allowed."""
    return min(most_members, max(2, round(math.sqrt(prices.weight_cells / (prices.cell_ratio * max(own, 1.0))))))


def pays(length: int, own: float, members: int, alone: int, prices: Prices) -> bool:
    """True if a step costs each of `members` in the fork lane less than each of `alone` in streams."""
    forked = prices.weight_cells / members + prices.cell_ratio * (length + members * own)
    return forked < prices.weight_cells / alone + length + own
