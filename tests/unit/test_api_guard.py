"""The door: token, host, origin, headers, the shape of errors. In-process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from db.database import Database
from monk.api import create_app
from monk.api.guard import is_own_host, is_own_origin
from monk.errors import MemoryTooSmall
from tests.small_house import small_house

TOKEN = "0123456789abcdef-night"
QUESTION = {"question": "Why?"}


def client_of(database: Database, **settings: Any) -> TestClient:
    return TestClient(create_app(small_house(database, **settings)), base_url="http://127.0.0.1:8420")


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    with client_of(database) as client:
        yield client


@pytest.fixture
def locked(database: Database) -> Iterator[TestClient]:
    with client_of(database, token=TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True),
        ("LOCALHOST:8420", True),
        ("localhost.:8420", True),
        ("127.0.0.1:8420", True),
        ("127.8.9.10", True),
        ("[::1]:8420", True),
        ("10.0.0.5:8420", True),
        ("10.0.0.6", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("localhost:8420@evil.example", False),
        ("[::1", False),
        ("", False),
        ("a b", False),
    ],
)
def test_only_this_machines_names_are_its_own(host: str, own: bool) -> None:
    assert is_own_host(host, "10.0.0.5") is own


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"host": "localhost:8420", "origin": "http://localhost:8420"}, True),
        ({"host": "localhost:8420", "origin": "http://localhost:9999"}, False),
        ({"host": "localhost:8420", "origin": "https://evil.example"}, False),
        ({"host": "localhost:8420", "origin": "null"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://behind.proxy"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
def test_only_our_own_page_may_change_something(headers: dict[str, str], own: bool) -> None:
    assert is_own_origin(Headers(headers)) is own


def test_a_foreign_host_name_is_refused(client: TestClient) -> None:
    told = client.get("/jobs", headers={"host": "evil.example"})

    assert told.status_code == 403
    assert told.json()["error"]["param"] == "host"


def test_a_page_of_another_site_cannot_submit(client: TestClient) -> None:
    told = client.post("/jobs", json=QUESTION, headers={"origin": "https://evil.example"})

    assert told.status_code == 403
    assert client.get("/jobs").json()["jobs"] == []


def test_our_own_page_can_submit(client: TestClient) -> None:
    told = client.post(
        "/jobs", json=QUESTION, headers={"origin": "http://127.0.0.1:8420", "sec-fetch-site": "same-origin"}
    )

    assert told.status_code == 201


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic " + TOKEN, TOKEN, "Bearer ", "Bearer \xff\xfe"])
def test_without_the_token_nobody_comes_in(locked: TestClient, authorization: str | None) -> None:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]

    told = [locked.get(path, headers=headers) for path in ("/jobs", "/status", "/metrics", "/events", "/nothing")]

    assert {answer.status_code for answer in told} == {401}
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in told)
    assert all("MONK_TOKEN" in answer.json()["error"]["message"] for answer in told)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens_everything_also_under_another_host_name(locked: TestClient, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {TOKEN}", "host": "monk.example"}

    assert locked.post("/jobs", json=QUESTION, headers=headers).status_code == 201


def test_health_and_the_empty_page_need_no_token(locked: TestClient) -> None:
    paths = ("/health", "/", "/page.css", "/page.js", "/icon.svg")

    assert {locked.get(path).status_code for path in paths} == {200}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/jobs/", 404, "not_found"),
        ("GET", "/jobs/job_nothing", 404, "not_found"),
        ("GET", "/jobs/" + "x" * 5000, 404, "not_found"),
        ("GET", "/jobs/%00%1b%ff", 404, "not_found"),
        ("GET", "/reports/latest.md", 404, "not_found"),
        ("DELETE", "/schedules/none", 404, "not_found"),
        ("PATCH", "/jobs", 405, "method_not_allowed"),
        ("GET", "/jobs?limit=0", 400, "invalid_input"),
        ("GET", "/jobs?limit=many", 400, "invalid_input"),
        ("GET", "/jobs?state=asleep", 400, "invalid_input"),
        ("GET", "/jobs?cursor=nonsense", 400, "invalid_input"),
        ("GET", "/jobs?stat=queued", 400, "invalid_input"),
        ("GET", "/corpus/search", 400, "invalid_input"),
        ("GET", "/corpus/search?q=%20", 400, "invalid_input"),
        ("GET", "/corpus/search?q=x&k=1000", 400, "invalid_input"),
        ("GET", "/events?after=-1", 400, "invalid_input"),
        ("GET", "/events?after=99999999999999999999999", 400, "invalid_input"),
        ("POST", "/jobs?kind=think", 400, "invalid_input"),
        ("POST", "/night/open?x", 200, ""),
    ],
)
def test_every_error_has_the_one_shape(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    told = client.request(method, path)

    assert told.status_code == status
    if code:
        error = told.json()["error"]
        assert set(error) == {"code", "message", "param"} and error["code"] == code
        assert error["message"].isprintable() and len(error["message"]) < 300


def test_a_method_that_is_not_possible_is_told_with_those_that_are(client: TestClient) -> None:
    told = client.request("PUT", "/jobs")

    assert told.headers["allow"] == "GET, POST"


def test_every_answer_carries_its_id_and_keeps_to_itself(client: TestClient) -> None:
    for answer in (client.get("/status"), client.get("/nothing"), client.post("/jobs", content=b"")):
        assert len(answer.headers["x-request-id"]) == 16
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_a_request_id_of_the_client_is_kept_if_it_is_harmless(client: TestClient) -> None:
    assert client.get("/health", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/health", headers={"x-request-id": "a b\x1b"}).headers["x-request-id"] != "a b\x1b"


def test_a_fault_of_ours_is_told_by_its_id_and_not_by_its_traceback(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    app = _with_faults(create_app(small_house(database)))
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)

    told = client.get("/fault")

    assert told.status_code == 500
    assert told.json()["error"]["code"] == "internal"
    assert told.headers["x-request-id"] in told.json()["error"]["message"]
    assert "secret" not in told.text and "Traceback" not in told.text
    assert any(getattr(r, "request_id", "") == told.headers["x-request-id"] and r.exc_info for r in caplog.records)


def test_our_own_errors_decide_their_status(database: Database) -> None:
    client = TestClient(_with_faults(create_app(small_house(database))), base_url="http://localhost")

    told = client.get("/small")

    assert (told.status_code, told.json()["error"]["code"]) == (500, "memory_too_small")


def test_head_is_answered_like_get_without_a_body(client: TestClient) -> None:
    told = client.head("/health")

    assert (told.status_code, told.headers["content-type"]) == (200, "application/json")


def _with_faults(app: FastAPI) -> FastAPI:
    @app.get("/fault")
    def fault() -> None:
        raise RuntimeError("secret")

    @app.get("/small")
    def small() -> None:
        raise MemoryTooSmall("needs 9 GB, has 8; choose a smaller model", needed_bytes=9)

    return app
