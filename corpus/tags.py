"""The tags that a document carries itself: `tags` or `keywords` of its front matter, its fields or its properties. Pure.

Two tags are the same whatever their case and white space; a leading `#` is how some programs write one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_TAGS = 64  # a document with more has a glossary in its properties
MAX_CHARACTERS = 100
_PARTED = re.compile(r"[,;，；、\n]")


def normal(tag: str) -> str:
    """The form in which tags are compared and stored."""
    return " ".join(tag.split()).lstrip("#").strip().casefold()


def tags_of(*values: object) -> tuple[str, ...]:
    """Tags of what a document says of itself: texts with commas or semicolons between, or lists of such; the rest is left out.

    Each once, in their order.
    """
    found = (normal(one) for value in values for text in _texts(value) for one in _PARTED.split(text))
    kept = dict.fromkeys(tag for tag in found if tag and len(tag) <= MAX_CHARACTERS and tag.isprintable())
    return tuple(kept)[:MAX_TAGS]


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return (str(one) for one in value if isinstance(one, (str, int, float)))
    return ()
