"""What parent and child say to each other: frames of JSON over a socket, and the messages of the contract as JSON.

A frame is a big-endian u32 length and that many bytes of UTF-8 JSON. No pickle: the child handles untrusted text.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from monk import errors
from monk.engine.client import (
    AdapterUse,
    Finished,
    Message,
    ModelCard,
    ModelUse,
    NewTokens,
    PrefillProgress,
    Sampling,
    Thinking,
    ThoughtRequest,
    TokenLogprob,
)

MAX_FRAME_BYTES = 1 << 30  # a length above this is a broken stream, not a message
_LENGTH = struct.Struct(">I")

Frame = dict[str, Any]


class Channel:
    """One end of the socket. `send` may be called from any thread, `frames` from one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send_lock = threading.Lock()
        self._buffer = bytearray()

    def send(self, frame: Frame) -> None:
        """Blocks until the kernel took it. Raises OSError when the other end is gone."""
        body = json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
        with self._send_lock:
            self._sock.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> list[Frame] | None:
        """Frames that arrived, after waiting for at least some bytes (or the socket's timeout). None at the end."""
        try:
            data = self._sock.recv(1 << 20)
        except TimeoutError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self._buffer += data
        return list(self._complete_frames())

    def _complete_frames(self) -> Iterator[Frame]:
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ConnectionError(f"frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield json.loads(self._buffer[start + _LENGTH.size : end].decode("utf-8", "surrogatepass"))
            start = end
        del self._buffer[:start]

    def close(self) -> None:
        self._sock.close()


def request_to_json(request: ThoughtRequest) -> Frame:
    return asdict(request)


def request_from_json(frame: Frame) -> ThoughtRequest:
    sampling = dict(frame["sampling"])
    sampling["logit_bias"] = {int(token): float(bias) for token, bias in sampling["logit_bias"].items()}
    return ThoughtRequest(
        id=frame["id"],
        prompt=tuple(frame["prompt"]),
        max_tokens=frame["max_tokens"],
        sampling=Sampling(**sampling),
        stop=tuple(frame["stop"]),
        thinking=_thinking_from_json(frame["thinking"]),
        model=ModelUse(**frame["model"]),
        saved=tuple(frame["saved"]),
        adapters=tuple(AdapterUse(**adapter) for adapter in frame["adapters"]),
        group=frame["group"],
        priority=frame["priority"],
        deadline_seconds=frame["deadline_seconds"],
    )


def _thinking_from_json(fields: Frame | None) -> Thinking | None:
    if fields is None:
        return None
    marks = {name: tuple(fields[name]) for name in ("opening", "ending", "closing")}
    return Thinking(**marks, opened=fields["opened"], tokens=fields["tokens"])


def message_to_json(message: Message) -> list[Any]:
    match message:
        case PrefillProgress():
            return ["p", message.done, message.total]
        case NewTokens():
            logprobs = [[item.logprob, item.top] for item in message.logprobs]
            return ["t", message.ids, message.text, logprobs]
        case Finished():
            return ["f", asdict(message)]


def message_from_json(values: list[Any]) -> Message:
    match values:
        case ["p", done, total]:
            return PrefillProgress(done, total)
        case ["t", ids, text, logprobs]:
            tops = tuple(TokenLogprob(lp, tuple((int(i), float(p)) for i, p in top)) for lp, top in logprobs)
            return NewTokens(tuple(ids), text, tops)
        case ["f", fields]:
            return Finished(**fields)
    raise ConnectionError(f"unknown message {values[:1]}")


def card_from_json(fields: Frame) -> ModelCard:
    return ModelCard(**{**fields, "control_tokens": tuple(fields["control_tokens"])})


def error_to_json(error: errors.MonkError) -> Frame:
    facts = {key: value for key, value in error.facts.items() if isinstance(value, str | int | float | bool | list)}
    return {"class": type(error).__name__, "message": error.message, "param": error.param, "facts": facts}


def error_from_json(frame: Frame) -> errors.MonkError:
    """The same class again; one this side does not know becomes EngineFailed."""
    kind = getattr(errors, frame["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, errors.MonkError)):
        kind = errors.EngineFailed
    error: errors.MonkError = kind(frame["message"], param=frame["param"], **frame["facts"])
    return error
