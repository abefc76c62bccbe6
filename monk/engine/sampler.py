"""From logits to a token. Numpy only; never sees llama.cpp.

The draw depends on the logits, the seed and the token's index alone: the numbers are counter-based (SplitMix64), so a
resumed thought needs no saved generator. Order: penalty and bias, top_k, top_p, min_p on the untempered distribution, then
temperature (as llama.cpp has it). Candidates are kept in order of token id, so that two nearly equal ones cannot swap places
between two batch shapes. A grammar is asked about the drawn token first, because masking the whole vocabulary costs a
thousand times more.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Row
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monk.engine.client import Sampling, TokenLogprob
from monk.engine.sequence import Guard
from monk.errors import EngineFailed

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]

STRIPES_PER_WINNER = 24  # fewer let losers through, more are more maxima to look at
LEAST_STRIPES_PER_WINNER = 4
LEAST_STRIPE = 16  # below, cutting costs more than it spares
_NONE: Ids = np.zeros(0, np.intp)
COLDEST = 1e-6  # of temperatures above zero, lest it becomes zero as a float32
_DRAW_KEY = 0x6D6F6E6B  # keeps these numbers apart from any other use of the same seed
_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 by the golden ratio, odd: what SplitMix64 adds for each number


class NothingAllowed(Exception):
    """The grammar allows no token at all: the answer ends here."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was drawn."""

    token: int
    logprob: TokenLogprob | None = None


def is_plain_greedy(sampling: Sampling) -> bool:
    """True if the likeliest token of the raw logits is the answer, so that a whole batch needs one argmax."""
    penalised = sampling.repeat_penalty != 1.0 or bool(sampling.logit_bias)
    constrained = sampling.grammar is not None or sampling.json_schema is not None
    return sampling.temperature == 0.0 and not penalised and not constrained and not sampling.logprobs


def greedy(logits: Logits) -> list[int]:
    """Likeliest token of each row of logits: [rows, vocab]."""
    return [int(token) for token in logits.argmax(axis=1)]


def choose(logits: Logits, sampling: Sampling, recent: Row[int], index: int, guard: Guard | None = None) -> Choice:
    """Draw token number `index` of an answer from logits [vocab] (left unchanged). `recent`: the tokens before it.

    Raises NothingAllowed when the grammar forbids every token, EngineFailed when the logits are no numbers.
    """
    with _adjusted(logits, sampling, recent) as adjusted:
        if np.isnan(adjusted.max()):
            raise EngineFailed("the model computed logits that are not numbers; the thought cannot go on")
        token = _draw(adjusted, sampling, index)
        if guard is not None and not guard.allows(token):
            masked = adjusted.copy()
            guard.mask(masked)
            if not np.isfinite(masked.max()):
                raise NothingAllowed
            token = _draw(masked, sampling, index)
    return Choice(token, _logprob(logits, token, sampling.logprobs) if sampling.logprobs else None)


def uniform(seed: int, index: int) -> float:
    """The random number in [0, 1) that belongs to this seed and this token.

    Number `index` of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") begun at
    the mixed seed, so that neighbouring seeds begin far apart; its upper 53 bits. A microsecond, where a Philox generator
    of numpy made anew for each token took sixty.
    """
    begun = _mixed((seed & _WORD) ^ _mixed(_DRAW_KEY))
    return (_mixed((begun + (index + 1) * _GOLDEN) & _WORD) >> 11) * 2.0**-53


def _mixed(word: int) -> int:
    """SplitMix64's finaliser: each bit of a word of 64 depends on all."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)


@contextmanager
def _adjusted(logits: Logits, sampling: Sampling, recent: Row[int]) -> Iterator[Logits]:
    """With penalty and bias. In place where that is allowed, and undone afterwards: a copy of a row takes as long as all the
    rest of a draw (0.08 ms of 49,152, 2026-11-26)."""
    penalised = sampling.repeat_penalty != 1.0 and sampling.repeat_last_n > 0 and len(recent) > 0
    seen = np.unique(np.asarray(recent[-sampling.repeat_last_n :], dtype=np.intp)) if penalised else _NONE
    biased = np.fromiter(sampling.logit_bias, np.intp, len(sampling.logit_bias))
    if not len(seen) and not len(biased):
        yield logits
        return
    out = logits if logits.flags.writeable else logits.copy()
    places = np.concatenate([seen, biased])
    before = out[places]
    try:
        if penalised:
            values = out[seen]
            out[seen] = np.where(values > 0, values / sampling.repeat_penalty, values * sampling.repeat_penalty)
        out[biased] += np.fromiter(sampling.logit_bias.values(), np.float32, len(biased))
        yield out
    finally:
        out[places] = before


def _draw(logits: Logits, sampling: Sampling, index: int) -> int:
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    ids, values = _candidates(logits, sampling)
    weights = np.exp((values - values.max()) / np.float32(max(sampling.temperature, COLDEST)))
    cumulative = np.cumsum(weights, dtype=np.float64)
    place = np.searchsorted(cumulative, uniform(sampling.seed, index) * cumulative[-1], side="right")
    return int(ids[min(int(place), len(ids) - 1)])


def _candidates(logits: Logits, sampling: Sampling) -> tuple[Ids, Logits]:
    """Tokens left by top_k, top_p and min_p, in order of id, with their logits."""
    vocab = len(logits)
    ids: Ids = np.arange(vocab) if not 0 < sampling.top_k < vocab else _largest(logits, sampling.top_k)
    values = logits[ids]
    if sampling.top_p < 1.0:
        kept = _nucleus(values, sampling.top_p)
        ids, values = ids[kept], values[kept]
    if sampling.min_p > 0.0:
        kept = (values >= values.max() + np.log(sampling.min_p)).nonzero()[0]
        ids, values = ids[kept], values[kept]
    possible = values > -np.inf
    return (ids, values) if possible.all() else (ids[possible], values[possible])


def _largest(values: Logits, count: int) -> Ids:
    """Places of the `count` largest, rising.

    Of stripes that the row is dealt out to, at least `count` have a maximum that reaches the `count`-th largest maximum: so
    many values do, and hardly more, which leaves little to sort. 0.05 ms for 40 of 49,152, against 0.6 ms for a partition
    of the whole row (2026-11-26).
    """
    stripes = min(STRIPES_PER_WINNER * count, len(values) // LEAST_STRIPE)
    places: Ids
    if stripes < LEAST_STRIPES_PER_WINNER * count:
        places = np.arange(len(values))
    else:
        cut = len(values) // stripes * stripes
        dealt = values[:cut].reshape(-1, stripes)
        maxima = dealt.max(axis=0)
        bound = np.partition(maxima, -count)[-count]
        high = (maxima >= bound).nonzero()[0]  # only in these is something to find
        row, column = (dealt[:, high] >= bound).nonzero()
        places = np.concatenate([row * stripes + high[column], cut + (values[cut:] >= bound).nonzero()[0]])
    if len(places) > count:
        places = places[np.argpartition(values[places], len(places) - count)[-count:]]
    return np.sort(places)


def _nucleus(values: Logits, top_p: float) -> Ids:
    """Places of the smallest set of likeliest values whose probability reaches top_p, rising; at least one.

    Looks at the 64, 1024, ... likeliest first: sorting a whole vocabulary takes longer than a small model's step.
    """
    weights = np.exp(values - values.max())
    goal = top_p * weights.sum(dtype=np.float64)
    size = len(values)
    for count in (64, 1024, 16384, size):
        top = _largest(values, count) if count < size else np.arange(size)
        if weights[top].sum(dtype=np.float64) >= goal or count >= size:
            break
    order = top[np.argsort(-values[top], kind="stable")]
    needed = int(np.searchsorted(np.cumsum(weights[order], dtype=np.float64), goal)) + 1
    return np.sort(order[:needed])


def _logprob(logits: Logits, token: int, count: int) -> TokenLogprob:
    """Of the model's own distribution, before penalty, bias, grammar and temperature."""
    values = logits.astype(np.float64)
    log_total = values.max() + np.log(np.exp(values - values.max()).sum())
    top = _largest(logits, min(count, len(logits)))
    top = top[np.argsort(-logits[top], kind="stable")]
    alternatives = tuple((int(other), float(values[other] - log_total)) for other in top)
    return TokenLogprob(float(values[token] - log_total), alternatives)
