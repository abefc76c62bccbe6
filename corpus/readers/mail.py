"""One e-mail message as a section: who wrote when about what, then what a person reads of it. Nothing attached is opened.

Places are lines of the file: exact for text that stands in it as it is or as quoted-printable, the line where a base64 part
begins for all of that part. However broken the MIME structure, the text is read; at worst as it stands.
"""

from __future__ import annotations

import email
import email.errors
import email.policy
import re
from collections.abc import Callable, Iterator
from email.header import decode_header, make_header
from email.message import Message

from corpus.places import Places
from corpus.readers.encoding import clean, decode
from corpus.readers.html import read_source
from corpus.readers.text import paragraphs
from corpus.reading import Reading, ReadingBuilder
from monk.errors import DocumentUnreadable

_MAX_BOUNDARIES = 5_000  # lines that look like one; no person writes a message of more parts
_MAX_PARTS = 500
_MAX_DEPTH = 6  # messages within messages
_MAX_HEADER = 1_000  # characters
_SHOWN_ATTACHMENTS = 8
_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_NAME = re.compile(r"<[^<>]*>|[\"']")
_SOFT_BREAK = re.compile(rb"=[ \t]*$")


class Letters:
    """Adds messages to a builder and counts what they lose."""

    def __init__(self, builder: ReadingBuilder) -> None:
        self.builder = builder
        self._attachments: list[str] = []  # the first few by name
        self._num_attachments = 0
        self._num_broken = 0
        self.keywords: list[str] = []

    @property
    def lost(self) -> tuple[str, ...]:
        """What the messages held and the text does not."""
        lost = []
        if self._num_attachments:
            shown = ", ".join(self._attachments) + (" ..." if self._num_attachments > _SHOWN_ATTACHMENTS else "")
            lost.append(f"{_counted(self._num_attachments, 'attachment')} ({shown})")
        if self._num_broken:
            lost.append(f"{_counted(self._num_broken, 'part')} that cannot be decoded")
        return tuple(lost)

    def add(self, data: bytes, first_line: int, level: int = 1) -> str:
        """Append the message that begins on `first_line` of the file; returns its subject."""
        data = data.replace(b"\r\n", b"\n")
        message = _parsed(data)
        subject = _header(message, "Subject")
        self.keywords.append(_header(message, "Keywords"))
        self.builder.add("heading", _heading(message, subject), [(0, first_line)], level)
        shown = [f"{name}: {value}" for name in _SHOWN if (value := _header(message, name))]
        self.builder.add("paragraph", "\n".join(shown), [(0, first_line)])
        source = _Source(data, first_line)
        for number, part in enumerate(_leaves(message)):
            if number == _MAX_PARTS:
                self._attach(f"and all parts after the first {_MAX_PARTS}")
                break
            self._add_part(part, source, level)
        return subject

    def _add_part(self, part: Message, source: _Source, level: int) -> None:
        kind = part.get_content_type()
        if kind == "message/rfc822" and isinstance(part.get_payload(), list) and level < _MAX_DEPTH:
            data = _inner_message(part)
            if data is None:
                self._num_broken += 1
            else:
                self.add(data, source.line_of(data), level + 1)
        elif _name_of(part) or part.get_content_disposition() == "attachment" or not kind.startswith("text/"):
            self._attach(_name_of(part) or kind)
        else:
            self._add_text(part, kind, source, level)

    def _add_text(self, part: Message, kind: str, source: _Source, level: int) -> None:
        stored, text = _payloads(part)
        if text is None:
            self._num_broken += 1
            return
        lines = source.lines(stored, str(part.get("Content-Transfer-Encoding", "")).strip().lower())
        if kind == "text/html":
            reading = read_source(text, "html", "line")
        else:
            reading = Reading("", "text", text, tuple(paragraphs(text, 0, len(text), ())), Places("line"))
        self.builder.add_reading(reading, lines, level + 1)

    def _attach(self, name: str) -> None:
        self._num_attachments += 1
        if len(self._attachments) < _SHOWN_ATTACHMENTS:
            self._attachments.append(" ".join(_decoded(name).split())[:80])


def _name_of(part: Message) -> str:
    try:
        return part.get_filename() or ""
    except (ValueError, LookupError):
        return ""


def _inner_message(part: Message) -> bytes | None:
    """The bytes of a message that is attached to another; None when it cannot be put together again."""
    inner = part.get_payload(0)
    try:
        return inner.as_bytes(policy=email.policy.compat32) if isinstance(inner, Message) else None
    except Exception:  # the generator stumbles over what the parser let through
        return None


def _parsed(data: bytes) -> Message:
    """The message; where its structure is an attack or beyond the parser, its headers and the rest as plain text."""
    if data.count(b"\n--") <= _MAX_BOUNDARIES:
        try:
            return email.message_from_bytes(data, policy=email.policy.compat32)
        except Exception:  # the parser has many ways to stumble over broken mail; the text is still there
            pass
    head, _, body = data.partition(b"\n\n")
    plain = Message(policy=email.policy.compat32)
    for line in head.decode("ascii", "surrogateescape").split("\n"):
        name, colon, value = line.partition(":")
        if colon and name in _SHOWN:
            plain[name] = value.strip()
    plain.set_payload(body.decode("ascii", "surrogateescape"))
    return plain


def _leaves(message: Message) -> Iterator[Message]:
    """The parts that a mail program would show or list, in order; of alternatives the plainest that says something."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        inner = part.get_payload()
        if not part.is_multipart() or not isinstance(inner, list) or part.get_content_type() == "message/rfc822":
            yield part
            continue
        children = [child for child in inner if isinstance(child, Message)]
        if part.get_content_type() == "multipart/alternative":
            children = [_plainest(children)] if children else []
        waiting += reversed(children)


def _plainest(parts: list[Message]) -> Message:
    for part in parts:
        if part.get_content_type() == "text/plain" and (_payloads(part)[1] or "").strip():
            return part
    richer = [part for part in parts if part.get_content_type() != "text/plain"]
    return next((part for part in richer if part.get_content_type() == "text/html"), (richer or parts)[0])


def _payloads(part: Message) -> tuple[bytes, str | None]:
    """(the bytes as they stand in the file, the text they mean or None where they mean none)."""
    raw = part.get_payload()
    if not isinstance(raw, str):
        return b"", None
    stored = raw.encode("ascii", "surrogateescape") if raw.isascii() or _is_raw(raw) else raw.encode("utf-8", "replace")
    try:
        data = part.get_payload(decode=True)
        charset = part.get_content_charset()
        return stored, decode(data if isinstance(data, bytes) else stored, charset)
    except (DocumentUnreadable, ValueError, LookupError, AssertionError):
        return stored, None


def _is_raw(text: str) -> bool:
    return all(char < "\x80" or "\udc80" <= char <= "\udcff" for char in text)


def _header(message: Message, name: str) -> str:
    try:
        return " ".join(_decoded(str(message.get(name, ""))).split())[:_MAX_HEADER]
    except (ValueError, LookupError):
        return ""


def _decoded(value: str) -> str:
    """A header in plain letters: `=?utf-8?q?caf=C3=A9?=` is "café"; one that cannot be decoded stays as it is."""
    value = value[: 4 * _MAX_HEADER]
    try:
        if "=?" in value:
            return clean(str(make_header(decode_header(value))))
        return clean(decode(value.encode("utf-8", "surrogateescape")))
    except (ValueError, LookupError, DocumentUnreadable, email.errors.MessageError):
        return clean(value)


def _heading(message: Message, subject: str) -> str:
    sender = " ".join(_NAME.sub("", _header(message, "From")).split()) or _header(message, "From")
    facts = [fact for fact in (sender[:60], _header(message, "Date")[:40]) if fact]
    return f"{subject[:100] or '(no subject)'} ({', '.join(facts)})" if facts else subject[:100] or "(no subject)"


class _Source:
    """Finds stored payloads in the message's bytes, in order, so that their lines are known."""

    def __init__(self, data: bytes, first_line: int) -> None:
        self._data = data
        self._position = 0
        self._line = first_line

    def line_of(self, stored: bytes) -> int:
        """The line on which `stored` begins; where it is not found, the line of what was found before."""
        found = self._data.find(stored[:4096], self._position) if stored.strip() else -1
        if found >= 0:
            self._line += self._data.count(b"\n", self._position, found)
            self._position = found
        return self._line

    def lines(self, stored: bytes, encoding: str) -> Callable[[int], int]:
        """Decoded line (1 is the first) → line of the file."""
        first = self.line_of(stored)
        if encoding == "base64" or encoding.startswith("x-"):
            return lambda _: first
        if encoding != "quoted-printable":
            return lambda number: first + number - 1
        starts, continued = [], False
        for number, line in enumerate(stored.split(b"\n")):
            if not continued:
                starts.append(first + number)
            continued = bool(_SOFT_BREAK.search(line))
        return lambda number: starts[min(number, len(starts)) - 1]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
