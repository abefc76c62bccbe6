"""`monk adapter` from the outside: files in, one line out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monk.cli import run
from monk.engine import gguf_file
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


def test_an_adapter_is_exported_in_both_forms_and_comes_back_the_same(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["adapter", "add", "lawyer", str(peft(tmp_path / "peft", base_model_name_or_path="org/base"))])
    file, folder = tmp_path / "lawyer.gguf", tmp_path / "back"

    assert run(["adapter", "export", "lawyer", str(file), "--format", "gguf"]) == 0
    assert run(["adapter", "export", "lawyer", str(folder), "--format", "peft", "--type", "f16", "--json"]) == 0
    assert run(["adapter", "add", "again", str(file)]) == 0
    assert run(["adapter", "add", "once-more", str(folder)]) == 0
    assert run(["adapter", "list", "--json"]) == 0

    _added, said, rest = capsys.readouterr().out.split("\n", 2)
    assert said.startswith(f"{file}: 0.0 MB")
    told, _ = json.JSONDecoder().raw_decode(rest)
    listed = json.JSONDecoder().raw_decode(rest, rest.rindex("\n{") + 1)[0]["adapters"]
    assert (told["file"], told["format"], told["type"]) == (str(folder), "peft", "f16")
    assert told["num_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert len({one["sha256"] for one in listed}) == 1, "ones are the same in half precision"
    assert {one["base_model"] for one in listed if one["name"] != "again"} == {"org/base"}


def test_what_exists_is_not_written_over(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["adapter", "add", "lawyer", str(peft(tmp_path / "peft"))])
    there = tmp_path / "there.gguf"
    there.write_text("mine")
    capsys.readouterr()

    for command in (["export", "lawyer", str(there), "--format", "gguf"], ["merge", "lawyer", str(there)]):
        assert run(["adapter", *command]) == 2
    assert there.read_text() == "mine"
    assert capsys.readouterr().err == f"monk: {there} exists; give another path, or --force\n" * 2
    assert run(["adapter", "export", "lawyer", str(there), "--format", "gguf", "--force"]) == 0
    assert there.read_bytes()[:4] == b"GGUF"


def test_adapters_are_merged_into_a_copy_of_the_model(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["adapter", "add", "lawyer", str(peft(tmp_path / "peft")), "--scale", "0.5"])
    run(["adapter", "add", "poet", str(peft(tmp_path / "other", factors((2, 64), (128, 2))))])
    capsys.readouterr()
    one, both = tmp_path / "one.gguf", tmp_path / "both.gguf"

    assert run(["adapter", "merge", "lawyer", str(one)]) == 0
    assert run(["adapter", "merge", "lawyer:2+poet", str(both), "--type", "Q8_0", "--json"]) == 0

    said, rest = capsys.readouterr().out.split("\n", 1)
    assert said.startswith(f"{one}: lawyer:0.5 in 1 of ") and said.endswith(" MB")
    told = json.loads(rest)
    assert (told["num_changed"], told["type"], told["file"]) == (1, "Q8_0", str(both))
    assert [(adapter["name"], adapter["scale"]) for adapter in told["adapters"]] == [("lawyer", 2.0), ("poet", 1.0)]
    assert gguf_file.read(one).metadata["general.name"] == "tiny qwen3 + lawyer:0.5"
    assert gguf_file.read(both).metadata["general.name"] == "tiny qwen3 + lawyer:2+poet"


def test_a_scale_is_said_in_one_place(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["adapter", "add", "lawyer", str(peft(tmp_path / "peft"))])
    out = str(tmp_path / "out.gguf")

    assert run(["adapter", "merge", "lawyer:2", out, "--scale", "1"]) == 2
    assert "says its scales itself" in capsys.readouterr().err
    assert run(["adapter", "merge", "lawyer", out, "--scale", "0.25"]) == 0
    assert gguf_file.read(Path(out)).metadata["general.name"] == "tiny qwen3 + lawyer:0.25"


def test_another_model_is_merged_into_only_if_the_adapter_fits_it(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["adapter", "add", "lawyer", str(peft(tmp_path / "peft"))])
    deep = write_tiny_model(tmp_path / "deep.gguf", layers=3)
    wide = write_tiny_model(tmp_path / "wide.gguf", width=128)

    assert run(["adapter", "merge", "lawyer", str(tmp_path / "out.gguf"), "--model", str(deep)]) == 0
    assert gguf_file.read(tmp_path / "out.gguf").num_layers == 3
    assert run(["adapter", "merge", "lawyer", str(tmp_path / "no.gguf"), "--model", str(wide)]) == 2
    assert "in the model wide.gguf it is 128 x 128" in capsys.readouterr().err
    assert not (tmp_path / "no.gguf").exists()
