"""`monk adapter` from the outside: files in, one line out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monk.cli import run
from tests.engine_models import write_tiny_model
from tests.unit.test_lora_refused import factors, peft


@pytest.fixture
def tiny(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MONK_HOME", str(home))
    monkeypatch.setenv("MONK_MODEL", str(home / "tiny.gguf"))
    return write_tiny_model(home / "tiny.gguf")


def test_an_adapter_is_added_listed_shown_and_removed(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = peft(tmp_path / "peft")

    assert run(["adapter", "add", "lawyer", str(folder), "--scale", "0.8"]) == 0
    assert run(["adapter", "list", "--json"]) == 0
    assert run(["adapter", "show", "lawyer"]) == 0
    assert run(["adapter", "remove", "lawyer"]) == 0
    assert run(["adapter", "list"]) == 0

    said = capsys.readouterr().out
    added, rest = said.split("\n", 1)
    assert added == "lawyer: qwen3, rank 4, 0.0 MB, scale 0.8"
    listed, _ = json.JSONDecoder().raw_decode(rest)
    assert listed["adapters"][0]["source"] == str(folder) and listed["problems"] == []
    assert "scale        0.8" in said
    assert said.endswith("removed lawyer\nno adapters; `monk adapter add` puts one on the shelf\n")


def test_an_adapter_of_another_model_is_one_line_and_status_2(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(["adapter", "add", "lawyer", str(peft(tmp_path / "peft", factors((4, 32))))])

    printed = capsys.readouterr()
    assert status == 2 and printed.out == ""
    assert printed.err.startswith("monk: the adapter changes blk.0.attn_q.weight as 128 x 32, in the model tiny.gguf")
    assert printed.err.count("\n") == 1
