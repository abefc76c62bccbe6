"""Event streams through a real server: live, resumed, ended, abandoned."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from db.bell import ring
from db.database import Database
from monk.api import create_app
from monk.api.server import ApiServer
from monk.services import Services, utc_now
from tests.small_house import a_job, run_to_the_end, small_house

Told = tuple[int, str, dict[str, Any]]


@pytest.fixture
def services(database: Database) -> Services:
    return small_house(database, port=0)


@pytest.fixture
def server(services: Services) -> Iterator[ApiServer]:
    running = ApiServer(create_app(services, keep_alive_seconds=0.2), services.settings)
    running.start()
    yield running
    running.stop(5.0)


@pytest.fixture
def client(server: ApiServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, trust_env=False, timeout=20) as client:
        yield client


@contextmanager
def stream(client: httpx.Client, path: str, **headers: str) -> Iterator[Iterator[Told]]:
    """Events of a stream as (id, type, data)."""
    with client.stream(
        "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer.iter_lines())


def events(lines: Iterator[str]) -> Iterator[Told]:
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            found[name] = value
        elif "data" in found:
            yield int(found["id"]), found["event"], json.loads(found["data"])
            found = {}


def test_a_jobs_stream_tells_all_from_its_beginning_and_ends_with_it(client: httpx.Client, services: Services) -> None:
    job, _ = services.queue.submit(a_job(), utc_now())
    services.queue.submit(a_job("another"), utc_now())
    run_to_the_end(services)

    with stream(client, f"/jobs/{job.id}/events") as told:
        seen = list(told)

    assert [type_ for _, type_, _ in seen] == ["submitted", "claimed", "done"]
    assert all(data["job_id"] == job.id and data["id"] == id_ for id_, _, data in seen)


@pytest.mark.parametrize("by_header", [True, False])
def test_a_watcher_that_was_cut_off_goes_on_where_it_was(
    client: httpx.Client, services: Services, by_header: bool
) -> None:
    job, _ = services.queue.submit(a_job(), utc_now())
    run_to_the_end(services)
    path = f"/jobs/{job.id}/events"
    with stream(client, path) as told:
        first = next(told)

    resumed = (
        stream(client, path, last_event_id=str(first[0])) if by_header else stream(client, f"{path}?after={first[0]}")
    )
    with resumed as told:
        rest = list(told)

    assert [type_ for _, type_, _ in rest] == ["claimed", "done"]


def test_what_happens_arrives_within_a_second(client: httpx.Client, services: Services) -> None:
    with stream(client, "/events") as told:
        for number in range(3):
            services.events.tell("note", {"number": number}, utc_now())
            began = time.monotonic()
            _, type_, data = next(told)
            assert (type_, data["data"]["number"]) == ("note", number)
            assert time.monotonic() - began < 1.0


def test_what_was_committed_without_a_ring_arrives_too(client: httpx.Client, services: Services) -> None:
    with stream(client, "/events") as told:
        services.queue.submit(a_job(), utc_now())

        assert next(told)[1] == "submitted"


def test_the_stream_of_all_begins_now_or_at_a_cursor(client: httpx.Client, services: Services) -> None:
    services.events.tell("old", {}, utc_now())
    with stream(client, "/events") as told:
        services.events.tell("new", {}, utc_now())
        assert next(told)[1] == "new"
    with stream(client, "/events?after=0") as told:
        assert [next(told)[1], next(told)[1]] == ["old", "new"]


def test_a_cursor_from_the_future_is_brought_back_to_now(client: httpx.Client, services: Services) -> None:
    with stream(client, "/events?after=999999") as told:
        services.events.tell("new", {}, utc_now())

        assert next(told)[1] == "new"


def test_a_stream_that_has_nothing_more_to_tell_says_so_without_content(
    client: httpx.Client, services: Services
) -> None:
    job, _ = services.queue.submit(a_job(), utc_now())
    run_to_the_end(services)

    told = client.get(f"/jobs/{job.id}/events", headers={"last-event-id": str(services.events.newest())})

    assert told.status_code == 204


def test_a_retried_job_goes_on_in_the_same_stream(client: httpx.Client, services: Services) -> None:
    job, _ = services.queue.submit(a_job(), utc_now())
    services.queue.cancel(job.id, utc_now())
    services.queue.retry(job.id, utc_now())

    with stream(client, f"/jobs/{job.id}/events") as told:
        seen = [next(told)[1] for _ in range(3)]
        services.queue.cancel(job.id, utc_now())
        ring()
        seen += [type_ for _, type_, _ in told]

    assert seen == ["submitted", "cancelled", "retried", "cancelled"]


def test_more_events_than_one_batch_come_in_order_and_once(client: httpx.Client, services: Services) -> None:
    job, _ = services.queue.submit(a_job(), utc_now())
    for number in range(1100):
        services.events.tell("note", {"n": number}, utc_now(), job.id)
    services.queue.cancel(job.id, utc_now())

    with stream(client, f"/jobs/{job.id}/events") as told:
        ids = [id_ for id_, _, _ in told]

    assert len(ids) == 1102 and ids == sorted(set(ids))


def test_a_quiet_stream_is_kept_alive_by_comments(client: httpx.Client) -> None:
    with client.stream("GET", "/events") as answer:
        lines = answer.iter_lines()
        comments = [next(line for line in lines if line.startswith(":")) for _ in range(2)]

    assert comments == [": still here"] * 2


def test_text_that_looks_like_the_protocol_stays_data(client: httpx.Client, services: Services) -> None:
    text = "a\n\nevent: done\ndata: {}\r\nid: 9\u2028"
    with stream(client, "/events") as told:
        services.events.tell("bad\ntype: x", {"text": text}, utc_now())

        _, type_, data = next(told)

    assert type_ == "note"
    assert (data["type"], data["data"]["text"]) == ("bad\ntype: x", text)


@pytest.mark.parametrize("id_", ["x", "-1", "1.5", "9" * 30, "٣"])
def test_a_cursor_that_is_no_event_id_is_refused(client: httpx.Client, id_: str) -> None:
    told = client.get("/events", headers=[(b"last-event-id", id_.encode())])

    assert (told.status_code, told.json()["error"]["param"]) == (400, "last-event-id")


def test_watchers_that_leave_or_never_read_cost_nothing(server: ApiServer, services: Services) -> None:
    idle = [httpx.Client(base_url=server.address, trust_env=False) for _ in range(30)]
    for one in idle:
        one.send(one.build_request("GET", "/events?after=0"), stream=True)
    for number in range(50):
        services.events.tell("note", {"text": "x" * 10_000, "n": number}, utc_now())
    for one in idle[:15]:
        one.close()

    with httpx.Client(base_url=server.address, trust_env=False) as client, stream(client, "/events?after=49") as told:
        assert next(told)[2]["data"]["n"] == 49
        assert client.get("/health").status_code == 200
    for one in idle[15:]:
        one.close()


def test_stopping_ends_open_streams_at_once(server: ApiServer, client: httpx.Client) -> None:
    with stream(client, "/events") as told:
        ended = threading.Thread(target=lambda: list(told))
        ended.start()
        began = time.monotonic()

        server.stop(10.0)

        ended.join(5.0)
        assert not ended.is_alive()
        assert time.monotonic() - began < 3.0


def test_without_watchers_there_is_no_watching_thread(client: httpx.Client, services: Services) -> None:
    with stream(client, "/events") as told:
        services.events.tell("note", {}, utc_now())
        next(told)
        assert any(thread.name == "watch" for thread in threading.enumerate())
    watching = [thread for thread in threading.enumerate() if thread.name == "watch"]
    for thread in watching:
        thread.join(5.0)
    assert not any(thread.is_alive() for thread in watching)
