"""The gate for text that people, models and documents wrote: what passes can harm neither a terminal nor a file.

Knows nothing of Markdown or HTML; each of those escapes for itself. The untouched text stays in the job.
"""

from __future__ import annotations

import math
import re
from typing import Any

REPLACED = "\ufffd"
_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_HARMFUL = re.compile(
    "["
    "\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1: terminals obey them
    "\u202a-\u202e\u2066-\u2069"  # bidi overrides and isolates: text that reads otherwise than it stands
    "\ufeff\ufff9-\ufffb\ufffe\uffff"  # marks and non-characters
    "\ud800-\udfff"  # halves of characters, which no file can hold
    "\U000e0000-\U000e007f"  # invisible tags
    "]"
)
_SPACES = re.compile(r"\s+")


def plain(value: object) -> str:
    """Several lines of harmless text: newlines are newlines, harmful characters become U+FFFD. None is empty."""
    if value is None:
        return ""
    return _HARMFUL.sub(REPLACED, _BREAKS.sub("\n", str(value)))


def one_line(value: object, most_characters: int = 1000) -> str:
    """Harmless text without newlines, cut with an ellipsis."""
    return cut(_SPACES.sub(" ", plain(value)).strip(), most_characters)


def cut(text: str, most_characters: int) -> str:
    """The beginning of a text, with an ellipsis if something was left off; at a word's end if one is near."""
    if len(text) <= most_characters:
        return text
    head = text[: most_characters - 1]
    space = head.rfind(" ", max(0, len(head) - 24))
    return (head[:space] if space > 0 else head).rstrip() + "…"


def harmless(value: Any, most_characters: int = 2000) -> Any:
    """JSON with every text scrubbed and cut, and numbers that JSON cannot say as null."""
    if isinstance(value, dict):
        return {one_line(key, 200): harmless(item, most_characters) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(item, most_characters) for item in value]
    if isinstance(value, str):
        return cut(plain(value), most_characters)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
