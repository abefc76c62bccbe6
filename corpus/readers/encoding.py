"""Bytes to clean text: the encoding found, line ends made one, and everything removed that could steer a terminal, hide
words from people or reorder them. Line numbers stay those of the file."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from monk.errors import DocumentUnreadable

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SNIFF_BYTES = 256 * 1024  # enough to know an alphabet by, little enough to stay quick
_TEXT_PER_NUL = 100  # a torn log may hold some zero bytes; a program holds many
_ESCAPES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, clearing
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"  # OSC, DCS: titles, links, clipboard
    "|\x1b[ -/]*[0-~]?"  # the short ones
)
_CONTROLS = (
    *(code for code in range(0x20) if chr(code) not in "\n\t"),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),  # bidirectional overrides: text would read otherwise than it stands
    *range(0x2066, 0x206A),
    *range(0xE0000, 0xE0080),  # invisible "tag" letters
    0xFEFF,
)
_REMOVED: dict[int, None] = dict.fromkeys(_CONTROLS)
_SURROGATES = re.compile("[\ud800-\udfff]")


class Encoding(NamedTuple):
    """How bytes become text; what cannot be decoded becomes U+FFFD."""

    name: str
    skip_bytes: int = 0  # of a byte order mark


def decode(data: bytes, declared: str | None = None) -> str:
    """The text of a file: by its BOM, as UTF-8, as `declared` in the file, else by its statistics.

    Raises DocumentUnreadable when the bytes are not text.
    """
    encoding = detected(data, lambda: _decodes(data, "utf-8"), declared)
    return clean(data[encoding.skip_bytes :].decode(encoding.name, "replace"))


def detected(data: bytes, is_utf8: Callable[[], bool], declared: str | None = None) -> Encoding:
    """The encoding of a file that begins with `data`; `is_utf8` looks at all of it.

    Raises DocumentUnreadable when the bytes are not text.
    """
    for bom, name in _BOMS:
        if data.startswith(bom):
            return Encoding(name, len(bom))
    sample = data[:_SNIFF_BYTES]
    if sample.count(0) > len(sample) // _TEXT_PER_NUL:
        raise DocumentUnreadable("is not text; convert it to one of the formats the monk reads (see README)")
    if is_utf8():
        return Encoding("utf-8")
    if declared is not None and _decodes(data, declared):  # a wrong declaration is common: then statistics decide
        return Encoding(declared)
    return Encoding(_best_guess(data) or _almost_utf8(data))


def clean(text: str) -> str:
    """One kind of line end; no control characters but newline and tab, no terminal escapes, nothing invisible that steers."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in text or any(code in text for code in "\x9b\x9d\x90\x98\x9e\x9f"):
        text = _ESCAPES.sub("", text)
    return _SURROGATES.sub("\ufffd", text.translate(_REMOVED))


def _decodes(data: bytes, name: str) -> bool:
    try:
        return isinstance(data.decode(name), str)
    except (LookupError, ValueError):  # also of "encodings" that are none, such as base64
        return False


def _best_guess(data: bytes) -> str | None:
    """The most likely legacy encoding; None when none fits."""
    from charset_normalizer import from_bytes

    sample = data[:_SNIFF_BYTES]
    match = from_bytes(sample).best()
    if match is None:
        return None
    letters = sum(unicodedata.category(char)[0] in "LNPZ" or char in "\n\t\r" for char in str(match)[:4096])
    return match.encoding if letters > 0.7 * min(len(str(match)), 4096) else None


def _almost_utf8(data: bytes) -> str:
    """UTF-8, for text with a few broken bytes. Raises DocumentUnreadable when it is not text at all."""
    text = data[:_SNIFF_BYTES].decode("utf-8", "replace")
    if text.count("\ufffd") > len(text) // 20:
        raise DocumentUnreadable("is not text in any known encoding; save it as UTF-8")
    return "utf-8"
