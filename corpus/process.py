"""Runs readers in a child process with a time limit and a memory limit. Knows no format and no database.

The child gets an open descriptor, so it never sees a path; it sends JSON back, so nothing it says can run here. One child
reads document after document; one that dies or overstays is killed, and the next document gets a new one. A document
that fails in a used child is tried once more in a fresh one, so that none is blamed for what its neighbour left behind.

    parent: {"name", "timeout_seconds", "ocr"} + descriptor   or {"more": true} for the next part
    child:  {"working": "page 3 of 90"} any number of times, each of which buys time; then one of
            {"reading", "sha256", "more"}   {"unreadable"}   {"out_of_reach"}   {"out_of_memory"}

A long document comes in parts, each asked for when the one before is dealt with: neither side holds more than a part.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corpus.folder import CorpusFile, OutOfReach, TryAgain, open_regular
from corpus.parts import joined
from corpus.reading import Reading, reading_from_json
from corpus.recognition import SEARCH_PATH, Recognition, WithoutOcr
from monk.errors import DocumentUnreadable

HEADER = struct.Struct(">Q")  # length of the JSON that follows
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent
_START = "import sys; sys.path.insert(0, sys.argv[1]); from corpus.readers.child import main; main(int(sys.argv[2]))"


@dataclass(frozen=True, slots=True)
class ReadPart:
    """A part of a document, and the SHA-256 of all the bytes it was read from."""

    reading: Reading
    sha256: str
    is_last: bool


class Abandoned(Exception):
    """The caller did not want to wait for the document any longer."""


class ReadingProcess:
    """The parent's side. One thread at a time; `close()` ends the child, the next `read` starts another."""

    def __init__(
        self,
        folder: Path,
        timeout_seconds: float,
        memory_bytes: int,
        recognition: Recognition | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """`timeout_seconds` is for a document, for each part of a long one, and for each page that is recognised.
        `stop` is asked after every sign of life of a long piece of work."""
        self._folder = folder
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._recognition = recognition or Recognition()
        self._stop = stop
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: socket.socket | None = None
        self._num_read = 0

    def read(self, file: CorpusFile) -> tuple[Reading, str]:
        """The whole document and its SHA-256. Raises DocumentUnreadable with the reason."""
        parts = list(self.parts(file))
        return joined(part.reading for part in parts), parts[0].sha256

    def parts(self, file: CorpusFile) -> Generator[ReadPart, None, None]:
        """The document part by part; whoever stops asking early may go on with another document.

        Raises DocumentUnreadable with the reason, Abandoned when `stop()` became true while it was read.
        """
        part = self._first(file)
        yield part
        while not part.is_last:
            try:
                part = self._part(file, self._ask({"more": True}, []))
            except _ChildFailed as exc:
                raise exc.told(file.path) from exc
            yield part

    def _first(self, file: CorpusFile) -> ReadPart:
        used = self._num_read > 0
        try:
            return self._read_once(file)
        except _ChildFailed as exc:
            if not (used and exc.may_be_leftover):
                raise exc.told(file.path) from exc
        try:
            return self._read_once(file)
        except _ChildFailed as exc:
            raise exc.told(file.path) from exc

    def close(self) -> None:
        """End the child. Safe to call twice."""
        pipe, child = self._pipe, self._child
        self._pipe = self._child = None
        self._num_read = 0
        if pipe is not None:
            pipe.close()
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with whatever it started: the OCR program must not outlive it
            child.wait()

    def _read_once(self, file: CorpusFile) -> ReadPart:
        descriptor = open_regular(file, self._folder)
        question = {
            "name": file.path,
            "timeout_seconds": self._timeout_seconds,
            "recognition": asdict(self._recognition),
        }
        try:
            answer = self._ask(question, [descriptor])
        finally:
            os.close(descriptor)
        self._num_read += 1
        return self._part(file, answer)

    def _part(self, file: CorpusFile, answer: dict[str, Any]) -> ReadPart:
        if "unreadable" in answer:
            raise DocumentUnreadable(str(answer["unreadable"]), file=file.path)
        if "without_ocr" in answer:
            raise WithoutOcr(str(answer["without_ocr"]), file=file.path)
        if "out_of_reach" in answer:
            raise OutOfReach(str(answer["out_of_reach"]), file=file.path)
        if "out_of_memory" in answer:
            self.close()
            raise _ChildFailed(f"needs more than {self._memory_bytes // 2**20} MiB of memory to be read", True)
        try:
            return ReadPart(reading_from_json(answer["reading"]), str(answer["sha256"]), not answer["more"])
        except (KeyError, TypeError, ValueError) as exc:
            self.close()
            raise _ChildFailed("makes its reader answer nonsense", True) from exc

    def _ask(self, question: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        pipe = self._started()
        try:
            socket.send_fds(pipe, [json.dumps(question).encode()], descriptors)
            while True:
                answer = self._answer(pipe)
                if "working" not in answer:
                    return answer
                self._check_stop()
        except TimeoutError as exc:
            self.close()
            raise _ChildFailed(f"takes longer than {self._timeout_seconds:g} s to read", False) from exc
        except (OSError, EOFError, ValueError) as exc:
            raise _ChildFailed(f"makes its reader crash ({self._last_words()})", True) from exc

    def _answer(self, pipe: socket.socket) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_seconds
        (length,) = HEADER.unpack(_received(pipe, HEADER.size, deadline))
        answer: dict[str, Any] = json.loads(_received(pipe, length, deadline))
        return answer

    def _check_stop(self) -> None:
        if self._stop():
            self.close()
            raise Abandoned

    def _last_words(self) -> str:
        """How the child ended; ends it if it did not."""
        child = self._child
        code: int | None = None
        if child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=2.0)
        self.close()
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit {code}" if code is not None else "no answer"

    def _started(self) -> socket.socket:
        if self._pipe is not None and self._child is not None and self._child.poll() is None:
            return self._pipe
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, str(_PACKAGE_ROOT), str(self._memory_bytes)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"},  # no token or setting of the daemon reaches a document
                close_fds=True,
                start_new_session=True,
            )
        self._pipe = ours
        return ours


class _ChildFailed(Exception):
    """The child gave no usable answer. `may_be_leftover`: a fresh child might."""

    def __init__(self, reason: str, may_be_leftover: bool) -> None:
        super().__init__(reason)
        self.may_be_leftover = may_be_leftover

    def told(self, path: str) -> TryAgain:
        return TryAgain(str(self), file=path)


def _received(pipe: socket.socket, length: int, deadline: float) -> bytes:
    """Exactly `length` bytes. Raises TimeoutError at the deadline, EOFError when the child is gone."""
    parts: list[bytes] = []
    while length:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        pipe.settimeout(remaining)
        part = pipe.recv(min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
