"""What people think of answers: kept once for each job, refused where it cannot be, and given back as what can be learned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from db.database import Database
from db.events import Events
from db.feedback import Example, Feedback, teaches
from db.models import Verdict
from db.queue import NewJob, Queue
from db.steps import NewThought, Open, Steps, ThoughtEnd, TokenBatch
from monk.errors import Conflict, NotFound

MESSAGES = {"messages": [{"role": "user", "content": "Who keeps the deposit?"}]}


@pytest.fixture
def feedback(database: Database) -> Feedback:
    return Feedback(database)


def done_job(database: Database, now: datetime, *thoughts: str, **result: Any) -> str:
    """A job that ended with `result` after these thoughts; each has the prompt (1, 2, its number)."""
    queue, steps = Queue(database), Steps(database)
    queue.submit(NewJob(kind="chat", input=MESSAGES), now)
    job = queue.claim(now, 60.0)
    assert job is not None and job.lease_token is not None
    for number, text in enumerate(thoughts):
        new = NewThought("reply", number, f"hash {number}", "a" * 64, {}, 50, (1, 2, number))
        opened = steps.open_thought(job, new, now)
        assert isinstance(opened, Open)
        steps.append([TokenBatch(job.id, job.lease_token, opened.id, 0, (7,), text)], now)
        steps.finish_thought(job, opened.id, ThoughtEnd("stop", text, "", text, 3, 0.1, 0.2), now)
    queue.finish(job, result, now)
    return job.id


def test_a_verdict_is_kept_told_as_an_event_and_replaced_by_the_next(
    feedback: Feedback, database: Database, now: datetime
) -> None:
    job_id = done_job(database, now, answer="The landlord.")
    later = now + timedelta(hours=1)

    first, created = feedback.give(job_id, "wrong", "The tenant.", "he said so", now)
    _, created_again = feedback.give(job_id, "useful", None, None, later)

    assert (created, created_again) == (True, False)
    assert (first.verdict, first.correction, first.note, first.at) == ("wrong", "The tenant.", "he said so", now)
    kept = feedback.of(job_id)
    assert kept is not None
    assert (kept.verdict, kept.correction, kept.note, kept.at) == ("useful", None, None, later)
    told = [event for event in Events(database).after(0, job_id=job_id) if event.type == "feedback"]
    assert [event.data for event in told] == [
        {"verdict": "wrong", "corrected": True},
        {"verdict": "useful", "corrected": False},
    ]


def test_a_job_nobody_judged_has_no_verdict(feedback: Feedback, database: Database, now: datetime) -> None:
    assert feedback.of(done_job(database, now, answer="x")) is None


def test_only_a_job_that_is_done_can_be_judged(feedback: Feedback, database: Database, now: datetime) -> None:
    job, _ = Queue(database).submit(NewJob(kind="chat", input=MESSAGES), now)

    with pytest.raises(Conflict, match=f"{job.id} is queued; only the answer of a job that is done"):
        feedback.give(job.id, "useful", None, None, now)
    with pytest.raises(NotFound, match="there is no job 'job_0'"):
        feedback.give("job_0", "useful", None, None, now)
    assert feedback.of(job.id) is None
    assert [event.type for event in Events(database).after(0)] == ["submitted"]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"verdict": "nice"},
        {"verdict": "useful", "correction": "x"},
        {"verdict": "wrong", "correction": ""},
        {"note": ""},
        {"job_id": "job_nowhere"},
    ],
)
def test_the_database_refuses_nonsense(database: Database, now: datetime, nonsense: dict[str, Any]) -> None:
    row = {"job_id": done_job(database, now, answer="x"), "verdict": "useful", "correction": None, "note": None}

    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(insert(Verdict), [{**row, "at": now, **nonsense}])


def test_of_a_useful_answer_is_learned_what_was_printed_and_not_all_that_was_said(
    feedback: Feedback, database: Database, now: datetime
) -> None:
    job_id = done_job(database, now, "The landlord. Yes.", answer="The landlord.")
    feedback.give(job_id, "useful", None, None, now)

    assert feedback.examples() == [Example(job_id, "chat", MESSAGES, (1, 2, 0), "a" * 64, "The landlord.")]


def test_the_numbers_of_citations_are_not_learned(feedback: Feedback, database: Database, now: datetime) -> None:
    cited, plain = (
        done_job(database, now, answer="The landlord [1], within [30] days [2].", citations=citations)
        for citations in ([{"quote": "x"}, {"quote": "y"}], [])
    )
    for job_id in (cited, plain):
        feedback.give(job_id, "useful", None, None, now)

    assert [one.target for one in feedback.examples()] == [
        "The landlord, within [30] days.",
        "The landlord [1], within [30] days [2].",
    ]


@pytest.mark.parametrize("thoughts", [(), ("one", "two")], ids=["no thought", "two thoughts"])
def test_a_useful_answer_of_no_single_thought_is_learned_from_the_result(
    feedback: Feedback, database: Database, now: datetime, thoughts: tuple[str, ...]
) -> None:
    job_id = done_job(database, now, *thoughts, answer="The landlord.")
    feedback.give(job_id, "useful", None, None, now)

    assert feedback.examples() == [Example(job_id, "chat", MESSAGES, None, None, "The landlord.")]


def test_of_a_wrong_answer_the_correction_is_learned(feedback: Feedback, database: Database, now: datetime) -> None:
    alone, several = done_job(database, now, "No.", answer="No."), done_job(database, now, "No.", "Yes.", answer="No.")
    for job_id in (alone, several):
        feedback.give(job_id, "wrong", "The tenant.", None, now)

    assert [(one.prompt_ids, one.target) for one in feedback.examples()] == [
        ((1, 2, 0), "The tenant."),
        (None, "The tenant."),
    ]


def test_what_teaches_nothing_is_left_out(feedback: Feedback, database: Database, now: datetime) -> None:
    silent = done_job(database, now, answer="x")
    feedback.give(silent, "wrong", None, "no idea what is right", now)
    for answer in ({"a": 1}, " ", None):
        feedback.give(done_job(database, now, answer=answer), "useful", None, None, now)

    assert feedback.examples() == []
    given = feedback.of(silent)
    assert given is not None and not teaches(given)


def test_an_unfinished_thought_does_not_count(feedback: Feedback, database: Database, now: datetime) -> None:
    queue, steps = Queue(database), Steps(database)
    queue.submit(NewJob(kind="chat", input=MESSAGES), now)
    job = queue.claim(now, 60.0)
    assert job is not None
    steps.open_thought(job, NewThought("reply", 0, "h", "a" * 64, {}, 50, (1,)), now)
    queue.finish(job, {"answer": "The landlord."}, now)
    feedback.give(job.id, "useful", None, None, now)

    assert [(one.prompt_ids, one.target) for one in feedback.examples()] == [(None, "The landlord.")]


def test_examples_come_in_the_order_in_which_they_were_given_and_from_a_moment_on(
    feedback: Feedback, database: Database, now: datetime
) -> None:
    first, second, third = (done_job(database, now, answer=f"answer {number}") for number in range(3))
    for hours, job_id in enumerate((second, first, third)):
        feedback.give(job_id, "useful", None, None, now + timedelta(hours=hours))

    assert [one.job_id for one in feedback.examples()] == [second, first, third]
    assert [one.job_id for one in feedback.examples(since=now + timedelta(hours=1))] == [first, third]
    feedback.give(second, "useful", None, None, now + timedelta(hours=3))
    assert [one.job_id for one in feedback.examples(since=now + timedelta(hours=1))] == [first, third, second]
