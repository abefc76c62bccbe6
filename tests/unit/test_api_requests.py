"""What a body asks for, and every way in which it is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db.queue import NewJob
from jobs.registry import Kinds
from monk.api.requests import Sent, fields_of, new_job
from monk.errors import InvalidInput, MonkError, UnknownKind
from monk.lora.shelf import Shelf

FORM = "application/x-www-form-urlencoded"
GOOD: dict[str, Any] = {"kind": "answer", "input": {"question": "Why?"}}


@pytest.fixture(scope="module")
def kinds() -> Kinds:
    return Kinds(None)


def read(kinds: Kinds, now: datetime, body: Any, type_: str = "application/json", key: str | None = None) -> NewJob:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return new_job(Sent(raw, type_, key), kinds, Shelf(Path("nowhere")), now)


def refusal(kinds: Kinds, now: datetime, body: Any, type_: str = "application/json") -> MonkError:
    with pytest.raises(MonkError) as refused:
        read(kinds, now, body, type_)
    assert "\n" not in refused.value.message
    return refused.value


@pytest.mark.parametrize("type_", [FORM, "text/plain; charset=utf-8", "", "application/octet-stream"])
def test_plain_text_is_a_question_word_for_word(kinds: Kinds, now: datetime, type_: str) -> None:
    asked = "Is 1+1 = 2 & 100%25 sure? Да=нет"

    job = read(kinds, now, asked.encode(), type_)

    assert (job.kind, job.input["question"]) == ("answer", asked)


@pytest.mark.parametrize("type_", [FORM, "", "text/plain", "application/json", "application/vnd.x+json"])
def test_a_json_object_is_recognised_whatever_curl_calls_it(kinds: Kinds, now: datetime, type_: str) -> None:
    assert read(kinds, now, b'\n {"kind":"think","input":{"question":"Why?"}}', type_).kind == "think"


def test_a_bare_question_is_an_answer_job_and_takes_the_other_fields(kinds: Kinds, now: datetime) -> None:
    job = read(kinds, now, {"question": "Why?", "priority": 7, "tags": ["a"]})

    assert (job.kind, job.priority, job.tags, job.input["question"]) == ("answer", 7, ["a"], "Why?")


def test_text_that_only_begins_like_json_is_a_question(kinds: Kinds, now: datetime) -> None:
    assert read(kinds, now, b"{x | x > 0} is which set?", FORM).input["question"].startswith("{x")


def test_broken_json_is_told_and_not_taken_for_a_question(kinds: Kinds, now: datetime) -> None:
    told = refusal(kinds, now, b'{"kind": "answer", "input": {"question": "Why?"}', FORM)

    assert "no JSON" in told.message and "text/plain" in told.message


@pytest.mark.parametrize("body", [b'"text"', b"[1]", b"42", b"null"])
def test_json_that_is_no_object_is_refused(kinds: Kinds, now: datetime, body: bytes) -> None:
    assert "no object" in refusal(kinds, now, body).message


@pytest.mark.parametrize("body", [b"", b"  \n ", b"\xef\xbb\xbf"])
def test_an_empty_body_is_refused_with_an_example(kinds: Kinds, now: datetime, body: bytes) -> None:
    assert '{"kind": "answer"' in refusal(kinds, now, body, FORM).message


def test_a_form_with_parts_is_refused(kinds: Kinds, now: datetime) -> None:
    assert "parts" in refusal(kinds, now, b"--x", "multipart/form-data; boundary=x").message


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"prority": 1}, "prority"),
        ({"priority": 101}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"not_before": "2026-11-23T07:00:00"}, "not_before"),
        ({"not_before": 1700000000}, "not_before"),
        ({"deadline": "tomorrow"}, "deadline"),
        ({"deadline": "2026-02-30T07:00:00Z"}, "deadline"),
        ({"deadline": "0001-01-01T00:00:00+14:00"}, "deadline"),
        ({"deadline": "2020-01-01T00:00:00Z"}, "deadline"),
        ({"not_before": "2026-12-02T00:00:00Z", "deadline": "2026-12-01T00:00:00Z"}, "not_before"),
        ({"adapter": "my-lora"}, "adapter"),
        ({"budget": {"tokens": 0}}, "budget.tokens"),
        ({"budget": {"minutes": -1}}, "budget.minutes"),
        ({"budget": {"dollars": 5}}, "budget.dollars"),
        ({"budget": {"thinking": -0.1}}, "budget.thinking"),
        ({"model": {"experts": 0}}, "model.experts"),
        ({"model": {"expert": 2}}, "model.expert"),
        ({"model": {"yarn_factor": 2, "rope_freq_scale": 0.5}}, "model.yarn_factor"),
        ({"budget": 5}, "budget"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63 - 1 + 1}, "seed"),
        ({"tags": ["x" * 65]}, "tags.0"),
        ({"tags": ["x"] * 33}, "tags"),
        ({"tags": "x"}, "tags"),
        ({"idempotency_key": "k" * 201}, "idempotency_key"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 11}, "max_attempts"),
        ({"input": {"question": " "}}, "input.question"),
        ({"input": {"qestion": "Why?"}}, "input.question"),
        ({"input": None}, "input"),
        ({"kind": 5}, "kind"),
    ],
)
def test_a_wrong_field_is_named(kinds: Kinds, now: datetime, extra: dict[str, Any], param: str) -> None:
    assert refusal(kinds, now, {**GOOD, **extra}).param == param


def test_a_moment_without_offset_is_refused_with_the_way_out(kinds: Kinds, now: datetime) -> None:
    told = refusal(kinds, now, {**GOOD, "deadline": "2026-11-23T07:00:00"})

    assert "has no offset" in told.message and "2026-11-23T07:00:00Z" in told.message


def test_an_unknown_kind_is_refused_with_the_known_ones(kinds: Kinds, now: datetime) -> None:
    told = refusal(kinds, now, {**GOOD, "kind": "anwser"})

    assert isinstance(told, UnknownKind) and "did you mean answer?" in told.message


def test_null_means_left_out(kinds: Kinds, now: datetime) -> None:
    fields = (
        "priority",
        "deadline",
        "not_before",
        "adapter",
        "budget",
        "seed",
        "tags",
        "idempotency_key",
        "max_attempts",
    )

    job = read(kinds, now, {**GOOD, **dict.fromkeys(fields)})

    assert (job.priority, job.tags, job.max_attempts, job.budget) == (0, [], 3, {})


def test_every_field_reaches_the_queue(kinds: Kinds, now: datetime) -> None:
    job = read(
        kinds,
        now,
        {
            **GOOD,
            "priority": -100,
            "not_before": "2026-11-24T01:00:00+03:00",
            "deadline": "2026-12-01T00:00:00.5Z",
            "budget": {"tokens": 100, "minutes": 2, "samples": None},
            "seed": 2**63 - 1,
            "tags": ["x", "y"],
            "idempotency_key": "k",
            "max_attempts": 10,
        },
    )

    assert job.not_before == datetime(2026, 11, 23, 22, 0, tzinfo=UTC)
    assert job.deadline == datetime(2026, 12, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert (job.priority, job.seed, job.max_attempts) == (-100, 2**63 - 1, 10)
    assert job.budget == {"tokens": 100, "minutes": 2.0}
    assert job.idempotency_key == "k"


def test_without_a_seed_each_job_gets_its_own(kinds: Kinds, now: datetime) -> None:
    assert read(kinds, now, GOOD).seed != read(kinds, now, GOOD).seed


def test_a_repeated_submit_without_a_seed_is_the_same_job(kinds: Kinds, now: datetime) -> None:
    first, again = (read(kinds, now + timedelta(hours=hour), GOOD, key="k") for hour in (0, 1))

    assert first.content_hash() == again.content_hash()


def test_a_key_in_header_and_body_must_agree(kinds: Kinds, now: datetime) -> None:
    assert read(kinds, now, {**GOOD, "idempotency_key": "a"}, key="a").idempotency_key == "a"
    with pytest.raises(InvalidInput, match="differ"):
        read(kinds, now, {**GOOD, "idempotency_key": "a"}, key="b")


def test_control_characters_stay_in_a_question_but_nul_does_not(kinds: Kinds, now: datetime) -> None:
    assert read(kinds, now, b"\x1b[31mred?", FORM).input["question"] == "\x1b[31mred?"
    assert "U+0000" in refusal(kinds, now, b"a\x00b", FORM).message


def test_a_refusal_does_not_repeat_terminal_escapes(kinds: Kinds, now: datetime) -> None:
    for told in (
        refusal(kinds, now, {**GOOD, "\x1b[2J": 1}),
        refusal(kinds, now, {**GOOD, "kind": "\x1b[2J"}),
        refusal(kinds, now, {**GOOD, "priority": "\x9b2J\x1b"}),
        refusal(kinds, now, b'{"a\x1b": {"b": NaN, "\x1b": "\\u0000"}}'),
    ):
        assert told.message.isprintable()


def test_the_fields_of_a_body_are_an_object() -> None:
    assert fields_of(Sent(b'{"question": "Why?"}', FORM)) == {"question": "Why?"}
