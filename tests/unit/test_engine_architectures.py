"""Other architectures by tiny random models: the same text alone, batched, shared and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monk.engine import gguf_file, memory
from monk.engine.client import Finished, Sampling, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from tests.engine_models import write_tiny_model
from tests.same_text import ROUNDING, assert_same_greedy, ids_of, said

pytestmark = pytest.mark.real

MODELS = {
    "qwen3": {},
    "qwen3moe": {"experts": 8},
    "gemma3": {"window": 256, "layers": 6},
    "gpt-oss": {"experts": 8, "window": 256, "layers": 4},
    "qwen35": {"layers": 4},  # a layer with KV, and three with a state
    "deepseek2": {"experts": 8},  # keys alone
}


@pytest.fixture(scope="module", params=MODELS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_model(path, request.param, **MODELS[request.param])  # type: ignore[arg-type]
    made = EngineProcess(EngineConfig(path, context=1024, slots=4, threads=1, ubatch=128))
    yield made
    made.stop()


def request(name: str, seed: int, length: int, max_tokens: int = 24) -> ThoughtRequest:
    prompt = tuple((seed * 37 + at * at * 11) % 250 for at in range(length))
    bias = {257: -100.0, 258: -100.0}  # control tokens would end a random model's answer early
    return ThoughtRequest(name, prompt, max_tokens, Sampling(logit_bias=bias))


def test_batched_shared_and_resumed_runs_equal_the_plain_one(engine: EngineProcess) -> None:
    asked = [request(f"t{at}", at % 3, 400) for at in range(6)]  # twins among them; longer than gemma3's window
    alone = [said(engine, item) for item in asked[:3]]

    together = ids_of(*map(engine.think, asked))

    for at, item in enumerate(asked):
        assert len(together[at]) == 24
        assert_same_greedy(engine, item, alone[at % 3], together[at], ROUNDING)
    resumed = ThoughtRequest("rest", asked[0].prompt, 24, asked[0].sampling, saved=alone[0][:9])
    assert_same_greedy(engine, asked[0], alone[0], (*alone[0][:9], *said(engine, resumed)), ROUNDING)


def test_twins_pay_for_their_prompt_once(engine: EngineProcess) -> None:
    asked = [request(f"twin{at}", 77, 500, max_tokens=2) for at in range(3)]
    ends = [list(stream)[-1] for stream in [engine.think(item) for item in asked]]

    computed = sum(end.num_prefilled for end in ends if isinstance(end, Finished))
    assert computed < 2 * 500


def test_memory_is_near_the_plan(engine: EngineProcess) -> None:
    card = engine.card()
    config = EngineConfig(Path(card.path), context=card.context, slots=card.slots, threads=1, ubatch=128)
    plan = memory.fit(gguf_file.read(config.model_path), config)
    ids_of(*[engine.think(request(f"full{at}", at, 1000, max_tokens=8)) for at in range(4)])
    time.sleep(1.2)  # a beat

    assert abs(engine.status().rss_bytes - plan.total_bytes) < 0.1 * plan.total_bytes + (24 << 20)
