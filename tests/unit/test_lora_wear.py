"""How a job says what it wears."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from monk.errors import InvalidInput, NotFound
from monk.lora.shelf import Shelf
from monk.lora.wear import Wish, Worn, choose, parse
from tests.engine_models import write_tiny_model
from tests.unit.test_lora_refused import peft


def test_names_and_scales_are_read() -> None:
    assert parse("lawyer") == (Wish("lawyer"),)
    assert parse(" lawyer:0.8 + poet:-1 ") == (Wish("lawyer", 0.8), Wish("poet", -1.0))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "adapter name ''"),
        ("a+", "adapter name ''"),
        ("../x", "adapter name '../x'"),
        ("a:", "no number"),
        ("a:nan", "scale nan"),
        ("a:1e9", "scale 1000000000.0"),
        ("a+a:2", "names one twice"),
        ("+".join(f"a{n}" for n in range(9)), "at most 8"),
    ],
)
def test_what_cannot_be_worn_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        parse(text)
    assert caught.value.param == "adapter"


def test_the_shelf_gives_hash_and_scale(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "adapters")
    model = write_tiny_model(tmp_path / "tiny.gguf")
    adapter = shelf.add("lawyer", peft(tmp_path / "peft"), model, datetime(2026, 1, 1, tzinfo=UTC), scale=0.5)

    assert choose("lawyer", shelf) == (Worn("lawyer", adapter.sha256, 0.5),)
    assert choose("lawyer:2", shelf) == (Worn("lawyer", adapter.sha256, 2.0),)
    with pytest.raises(NotFound, match="on the shelf: lawyer"):
        choose("poet", shelf)
