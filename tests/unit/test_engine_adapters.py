"""Adapters on the real engine: every answer of a mixed night equals that of the same thought alone with that adapter."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from monk.engine import gguf_file
from monk.engine.client import AdapterUse, Finished, NewTokens, Sampling, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.errors import AdapterUnusable
from monk.lora.adapter import Lora, Pair
from monk.lora.gguf_adapter import write
from monk.lora.shelf import Shelf
from tests.engine_models import write_tiny_model

pytestmark = pytest.mark.real
PROMPTS = [tuple(b"The monk reads the " + word) for word in (b"first page.", b"second page.", b"last page of all.")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[AdapterUse, ...]]:
    """None, one, another, and both."""
    folder = tmp_path_factory.mktemp("adapters")
    shelf = Shelf(folder / "shelf")
    made = []
    for number in (1, 2):
        random = np.random.default_rng(number)
        pairs = {
            tensor.name: Pair(
                random.standard_normal((4, tensor.shape[0]), dtype=np.float32),
                random.standard_normal((tensor.shape[1], 4), dtype=np.float32) / 4,
            )
            for tensor in gguf_file.read(model).tensors
            if "attn_q." in tensor.name or "ffn_up." in tensor.name
        }
        write(Lora("qwen3", 8.0, pairs), folder / f"{number}.gguf")
        kept = shelf.add(f"a{number}", folder / f"{number}.gguf", model, datetime(2026, 1, 1, tzinfo=UTC))
        made.append(AdapterUse(str(shelf.weights(kept)), kept.sha256))
    return [(), (made[0],), (made[1],), (made[0], made[1])]


@pytest.fixture
def engine(model: Path, tmp_path: Path) -> Iterator[EngineProcess]:
    running = EngineProcess(EngineConfig(model, context=512, slots=4, threads=1, kv_folder=tmp_path / "kv"))
    yield running
    running.stop()


def ids_of(engine: EngineProcess, request: ThoughtRequest) -> tuple[int, ...]:
    ids: list[int] = []
    for message in engine.think(request):
        if isinstance(message, NewTokens):
            ids += message.ids
        elif isinstance(message, Finished):
            assert message.reason in ("length", "stop")
    return tuple(ids)


def asked(adapters: list[tuple[AdapterUse, ...]], wave: int, number: int, name: str) -> ThoughtRequest:
    return ThoughtRequest(f"{name}-{wave}-{number}", PROMPTS[number % 3], 12, Sampling(), adapters=adapters[wave])


def test_a_mixed_night_says_what_each_thought_says_alone(
    engine: EngineProcess, adapters: list[tuple[AdapterUse, ...]]
) -> None:
    alone = {(wave, n): ids_of(engine, asked(adapters, wave, n, "alone")) for wave in range(4) for n in range(3)}
    mixed = [(wave, number) for number in range(8) for wave in (2, 0, 3, 1)]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda key: ids_of(engine, asked(adapters, *key, "mixed")), mixed))

    for (wave, number), ids in zip(mixed, answers, strict=True):
        assert ids == alone[wave, number % 3], f"wave {wave}, prompt {number % 3}"
    for number in range(3):
        assert len({alone[wave, number] for wave in range(4)}) == 4, "every wave must say something else"


def test_an_adapter_that_vanished_fails_its_thought_and_nothing_else(
    engine: EngineProcess, adapters: list[tuple[AdapterUse, ...]], tmp_path: Path
) -> None:
    gone = AdapterUse(str(tmp_path / "gone.gguf"), "0" * 64)
    before = ids_of(engine, asked(adapters, 1, 0, "before"))

    with pytest.raises(AdapterUnusable, match="is gone"):
        ids_of(engine, ThoughtRequest("gone", PROMPTS[0], 4, adapters=(gone,)))

    assert ids_of(engine, asked(adapters, 1, 0, "after")) == before
    assert engine.status().num_restarts == 0


def test_a_scale_of_zero_is_the_bare_model(engine: EngineProcess, adapters: list[tuple[AdapterUse, ...]]) -> None:
    (worn,) = adapters[1]
    silent = ThoughtRequest("zero", PROMPTS[0], 12, adapters=(AdapterUse(worn.path, worn.sha256, 0.0),))

    assert ids_of(engine, silent) == ids_of(engine, asked(adapters, 0, 0, "bare"))
