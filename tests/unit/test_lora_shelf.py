"""Adapters by name: added once checked, listed, taken away."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monk.errors import AdapterUnusable, Conflict, InvalidInput, NotFound
from monk.lora.shelf import Shelf
from tests.engine_models import write_tiny_model
from tests.unit.test_lora_refused import factors, gguf_lora, peft

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "home" / "adapters")


def files(shelf: Shelf) -> list[str]:
    return sorted(path.suffix for path in shelf.folder.iterdir())


def test_both_forms_are_put_on_the_shelf_and_found_by_name(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    first = shelf.add("lawyer", peft(tmp_path / "peft", base_model_name_or_path="tiny/one"), model, NOW, scale=0.5)
    second = shelf.add("poet", gguf_lora(tmp_path / "poet.gguf"), model, NOW)

    assert shelf.listing() == [first, second] and shelf.get("poet") == second and shelf.problems() == []
    assert (first.scale, first.ranks, first.alpha, first.base_model) == (0.5, (4,), 8.0, "tiny/one")
    assert shelf.weights(first).stat().st_size == first.num_bytes
    assert files(shelf) == [".gguf", ".json", ".json"], "the same factors are the same weights"


def test_removing_a_name_keeps_weights_that_another_name_has(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    folder = peft(tmp_path / "peft")
    shelf.add("one", folder, model, NOW)
    shelf.add("two", folder, model, NOW)

    shelf.remove("one")
    assert files(shelf) == [".gguf", ".json"]
    shelf.remove("two")
    assert files(shelf) == []
    with pytest.raises(NotFound, match="none yet"):
        shelf.remove("two")


def test_the_same_adapter_may_be_added_again_and_another_under_its_name_not(
    shelf: Shelf, model: Path, tmp_path: Path
) -> None:
    shelf.add("one", peft(tmp_path / "peft"), model, NOW)
    again = shelf.add("one", peft(tmp_path / "peft"), model, NOW, scale=2.0)
    with pytest.raises(Conflict, match="taken"):
        shelf.add("one", peft(tmp_path / "other", {**factors((2, 64), (128, 2))}), model, NOW)

    assert shelf.get("one") == again and again.scale == 2.0
    assert files(shelf) == [".gguf", ".json"], "the refused one left nothing behind"


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", "A", "x" * 65, ".hidden", "a\nb", "é", "<script>"])
def test_names_that_are_no_file_names_are_refused(name: str, shelf: Shelf, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="adapter name"):
        shelf.add(name, peft(tmp_path / "peft"), model, NOW)

    assert not shelf.folder.exists()


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 101.0])
def test_a_scale_that_is_none_is_refused(scale: float, shelf: Shelf, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="scale"):
        shelf.add("one", peft(tmp_path / "peft"), model, NOW, scale)


def test_a_refused_adapter_leaves_nothing(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterUnusable):
        shelf.add("one", peft(tmp_path / "peft", factors((4, 32))), model, NOW)
    with pytest.raises(AdapterUnusable, match="does not exist"):
        shelf.add("one", tmp_path / "nothing", model, NOW)

    assert not shelf.folder.exists() or files(shelf) == []


def test_what_people_did_to_the_folder_is_told_and_stops_nothing(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    good = shelf.add("good", peft(tmp_path / "peft"), model, NOW)
    gone = shelf.add("gone", peft(tmp_path / "other", {**factors((2, 64), (128, 2))}), model, NOW)
    shelf.weights(gone).unlink()
    (shelf.folder / "broken.json").write_text("{")
    (shelf.folder / "evil.json").write_text(
        json.dumps({**json.loads((shelf.folder / "good.json").read_text()), "sha256": "../x"})
    )

    assert [adapter.name for adapter in shelf.listing()] == ["gone", "good"] and shelf.get("good") == good
    with pytest.raises(NotFound, match="gone"):
        shelf.weights(gone)
    problems = "\n".join(shelf.problems())
    assert "broken.json" in problems and "evil.json" in problems and "weights of adapter gone" in problems
