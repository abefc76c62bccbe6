"""The ratio of what was timed in turns, and how sure it is."""

from __future__ import annotations

import pytest

from tests.bench.pairs import ratio


def test_the_interval_of_the_sign_test() -> None:
    found = ratio([float(n) for n in range(1, 16)], [1.0] * 15)

    assert (found.median, found.low, found.high) == (8.0, 4.0, 12.0)  # of 15 the 4th and the 12th, as tables have it
    assert found.sure == pytest.approx(0.9648, abs=0.0001)


def test_neighbours_make_a_pair() -> None:
    assert ratio([1.0, 20.0, 3.0], [2.0, 40.0, 6.0]).median == 0.5


def test_few_pairs_are_told_as_what_they_are() -> None:
    found = ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])

    assert (found.low, found.high, found.sure) == (1.0, 3.0, 0.75)


@pytest.mark.parametrize(("ones", "others"), [([], []), ([1.0], [])])
def test_no_pair_is_no_ratio(ones: list[float], others: list[float]) -> None:
    with pytest.raises(ValueError):
        ratio(ones, others)
