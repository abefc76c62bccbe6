"""Guessed tokens with real models: SmolLM2, and tiny random ones of other architectures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from monk.engine import embedded, sampler
from monk.engine.client import EngineStatus, Sampling, Segment, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from tests.engine_models import write_tiny_model
from tests.same_text import assert_same_greedy, chances_at, ids_of, parting, said

pytestmark = pytest.mark.real

MAX_CHANCE_GAP = 0.1  # where drawn texts part, the random number was this close to both tokens' shares
NO_CONTROL = {257: -100.0, 258: -100.0}  # they would end a random model's answer early
MODELS = {"qwen3": {}, "qwen3moe": {"experts": 8}}
SENTENCE = "The abbot counts the lamps, the novice counts the stars, and nobody counts the hours.\n"


@contextmanager
def engine_of(path: Path, **fields: object) -> Iterator[EngineProcess]:
    engine = EngineProcess(EngineConfig(path, **{"context": 1024, "slots": 4, "threads": 1, **fields}))  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def plain() -> Iterator[EngineProcess]:
    with engine_of(embedded.model_path(), speculation="off") as engine:
        yield engine


@pytest.fixture(scope="module")
def guessing() -> Iterator[EngineProcess]:
    with engine_of(embedded.model_path()) as engine:
        yield engine


def status_after(engine: EngineProcess) -> EngineStatus:
    """Once the counters of all that was done have come with a beat."""
    asked_at = time.monotonic()
    while (status := engine.status()).beat_at < asked_at + 0.1:
        time.sleep(0.05)
    return status


def asking(engine: EngineProcess, name: str, text: str, max_tokens: int = 80, **sampling: object) -> ThoughtRequest:
    ids = engine.tokenize([Segment(text, control=False)])
    return ThoughtRequest(name, tuple(ids), max_tokens, Sampling(**sampling))  # type: ignore[arg-type]


def assert_same(engine: EngineProcess, request: ThoughtRequest, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Equal tokens; or at the first difference the choice hung on less than what another batch shape may change."""
    if left == right:
        return
    if request.sampling.temperature == 0.0:
        assert_same_greedy(engine, request, left, right)
        return
    place = parting(left, right)
    assert place is not None
    chances, one, other = chances_at(engine, request, left[:place]), left[place], right[place]
    distance = max(share_distance(chances, request.sampling, place, token) for token in (one, other))
    assert distance < MAX_CHANCE_GAP, f"texts part at token {place}, {distance:.3f} away from the random number"


def share_distance(chances: dict[int, float], sampling: Sampling, index: int, token: int) -> float:
    """How far the random number of this token was from the share of [0, 1) that `token` has."""
    ids = sorted(sorted(chances, key=lambda id_: -chances[id_])[: sampling.top_k])
    weights = np.exp(np.array([chances[id_] for id_ in ids]) / sampling.temperature)
    ends = np.cumsum(weights) / weights.sum()
    place = ids.index(token)
    drawn = sampler.uniform(sampling.seed, index)
    return max(0.0, (ends[place - 1] if place else 0.0) - drawn, drawn - ends[place])


def test_copied_text_is_guessed_and_stays_the_same(plain: EngineProcess, guessing: EngineProcess) -> None:
    asked = asking(plain, "copy", SENTENCE * 8, max_tokens=120)

    without, with_guesses = said(plain, asked), said(guessing, asked)

    assert_same(plain, asked, without, with_guesses)
    told = status_after(guessing)
    assert told.accepted_tokens >= 8
    assert told.accepted_tokens > told.drafted_tokens / 2
    assert status_after(plain).drafted_tokens == 0


def test_drawn_text_is_the_same_seed_by_seed(plain: EngineProcess, guessing: EngineProcess) -> None:
    asked = [asking(plain, f"drawn-{seed}", SENTENCE * 6, temperature=0.8, top_k=12, seed=seed) for seed in range(4)]

    without, with_guesses = ids_of(*map(plain.think, asked)), ids_of(*map(guessing.think, asked))

    for item, left, right in zip(asked, without, with_guesses, strict=True):
        assert_same(plain, item, left, right)


def test_a_batch_may_mix_those_who_copy_and_those_who_invent(plain: EngineProcess, guessing: EngineProcess) -> None:
    before = status_after(guessing).accepted_tokens
    asked = [
        asking(plain, "lamps", SENTENCE * 8, max_tokens=80),
        asking(plain, "sea", "A monk who had never seen the sea asked the miller", max_tokens=60),
        asking(plain, "count", " ".join(map(str, range(1, 60))), max_tokens=80),
        asking(plain, "json", "Lamps:", max_tokens=60, json_schema={"type": "array", "items": {"type": "integer"}}),
    ]

    without, with_guesses = ids_of(*map(plain.think, asked)), ids_of(*map(guessing.think, asked))

    for item, left, right in zip(asked[:3], without, with_guesses, strict=False):
        assert_same(plain, item, left, right)
    text = guessing.detokenize(list(with_guesses[3])).strip()
    assert text.startswith("[")
    assert status_after(guessing).accepted_tokens > before


def test_inventing_costs_next_to_no_rows(guessing: EngineProcess) -> None:
    before = status_after(guessing)
    asked = [
        asking(guessing, f"noise-{seed}", "Random letters:", max_tokens=120, temperature=3.0, seed=seed)
        for seed in range(3)
    ]

    drawn = sum(map(len, ids_of(*map(guessing.think, asked))))

    after = status_after(guessing)
    assert after.drafted_tokens - before.drafted_tokens < 0.1 * drawn


@pytest.mark.parametrize("architecture", MODELS)
def test_tiny_models_say_the_same_with_and_without(architecture: str, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", architecture, **MODELS[architecture])  # type: ignore[arg-type]
    prompt = tuple((at * at * 11) % 250 for at in range(60)) * 4
    asked = [
        ThoughtRequest(
            f"t{at}", prompt[at:], 120, Sampling(temperature=0.05 * at, top_k=4, seed=at, logit_bias=NO_CONTROL)
        )
        for at in range(4)
    ]
    with engine_of(path, speculation="off", ubatch=128) as engine:
        without = ids_of(*map(engine.think, asked))
    with engine_of(path, ubatch=128) as engine:
        with_guesses = ids_of(*map(engine.think, asked))
        for item, left, right in zip(asked, without, with_guesses, strict=True):
            assert len(right) == 120
            assert_same(engine, item, left, right)


def test_a_model_with_a_sliding_window_is_never_guessed_for(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", "gemma3", window=256, layers=6)
    asked = ThoughtRequest("t", (5, 6, 7, 8) * 50, 100, Sampling(logit_bias=NO_CONTROL))

    with engine_of(path, ubatch=128) as engine:
        drawn = said(engine, asked)

        assert len(drawn) == 100
        assert status_after(engine).drafted_tokens == 0
