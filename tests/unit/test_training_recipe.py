"""How an adapter is trained: batches without waste, and what fits the memory and the night."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.train import sparks, thinned
from monk.errors import InvalidInput, MemoryTooSmall
from monk.lora.training.batches import group, padding_share, schedule
from monk.lora.training.recipe import GIB, LEAST_STEPS, Recipe, Shape, Wishes, memory_bytes, propose

SMOL = Shape(134_515_008, 30, 576, 1536, 9, 192, 49152, 8192)
LENGTHS = st.lists(st.integers(1, 700), min_size=1, max_size=120)


def recipe(steps: int = 50, batch_tokens: int = 1024, seed: int = 1) -> Recipe:
    return Recipe(8, 16, 1e-3, steps, batch_tokens, 8, 10, 4, seed)


@given(LENGTHS, st.integers(700, 4096), st.integers(1, 16))
def test_each_example_is_in_one_batch_and_no_batch_is_too_large(lengths: list[int], most: int, count: int) -> None:
    batches = group(lengths, most, count)

    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(max(lengths[p] for p in batch) * len(batch) <= most and len(batch) <= count for batch in batches)


def test_little_is_spent_on_padding() -> None:
    lengths = [20 + (37 * i) % 400 for i in range(500)]

    assert padding_share(lengths, schedule(lengths, recipe(steps=300))) < 0.1
    assert padding_share(lengths, [tuple(range(i, i + 8)) for i in range(0, 496, 8)]) > 0.25, (
        "as they come it is a third"
    )


@given(LENGTHS, st.integers(1, 200), st.integers(0, 5))
def test_the_order_comes_from_the_seed_alone(lengths: list[int], steps: int, seed: int) -> None:
    first = schedule(lengths, recipe(steps, seed=seed))

    assert first == schedule(lengths, recipe(steps, seed=seed)) and len(first) == steps
    assert first == schedule(lengths, recipe(steps + 7, seed=seed))[:steps]


def test_another_seed_is_another_order_and_each_epoch_too() -> None:
    lengths = [10 + i % 7 for i in range(64)]
    steps = schedule(lengths, recipe(steps=16, batch_tokens=2048))

    assert steps[:8] != steps[8:] and sorted(p for b in steps[:8] for p in b) == list(range(64))
    assert steps != schedule(lengths, recipe(steps=16, batch_tokens=2048, seed=2))


def test_the_rate_rises_and_falls_and_is_never_nothing() -> None:
    plan = recipe(steps=100)
    rates = [plan.rate(step) for step in range(100)]

    assert max(rates) == pytest.approx(1e-3) and rates.index(max(rates)) == 4
    assert rates[0] > 0 and rates[-1] == pytest.approx(1e-4, rel=0.1)


def test_batches_shrink_until_they_fit_and_then_it_is_refused_with_figures() -> None:
    lengths = [300] * 50
    roomy = propose(SMOL, lengths, max(lengths), Wishes(), 20 * GIB, 100.0, 32400.0)
    tight = propose(SMOL, lengths, max(lengths), Wishes(), roomy.memory_bytes - 1, 100.0, 32400.0)

    assert roomy.recipe.batch_tokens == 2048 and tight.recipe.batch_tokens == 1024
    assert tight.memory_bytes == memory_bytes(SMOL, 16, 1024) < roomy.memory_bytes
    with pytest.raises(MemoryTooSmall, match=r"needs 1\.\d\d GiB .*0\.50 GiB are free; shorten the longest"):
        propose(SMOL, lengths, max(lengths), Wishes(), GIB // 2, 100.0, 32400.0)


def test_a_handful_is_seen_often_and_a_book_three_times() -> None:
    handful = propose(SMOL, [60] * 9, max([60] * 9), Wishes(), 20 * GIB, 100.0, 32400.0).recipe
    book = propose(SMOL, [250] * 8000, max([250] * 8000), Wishes(), 20 * GIB, 1e6, 32400.0).recipe

    assert handful.steps >= LEAST_STEPS and handful.steps <= 80
    assert book.steps == 3 * 1000


def test_as_many_steps_as_the_night_holds_unless_the_owner_says_how_many() -> None:
    lengths = [250] * 8000
    long, short = (propose(SMOL, lengths, max(lengths), Wishes(), 20 * GIB, 100.0, night) for night in (1e9, 3600.0))

    assert long.recipe.steps == 3000 and LEAST_STEPS < short.recipe.steps < 1000
    assert short.seconds == pytest.approx(3600.0, rel=0.05)
    assert propose(SMOL, lengths, max(lengths), Wishes(steps=7), 20 * GIB, 100.0, 1.0).recipe.steps == 7
    assert propose(SMOL, lengths, max(lengths), Wishes(epochs=2), 20 * GIB, 100.0, 1.0).recipe.steps == 2000


def test_an_example_beyond_the_context_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has 9000 tokens, the model takes 8192"):
        propose(SMOL, [10, 9000], max([10, 9000]), Wishes(), 20 * GIB, 100.0, 0.0)


def test_a_curve_is_thinned_to_a_line() -> None:
    curve = [10.0 - i / 100 for i in range(1000)]

    assert len(thinned(curve)) == 200 and thinned(curve)[-1] == [1000, pytest.approx(0.03)]
    assert sparks(curve)[0] == "█" and sparks(curve)[-1] == "▁" and len(sparks(curve)) == 40
    assert sparks([1.0, 1.0]) == "▁▁"
