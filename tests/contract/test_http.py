"""HTTP through a real server on a real socket: what curl and hostile clients send."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from db.database import Database
from monk.api import create_app
from monk.api.server import ApiServer
from monk.errors import HomeUnusable, SettingsInvalid
from monk.services import Services
from tests.small_house import small_house

LIMIT = 64 << 10
GOOD = {"kind": "answer", "input": {"question": "Why?"}}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def services(database: Database) -> Services:
    return small_house(database, port=0, max_body_bytes=LIMIT)


@pytest.fixture
def server(services: Services) -> Iterator[ApiServer]:
    running = ApiServer(create_app(services), services.settings)
    running.start()
    yield running
    running.stop(5.0)


@pytest.fixture
def client(server: ApiServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, trust_env=False, timeout=20) as client:
        yield client


def test_the_server_answers_when_start_returns(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_takes_a_plain_question(server: ApiServer) -> None:
    question = "Is 1+1=2 & 100%25 sure? Правда?"

    told = subprocess.run(
        ["curl", "-s", "--noproxy", "*", "-d", question, f"{server.address}/jobs"], capture_output=True, check=True
    )

    assert json.loads(told.stdout)["input"]["question"] == question


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_takes_json_without_a_content_type(server: ApiServer) -> None:
    told = subprocess.run(
        ["curl", "-s", "--noproxy", "*", "-d", json.dumps(GOOD), f"{server.address}/jobs"],
        capture_output=True,
        check=True,
    )

    assert json.loads(told.stdout)["kind"] == "answer"


def test_whoever_runs_jobs_hears_of_a_new_one_at_once(database: Database) -> None:
    heard = threading.Semaphore(0)
    services = replace(small_house(database, port=0), work_came=heard.release)
    server = ApiServer(create_app(services), services.settings)
    server.start()
    try:
        with httpx.Client(base_url=server.address, trust_env=False, timeout=20) as client:
            job = client.post("/jobs", json=GOOD).json()
            assert heard.acquire(timeout=1.0)
            client.post(f"/jobs/{job['id']}/cancel")
            client.post(f"/jobs/{job['id']}/retry")
            assert heard.acquire(timeout=1.0)
    finally:
        server.stop(5.0)


def test_a_repeated_key_gives_the_earlier_job_and_another_question_a_conflict(client: httpx.Client) -> None:
    key = {"idempotency-key": "k1"}

    first = client.post("/jobs", json=GOOD, headers=key)
    again = client.post("/jobs", json={**GOOD, "idempotency_key": "k1"})
    other = client.post("/jobs", json={"question": "Something else?"}, headers=key)

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["id"] in other.json()["error"]["message"]


def test_a_crowd_with_one_key_makes_one_job_and_loses_no_other(client: httpx.Client, services: Services) -> None:
    bodies = [{**GOOD, "idempotency_key": "same"} for _ in range(20)] + [GOOD for _ in range(60)]

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda body: client.post("/jobs", json=body), bodies))

    assert sorted(answer.status_code for answer in told) == [200] * 19 + [201] * 61
    assert len({answer.json()["id"] for answer in told}) == 61
    assert services.queue.counts()["queued"] == 61


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(server: ApiServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port or 0), timeout=10) as raw:
        raw.sendall(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n")

        answer = raw.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"MONK_MAX_BODY_BYTES" in answer


def test_twenty_megabytes_without_a_length_are_cut_off_at_the_limit(client: httpx.Client, services: Services) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(20 << 4):
            sent += 1 << 16
            yield b"x" * (1 << 16)

    with contextlib.suppress(httpx.WriteError):  # the server may hang up while we still talk
        told = client.post("/jobs", content=endless(), headers=FORM)
        assert told.status_code == 413
        assert told.json()["error"]["code"] == "body_too_large"

    assert sum(services.queue.counts().values()) == 0
    assert client.get("/health").status_code == 200


def test_a_body_just_within_the_limit_is_taken(client: httpx.Client) -> None:
    assert client.post("/jobs", content=b"x" * LIMIT, headers=FORM).status_code == 201
    assert client.post("/jobs", content=b"x" * (LIMIT + 1), headers=FORM).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"question": "Why?", "seed": ' + b"9" * 50_000 + b"}",
        b'{"question": "Why?", "seed": NaN}',
        b'{"question": "Why?", "question": "How?"}',
        b'{"question": "\\u0000"}',
        b'{"question": "\\udead"}',
        b'{"question": "\xff\xfe"}',
        b'{"question": ["Why?"]}',
        b'{"question": {"a": {"b": {}}}}',
        b"\x00\x01\x02",
        b"\xed\xa0\x80",
    ],
)
def test_a_hostile_body_gets_one_clear_line_and_leaves_nothing(
    client: httpx.Client, services: Services, body: bytes
) -> None:
    told = client.post("/jobs", content=body, headers={"content-type": "application/json"})

    assert told.status_code == 400
    message = told.json()["error"]["message"]
    assert message.isprintable() and 10 < len(message) < 300
    assert sum(services.queue.counts().values()) == 0


def test_markup_and_escapes_in_a_question_come_back_as_they_were_but_harmless(client: httpx.Client) -> None:
    question = "<script>alert(1)</script> \x1b[2J \x9b31m \u202e Ω"

    told = client.post("/jobs", json={"question": question})

    assert told.json()["input"]["question"] == question
    assert not any(byte in told.content for byte in (b"\x1b", "\x9b".encode(), "\u202e".encode()))
    assert told.headers["content-type"] == "application/json"


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(server: ApiServer, client: httpx.Client) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port or 0)) as raw:
            raw.sendall(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")

    assert client.get("/jobs").json()["jobs"] == []


def test_a_port_in_use_is_told_with_the_way_out(server: ApiServer, database: Database) -> None:
    second = small_house(database, port=server.port)

    with pytest.raises(SettingsInvalid, match=rf"port {server.port} .* in use.*MONK_PORT"):
        ApiServer(create_app(second), second.settings).start()


def test_an_address_of_another_machine_is_told(database: Database) -> None:
    elsewhere = small_house(database, port=0, host="192.0.2.1", token="0123456789abcdef")

    with pytest.raises(SettingsInvalid, match=r"192\.0\.2\.1 is not an address of this machine"):
        ApiServer(create_app(elsewhere), elsewhere.settings).start()


def test_a_unix_socket_takes_any_host_and_only_its_owner(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "monk.sock"
    services = small_house(database, socket=path)
    server = ApiServer(create_app(services), services.settings)
    server.start()
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://whatever") as client:
            assert client.post("/jobs", json=GOOD).status_code == 201
        assert os.stat(path).st_mode & 0o777 == 0o660
        with pytest.raises(SettingsInvalid, match="another daemon"):
            ApiServer(create_app(services), services.settings).start()
    finally:
        server.stop(5.0)
    assert not path.exists()


def test_the_socket_of_a_killed_daemon_is_replaced_and_a_file_is_not(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "monk.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    services = small_house(database, socket=path)
    server = ApiServer(create_app(services), services.settings)
    server.start()
    server.stop(5.0)

    path.write_text("precious")
    with pytest.raises(SettingsInvalid, match="is a file already"):
        ApiServer(create_app(services), services.settings).start()
    assert path.read_text() == "precious"


def test_a_socket_in_a_folder_that_is_not_there_is_told(database: Database, tmp_path: Path) -> None:
    services = small_house(database, socket=tmp_path / "none" / "monk.sock")

    with pytest.raises(HomeUnusable, match="MONK_SOCKET"):
        ApiServer(create_app(services), services.settings).start()


def test_stopping_frees_the_port_and_ends_its_threads(services: Services) -> None:
    server = ApiServer(create_app(services), services.settings)
    server.start()
    port = server.port

    server.stop(5.0)

    assert not any(thread.name == "http" for thread in threading.enumerate())
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
