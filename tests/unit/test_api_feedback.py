"""`POST /jobs/{id}/feedback`, in-process: what is kept, and every way in which it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from db.feedback import Feedback
from monk.services import Services, utc_now
from tests.small_house import a_job, run_to_the_end


@pytest.fixture
def job_id(services: Services) -> str:
    services.queue.submit(a_job(), utc_now())
    return run_to_the_end(services).id


def test_a_first_verdict_is_created_and_a_later_one_replaces_it(client: TestClient, job_id: str) -> None:
    wrong = {"verdict": "wrong", "correction": "Latency does.", "note": "see page 3"}

    first = client.post(f"/jobs/{job_id}/feedback", json=wrong)
    second = client.post(f"/jobs/{job_id}/feedback", json={"verdict": "useful"})

    assert (first.status_code, second.status_code) == (201, 200)
    told = first.json()
    assert told == {"job_id": job_id, **wrong, "at": told["at"], "trains": True}
    assert told["at"].endswith("+00:00")
    assert second.json() | {"at": ""} == {
        "job_id": job_id,
        "verdict": "useful",
        "correction": None,
        "note": None,
        "at": "",
        "trains": True,
    }


def test_a_job_shows_its_verdict_or_null(client: TestClient, job_id: str) -> None:
    assert client.get(f"/jobs/{job_id}").json()["feedback"] is None

    told = client.post(f"/jobs/{job_id}/feedback", json={"verdict": "wrong", "correction": "Latency."}).json()

    assert client.get(f"/jobs/{job_id}").json()["feedback"] == {
        "verdict": "wrong",
        "correction": "Latency.",
        "note": None,
        "at": told["at"],
    }


def test_wrong_without_a_correction_is_kept_and_does_not_train(client: TestClient, job_id: str) -> None:
    told = client.post(f"/jobs/{job_id}/feedback", json={"verdict": "wrong", "correction": None})

    assert (told.status_code, told.json()["trains"]) == (201, False)


def test_the_longest_correction_is_taken_word_for_word(client: TestClient, job_id: str) -> None:
    text = "ж \n" * 33_333

    told = client.post(f"/jobs/{job_id}/feedback", json={"verdict": "wrong", "correction": text})

    assert told.json()["correction"] == text


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "verdict", 'verdict is missing; send {"verdict": "useful"}, or'),
        ({"verdict": None}, "verdict", "verdict is missing; send"),
        ({"verdict": "nice"}, "verdict", "should be 'useful' or 'wrong' (got 'nice')"),
        ({"verdict": ["useful"]}, "verdict", "(got ['useful'])"),
        (
            {"verdict": "wrong", "correction": ""},
            "correction",
            "correction: is empty; write it, or leave the field out",
        ),
        ({"verdict": "wrong", "correction": " \n"}, "correction", "is empty"),
        ({"verdict": "wrong", "correction": 5}, "correction", "(got 5)"),
        ({"verdict": "wrong", "correction": "x" * 100_001}, "correction", "at most 100000 characters (got 'xxx"),
        ({"verdict": "wrong", "correction": "a\x00b"}, "correction", "contains U+0000 at character 1"),
        ({"verdict": "useful", "correction": "x"}, "correction", "send verdict wrong with it"),
        ({"verdict": "useful", "note": ""}, "note", "note: is empty"),
        ({"verdict": "useful", "note": "x" * 100_001}, "note", "at most 100000 characters"),
        ({"verdict": "useful", "vote": 1}, "vote", "there is no field 'vote' here; known: verdict, correction, note"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_kept(
    client: TestClient, services: Services, job_id: str, body: dict[str, Any], param: str, said: str
) -> None:
    told = client.post(f"/jobs/{job_id}/feedback", json=body)

    error = told.json()["error"]
    assert (told.status_code, error["code"], error["param"]) == (400, "invalid_input", param)
    assert said in error["message"] and error["message"].isprintable()
    assert Feedback(services.database).of(job_id) is None


@pytest.mark.parametrize(("body", "said"), [(b"useful", "is no JSON"), (b'["useful"]', "must be a JSON object")])
def test_a_body_that_is_no_object_is_refused(client: TestClient, job_id: str, body: bytes, said: str) -> None:
    told = client.post(f"/jobs/{job_id}/feedback", content=body)

    assert told.status_code == 400 and said in told.json()["error"]["message"]


def test_a_job_that_is_not_done_cannot_be_judged(client: TestClient, services: Services) -> None:
    job, _ = services.queue.submit(a_job(), utc_now())

    for state in ("queued", "cancelled"):
        told = client.post(f"/jobs/{job.id}/feedback", json={"verdict": "useful"})
        assert (told.status_code, told.json()["error"]["code"]) == (409, "conflict")
        assert told.json()["error"]["message"] == (
            f"{job.id} is {state}; only the answer of a job that is done can be useful or wrong"
        )
        services.queue.cancel(job.id, utc_now())


@pytest.mark.parametrize("id_", ["job_1", "x" * 200, "job_" + "0" * 26])
def test_an_id_of_no_job_is_not_found(client: TestClient, id_: str) -> None:
    told = client.post(f"/jobs/{id_}/feedback", json={"verdict": "useful"})

    assert (told.status_code, told.json()["error"]["param"]) == (404, "id")
    assert told.json()["error"]["message"].startswith("there is no job ")


def test_the_stream_of_a_job_tells_its_feedback(client: TestClient, services: Services, job_id: str) -> None:
    client.post(f"/jobs/{job_id}/feedback", json={"verdict": "useful"})

    told = services.events.after(0, job_id=job_id)[-1]

    assert (told.type, told.data) == ("feedback", {"verdict": "useful", "corrected": False})
