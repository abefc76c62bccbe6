"""How much to measure with: contexts and pieces that the time allows. Pure, from the first calls' speed."""

from __future__ import annotations

from dataclasses import replace

from monk.engine.tuning.trial import Situation

# tokens that trials stand behind, and the share of the time that computing them may take at the speed of the first ones; behind
# many every trial takes longer too: two minutes behind 4,096 were over before a step behind nothing was timed
DEPTHS = ((4096, 0.05), (1024, 0.15), (256, 0.15))
PIECES = (512, 256, 128, 64, 32)
PIECE_SHARE = 0.02  # for one piece of a prompt
CALL_SHARE = 0.08  # for the longest single call
SLACK = 64  # tokens that a stream may grow by before it is laid out anew
PAD = 256  # llama.cpp rounds a stream up to this many cells


def sized(situation: Situation, tokens_per_second: float, seconds: float, most_tokens: int) -> Situation:
    """With depth and piece; candidates whose single call would take too long are left out. `most_tokens`: of a context."""
    builds = 1 + len(situation.flash)

    def affords(tokens: int, share: float) -> bool:
        return tokens / tokens_per_second <= share * seconds

    piece = next((size for size in PIECES if affords(size, PIECE_SHARE) and size < most_tokens), PIECES[-1])
    longest = max((chunk for chunk in situation.chunks if affords(chunk, CALL_SHARE)), default=0)
    room = most_tokens - max(piece, longest) - SLACK
    depth = next((size for size, share in DEPTHS if affords(builds * size, share) and size <= room), 0)
    chunks = tuple(chunk for chunk in situation.chunks if chunk <= min(longest, most_tokens - SLACK))
    if situation.now.chunk > longest:  # nothing to compare them with
        chunks = ()
    widths = tuple(width for width in situation.widths if affords(width, CALL_SHARE) or width < situation.now.width)
    return replace(situation, depth=depth, piece=piece, chunks=chunks, widths=widths)


def longest_call(situation: Situation) -> int:
    """Prompt tokens of the longest call."""
    return max((situation.piece, *situation.chunks))


def padded(tokens: int) -> int:
    """Cells of a stream that holds so many and may grow a little."""
    return -(-(tokens + SLACK) // PAD) * PAD


def widest(situation: Situation) -> int:
    """Thoughts of the widest step."""
    return max((situation.now.width, *situation.widths))
