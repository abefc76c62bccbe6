"""The way to the daemon: the event stream, errors as ours, a stranger on the port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from monk import client
from monk.client import Client, ServerEvent, parse_events
from monk.errors import Conflict, MonkError, NotFound, Unavailable
from monk.settings import load


def test_events_are_parsed_and_what_is_unfinished_or_a_comment_is_dropped() -> None:
    lines = [
        ": hello",
        "",
        "retry: 2000",
        "",
        "id: 7",
        "event: step",
        'data: {"a":',
        "data: 1}",
        "",
        "data: plain",
        "",
        "id: 9",
    ]

    assert list(parse_events(lines)) == [
        ServerEvent("7", "step", {"a": 1}),
        ServerEvent(None, "message", {"text": "plain"}),
    ]


class Handler(BaseHTTPRequestHandler):
    """Answers with what the test put into `script`, in order."""

    script: list[tuple[int, str, str]]  # status, type, body
    seen: list[str | None]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Last-Event-ID"))
        status, type_, body = self.script.pop(0)
        self.send_response(status)
        self.send_header("content-type", type_)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def speaking(home: Path, *script: tuple[int, str, str]) -> Iterator[tuple[Client, list[str | None]]]:
    seen: list[str | None] = []
    handler = type("Scripted", (Handler,), {"script": list(script), "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        with Client(load({}, home=home, port=server.server_port)) as daemon:
            yield daemon, seen
        server.shutdown()
        thread.join()


def failure(status: int, code: str) -> tuple[int, str, str]:
    return (
        status,
        "application/json",
        f'{{"error": {{"code": "{code}", "message": "the reason; the way out", "param": "id"}}}}',
    )


@pytest.mark.parametrize(
    ("sent", "kind", "exit_status"),
    [
        (failure(404, "not_found"), NotFound, 2),
        (failure(409, "conflict"), Conflict, 2),
        (failure(503, "unavailable"), Unavailable, 1),
        (failure(422, "new_in_version_9"), MonkError, 2),
        (failure(500, "internal"), MonkError, 1),
    ],
)
def test_an_error_of_the_daemon_is_ours_again(
    home: Path, sent: tuple[int, str, str], kind: type[MonkError], exit_status: int
) -> None:
    with speaking(home, sent) as (daemon, _), pytest.raises(kind) as told:
        daemon.get("/jobs")

    assert told.value.message == "the reason; the way out"
    assert told.value.param == "id" and told.value.exit_status == exit_status


def test_a_stranger_on_the_port_is_told_apart(home: Path) -> None:
    with speaking(home, (200, "text/html", "<html>"), (502, "text/html", "bad gateway")) as (daemon, _):
        with pytest.raises(Unavailable, match="is not Night Monk; check MONK_PORT"):
            daemon.get("/jobs")
        with pytest.raises(Unavailable, match="HTTP 502"):
            daemon.get("/jobs")


def test_following_asks_for_what_came_after_the_last_event(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.0)
    stream = "text/event-stream"
    script = [
        (200, stream, 'id: 4\ndata: {"n": 1}\n\nid: 5\ndata: {"n": 2}\n\n'),
        (200, stream, 'id: 6\ndata: {"n": 3}\n\n'),
    ]

    with speaking(home, *script) as (daemon, seen):
        followed = daemon.follow("/events")
        told = [next(followed) for _ in range(5)]

    assert [event.data["n"] if event else None for event in told] == [1, 2, None, 3, None]
    assert seen == [None, "5"]


def test_following_gives_up_when_the_daemon_stays_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(client, "AWAY_SECONDS", 0.0)

    with Client(load({}, home=home, port=1)) as daemon, pytest.raises(Unavailable, match="no daemon at"):
        for told in daemon.follow("/events"):
            assert told is None


def test_an_error_ends_following_at_once(home: Path) -> None:
    with speaking(home, failure(404, "not_found")) as (daemon, _), pytest.raises(NotFound):
        next(daemon.follow("/jobs/x/events"))
