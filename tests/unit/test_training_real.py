"""Training in its own process, on a real small model: killed, paused and damaged, and the same bytes at the end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from monk.errors import EngineFailed, MemoryTooSmall, ModelUnusable
from monk.lora.training import session
from monk.lora.training.recipe import GIB, Recipe
from monk.lora.training.trainer import Spec
from tests.lora_models import torch_model, write_gguf

RECIPE = Recipe(
    4, 8, 5e-3, steps=40, batch_tokens=256, batch_examples=4, evaluate_every=10, patience=9, seed=3, dropout=0.1
)
WORDS = ("owl", "bell", "river", "clock")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return write_gguf(torch_model("llama"), "llama", folder / "tiny.gguf")


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bytes: to say a word in capitals."""
    path = tmp_path_factory.mktemp("lessons") / "lessons.jsonl"
    rows = []
    for number in range(24):
        word = WORDS[number % 4] + "s" * (number % 3)
        prompt, answer = list(f"{number % 5} {word}:".encode()), [*word.upper().encode(), 258]
        part = "held" if number % 8 == 7 else "taught"
        rows.append({"part": part, "ids": [*prompt, *answer], "prompt": len(prompt)})
    rows.append({"part": "general", "ids": [*b"hello there", 258], "prompt": 5})
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def spec(model: Path, lessons: Path, tmp_path: Path) -> Spec:
    digest = hashlib.sha256(lessons.read_bytes()).hexdigest()
    (tmp_path / "training").mkdir()
    return Spec(str(model), "model", str(lessons), digest, str(tmp_path / "training"), RECIPE, 1, 8 * GIB, 0.0)


def nobody() -> session.Stop:
    return None


def weights(outcome: dict[str, Any] | None) -> str:
    assert outcome is not None
    return hashlib.sha256((Path(outcome["folder"]) / "adapter_model.safetensors").read_bytes()).hexdigest()


def elsewhere(spec: Spec, folder: Path) -> Spec:
    folder.mkdir()
    return replace(spec, folder=str(folder))


@pytest.fixture(scope="module")
def whole(model: Path, lessons: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    digest = hashlib.sha256(lessons.read_bytes()).hexdigest()
    spec = Spec(str(model), "model", str(lessons), digest, str(folder), RECIPE, 1, 8 * GIB, 100.0)
    outcome = session.train(spec, lambda _: None, nobody)
    assert outcome is not None
    return outcome


@pytest.mark.real
def test_it_learns_and_tells_what_it_did(whole: dict[str, Any]) -> None:
    assert (whole["ended"], whole["steps"], len(whole["curve"])) == ("steps", 40, 40)
    assert whole["held"]["adapter"] < 0.8 * whole["held"]["base"]
    assert sum(whole["curve"][-5:]) < 0.8 * sum(whole["curve"][:5])
    assert [one["step"] for one in whole["evaluations"]] == [0, 10, 20, 30, 40]
    assert whole["held"]["adapter"] == pytest.approx(min(one["loss"] for one in whole["evaluations"]), abs=1e-4)
    assert whole["padding"] < 0.1 and whole["tokens"] > 0 and whole["general"]["base"] > 0


@pytest.mark.real
def test_killed_again_and_again_it_ends_with_the_same_bytes(spec: Spec, whole: dict[str, Any]) -> None:
    killed: list[int] = []

    def told(frame: dict[str, Any]) -> None:
        if frame["event"] == "evaluated" and frame["step"] in (10, 30) and frame["step"] not in killed:
            killed.append(frame["step"])
            for child in psutil.Process().children():
                if "monk.lora.training.child" in " ".join(child.cmdline()):
                    os.kill(child.pid, signal.SIGKILL)

    outcome = session.train(spec, told, nobody)

    assert killed == [10, 30] and weights(outcome) == weights(whole)
    assert outcome is not None and outcome["curve"] == whole["curve"]


@pytest.mark.real
def test_paused_at_a_nights_end_it_goes_on_in_the_next(spec: Spec, whole: dict[str, Any]) -> None:
    asked = threading.Event()

    def told(frame: dict[str, Any]) -> None:
        if frame["event"] == "evaluated" and frame["step"] == 20:
            asked.set()

    assert session.train(replace(spec, save_seconds=1000.0), told, lambda: "paused" if asked.is_set() else None) is None
    resumed: list[int] = []
    outcome = session.train(
        replace(spec, save_seconds=1000.0),
        lambda frame: resumed.append(frame["step"]) if frame["event"] == "loaded" else None,
        nobody,
    )

    assert 20 <= resumed[0] < 40 and weights(outcome) == weights(whole)


@pytest.mark.real
def test_minutes_end_it_early_with_what_it_has(spec: Spec) -> None:
    asked = threading.Event()

    def told(frame: dict[str, Any]) -> None:
        if frame["event"] == "evaluated" and frame["step"] == 10:
            asked.set()

    outcome = session.train(spec, told, lambda: "minutes" if asked.is_set() else None)

    assert outcome is not None and outcome["ended"] == "minutes" and 10 <= outcome["steps"] < 40
    assert outcome["evaluations"][-1]["step"] == outcome["steps"]


@pytest.mark.real
def test_it_ends_early_where_nothing_gets_better(spec: Spec) -> None:
    wild = replace(RECIPE, learning_rate=5.0, patience=2, evaluate_every=2, clip=1e9)
    outcome = session.train(replace(spec, recipe=wild), lambda _: None, nobody)
    assert outcome is not None and outcome["ended"] == "early" and 4 <= outcome["steps"] <= 8


@pytest.mark.real
@pytest.mark.parametrize("harm", ["cut", "flipped", "another's"])
def test_a_bad_checkpoint_is_not_gone_on_from(spec: Spec, whole: dict[str, Any], harm: str) -> None:
    short = replace(spec, recipe=replace(RECIPE, steps=3)) if harm == "another's" else spec
    asked = threading.Event()
    if harm == "another's":
        session.train(short, lambda _: None, nobody)
    else:
        session.train(
            spec, lambda f: asked.set() if f["step"] >= 10 else None, lambda: "paused" if asked.is_set() else None
        )
    checkpoint = Path(spec.folder) / "checkpoint.safetensors"
    data = bytearray(checkpoint.read_bytes())
    if harm == "cut":
        checkpoint.write_bytes(data[:-100])
    elif harm == "flipped":
        data[-50] ^= 1
        checkpoint.write_bytes(data)
    begun: list[int] = []

    outcome = session.train(spec, lambda f: begun.append(f["step"]) if f["event"] == "loaded" else None, nobody)

    assert begun == [0] and weights(outcome) == weights(whole)


@pytest.mark.real
def test_more_memory_than_planned_is_refused_with_figures(spec: Spec) -> None:
    with pytest.raises(MemoryTooSmall, match=r"more than the 0\.12 GiB that were planned"):
        session.train(replace(spec, memory_bytes=120 << 20), lambda _: None, nobody)


@pytest.mark.real
def test_a_model_that_cannot_be_read_is_named_with_the_way_out(spec: Spec, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF nonsense")
    with pytest.raises(ModelUnusable, match=r"cannot read bad\.gguf for training.*give `base`"):
        session.train(replace(spec, model=str(bad)), lambda _: None, nobody)


def test_a_process_that_dies_without_a_step_is_given_up(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MODULE", "tests.nothing_of_that_name")

    with pytest.raises(EngineFailed, match=r"died 3 times in a row at step 0 \(exit status 1: .*nothing_of_that_name"):
        session.train(spec, lambda _: None, nobody)


@pytest.mark.real
def test_a_folder_of_safetensors_is_trained_as_the_gguf_is(spec: Spec, whole: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "base"
    torch_model("llama").save_pretrained(folder)

    outcome = session.train(replace(spec, model=str(folder), save_seconds=100.0), lambda _: None, nobody)

    assert outcome is not None and outcome["curve"] == pytest.approx(whole["curve"], abs=1e-3)
