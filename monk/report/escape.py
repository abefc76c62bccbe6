"""Plain text as Markdown that shows exactly that text: nothing in it becomes markup, and the structure around it holds.

Escapes as little as CommonMark and its table and strikethrough extensions allow, because the report is read in terminals.
"""

from __future__ import annotations

import re

_ENTITY = re.compile(r"&(?=#[0-9xX]|[A-Za-z][A-Za-z0-9]*;)")
_CITATION = re.compile(r"\[\d{1,4}\](?![(\[:])")  # "[3]" alone is text: no reference in the report is ever defined
_SPECIAL = re.compile(r"[\\`*<|\[]|_|~(?=~)|(?<=~)~")
_STARTS = re.compile(r"#{1,6}(?=\s|$)|[-+](?=\s|$)|>|=|~{3}|[-:=|\s]+$")
_NUMBERED = re.compile(r"(\d{1,9})([.)])(?=\s|$)")


def escape(text: str) -> str:
    """One or several lines; call with whole lines, since a line's beginning is escaped more than its middle."""
    return "\n".join(_escape_line(line) for line in text.split("\n"))


def literal(text: str) -> str:
    """Several lines shown one below the other as they stand, indentation included; blank lines begin paragraphs."""
    lines = [_indented(line.rstrip()) for line in text.strip("\n").split("\n")]
    return "\n".join(
        line + "  " if line and following else line for line, following in zip(lines, [*lines[1:], ""], strict=True)
    )


def code(text: str) -> str:
    """A code span holding one line exactly; empty text gives an empty string."""
    if not text:
        return ""
    fence = "`" * (_longest_run(text) + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}"


def fenced(text: str, info: str = "") -> list[str]:
    """A code block that nothing inside can close."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return [fence + info, *text.rstrip("\n").split("\n"), fence]


def quoted(lines: list[str]) -> list[str]:
    """The lines as a block quote."""
    return [f"> {line}".rstrip(" ") if not line.endswith("  ") else f"> {line}" for line in lines]


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _indented(line: str) -> str:
    stripped = line.lstrip(" \t")
    indent = line[: len(line) - len(stripped)].expandtabs(4)
    return "\u00a0" * len(indent) + _escape_line(stripped)


def _escape_line(line: str) -> str:
    line = line.lstrip(" \t")
    pieces, start = [], 0
    for match in _SPECIAL.finditer(line):
        if _must_escape(line, match):
            pieces.append(line[start : match.start()] + "\\")
            start = match.start()
    escaped = _ENTITY.sub(r"\\&", "".join(pieces) + line[start:])
    return _escape_end(_escape_start(escaped))


def _must_escape(line: str, match: re.Match[str]) -> bool:
    at, character = match.start(), match.group()
    before, after = line[at - 1 : at] if at else "", line[at + 1 : at + 2]
    if character == "_":  # inside a word it is a letter
        return not (before.isalnum() and after.isalnum())
    if character == "*":  # between spaces it multiplies
        return not (before.isspace() and after.isspace())
    if character == "[":
        return _CITATION.match(line, at) is None
    return True


def _escape_start(line: str) -> str:
    if _STARTS.match(line):
        return "\\" + line
    return _NUMBERED.sub(r"\1\\\2", line, count=1) if _NUMBERED.match(line) else line


def _escape_end(line: str) -> str:
    """A closing run of # would vanish from a heading; trailing blanks would break the line."""
    line = line.rstrip(" \t")
    return line[:-1] + "\\#" if line.endswith("#") and not line.endswith("\\#") else line
