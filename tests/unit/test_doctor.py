"""The doctor finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monk import doctor
from monk.cli import run
from monk.doctor import house, library, model, net
from monk.doctor.finding import Finding
from monk.doctor.settings import in_force
from monk.errors import InvalidInput
from monk.settings import Settings, load
from tests.engine_models import write_tiny_model


def settings(home: Path, **more: Any) -> Settings:
    return load({}, home=home, timezone="UTC", **more)


def only(findings: Iterator[Finding]) -> Finding:
    found = list(findings)
    assert len(found) == 1, found
    return found[0]


def test_a_home_that_does_not_exist_yet_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    found = only(house.home(settings(tmp_path / "new")))

    assert found.state == "ok" and "the daemon will make it" in found.text
    assert not (tmp_path / "new").exists()


def test_a_home_that_is_a_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")

    found = only(house.home(settings(tmp_path / "other").model_copy(update={"home": tmp_path / "home"})))

    assert found.state == "fail" and found.remedy == "move it away or set MONK_HOME"


def test_a_writable_home_is_left_as_it_was(home: Path) -> None:
    assert only(house.home(settings(home))).text.endswith("can be written")
    assert list(home.iterdir()) == []


def test_a_nearly_full_disk_is_a_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "LEAST_DISK_BYTES", 1 << 60)

    found = only(house.disk(settings(home)))

    assert found.state == "fail" and "free some space" in found.remedy


def test_the_disk_of_home_and_model_is_told_once_when_it_is_the_same(home: Path) -> None:
    assert len(list(house.disk(settings(home, model=home / "model.gguf")))) == 1


def test_the_next_night_is_told_in_its_own_zone(home: Path) -> None:
    assert "in UTC" in only(house.night(settings(home))).text
    never = only(house.night(settings(home, night="never")))
    assert never.state == "warn" and "monk night --now" in never.remedy


def test_a_corpus_is_counted_and_what_may_not_be_read_is_named(home: Path, tmp_path: Path) -> None:
    folder = home / "corpus"
    missing = only(library.corpus(settings(home)))
    folder.mkdir()
    empty = only(library.corpus(settings(home)))
    (folder / "a.md").write_text("# A")
    (folder / "out.md").symlink_to(tmp_path / "outside.md")
    (tmp_path / "outside.md").write_text("secret")
    found = list(library.corpus(settings(home)))

    assert missing.state == empty.state == "warn"
    assert [finding.state for finding in found] == ["warn", "ok"]
    assert "leaves the corpus folder" in found[0].text and found[1].text.endswith("1 files")


def test_a_corpus_that_was_named_and_vanished_is_a_failure(home: Path) -> None:
    findings = {one.check: one for one in doctor.examine(settings(home, corpus=home / "gone"), quick=True)}

    assert findings["corpus"].state == "fail" and "MONK_CORPUS" in findings["corpus"].remedy


def test_a_free_port_is_fine_and_a_foreign_program_on_it_is_a_failure(home: Path) -> None:
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        number = foreign.getsockname()[1]
        foreign.listen()
        foreign.settimeout(0.1)
        taken = net._cannot_bind("127.0.0.1", number)
    free = only(net.port(settings(home, port=number)))

    assert taken == "address already in use"
    assert free.state == "ok" and "is free" in free.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore leaves a refused socket open
def test_a_socket_nobody_answers_at_is_told(home: Path) -> None:
    missing_folder = only(net.port(settings(home, socket=home / "no" / "s")))
    (home / "s").touch()
    stale = only(net.port(settings(home, socket=home / "s")))

    assert missing_folder.state == "fail" and stale.state == "warn"


def test_kinds_that_cannot_be_used_are_failures(home: Path) -> None:
    (home / "jobs").mkdir()
    (home / "jobs" / "broken.md").write_text("no front matter")

    found = list(library.kinds(settings(home)))

    assert [finding.state for finding in found] == ["fail", "ok"]
    assert "broken.md" in found[0].text and found[0].remedy


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "does not exist"),
        (b"", "is not a GGUF file"),
        (b"GGUF" + b"\x03\x00\x00\x00" * 5, "truncated|damaged|no language"),
    ],
)
def test_a_model_that_cannot_be_used_is_a_failure_with_a_way_out(home: Path, content: bytes | None, told: str) -> None:
    import re

    file = home / "model.gguf"
    if content is not None:
        file.write_bytes(content)

    findings = {one.check: one for one in doctor.examine(settings(home, model=file), quick=True)}

    assert findings["model"].state == findings["memory"].state == "fail"
    assert re.search(told, findings["model"].text) and findings["model"].remedy


def test_the_embedded_model_is_described_and_fits(home: Path) -> None:
    about = only(model.model_file(settings(home)))
    plan = only(model.memory(settings(home)))

    assert "SmolLM2-135M-Instruct: llama, 0.13 billion parameters" in about.text
    assert plan.state == "ok" and "slots of" in plan.text


def test_settings_the_model_cannot_run_with_are_a_failure_with_a_way_out(home: Path) -> None:
    checks = dict(doctor._checks(quick=True))

    dense = only(doctor._guarded("model", checks["model"], settings(home, experts=4)))
    stretched = only(doctor._guarded("model", checks["model"], settings(home, yarn_factor=2.0)))

    narrow = write_tiny_model(home / "narrow.gguf", head_size=24)
    quantised = only(doctor._guarded("model", checks["model"], settings(home, model=narrow, kv_type_k="q8_0")))

    assert dense.state == "fail" and "it is dense" in dense.text and dense.remedy == "leave experts out"
    assert quantised.state == "fail" and quantised.remedy == "use f16" and "heads have 24" in quantised.text
    assert stretched.state == "ok" and stretched.text.endswith("yarn_factor 2")


def test_what_was_measured_is_told_with_what_of_it_is_in_force(home: Path) -> None:
    from monk.daemon import engine_config
    from monk.doctor import model
    from monk.engine import embedded
    from monk.engine.tuning import record

    settings = load({"MONK_THREADS": "1"}, home=home)
    config = engine_config(settings)
    known = record.Record(
        record.key_of(config, embedded.SHA256), {"threads": 2, "most_slots": 32}, "2026-11-25", 40.0, True, {}, {}, []
    )

    (before,) = model.tuning(settings)
    record.keep(config, known)
    (after,) = model.tuning(settings)
    record.keep(config, replace(known, values={}, problem="signal 6"))
    (failed,) = model.tuning(settings)

    assert (before.state, before.text) == ("ok", "not measured yet; the first start measures for 40 s")
    assert after.text == "measured on 2026-11-25 in short, by the first start; in force: at most 32 thoughts at once"
    assert (failed.state, failed.remedy) == ("warn", "run `monk tune`") and "signal 6" in failed.text


def test_a_plan_that_does_not_fit_is_a_failure_with_figures(home: Path) -> None:
    findings = {one.check: one for one in doctor.examine(settings(home, memory_reserve_bytes=1 << 50), quick=True)}

    assert findings["memory"].state == "fail" and "GiB" in findings["memory"].text and findings["memory"].remedy


def test_a_check_that_breaks_is_a_finding_and_stops_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings) -> Iterator[Finding]:
        raise RuntimeError("unforeseen")
        yield

    def refused(settings: Settings) -> Iterator[Finding]:
        raise InvalidInput("a is wrong; use b")
        yield

    def fine(settings: Settings) -> Iterator[Finding]:
        yield Finding("c", "ok", "fine")

    monkeypatch.setattr(doctor, "_checks", lambda quick: [("a", broken), ("b", refused), ("c", fine)])

    found = list(doctor.examine(settings(home), quick=True))

    assert [one.state for one in found] == ["fail", "fail", "ok"]
    assert "RuntimeError: unforeseen" in found[0].text
    assert (found[1].text, found[1].remedy) == ("a is wrong", "use b")


def test_settings_in_force_tell_whence_they_are_and_hide_the_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "monk.toml").write_text('night = "always"\ntoken = "a-token-long-enough"\n')
    monkeypatch.setenv("MONK_PORT", "8500")

    rows = {key: (value, source) for key, value, source in in_force(home)}

    assert rows["home"] == (str(home), "--home")
    assert rows["port"] == ("8500", "MONK_PORT")
    assert rows["night"] == ("always", str(home / "monk.toml"))
    assert rows["slots"] == ("0", "default") and rows["model"] == ("unset", "default")
    assert "a-token-long-enough" not in str(rows) and rows["token"][0] == "(hidden)"


def test_the_command_prints_findings_with_ways_out_and_fails_with_status_2(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONK_PORT", "1")  # nobody is there, and nobody may be
    monkeypatch.setenv("MONK_MODEL", str(home / "missing.gguf"))

    plain_status = run(["doctor", "--quick", "--home", str(home)])
    plain = capsys.readouterr().out
    json_status = run(["doctor", "--quick", "--json", "--home", str(home)])
    told = json.loads(capsys.readouterr().out)

    assert plain_status == json_status == 2
    assert "fail model: " in plain and "\n      → " in plain and "checks failed" in plain
    assert told["ok"] is False
    assert {one["check"] for one in told["findings"]} >= {
        "home",
        "disk",
        "model",
        "memory",
        "corpus",
        "port",
        "night",
        "kinds",
    }


def test_the_settings_are_printed_as_a_table_and_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--settings", "--home", str(home)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert run(["doctor", "--settings", "--json", "--home", str(home)]) == 0
    rows = json.loads(capsys.readouterr().out)

    assert table[0].split() == ["setting", "value", "from"] and len(table) == 1 + len(Settings.model_fields)
    assert {row["setting"] for row in rows} == set(Settings.model_fields)
