"""Guesses the next tokens of an answer by looking up what followed the last ones before: in its own prompt and answer,
and in those of its siblings (samples of one prompt, questions on one document).

Works on token ids. Knows neither model nor slots. A guess costs microseconds and is only a proposal: the model computes
all guessed tokens as rows of one batch, and those it would have drawn itself stand. Answers that quote, correct or
count repeat long stretches; free prose hardly any.

The memory is a tree of nodes, one per token, in flat arrays of int32: token, the node before, the node after (the newest
one where several follow) and the previous node that ends on the same three tokens (hash chains, as in LZ77). Siblings
branch off the node where their texts part, so a shared prompt is kept once. About 24 bytes per token.

    prompt  0─1─2─ ... ─n─┬─ a─a─a      answer of the first sample
                          └─ b─b─b─b    answer of the second
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monk.engine.sequence import Tokens, common_prefix

LEAST_MATCH = (
    3  # tokens that must agree: the hash is of three. Guesses behind three were right 45 times in 100, behind 16: 80
)
LONGEST_MATCH = 16  # compared no further: a match of this length is as good as it gets
MOST_CANDIDATES = 48  # earlier places looked at, newest first; bounds a guess to some 50 microseconds
MOST_NODES = 1 << 20  # a group's memory takes in no new thoughts beyond this (24 MB)

_NONE = -1
_LEAST_BUCKETS = 1 << 10
_MIX = (0x2545F491, 0x1B873593, 0x27D4EB2F)  # odd, below 2^30: three products of int32 stay within int64


@dataclass(frozen=True, slots=True)
class Draft:
    """Guessed tokens in order, and how many tokens before them agreed with the place they were copied from."""

    ids: tuple[int, ...] = ()
    matched: int = 0


NO_DRAFT = Draft()


class Lookup:
    """The memory of one group of thoughts. One thread."""

    def __init__(self) -> None:
        self._token = array("i")
        self._before = array("i")
        self._after = array("i")
        self._chain = array("i")  # the previous node in the same bucket
        self._heads = array("i", [_NONE]) * _LEAST_BUCKETS  # bucket -> its newest node
        self._root: Tokens = np.zeros(0, np.int32)  # the first thought's prompt: nodes 0, 1, 2, ...

    def __len__(self) -> int:
        """Nodes kept."""
        return len(self._token)

    @property
    def num_bytes(self) -> int:
        arrays = (self._token, self._before, self._after, self._chain, self._heads)
        return sum(len(items) * items.itemsize for items in arrays) + self._root.nbytes

    @property
    def full(self) -> bool:
        """True when new thoughts of the group should start another memory; those inside go on."""
        return len(self) >= MOST_NODES

    def open(self, tokens: Tokens) -> Trail:
        """A thought that holds these tokens so far. What it shares with the group's first prompt is not stored again."""
        if not len(self):
            self._root = tokens.copy()
        shared = min(common_prefix(tokens, self._root), len(self))
        trail = Trail(self, shared - 1)
        self._append_many(trail, tokens[shared:])
        return trail

    # --- growing

    def _append(self, tail: int, token: int) -> int:
        """The node behind `tail` for this token: a sibling's, if it went the same way, else a new one."""
        if tail >= 0 and (follower := self._after[tail]) >= 0 and self._token[follower] == token:
            return follower
        node = len(self._token)
        self._token.append(token)
        self._before.append(tail)
        self._after.append(_NONE)
        self._chain.append(_NONE)
        if tail >= 0:
            self._after[tail] = node
        if len(self._token) > len(self._heads):
            self._rebuild()
        elif (bucket := self._bucket(node)) >= 0:
            self._chain[node] = self._heads[bucket]
            self._heads[bucket] = node
        return node

    def _append_many(self, trail: Trail, tokens: Tokens) -> None:
        """As `_append` for each; a long stretch is filed by arithmetic on whole arrays."""
        if len(tokens) * 8 < len(self) or len(tokens) < 64:
            for token in tokens.tolist():
                trail.append(token)
            return
        first, count = len(self), len(tokens)
        nodes = np.arange(first, first + count, dtype=np.int32)
        before = nodes - 1
        before[0] = trail.tail
        after = nodes + 1
        after[-1] = _NONE
        if trail.tail >= 0:
            self._after[trail.tail] = first
        self._token.frombytes(tokens.astype(np.int32).tobytes())
        self._before.frombytes(before.tobytes())
        self._after.frombytes(after.tobytes())
        self._chain.frombytes(np.full(count, _NONE, np.int32).tobytes())
        trail.tail = first + count - 1
        self._rebuild()

    def _rebuild(self) -> None:
        """File all nodes anew, in at least twice as many buckets: amortised, a constant cost per token."""
        buckets = max(_LEAST_BUCKETS, 1 << (2 * len(self) - 1).bit_length())
        nodes, bucket = self._all_buckets(buckets - 1)
        order = np.argsort(bucket, kind="stable")  # old before new within a bucket
        same = np.flatnonzero(bucket[order[1:]] == bucket[order[:-1]])
        chain = np.full(len(self), _NONE, np.int32)
        chain[nodes[order[1:][same]]] = nodes[order[:-1][same]]
        heads = np.full(buckets, _NONE, np.int32)
        heads[bucket] = nodes  # of several nodes the last, the newest, stays
        self._chain = array("i", chain.tobytes())
        self._heads = array("i", heads.tobytes())

    def _all_buckets(self, mask: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """(nodes with at least two before them, the bucket of each)."""
        token = np.array(self._token, np.int64)
        before = np.array(self._before, np.int32)
        second = np.where(before >= 0, before[before], _NONE)
        nodes = np.flatnonzero(second >= 0).astype(np.int32)
        mixed = token[nodes] * _MIX[0] + token[before[nodes]] * _MIX[1] + token[second[nodes]] * _MIX[2]
        return nodes, (mixed ^ (mixed >> 17)) & mask

    def _bucket(self, node: int) -> int:
        """Where nodes ending on the same three tokens are filed; -1 for the first two of a text."""
        one = self._before[node]
        two = self._before[one] if one >= 0 else _NONE
        if two < 0:
            return _NONE
        token = self._token
        mixed = token[node] * _MIX[0] + token[one] * _MIX[1] + token[two] * _MIX[2]
        return (mixed ^ (mixed >> 17)) & (len(self._heads) - 1)

    # --- guessing

    def _draft(self, tail: int, longest: int) -> Draft:
        place, matched = self._best_place(tail)
        if place < 0:
            return NO_DRAFT
        return Draft(tuple(self._continuation(place, tail, longest)), matched)

    def _best_place(self, tail: int) -> tuple[int, int]:
        """(node, length) of the longest match with a continuation; the newest of equals. (-1, 0) if there is none."""
        bucket = self._bucket(tail) if tail >= 0 else _NONE
        if bucket < 0:
            return _NONE, 0
        if self._after[tail] >= 0:
            return tail, LONGEST_MATCH  # a sibling has been exactly here, and went on
        best, best_length = _NONE, LEAST_MATCH - 1
        node = self._heads[bucket]
        for _ in range(MOST_CANDIDATES):
            if node < 0 or best_length >= LONGEST_MATCH:
                break
            if self._after[node] >= 0 and (length := self._agreement(node, tail)) > best_length:
                best, best_length = node, length
            node = self._chain[node]
        return best, best_length if best >= 0 else 0

    def _agreement(self, left: int, right: int) -> int:
        """How many tokens up to these two nodes are equal, backwards."""
        token, before = self._token, self._before
        for length in range(LONGEST_MATCH):
            if left < 0 or right < 0 or token[left] != token[right]:
                return length
            left, right = before[left], before[right]
        return LONGEST_MATCH

    def _continuation(self, place: int, tail: int, longest: int) -> list[int]:
        """What followed `place`. A match that runs into the end of its own text goes on as a period."""
        found: list[int] = []
        node = place
        while len(found) < longest:
            if node == tail and found:
                return (found * (longest // len(found) + 1))[:longest]
            node = self._after[node]
            if node < 0:
                break
            found.append(self._token[node])
        return found


class Trail:
    """One thought's place in its group's memory."""

    __slots__ = ("_lookup", "tail")

    def __init__(self, lookup: Lookup, tail: int) -> None:
        self._lookup = lookup
        self.tail = tail  # the node of its last token

    def append(self, token: int) -> None:
        self.tail = self._lookup._append(self.tail, token)

    def draft(self, longest: int) -> Draft:
        """At most `longest` tokens that may come next; none when nothing alike was seen."""
        return self._lookup._draft(self.tail, longest) if longest > 0 else NO_DRAFT
