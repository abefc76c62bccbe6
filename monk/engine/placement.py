"""Which slot a thought gets, and with whom it shares a beginning. Pure arithmetic over plain values: no model, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass

from monk.engine.sequence import Tokens, common_prefix

COPY_BYTES_PER_SECOND = 2e9  # a cautious memcpy between streams, until it is measured; only orders of magnitude matter
LEAST_SHARED = 16  # below this, copying costs more bookkeeping than it saves
PASS_ROWS, SLOT_ROWS = 9.0, 6.5  # what a pass over the weights costs beside its rows, and each sequence in it, in rows


@dataclass(frozen=True, slots=True)
class SlotView:
    """What a slot holds. `tokens` are all its owner was asked, computed or not; a free slot keeps what was computed."""

    slot: int
    free: bool
    tokens: Tokens
    computed: int
    last_used: int = 0  # rising number; the free slot with the smallest is given away first


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a thought goes. `kept` tokens are already in that slot; `shared` will be copied from slot `source`."""

    slot: int
    kept: int = 0
    source: int | None = None
    shared: int = 0


def place(
    tokens: Tokens, slots: Rows[SlotView], *, can_trim: bool, least_shared: int = LEAST_SHARED
) -> Placement | None:
    """The slot for a thought with these tokens, or None when all are taken.

    A beginning left in a free slot is used in place; one that a busy slot holds or will hold is copied. At least the
    last token is always computed anew, for its logits, unless the source ends its prefill on exactly the same tokens. A
    model whose memory cannot be cut back (`can_trim` false) shares only a source's whole prompt.
    """
    free = [view for view in slots if view.free]
    if not free:
        return None
    kept = {view.slot: _kept(tokens, view, can_trim) for view in free}
    shared = {view.slot: _shared(tokens, view, can_trim) for view in slots if not view.free}
    keeper = max(kept, key=lambda slot: (kept[slot], -slot))
    source = max(shared, key=lambda slot: (shared[slot], -slot), default=None)
    if source is not None and shared[source] >= least_shared and shared[source] > kept[keeper]:
        return Placement(_cheapest(free), 0, source, shared[source])
    if kept[keeper] >= LEAST_SHARED:
        return Placement(keeper, kept[keeper])
    return Placement(_cheapest(free))


def _cheapest(free: Rows[SlotView]) -> int:
    """The free slot whose content is missed least: an empty one, else the one used longest ago."""
    return min(free, key=lambda view: (view.computed > 0, view.last_used, view.slot)).slot


def _kept(tokens: Tokens, view: SlotView, can_trim: bool) -> int:
    """How many leading tokens are in a free slot already."""
    same = common_prefix(tokens, view.tokens[: view.computed])
    if not can_trim and (same < view.computed or same == len(tokens)):
        return 0
    return min(same, len(tokens) - 1)


def _shared(tokens: Tokens, view: SlotView, can_trim: bool) -> int:
    """How many leading tokens a busy slot has or will have."""
    same = common_prefix(tokens, view.tokens)
    still_prefilling = view.computed < len(view.tokens) - 1
    if same == len(view.tokens) and still_prefilling:
        return same  # taken in the moment its prefill ends
    return min(same, len(tokens) - 1) if can_trim else 0


def least_shared_tokens(copy_seconds: float, seconds_per_token: float) -> int:
    """From how many shared tokens on a copy of a whole stream, which takes so long, is cheaper than computing them."""
    if seconds_per_token <= 0.0:
        return LEAST_SHARED
    return max(LEAST_SHARED, int(copy_seconds / seconds_per_token))


def side_by_side(pending: Mapping[int, int], first: int, most: int) -> tuple[list[int], int]:
    """(slots, tokens of each) of the prompts to be computed in one call with that in slot `first`, at most `most` in all.

    `pending`: tokens left, by slot, of all that may take part. Only neighbours with equally many rows share a pass over
    the weights in llama.cpp, and few with many rows are cheaper than many with few, so the neighbourhood is taken in which
    a row costs least: 512 rows of 4, 8, 16 and 32 prompts took 0.9, 1.1, 1.13 and 1.38 s (SmolLM2 F16, 2026-11-26).
    """
    best, best_each, best_price = [first], min(pending[first], most), float("inf")
    low = first
    while low in pending:
        high = max(low, first)
        while high in pending:
            slots = range(low, high + 1)
            each = min(min(pending[slot] for slot in slots), most // len(slots))
            if each and (price := _price_of_row(pending, slots, each)) < best_price:
                best, best_each, best_price = list(slots), each, price
            high += 1
        low -= 1
    return best, best_each


def _price_of_row(pending: Mapping[int, int], slots: range, each: int) -> float:
    """Of this call; a prompt that is not finished by it needs another one."""
    rests = sum(pending[slot] > each for slot in slots)
    return 1.0 + (PASS_ROWS + SLOT_ROWS * (len(slots) + rests) + PASS_ROWS * (rests > 0)) / (each * len(slots))


def compaction(active: Rows[tuple[int, int]], *, weight_bytes: int, stream_bytes: int) -> tuple[int, int] | None:
    """A move (from, to) that closes the lowest gap, or None. `active` is (slot, tokens it may still decode).

    A gap costs one more pass over the weights in every step; a move costs reading and writing one stream. Half of the
    tokens a thought may still decode are taken as the ones it will.
    """
    taken = {slot for slot, _ in active}
    gaps = [slot for slot in range(max(taken, default=0)) if slot not in taken]
    if not gaps:
        return None
    steps = max(remaining for _, remaining in active) / 2
    if steps * weight_bytes <= 2 * stream_bytes:
        return None
    return max(taken), gaps[0]
