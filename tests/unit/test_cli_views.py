"""Jobs as a person reads them."""

from __future__ import annotations

from typing import Any

from monk.cli.views import (
    answer,
    answer_or_error,
    citation,
    cost,
    event_line,
    job_facts,
    job_row,
    summary,
    thought_line,
)

JOB: dict[str, Any] = {
    "id": "job_01",
    "state": "done",
    "kind": "answer",
    "input": {"question": "How long\nis the night?"},
    "created_at": "2026-11-22T23:00:00+00:00",
}


def test_a_summary_is_what_was_asked_on_one_line() -> None:
    assert summary(JOB) == "How long is the night?"
    assert summary({"input": {"document": "a.pdf", "questions": ["Who?", "When?"]}}) == "a.pdf: Who?; When?"
    assert summary({"input": {"messages": [{"content": "hello"}, {"content": "bye"}]}}) == "bye"
    assert summary({"input": {"топик": 1}}) == '{"топик": 1}'
    assert summary({"title": "from a listing"}) == "from a listing"
    assert summary({"input": None}) == "{}"


def test_a_row_has_id_state_kind_moment_and_question() -> None:
    assert job_row(JOB)[:3] == ("job_01", "done", "answer")
    assert job_row(JOB)[4] == "How long is the night?"


def test_facts_leave_out_what_says_nothing_and_count_positions_from_one() -> None:
    facts = dict(job_facts({**JOB, "state": "queued", "position": 0, "priority": 0, "tags": [], "attempt": 1}))

    assert facts["position"] == "1"
    assert "priority" not in facts and "tags" not in facts and "attempt" not in facts and "error" not in facts


def test_an_error_is_told_with_its_code() -> None:
    assert dict(job_facts({**JOB, "error": {"code": "deadline_passed", "message": "too late"}}))["error"] == (
        "deadline_passed: too late"
    )


def test_an_answer_is_followed_by_its_citations_and_by_what_was_not_borne_out() -> None:
    text = answer(
        {
            "result": {
                "answer": "Nine hours [1].",
                "citations": [{"file": "night.md", "line": 3, "quote": "has nine\nhours", "verified": True}],
                "unsupported": ["It is cold."],
            }
        }
    )

    assert text.startswith('Nine hours [1].\n\n[1] night.md, line 3: "has nine hours"\n\n')
    assert "not borne out by the documents:\n\n- It is cold." in text


def test_a_vote_is_shown() -> None:
    votes = [{"answer": "97200", "count": 3}, {"answer": "9720", "count": 1}]

    text = answer({"result": {"answer": "x", "votes": votes, "decided_by": "vote", "samples": 5}})

    assert text.endswith("Chosen by the majority of 5 samples: 97200 (3), 9720 (1)")


def test_a_citation_says_page_or_line_or_neither() -> None:
    assert citation(2, {"file": "a.pdf", "page": 7, "quote": "q"}) == '[2] a.pdf, page 7: "q"'
    assert citation(1, {"file": "a.md", "quote": "q"}) == '[1] a.md: "q"'


def test_a_citation_cannot_carry_escapes() -> None:
    assert "\x1b" not in citation(1, {"file": "\x1b[2Ja.md", "quote": "\x1b]0;x\x07q"})


def test_a_thought_tells_tokens_speed_and_end() -> None:
    thought = {"name": "sample", "sample": 2, "num_prompt_tokens": 50, "num_tokens": 30, "decode_seconds": 2.0}

    assert thought_line({**thought, "reason": "stop"}) == "sample #3: 50 tokens read, 30 written, 15.0 tokens/s, stop"
    assert thought_line({"name": "draft"}) == "draft: 0 tokens read, 0 written, unfinished"


def test_an_event_is_one_line() -> None:
    assert event_line(None, "step", {"name": "draft", "n": 3}) == "-  step         name=draft n=3"


def test_feedback_is_a_fact_of_a_job() -> None:
    given = {"verdict": "wrong", "correction": "Nine hours.", "note": None, "at": "2026-11-23T07:00:00+00:00"}

    assert dict(job_facts({**JOB, "feedback": given}))["feedback"] == "wrong, with a correction"
    assert dict(job_facts({**JOB, "feedback": {**given, "correction": None}}))["feedback"] == "wrong"
    assert "feedback" not in dict(job_facts({**JOB, "feedback": None}))


def test_what_came_of_a_job_is_its_answer_or_its_error_and_what_it_cost() -> None:
    thoughts = [{"num_tokens": 5, "prefill_seconds": 0.25, "decode_seconds": 1.0}, {"num_tokens": None}]

    assert answer_or_error({"state": "done", "result": {"answer": "Nine."}}) == "Nine."
    assert (
        answer_or_error({"state": "failed", "error": {"code": "internal", "message": "no"}}) == "failed: internal: no"
    )
    assert answer_or_error({"state": "cancelled"}) == "cancelled"
    assert cost({"thoughts": thoughts}) == "5 tokens, 1.2 s"
    assert cost({}) == "0 tokens, 0.0 s"
