"""The journal's lines: a constant text and its fields, the job first.

    under systemd      <6>monk.work: job claimed job_id=job_06… attempt=1
    on a terminal      23:49:39 info    monk.work: job claimed job_id=job_06… attempt=1
    in a file or pipe  2026-11-22T23:49:39+00:00 info monk.work: job claimed job_id=job_06… attempt=1

Under systemd the level is the `<6>` that journald reads and removes; it adds the time itself.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

# libraries that would tell every request and every tick; their warnings are kept
TALKATIVE = ("alembic", "apscheduler", "chromadb", "httpcore", "httpx", "sentence_transformers", "urllib3", "uvicorn")
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
_COLOURS = ((logging.ERROR, "\x1b[31m"), (logging.WARNING, "\x1b[33m"), (logging.INFO, ""), (logging.NOTSET, "\x1b[2m"))
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN = re.compile(r"[^\s\"=]+")


def setup(level: str, stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Send all logging to `stream` (stderr) in the shape that fits who reads it. Calling it again replaces the first."""
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    handler = _Handler(stream)
    handler.setFormatter(_formatter(stream, environ))
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)


def read_by_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether this very stream is the journal's socket: JOURNAL_STREAM names its device and inode."""
    try:
        device, inode = environ.get("JOURNAL_STREAM", "").split(":")
        status = os.fstat(stream.fileno())
        return (status.st_dev, status.st_ino) == (int(device), int(inode))
    except (ValueError, OSError):
        return False


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that `configure` finds it again."""


class Lines(logging.Formatter):
    """`logger: message key=value ...`, one line each; a traceback follows, indented, on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, each with its head."""
        first, *more = [self.body(record), *self.traceback(record)]
        return "\n".join([self.head(record) + first, *(self.head_of_more(record) + line for line in more)])

    def body(self, record: logging.LogRecord) -> str:
        """Logger, text and fields."""
        told = [f"{record.name}: {visible(record.getMessage())}", *(f"{k}={v}" for k, v in fields(record))]
        return " ".join(told)

    def traceback(self, record: logging.LogRecord) -> list[str]:
        """Lines of the exception, if one is told."""
        if not record.exc_info or record.exc_info[0] is None:
            return []
        return ["  " + visible(line) for line in self.formatException(record.exc_info).splitlines()]

    def head(self, record: logging.LogRecord) -> str:
        """What stands before the first line."""
        return f"{_at(record).isoformat(timespec='seconds')} {record.levelname.lower()} "

    def head_of_more(self, record: logging.LogRecord) -> str:
        """What stands before every following line."""
        return ""


class JournalLines(Lines):
    """For journald: the priority is a prefix, the time is its own."""

    def head(self, record: logging.LogRecord) -> str:
        return f"<{_first(_PRIORITIES, record.levelno)}>"

    head_of_more = head


class TerminalLines(Lines):
    """For a person: the hour, the level in colour."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def head(self, record: logging.LogRecord) -> str:
        clock = _at(record).astimezone().strftime("%H:%M:%S")
        colour = _first(_COLOURS, record.levelno) if self._colour else ""
        return f"{clock} {colour}{record.levelname.lower():<7}{colour and chr(27) + '[0m'} "


def fields(record: logging.LogRecord) -> list[tuple[str, str]]:
    """The extra fields of a record as they are printed, job_id first."""
    extra = [(key, value) for key, value in record.__dict__.items() if key not in _OWN]
    extra.sort(key=lambda field: field[0] != "job_id")
    return [(key, _value(value)) for key, value in extra]


def visible(text: str) -> str:
    """The text on one line: control characters are shown as escapes, so nobody can forge a line."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return visible(text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False))


def _formatter(stream: TextIO, environ: Mapping[str, str]) -> Lines:
    if read_by_journal(stream, environ):
        return JournalLines()
    if stream.isatty():
        return TerminalLines(colour=not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")
    return Lines()


def _at(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _first(table: tuple[tuple[int, Any], ...], level: int) -> Any:
    return next(value for least, value in table if level >= least)
