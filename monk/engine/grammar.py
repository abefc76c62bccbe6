"""A look at a grammar before llama.cpp parses it. Knows the surface of GBNF only; llama.cpp judges the rest.

That parser is recursive, so deep brackets overflow its stack; nested repetitions multiply until a token takes for ever.
"""

from __future__ import annotations

import re

from monk.errors import InvalidInput

MAX_CHARS = 65536
MAX_DEPTH = 64
MAX_REPETITIONS = 2000  # llama.cpp's own limit for one; here also for one inside another
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|[()]|\{(\d*)(,?)(\d*)\}|::=', re.DOTALL)


def check_grammar(text: str) -> None:
    """Raises InvalidInput for a grammar that could take the engine down."""
    if not text.strip():
        raise _refused("it is empty")
    if len(text) > MAX_CHARS:
        raise _refused(f"it has {len(text)} characters, at most {MAX_CHARS} are allowed")
    if "\0" in text:
        raise _refused("it contains a NUL character")
    _check_nesting(text)


def _check_nesting(text: str) -> None:
    """Walk brackets and repetitions. `inside` holds, for each open bracket, the largest repetition found in it."""
    inside = [1]
    last = 1  # repetitions within the item just ended
    for match in _TOKEN.finditer(text):
        symbol = match.group()
        if symbol == "(":
            inside.append(1)
        elif symbol == ")" and len(inside) > 1:
            last = inside.pop()
            inside[-1] = max(inside[-1], last)
        elif symbol.startswith("{"):
            times = max(int(digits or 0) for digits in (match.group(1)[:9], match.group(3)[:9]))
            last *= max(1, times)
            inside[-1] = max(inside[-1], last)
        elif not symbol.startswith("#"):
            last = 1
        if len(inside) > MAX_DEPTH:
            raise _refused(f"its brackets are nested more than {MAX_DEPTH} deep")
        if inside[-1] > MAX_REPETITIONS:
            raise _refused(f"it repeats something more than {MAX_REPETITIONS} times")


def _refused(reason: str) -> InvalidInput:
    return InvalidInput(f"the grammar cannot be used: {reason}", param="grammar")
