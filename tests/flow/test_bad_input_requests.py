"""What is submitted by mistake or malice, at a real daemon: one line that names the field, its value and the way out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.running import RunningDaemon, running

TWENTY_MB = 20_000_000
LIMIT = "larger than 8388608 bytes; shorten it, put documents into the corpus folder, or raise MONK_MAX_BODY_BYTES"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    home = tmp_path_factory.mktemp("requests") / "home"
    home.mkdir()
    with running(home) as made:
        made.submit("think", {"question": "What is 6 times 7?"})
        yield made


@pytest.fixture(autouse=True)
def nothing_changes(daemon: RunningDaemon) -> Iterator[None]:
    before = daemon.rows("SELECT * FROM jobs")
    yield
    assert daemon.rows("SELECT * FROM jobs") == before


@pytest.mark.parametrize(
    ("body", "code", "param", "told"),
    [
        ({"kind": "answr", "input": {"question": "?"}}, "unknown_kind", "kind", "'answr'; did you mean answer?"),
        (
            {"kind": "sing", "input": {"key": "a"}},
            "unknown_kind",
            "kind",
            "nown: answer, bench, chat, needle, read, think, train",
        ),
        (
            {"kind": "answer", "input": {"question": "?", "qestion": "?"}},
            "invalid_input",
            "input.qestion",
            "input.qestion: is no field of this kind; fields are question, passages",
        ),
        ({"question": "?", "prioritty": 1}, "invalid_input", "prioritty", "known: kind, input, priority"),
        ({"question": "?", "priority": 1000}, "invalid_input", "priority", "(got 1000)"),
    ],
    ids=["kind with a slip", "unknown kind", "field of the kind", "field of the job", "value out of range"],
)
def test_an_unknown_kind_or_field_is_named_with_those_that_exist(
    daemon: RunningDaemon, body: dict[str, Any], code: str, param: str, told: str
) -> None:
    answer = daemon.http.post("/jobs", json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert told in error["message"] and error["message"].isprintable()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "answr", "Why?"], "'answr'; did you mean answer?"),
        (["--kind", "answer", "--input", json.dumps({"question": "Why?", "qestion": "?"})], "is no field of this kind"),
        (["--input", '{"question": '], "--input is no JSON"),
    ],
    ids=["kind", "field", "broken JSON"],
)
def test_the_command_line_says_so_in_one_line(daemon: RunningDaemon, arguments: list[str], told: str) -> None:
    line = daemon.monk("submit", *arguments).refusal()

    assert line.startswith("monk: ") and told in line


def test_twenty_megabytes_are_refused_with_the_limit_and_the_way_out(daemon: RunningDaemon) -> None:
    body = json.dumps({"question": "x" * TWENTY_MB})

    answer = daemon.http.post("/jobs", content=body)
    line = daemon.monk("submit", "-", stdin="word " * (TWENTY_MB // 5)).refusal()

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (413, "body_too_large")
    assert LIMIT in error["message"]
    assert LIMIT in line
    assert daemon.http.get("/health").status_code == 200
