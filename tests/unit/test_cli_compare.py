"""What is compared, and how two answers are put beside each other."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from monk.cli.compare import Pair, _say_compared, job_of, questions, told
from monk.cli.feedback import corrected
from monk.errors import InvalidInput


def test_questions_are_the_arguments_and_then_the_lines_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("\ufeffWho?\r\n\n  When?  \n", encoding="utf-8")

    assert questions(["Why?"], str(file)) == ["Why?", "Who?", "When?"]
    assert questions([], str(file)) == ["Who?", "When?"]


def test_a_dash_reads_questions_and_a_correction_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Кто?\nКогда?\n"))
    assert questions([], "-") == ["Кто?", "Когда?"]

    monkeypatch.setattr("sys.stdin", io.StringIO("Within\n30 days.\n\n"))
    assert corrected(None, "-") == "Within\n30 days."


def test_what_cannot_be_asked_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "latin").write_bytes(b"caf\xe9?")

    for given, file, said in (
        ([], None, "nothing is asked; give questions, or --file"),
        ([], str(tmp_path / "empty"), "nothing is asked"),
        (["Why?", " "], None, "a question is empty"),
        ([], str(tmp_path / "missing"), "--file .*missing cannot be read: No such file"),
        ([], str(tmp_path / "latin"), "--file .*latin is no UTF-8 at byte 3; convert it first"),
    ):
        with pytest.raises(InvalidInput, match=said):
            questions(given, file)


def test_a_correction_is_given_in_one_way(tmp_path: Path) -> None:
    (tmp_path / "right.txt").write_text("Within 30 days.\n")

    assert corrected(None, None) is None
    assert corrected("Within 30 days.", None) == "Within 30 days."
    assert corrected(None, str(tmp_path / "right.txt")) == "Within 30 days."
    with pytest.raises(InvalidInput, match="--correction and --correction-file are too many"):
        corrected("x", str(tmp_path / "right.txt"))
    with pytest.raises(InvalidInput, match=r"--correction-file .*gone cannot be read: No such file"):
        corrected(None, str(tmp_path / "gone"))


def test_a_chat_is_not_sampled_and_both_jobs_have_one_seed_and_one_limit() -> None:
    messages = [{"role": "user", "content": "Why?"}]

    assert job_of("Why?", "chat", 90, 7) == {
        "kind": "chat",
        "input": {"messages": messages, "temperature": 0.0},
        "seed": 7,
        "tags": ["compare-adapter"],
        "budget": {"tokens": 90},
    }
    assert job_of("Why?", "think", None, 0) == {
        "kind": "think",
        "input": {"question": "Why?"},
        "seed": 0,
        "tags": ["compare-adapter"],
    }
    with pytest.raises(InvalidInput, match="--kind 'read' cannot be compared; give chat, answer or think"):
        job_of("Why?", "read", None, 0)


def job(answer: str | None, **more: Any) -> dict[str, Any]:
    result = None if answer is None else {"answer": answer}
    thoughts = [{"num_tokens": 5, "prefill_seconds": 0.25, "decode_seconds": 1.0}] * 2
    return {"id": "job_1", "state": "done", "result": result, "thoughts": thoughts, "error": None, **more}


def test_answers_are_equal_unequal_or_not_there_yet() -> None:
    assert Pair("Why?", job("So."), job("So.")).equal is True
    assert Pair("Why?", job("So."), job("Not so.")).equal is False
    assert Pair("Why?", job("So."), job(None, state="queued")).equal is None


def test_a_comparison_for_programs_has_answers_tokens_and_seconds() -> None:
    failed = job(None, state="failed", thoughts=[], error={"code": "adapter_unusable", "message": "gone"})

    assert told("lawyer:0.8", [Pair("Why?", job("So."), failed)]) == {
        "adapter": "lawyer:0.8",
        "pairs": [
            {
                "question": "Why?",
                "equal": None,
                "base": {"id": "job_1", "state": "done", "answer": "So.", "tokens": 10, "seconds": 2.5, "error": None},
                "adapter": {
                    "id": "job_1",
                    "state": "failed",
                    "answer": None,
                    "tokens": 0,
                    "seconds": 0,
                    "error": {"code": "adapter_unusable", "message": "gone"},
                },
            }
        ],
    }


def test_a_job_that_failed_is_told_in_the_place_of_its_answer_and_in_the_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = job(None, state="failed", thoughts=[], error={"code": "not_found", "message": "there is no adapter"})

    assert _say_compared("lawyer", [Pair("Why?", job("So."), job("So."))], False) == 0
    assert _say_compared("lawyer", [Pair("Why?", job("So."), failed)], False) == 1

    assert capsys.readouterr().out.endswith(
        "1. Why?\n\nbase, 10 tokens, 2.5 s\nSo.\n\nlawyer, 0 tokens, 0.0 s\nfailed: not_found: there is no adapter\n\n"
    )
