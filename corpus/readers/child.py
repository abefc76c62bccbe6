"""The reading process itself: takes a descriptor, reads its document, answers with JSON; ends when its parent does.

Never writes a file, and cannot: its limit for that is zero bytes. A document that hangs it is ended by an alarm of its own
as well as by the parent, so that it does not outlive a daemon that was killed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import signal
import socket
from collections.abc import Iterator
from typing import Any

from corpus.process import HEADER
from corpus.readers import read_parts
from corpus.readers.ocr import Recogniser
from corpus.reading import Reading
from corpus.recognition import Recognition, WithoutOcr
from monk.errors import DocumentUnreadable

_ALARM_GRACE_SECONDS = 5  # the parent's own limit comes first and is the one that is told


def main(memory_bytes: int) -> None:
    """Serve the socket that is our standard input until it closes."""
    _limit(memory_bytes)
    with socket.socket(fileno=os.dup(0)) as pipe:
        document: _Document | None = None
        while True:
            message, descriptors, _, _ = socket.recv_fds(pipe, 1 << 16, 1)
            if not message:
                return
            question = json.loads(message)
            if descriptors:
                document = _Document(pipe, question, descriptors[0])
            assert document is not None, "the parent asks for more of what it sent"
            _send(pipe, document.next_answer())


def _send(pipe: socket.socket, answer: dict[str, Any]) -> None:
    body = json.dumps(answer, ensure_ascii=False).encode()
    pipe.sendall(HEADER.pack(len(body)) + body)


def _limit(memory_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the daemon
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Document:
    """The document being read, of which one part is always known ahead, so that the last one can be called so."""

    def __init__(self, pipe: socket.socket, question: dict[str, Any], descriptor: int) -> None:
        self._pipe = pipe
        self._name = question["name"]
        self._alarm_seconds = math.ceil(question["timeout_seconds"]) + _ALARM_GRACE_SECONDS
        self._recognition = Recognition(**question["recognition"])
        self._file = open(descriptor, "rb")  # noqa: SIM115  (closed with the last part, or when it is replaced)
        self._parts: Iterator[Reading] | None = None
        self._ahead: Reading | None = None
        self._sha256 = ""
        self._stat_before = self._stat()

    def next_answer(self) -> dict[str, Any]:
        """The next part as JSON, or why there is none."""
        signal.alarm(self._alarm_seconds)
        try:
            return self._next_part()
        except WithoutOcr as exc:
            return {"without_ocr": exc.message}
        except DocumentUnreadable as exc:
            return {"unreadable": exc.message}
        except MemoryError:
            return {"out_of_memory": True}
        except RecursionError:
            return {"unreadable": "is nested too deeply to be read"}
        except OSError as exc:
            return {"out_of_reach": f"cannot be read: {(exc.strerror or str(exc)).lower()}"}
        except Exception as exc:  # the rim of this process: a reader's own mistake costs one document
            return {"unreadable": f"makes its reader fail ({type(exc).__name__}); please report it"}
        finally:
            signal.alarm(0)

    def _next_part(self) -> dict[str, Any]:
        if self._parts is None:
            self._sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
            self._file.seek(0)
            self._parts = read_parts(self._name, self._file, Recogniser(self._recognition, self._tell))
            self._ahead = next(self._parts)
        part = self._ahead
        assert part is not None, "the parent does not ask for more after the last part"
        self._ahead = next(self._parts, None)
        if self._ahead is None:
            changed = self._stat() != self._stat_before
            self._file.close()
            if changed:
                return {"out_of_reach": "changed while it was read"}
        return {"reading": part.to_json(), "sha256": self._sha256, "more": self._ahead is not None}

    def _tell(self, words: str) -> None:
        """A sign of life during long work; its end when nobody listens any more."""
        signal.alarm(self._alarm_seconds)
        _send(self._pipe, {"working": words})

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns
