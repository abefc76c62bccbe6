"""What the demo shows, and the folder it may empty."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.registry import Kinds
from monk.demo.house import MARK, _empty, _environment, _starter_corpus
from monk.demo.questions import JOBS
from monk.demo.screen import Plain, Row, _table
from monk.errors import HomeUnusable
from monk.settings import load


def seen(state: str, *thoughts: tuple[int, str]) -> dict[str, Any]:
    told = [{"num_tokens": tokens, "text": text, "num_prompt_tokens": 900} for tokens, text in thoughts]
    return {"state": state, "thoughts": told}


def test_a_row_counts_tokens_and_their_speed_over_the_last_seconds() -> None:
    row = Row("think", "Why?")

    row.look(seen("running", (10, "ten"), (0, "")), 100.0)
    row.look(seen("running", (20, "ten more"), (10, "other")), 104.0)

    assert (row.tokens, row.rate, row.tail) == (30, 5.0, "…other")


def test_a_job_whose_prompt_is_being_computed_is_reading() -> None:
    row = Row("read", "a.pdf")

    row.look(seen("running", (0, "")), 1.0)

    assert row.state == "reading" and row.tail == "900 tokens of prompt"


def test_where_nobody_watches_only_news_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    plain, row = Plain(), Row("chat", "Hello?")
    plain.show([row], 0.0)
    row.look(seen("running", (1, "a")), 1.0)
    plain.show([row], 1.0)
    row.look(seen("running", (2, "a b")), 2.0)
    plain.show([row], 2.0)
    row.look(seen("running", (60, "a b c")), 30.0)
    plain.show([row], 30.0)
    plain.show([row], 60.0)
    row.look(seen("done", (60, "a b c")), 61.0)
    plain.show([row], 61.0)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["running", "running", "done"]


def test_the_table_holds_no_markup_or_escapes_of_the_jobs() -> None:
    row = Row("answer", "[red]not markup[/]\x1b[2J")
    row.look(seen("running", (3, "words \x1b]0;x\x07here")), 1.0)
    out = io.StringIO()

    Console(file=out, width=120).print(_table([row], 1.0))

    assert "[red]not markup[/]" in out.getvalue() and "words here" in out.getvalue() and "\x1b" not in out.getvalue()


def test_every_job_of_the_demo_is_accepted_by_its_kind_and_reads_a_document_that_exists() -> None:
    kinds = Kinds(None)

    for job in JOBS:
        kinds.validate(job["kind"], job["input"])
        assert "document" not in job["input"] or (_starter_corpus() / job["input"]["document"]).is_file()
    assert {job["kind"] for job in JOBS} == {"answer", "think", "read", "chat"} and len(JOBS) == 5


def test_only_an_earlier_demos_folder_is_ever_emptied(tmp_path: Path) -> None:
    precious, earlier = tmp_path / "precious", tmp_path / "build" / "demo"
    precious.mkdir()
    (precious / "thesis.md").write_text("years")
    _empty(earlier)
    (earlier / "old").write_text("x")

    with pytest.raises(HomeUnusable, match="no earlier demo's; name another folder"):
        _empty(precious)
    _empty(earlier)

    assert (precious / "thesis.md").exists()
    assert [file.name for file in earlier.iterdir()] == [MARK]


def test_the_daemon_gets_the_demos_settings_and_not_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MONK_TOKEN", "my-own-secret-token"), ("MONK_NIGHT", "always"), ("MONK_THREADS", "1")):
        monkeypatch.setenv(name, value)

    given = _environment(load({}, home=tmp_path, night="never", corpus=_starter_corpus()))

    assert "MONK_TOKEN" not in given and given["MONK_NIGHT"] == "never" and given["MONK_THREADS"] == "1"
    assert given["MONK_CORPUS"] == str(_starter_corpus())
