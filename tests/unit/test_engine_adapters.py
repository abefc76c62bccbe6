"""Adapters on the real engine: every answer of a mixed night equals that of the same thought alone with that adapter."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monk.engine import embedded, gguf_file
from monk.engine.client import AdapterUse, Sampling, Segment, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.errors import AdapterUnusable
from monk.lora.shelf import Shelf
from tests.engine_models import write_tiny_model
from tests.lora_hostile import FILES, FOLDERS
from tests.lora_models import random_lora, shelved
from tests.same_text import said

pytestmark = pytest.mark.real
PROMPTS = [tuple(b"The monk reads the " + word) for word in (b"first page.", b"second page.", b"last page of all.")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[AdapterUse, ...]]:
    """None, one, another, and both."""
    shelf = Shelf(tmp_path_factory.mktemp("adapters"))
    made = [shelved(shelf, f"a{number}", random_lora(model, number), model) for number in (1, 2)]
    return [(), (made[0],), (made[1],), (made[0], made[1])]


@pytest.fixture
def engine(model: Path, tmp_path: Path) -> Iterator[EngineProcess]:
    running = EngineProcess(EngineConfig(model, context=512, slots=4, threads=1, kv_folder=tmp_path / "kv"))
    yield running
    running.stop()


def asked(adapters: list[tuple[AdapterUse, ...]], wave: int, number: int, name: str) -> ThoughtRequest:
    return ThoughtRequest(f"{name}-{wave}-{number}", PROMPTS[number % 3], 12, Sampling(), adapters=adapters[wave])


def test_a_mixed_night_says_what_each_thought_says_alone(
    engine: EngineProcess, adapters: list[tuple[AdapterUse, ...]]
) -> None:
    alone = {(wave, n): said(engine, asked(adapters, wave, n, "alone")) for wave in range(4) for n in range(3)}
    mixed = [(wave, number) for number in range(8) for wave in (2, 0, 3, 1)]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda key: said(engine, asked(adapters, *key, "mixed")), mixed))

    for (wave, number), ids in zip(mixed, answers, strict=True):
        assert ids == alone[wave, number % 3], f"wave {wave}, prompt {number % 3}"
    for number in range(3):
        assert len({alone[wave, number] for wave in range(4)}) == 4, "every wave must say something else"


def test_an_adapter_that_vanished_fails_its_thought_and_nothing_else(
    engine: EngineProcess, adapters: list[tuple[AdapterUse, ...]], tmp_path: Path
) -> None:
    gone = AdapterUse(str(tmp_path / "gone.gguf"), "0" * 64)
    before = said(engine, asked(adapters, 1, 0, "before"))

    with pytest.raises(AdapterUnusable, match="is gone"):
        said(engine, ThoughtRequest("gone", PROMPTS[0], 4, adapters=(gone,)))

    assert said(engine, asked(adapters, 1, 0, "after")) == before
    assert engine.status().num_restarts == 0


def test_a_scale_of_zero_is_the_bare_model(engine: EngineProcess, adapters: list[tuple[AdapterUse, ...]]) -> None:
    (worn,) = adapters[1]
    silent = ThoughtRequest("zero", PROMPTS[0], 12, adapters=(AdapterUse(worn.path, worn.sha256, 0.0),))

    assert said(engine, silent) == said(engine, asked(adapters, 0, 0, "bare"))


def test_hostile_adapters_do_no_harm_to_the_running_engine(tmp_path: Path) -> None:
    """They are refused before it hears of them; a file that rotted on the shelf fails its thought alone."""
    base, shelf = gguf_file.read(embedded.model_path()), Shelf(tmp_path / "shelf")
    good = shelved(shelf, "good", random_lora(base.path, 1, size=0.003), base.path)
    cut = AdapterUse(str(tmp_path / "cut.gguf"), "1" * 64)
    Path(cut.path).write_bytes(Path(good.path).read_bytes()[:-1000])
    # guesses change the shape of a batch by what is measured, and with it which of two equally likely words wins
    engine = EngineProcess(EngineConfig(base.path, context=512, slots=2, threads=1, speculation="off"))
    try:
        prompt = tuple(engine.tokenize([Segment("The monk closes the book, and", False)]))

        def wearing(*adapters: AdapterUse) -> tuple[int, ...]:
            return said(engine, ThoughtRequest(f"t{len(adapters)}", prompt, 16, adapters=adapters))

        before = wearing(), wearing(good)
        for number, make in enumerate([*FOLDERS.values(), *FILES.values()]):
            given = tmp_path / str(number) / "given"
            given.mkdir(parents=True)
            with pytest.raises(AdapterUnusable):
                shelf.add("bad", make(given, base), base.path, datetime(2026, 1, 1, tzinfo=UTC))
        with pytest.raises(AdapterUnusable, match=r"llama\.cpp refuses"):
            wearing(cut)

        assert (wearing(), wearing(good)) == before and before[0] != before[1]
        assert [adapter.name for adapter in shelf.listing()] == ["good"]
        assert engine.status().num_restarts == 0
    finally:
        engine.stop()
