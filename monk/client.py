"""The command line's way to the daemon: HTTP over TCP or a unix socket, errors as ours. The only import of httpx.

Knows addresses, tokens and the event stream; knows nothing of terminals.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import httpx

from monk.errors import MonkError, Unavailable
from monk.settings import Settings

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0  # a report over a long night takes a while to write
NOW_SECONDS = 1.0  # silence after which a stream has told all that there is so far
SILENCE_SECONDS = 60.0  # the event stream sends a comment at least every 15 s; four missed ones mean it is dead
AWAY_SECONDS = 600.0  # how long a follower waits for a daemon that went away
RETRY_SECONDS = 0.5  # first pause before a stream is opened again; doubles to RETRY_MOST_SECONDS
RETRY_MOST_SECONDS = 5.0


class NoDaemon(Unavailable):
    """Nobody listens where the settings say; the user starts it."""

    exit_status: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of the stream. `id` is the cursor to go on from; None for an event that is not kept."""

    id: str | None
    type: str
    data: dict[str, Any]


class Client:
    """One daemon. Every call raises MonkError of the class whose code the daemon sent, or NoDaemon when it is not there."""

    def __init__(self, settings: Settings) -> None:
        self._where = f"unix socket {settings.socket}" if settings.socket else settings.url
        token = settings.token.get_secret_value() if settings.token else None
        self._http = httpx.Client(
            base_url="http://localhost" if settings.socket else settings.url,
            transport=httpx.HTTPTransport(uds=str(settings.socket)) if settings.socket else None,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,  # a proxy of the shell's must not carry our questions
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """The JSON answer; parameters that are None are not sent."""
        return self._json(self._call("GET", path, params=_given(params)))

    def text(self, path: str) -> str:
        """The answer as text: a report in Markdown or HTML."""
        return self._call("GET", path).text

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON answer to a JSON body."""
        return self._json(self._call("POST", path, json={} if body is None else body))

    def delete(self, path: str) -> Any:
        """The JSON answer, or None for an empty one."""
        return self._json(self._call("DELETE", path))

    def events(
        self, path: str, after: str | None = None, silence_seconds: float | None = None
    ) -> Iterator[ServerEvent]:
        """Events of one connection, until the daemon ends it or is silent for `silence_seconds`.

        None: it must not be silent. Raises Unavailable when the connection breaks.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        timeout = httpx.Timeout(silence_seconds or SILENCE_SECONDS, connect=CONNECT_SECONDS)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise _error(response)
                yield from parse_events(response.iter_lines())
        except httpx.ReadTimeout as exc:
            if silence_seconds is None:
                raise self._unreachable(exc) from exc
        except httpx.HTTPError as exc:
            raise self._unreachable(exc) from exc

    def follow(self, path: str) -> Iterator[ServerEvent | None]:
        """Events without end, across restarts of the daemon: every cut goes on after the last event seen.

        Yields None once for each time the stream was cut, so that the caller can say so or look at the job. Raises
        Unavailable when the daemon stays away for AWAY_SECONDS.
        """
        after: str | None = None
        gone_at: float | None = None
        pause = RETRY_SECONDS
        while True:
            try:
                for event in self.events(path, after):
                    gone_at, pause, after = None, RETRY_SECONDS, event.id or after
                    yield event
            except Unavailable:
                gone_at = gone_at or time.monotonic()
                if time.monotonic() - gone_at > AWAY_SECONDS:
                    raise
            yield None
            time.sleep(pause)
            pause = min(2 * pause, RETRY_MOST_SECONDS)

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **more)
        except httpx.HTTPError as exc:
            raise self._unreachable(exc) from exc
        if response.is_error:
            raise _error(response)
        return response

    def _json(self, response: httpx.Response) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as exc:
            raise Unavailable(f"what answers at {self._where} is not Night Monk; check MONK_PORT") from exc

    def _unreachable(self, exc: httpx.HTTPError) -> Unavailable:
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            return NoDaemon(f"no daemon at {self._where}; start it with `monk serve` or `systemctl start night-monk`")
        if isinstance(exc, httpx.TimeoutException):
            return Unavailable(f"the daemon at {self._where} does not answer; `monk status` or its journal may say why")
        return Unavailable(f"the connection to {self._where} broke: {exc or type(exc).__name__}; try again")


def parse_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Server-sent events from lines without their ends. Comments and an unfinished last event are dropped."""
    id_: str | None = None
    type_, data = "message", list[str]()
    for line in lines:
        if line == "":
            if data:
                yield ServerEvent(id_, type_, _object("\n".join(data)))
            id_, type_, data = None, "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            id_ = value
        elif name == "event":
            type_ = value
        elif name == "data":
            data.append(value)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}


def _error(response: httpx.Response) -> MonkError:
    """The daemon's error as the class that has its code; the message is kept word by word."""
    try:
        told = response.json()["error"]
        code, message, param = str(told["code"]), str(told["message"]), told.get("param")
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the daemon answered HTTP {response.status_code} without a reason; is it Night Monk?")
    return class_of(code, response.status_code)(message, param=param)


def class_of(code: str, status: int = 500) -> type[MonkError]:
    """The error that has this code; for one we do not know, what the HTTP status says about whose fault it is."""
    found = next((kind for kind in _tree(MonkError) if "code" in vars(kind) and kind.code == code), None)
    if found is not None:
        return found
    return _Refused if status < 500 else MonkError


class _Refused(MonkError):
    """A refusal whose code this command line does not know yet."""

    exit_status: ClassVar[int] = 2


def _tree(root: type[MonkError]) -> Iterator[type[MonkError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)
