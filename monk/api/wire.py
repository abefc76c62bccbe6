"""JSON as it crosses the wire. In: nothing that would break SQLite, JSON or a reader later on. Out: readable text in which
no terminal finds an order.

Knows bytes and values; knows nothing of jobs or routes.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from starlette.responses import Response

from monk.errors import InvalidInput

MOST_DEPTH = 64  # lists in lists: nobody asks a question this way, and every reader after us recurses
MOST_INTEGER = 2**63  # what SQLite and most readers of JSON can hold
_UNSAFE = re.compile(r"[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_Place = tuple[Any, str | int] | None  # (place of the parent, key or index); None: the body itself


class JsonResponse(Response):
    """A value as JSON, for programs and for people with curl."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return dump(content).encode()


def dump(value: Any) -> str:
    """One line of JSON. Letters of every language stand as they are; what a terminal might obey is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def load(text: str) -> Any:
    """A JSON value, looked through. Control characters may stand unescaped in strings: shells put them there.

    Raises InvalidInput for what is no JSON, twice the same key, NaN, infinity, integers beyond 64 bits, nesting beyond
    MOST_DEPTH, U+0000 and halves of surrogate pairs, and says where.
    """
    try:
        value = json.loads(text, strict=False, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as exc:
        raise InvalidInput(f"the body is no JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}") from exc
    except RecursionError as exc:
        raise InvalidInput(f"the body is nested deeper than {MOST_DEPTH} levels; send a flatter one") from exc
    except ValueError as exc:  # int() refuses thousands of digits
        raise InvalidInput("the body holds a number with too many digits; send it as text") from exc
    look_through(value)
    return value


def decode(body: bytes) -> str:
    """The body as text, without a byte order mark. Raises InvalidInput naming the first byte that is no UTF-8."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InvalidInput(
            f"the body is no UTF-8 at byte {exc.start} (0x{body[exc.start]:02x}); convert it first (iconv -t utf-8)"
        ) from exc


def look_through(value: Any) -> None:
    """Raises InvalidInput, naming the place, for anything in a parsed value that could not be kept and given back."""
    todo: list[tuple[Any, _Place, int]] = [(value, None, 1)]
    while todo:
        item, place, depth = todo.pop()
        if isinstance(item, dict):
            _fits(depth, place)
            for key, inner in item.items():
                _check_text(key, place)
                todo.append((inner, (place, key), depth + 1))
        elif isinstance(item, list):
            _fits(depth, place)
            todo.extend((inner, (place, index), depth + 1) for index, inner in enumerate(item))
        elif isinstance(item, str):
            _check_text(item, place)
        elif isinstance(item, int | float):
            _check_number(item, place)


def _fits(depth: int, place: _Place) -> None:
    if depth > MOST_DEPTH:
        raise InvalidInput(f"{_spell(place)[:80]}… is nested deeper than {MOST_DEPTH} levels; send a flatter body")


def _check_text(text: str, place: _Place) -> None:
    if "\x00" in text:
        raise _refused(place, f"contains U+0000 at character {text.index(chr(0))}; remove it")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            what = f"\\u{ord(text[exc.start]):04x}"
            raise _refused(place, f"contains half of a surrogate pair ({what}) at character {exc.start}") from exc


def _check_number(number: int | float, place: _Place) -> None:
    if isinstance(number, float):
        if not math.isfinite(number):
            raise _refused(place, "is a number too large to keep; send it as text")
    elif not -MOST_INTEGER <= number < MOST_INTEGER:
        raise _refused(place, "is an integer beyond 64 bits; send it as text")


def _refused(place: _Place, why: str) -> InvalidInput:
    name = _spell(place)
    return InvalidInput(f"{name} {why}", param=None if place is None else name)


def _spell(place: _Place) -> str:
    parts: list[str] = []
    while place is not None:
        place, key = place
        parts.append(key if isinstance(key, str) and key.isprintable() else str(key) if key != "" else "''")
    return ".".join(reversed([part.encode("ascii", "backslashreplace").decode() for part in parts])) or "the body"


def _no_constant(name: str) -> Any:
    raise InvalidInput(f"the body holds {name}, which is no JSON; leave it out or send null")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(f"the key {twice[:80]!r} stands twice in one object; send it once", param=twice[:80])
    return found
