"""Tokens are drawn by the rules, from seed and index alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine import sampler
from monk.engine.client import Sampling
from monk.errors import EngineFailed

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.06, 0.04], np.float32))


class Only:
    """A guard that allows some tokens."""

    def __init__(self, *allowed: int) -> None:
        self._allowed = allowed
        self.masked = 0

    def allows(self, token: int) -> bool:
        return token in self._allowed

    def mask(self, logits: npt.NDArray[np.float32]) -> None:
        self.masked += 1
        forbidden = [token for token in range(len(logits)) if token not in self._allowed]
        logits[forbidden] = -np.inf

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


def shares(sampling: Sampling, draws: int = 4000) -> npt.NDArray[np.float64]:
    """How often each token of LOGITS is drawn."""
    tokens = [sampler.choose(LOGITS, sampling, [], index).token for index in range(draws)]
    return np.bincount(tokens, minlength=len(LOGITS)) / draws


def test_greedy_takes_the_likeliest_of_each_row() -> None:
    assert sampler.greedy(np.stack([LOGITS, LOGITS[::-1]])) == [0, 4]
    assert sampler.choose(LOGITS, Sampling(), [], 0).token == 0


def test_what_needs_more_than_an_argmax_is_told_apart() -> None:
    assert sampler.is_plain_greedy(Sampling(top_k=5, seed=3))
    for other in (
        Sampling(temperature=0.1),
        Sampling(repeat_penalty=1.1),
        Sampling(logit_bias={1: 1.0}),
        Sampling(grammar="root ::= [a-z]"),
        Sampling(json_schema={}),
        Sampling(logprobs=1),
    ):
        assert not sampler.is_plain_greedy(other)


def test_draws_follow_the_distribution() -> None:
    seen = shares(Sampling(temperature=1.0, seed=1))

    assert np.abs(seen - np.exp(LOGITS)).max() < 0.03


def test_temperature_sharpens_and_flattens() -> None:
    cold, hot = shares(Sampling(temperature=0.5, seed=2)), shares(Sampling(temperature=2.0, seed=2))

    for seen, temperature in ((cold, 0.5), (hot, 2.0)):
        weights = np.exp(LOGITS / temperature)
        assert np.abs(seen - weights / weights.sum()).max() < 0.03


@pytest.mark.parametrize(
    ("sampling", "survivors"),
    [
        (Sampling(temperature=1, top_k=2), {0, 1}),
        (Sampling(temperature=1, top_p=0.74), {0, 1}),
        (Sampling(temperature=1, top_p=0.76), {0, 1, 2}),
        (Sampling(temperature=1, top_p=0.01), {0}),
        (Sampling(temperature=1, min_p=0.2), {0, 1, 2}),
        (Sampling(temperature=1, top_k=3, top_p=0.6), {0, 1}),
        (Sampling(temperature=1, top_k=99), {0, 1, 2, 3, 4}),
    ],
)
def test_filters_leave_whom_they_should(sampling: Sampling, survivors: set[int]) -> None:
    assert {token for token, share in enumerate(shares(sampling, 1500)) if share} == survivors


def test_the_nucleus_of_a_large_vocabulary_is_found_in_widening_looks() -> None:
    logits = np.random.default_rng(0).normal(0, 0.1, 50_000).astype(np.float32)
    weights = np.exp(logits.astype(np.float64))
    order = np.argsort(-logits)
    exact = int(np.searchsorted(np.cumsum(weights[order]), 0.5 * weights.sum())) + 1

    ids, _ = sampler._candidates(logits, Sampling(temperature=1, top_p=0.5))

    assert len(ids) == exact
    assert set(ids) == set(order[:exact])


def test_the_same_seed_and_index_draw_the_same() -> None:
    drawn = [sampler.uniform(5, index) for index in range(1000)]

    assert drawn == [sampler.uniform(5, index) for index in range(1000)]
    assert len(set(drawn)) == 1000
    assert abs(np.mean(drawn) - 0.5) < 0.03
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.1
    assert abs(np.corrcoef(drawn, [sampler.uniform(6, index) for index in range(1000)])[0, 1]) < 0.1


def test_the_numbers_are_even_over_tokens_and_over_seeds() -> None:
    """Chi-square of 64 bins: 63 expected, 110 is beyond one in five thousand."""
    for drawn in (
        [sampler.uniform(7, index) for index in range(64_000)],
        [sampler.uniform(seed, 3) for seed in range(64_000)],
    ):
        counts = np.bincount((np.array(drawn) * 64).astype(int), minlength=64)
        assert float(((counts - 1000.0) ** 2 / 1000.0).sum()) < 110.0


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(300, 4000))
def test_the_largest_are_those_of_a_full_sort(seed: int, count: int, size: int) -> None:
    values = np.random.default_rng(seed).standard_normal(size).astype(np.float32)

    found = sampler._largest(values, count)

    assert list(found) == sorted(set(found))
    assert sorted(values[found]) == sorted(values)[-count:]


@given(st.integers(), st.integers(0, 2**40))
def test_any_seed_works(seed: int, index: int) -> None:
    assert 0.0 <= sampler.uniform(seed, index) < 1.0


def test_a_penalty_weakens_what_was_said() -> None:
    logits = np.array([2.0, 1.9, -1.0, -1.1], np.float32)

    assert sampler.choose(logits, Sampling(repeat_penalty=1.2), [0], 0).token == 1
    assert sampler.choose(logits, Sampling(repeat_penalty=1.2, repeat_last_n=1), [0, 3], 0).token == 0
    assert sampler.choose(logits, Sampling(repeat_penalty=1.2, repeat_last_n=0), [0], 0).token == 0


def test_bias_pushes_and_forbids() -> None:
    assert sampler.choose(LOGITS, Sampling(logit_bias={3: 9.0}), [], 0).token == 3
    assert sampler.choose(LOGITS, Sampling(logit_bias={0: -np.inf}), [], 0).token == 1


def test_a_grammar_is_asked_first_and_masks_only_on_refusal() -> None:
    agreeing, refusing = Only(0, 3), Only(2, 4)

    assert sampler.choose(LOGITS, Sampling(), [], 0, agreeing).token == 0
    assert sampler.choose(LOGITS, Sampling(), [], 0, refusing).token == 2
    assert (agreeing.masked, refusing.masked) == (0, 1)
    with pytest.raises(sampler.NothingAllowed):
        sampler.choose(LOGITS, Sampling(), [], 0, Only())


def test_a_masked_draw_survives_a_narrow_filter() -> None:
    choice = sampler.choose(LOGITS, Sampling(temperature=1, top_k=1), [], 0, Only(4))

    assert choice.token == 4


def test_logprobs_are_those_of_the_model_itself() -> None:
    sampling = Sampling(logprobs=2, logit_bias={4: 50.0})

    choice = sampler.choose(LOGITS, sampling, [], 0)

    assert choice.token == 4 and choice.logprob is not None
    assert choice.logprob.logprob == pytest.approx(np.log(0.04), abs=1e-4)
    assert [token for token, _ in choice.logprob.top] == [0, 1]
    assert choice.logprob.top[0][1] == pytest.approx(np.log(0.5), abs=1e-4)


def test_logits_that_are_no_numbers_fail_the_thought() -> None:
    with pytest.raises(EngineFailed, match="not numbers"):
        sampler.choose(np.array([1.0, np.nan], np.float32), Sampling(temperature=1), [], 0)


def test_the_callers_logits_stay_as_they_were() -> None:
    before = LOGITS.copy()

    sampler.choose(LOGITS, Sampling(temperature=1, logit_bias={1: 3.0}, repeat_penalty=2.0), [0, 1], 0)

    assert (before == LOGITS).all()
