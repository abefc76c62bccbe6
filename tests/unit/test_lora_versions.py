"""Versions of trained adapters: kept whatever the gate says, worn when told, and the way back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from monk.errors import Conflict, NotFound
from monk.lora.shelf import Shelf
from tests.engine_models import write_tiny_model
from tests.unit.test_lora_refused import peft

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "home" / "adapters")


def trained(shelf: Shelf, model: Path, folder: Path, alpha: float, *, passed: bool) -> int:
    version = shelf.add_version("lawyer", peft(folder / str(alpha), lora_alpha=alpha), model, NOW, "trained").version
    shelf.judge("lawyer", version, {"passed": passed})
    if passed:
        shelf.wear("lawyer", version)
    return version


def test_what_did_not_pass_is_kept_and_not_worn(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    assert trained(shelf, model, tmp_path, 8.0, passed=False) == 1

    assert shelf.listing() == [] and [one.version for one in shelf.versions("lawyer")] == [1]
    with pytest.raises(NotFound):
        shelf.get("lawyer")
    worn = shelf.rollback("lawyer", 1)
    assert shelf.get("lawyer") == worn and shelf.weights(worn).is_file()


def test_the_way_back_leads_over_those_that_passed(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    for alpha, passed in ((8.0, True), (9.0, False), (10.0, True)):
        trained(shelf, model, tmp_path, alpha, passed=passed)
    assert shelf.get("lawyer").version == 3

    assert shelf.rollback("lawyer").version == 1
    with pytest.raises(Conflict, match="version 1, and there is none before it"):
        shelf.rollback("lawyer")
    assert shelf.rollback("lawyer", 3).version == 3
    with pytest.raises(NotFound, match="no version 7; there are 1, 2, 3"):
        shelf.rollback("lawyer", 7)


def test_one_added_by_hand_is_found_again_below_the_trained_ones(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    by_hand = shelf.add("lawyer", peft(tmp_path / "hand"), model, NOW, scale=0.5)
    trained(shelf, model, tmp_path, 9.0, passed=True)

    assert shelf.get("lawyer").version == 1 and shelf.get("lawyer").scale == 0.5, "the owner's scale stays"
    assert shelf.rollback("lawyer").sha256 == by_hand.sha256


def test_the_same_result_twice_is_one_version(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    assert trained(shelf, model, tmp_path, 8.0, passed=True) == trained(shelf, model, tmp_path, 8.0, passed=True) == 1


def test_removing_a_name_takes_all_its_versions(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    for alpha in (8.0, 9.0):
        trained(shelf, model, tmp_path, alpha, passed=alpha == 8.0)
    other = shelf.add("poet", peft(tmp_path / "8.0", lora_alpha=8.0), model, NOW)

    shelf.remove("lawyer")

    assert shelf.versions("lawyer") == [] and [one.name for one in shelf.listing()] == ["poet"]
    assert [path.stem for path in shelf.folder.glob("*.gguf")] == [other.sha256], "weights that others have stay"


def test_removing_another_name_leaves_the_weights_of_versions(shelf: Shelf, model: Path, tmp_path: Path) -> None:
    version = trained(shelf, model, tmp_path, 8.0, passed=False)
    shelf.add("poet", peft(tmp_path / "8.0", lora_alpha=8.0), model, NOW)

    shelf.remove("poet")

    assert shelf.weights(shelf.wear("lawyer", version)).is_file()
