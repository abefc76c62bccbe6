"""The measuring process itself: real models, real contexts, killed in the middle, and gone on with."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from monk.engine.bench import deep
from monk.engine.bench.point import Point
from monk.engine.bench.session import Session, Stopped
from monk.engine.client import AS_ITS_FILE_SAYS
from monk.engine.config import EngineConfig
from monk.errors import MemoryTooSmall, ModelUnusable
from tests.engine_models import write_tiny_mamba, write_tiny_model

pytestmark = pytest.mark.real

PROMPT = Point("prompt", 64, 1, 0, False, "f16", "f16", 1, 128, room=64)


def point(**changes: Any) -> Point:
    return Point.from_json({**PROMPT.to_json(), **changes})


class House:
    """A session over a model, and what it told."""

    def __init__(self, model: Path, folder: Path | None, **config: Any) -> None:
        self.told: list[dict[str, Any]] = []
        self.stop: Any = None
        self.session = Session(
            EngineConfig(model, **config), AS_ITS_FILE_SAYS, folder, {"model": "x"}, self.told.append, lambda: self.stop
        )

    def pid(self) -> int:
        assert self.session._child is not None
        return self.session._child.pid


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", context=16384)


@pytest.fixture
def house(model: Path, tmp_path: Path) -> Any:
    made = House(model, tmp_path / "kv")
    yield made
    made.session.close()


def test_a_prompt_and_answers_are_measured_behind_a_beginning(house: House) -> None:
    rows = [
        house.session.measure(one, 2)
        for one in (
            point(),
            point(depth=1500),
            point(test="answer", tokens=8, depth=1500),
            point(test="answer", tokens=8, depth=256, rows=4),
            point(test="answer", tokens=8, depth=256, rows=6),
            point(test="answer", tokens=8, depth=256, flash=True, type_k="q8_0", type_v="q8_0"),
        )
    ]

    for row in rows:
        assert len(row["samples"]) == 2 and min(row["samples"]) > 0
        assert row["tokens_per_second"]["mean"] == pytest.approx(sum(row["samples"]) / 2, rel=1e-3)
        assert row["memory_bytes"] > 20 << 20 and row["planned_bytes"] > 0
    assert [row["filled_tokens"] for row in rows] == [0, 1500, 0, 256, 0, 256]
    assert rows[3]["tokens_per_second"]["mean"] > rows[2]["tokens_per_second"]["mean"], "four at once, and less behind"
    loaded = [frame for frame in house.told if frame["event"] == "loaded"]
    assert len(loaded) == 1, "one process made them all"


def test_a_process_that_is_killed_goes_on_from_what_is_on_the_disk(house: House, tmp_path: Path) -> None:
    house.session.measure(point(depth=2100), 1)
    blocks = sorted((tmp_path / "kv").iterdir())
    os.kill(house.pid(), signal.SIGKILL)

    again = house.session.measure(point(depth=4096), 1)

    assert len(blocks) == 2 and again["filled_tokens"] == 4096 - 2048
    assert len(list((tmp_path / "kv").iterdir())) == 4


def test_a_killed_fill_loses_at_most_a_block(house: House, tmp_path: Path) -> None:
    def kill() -> None:
        while len(list((tmp_path / "kv").glob("*.kv"))) < 3:
            time.sleep(0.001)
        os.kill(house.pid(), signal.SIGKILL)

    house.session.measure(point(), 1)
    killer = threading.Thread(target=kill)
    killer.start()
    row = house.session.measure(point(depth=12288), 1)
    killer.join()

    assert 0 < row["filled_tokens"] <= 12288 - 3 * deep.BLOCK_TOKENS


def test_a_rotten_block_is_computed_again(house: House, tmp_path: Path) -> None:
    house.session.measure(point(depth=3072), 1)
    house.session.close()
    second = sorted((tmp_path / "kv").iterdir(), key=lambda path: path.stat().st_mtime_ns)[1]
    with second.open("r+b") as file:
        file.seek(9000)
        file.write(b"rot")

    row = house.session.measure(point(depth=3072), 1)

    assert row["filled_tokens"] == 2048
    house.session.close()
    assert house.session.measure(point(depth=3072), 1)["filled_tokens"] == 0


def test_what_is_restored_is_what_was_computed(house: House, tmp_path: Path, model: Path) -> None:
    """The next block is computed on top of restored ones: with other KV below it would have other bytes."""
    house.session.measure(point(depth=4096), 1)
    whole = {path.name: path.read_bytes()[4096:] for path in (tmp_path / "kv").iterdir()}
    parts = House(model, tmp_path / "other")
    parts.session.measure(point(depth=1024), 1)
    parts.session.close()
    parts.session.measure(point(depth=3072), 1)
    parts.session.close()
    parts.session.measure(point(depth=4096), 1)
    parts.session.close()

    assert {path.name: path.read_bytes()[4096:] for path in (tmp_path / "other").iterdir()} == whole


@pytest.mark.parametrize("architecture", ["qwen3moe", "gemma3", "mamba"])
def test_every_kind_of_memory_can_be_measured(tmp_path: Path, architecture: str) -> None:
    path = tmp_path / "tiny.gguf"
    if architecture == "mamba":
        write_tiny_mamba(path)
    else:
        more: dict[str, Any] = {"qwen3moe": {"experts": 8}, "gemma3": {"window": 256, "layers": 6}}[architecture]
        write_tiny_model(path, architecture, **more)
    house = House(path, tmp_path / "kv")

    rows = [
        house.session.measure(one, 2)
        for one in (
            point(depth=700),
            point(test="answer", tokens=4, depth=700),
            point(depth=1100),
            point(test="answer", tokens=4, depth=256, rows=3),
            point(),
        )
    ]

    assert all(min(row["samples"]) > 0 for row in rows), rows
    assert [row["filled_tokens"] for row in rows[:3]] == (
        [700, 0, 1100] if architecture == "qwen3moe" else [700, 0, 400]
    )
    house.session.close()
    again = house.session.measure(point(depth=1100), 1)
    house.session.close()
    assert again["filled_tokens"] == (76 if architecture == "qwen3moe" else 0), "of what was kept on the disk"


def test_more_than_the_memory_holds_is_refused_with_the_figures_and_stops_nothing(house: House) -> None:
    refused = house.session.measure(point(depth=1 << 23, threads=1), 1)

    assert "GiB" in refused["refused"] and "free" in refused["refused"]
    odd = house.session.measure(point(type_v="q8_0"), 1)
    assert "needs flash attention" in odd["refused"]
    assert "samples" in house.session.measure(point(), 1)


def test_what_cannot_be_loaded_is_an_error(tmp_path: Path, model: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelUnusable):
        House(tmp_path / "broken.gguf", None).session.measure(point(), 1)
    with pytest.raises(MemoryTooSmall, match="GiB"):
        House(model, None, memory_reserve_bytes=1 << 49).session.measure(point(), 1)


def test_it_stops_at_once_when_asked_and_leaves_no_process(house: House) -> None:
    house.session.measure(point(), 1)
    pid = house.pid()
    threading.Timer(0.3, lambda: setattr(house, "stop", "paused")).start()
    began = time.monotonic()

    with pytest.raises(Stopped) as stopped:
        house.session.measure(point(tokens=64, depth=12000), 100)

    assert stopped.value.why == "paused" and time.monotonic() - began < 5.0
    assert not psutil.pid_exists(pid)
    house.stop = None
    assert "samples" in house.session.measure(point(), 1)


def test_a_process_that_dies_of_a_point_costs_that_point(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    dead: list[int] = []

    def kill(frame: dict[str, Any]) -> None:
        if frame["event"] == "loaded" and len(dead) < 2:
            dead.append(house.pid())
            os.kill(house.pid(), signal.SIGKILL)

    monkeypatch.setattr(house.session, "_told", kill)

    assert "the process died of it (signal 9" in house.session.measure(point(depth=512), 1)["refused"]
    assert "samples" in house.session.measure(point(), 1)
