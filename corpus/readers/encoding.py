"""Bytes to clean text: the encoding found, line ends made one, and everything removed that could steer a terminal, hide
words from people or reorder them. Line numbers stay those of the file."""

from __future__ import annotations

import codecs
import re
import unicodedata

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


def decode(data: bytes, declared: str | None = None) -> str:
    """The text of a file: by its BOM, as UTF-8, as `declared` in the file, else by its statistics.

    Raises DocumentUnreadable when the bytes are not text.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return clean(data[len(bom) :].decode(encoding, "replace"))
    sample = data[:_SNIFF_BYTES]
    if sample.count(0) > len(sample) // _TEXT_PER_NUL:
        raise DocumentUnreadable("is not text; convert it to one of the formats the monk reads (see README)")
    try:
        return clean(data.decode("utf-8"))
    except UnicodeDecodeError:
        return clean(_decode_other(data, declared))


def clean(text: str) -> str:
    """One kind of line end; no control characters but newline and tab, no terminal escapes, nothing invisible that steers."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in text or any(code in text for code in "\x9b\x9d\x90\x98\x9e\x9f"):
        text = _ESCAPES.sub("", text)
    return _SURROGATES.sub("\ufffd", text.translate(_REMOVED))


def _decode_other(data: bytes, declared: str | None) -> str:
    if declared is not None:
        try:
            return data.decode(declared)
        except (LookupError, UnicodeDecodeError):
            pass  # a wrong declaration is common; the statistics below decide
    best = _best_guess(data)
    if best is None:
        return _almost_utf8(data)
    return data.decode(best, "replace")


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
    """UTF-8 with a few broken bytes, which become U+FFFD. Raises DocumentUnreadable when it is not text at all."""
    text = data.decode("utf-8", "replace")
    if text.count("\ufffd") > len(text) // 20:
        raise DocumentUnreadable("is not text in any known encoding; save it as UTF-8")
    return text
