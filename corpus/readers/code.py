"""Source code: the source is the text, so a line number is the file's own; classes and functions are its headings.

Knows the words that begin a definition in the usual languages, not their grammars: what it takes for a definition by mistake
costs a heading, never a character of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from corpus.readers.text import in_parts
from corpus.reading import Block, HeadingPath, Reading

_BEFORE = r"(?:(?:export|default|declare|public|private|protected|internal|static|final|abstract|async|unsafe|virtual|override"
_BEFORE += r"|inline|extern|sealed|open|data|pub(?:\([^)\n]{1,40}\))?)[ \t]+){0,6}"
_WORDS = (
    "def|class|function|fn|func|fun|struct|enum|trait|impl|interface|namespace|module|protocol|object|record|type|mod|sub|"
    "defmodule|defp|message|service|resource|PROCEDURE|FUNCTION"
)
_DEFINITION = re.compile(rf"{_BEFORE}(?:{_WORDS})\b[*!]?[ \t]{{0,8}}[^\s=][^\n]{{0,400}}")
_C_FUNCTION = re.compile(r"[A-Za-z_][\w:<>,*&~ \t]{0,160}[ \t*&][\w:~]{1,80}\([^;\n]{0,300}$")  # from the first column
_SQL = re.compile(
    r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|INDEX|FUNCTION|PROCEDURE|TRIGGER)\b[^\n]{0,200}", re.IGNORECASE
)
_NOT_A_NAME = re.compile(
    r"\s*(?:return|else|if|while|for|switch|case|throw|new|goto|typedef|using|import|from|package)\b"
)
_LEADS = re.compile(
    r"\s*(?://|/\*|\*|#|--|;|@|\[\w|'''|\"\"\")"
)  # comments and decorators above a definition are part of it
_NEUTRAL = re.compile(  # says nothing about which definitions are over
    rf"{_LEADS.pattern}|[{{}}()\[\]]|end\b|else\b|[\w ]{{1,80}}:$"
)
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_NAME_END = re.compile(r"[({:=;]|\s\bwhere\b|->|=>|\s*$")
_MAX_INDENT_LEVELS = 6
_TAB = 4  # columns


def parts(file: BinaryIO) -> Iterator[Reading]:
    """Blocks are stretches without an empty line; a definition begins one, and heads what is indented below it."""
    headings = HeadingPath()
    yield from in_parts(file, "code", lambda text: _blocks(text, headings))


def _blocks(text: str, headings: HeadingPath) -> list[Block]:
    cutter = _Cutter(text, headings)
    for line in _LINE.finditer(text):
        cutter.take(line)
    cutter.close()
    return cutter.blocks


class _Cutter:
    """Takes line after line that is not blank, closes a block where one ends."""

    def __init__(self, text: str, headings: HeadingPath) -> None:
        self.blocks: list[Block] = []
        self._text = text
        self._headings = headings
        self._start = self._end = -1  # of the open block; -1: none is open
        self._lead = -1  # where the comments and decorators right above the next line begin; -1: there are none
        self._lead_after = -1  # the end of the open block without them

    def take(self, line: re.Match[str]) -> None:
        if self._start >= 0 and self._text.count("\n", self._end, line.start()) > 1:
            self.close()
        source = line.group()
        name = _defined(source)
        if name:
            self._define(line, name)
            return
        code = source.strip()
        neutral = bool(_NEUTRAL.match(code))
        if not neutral and self._headings.path and self._left(source):
            self._keep_apart()
        if self._start < 0:
            self._start = _first_letter(line)
        if neutral and _LEADS.match(code):
            self._lead, self._lead_after = (
                (_first_letter(line), self._end) if self._lead < 0 else (self._lead, self._lead_after)
            )
        else:
            self._lead = -1
        self._end = line.end()

    def close(self) -> None:
        """End the open block, if there is one."""
        self._add(self._end)

    def _define(self, line: re.Match[str], name: str) -> None:
        start = _first_letter(line)
        if self._lead >= 0:
            start = self._lead
            self._add(self._lead_after)
        self.close()
        path = self._headings.enter(_level(line.group()), name)
        self.blocks.append(Block("heading", start, line.end(), path))

    def _left(self, source: str) -> bool:
        """Whether this line stands outside of the definitions that were open; they are ended."""
        self._path_before = self._headings.path
        return self._headings.leave(_level(source))

    def _keep_apart(self) -> None:
        if self._start >= 0:
            self.blocks.append(Block("code", self._start, self._end, self._path_before))
            self._start = self._lead = -1

    def _add(self, end: int) -> None:
        if 0 <= self._start < end:
            self.blocks.append(Block("code", self._start, end, self._headings.path))
        self._start = self._lead = -1


def _first_letter(line: re.Match[str]) -> int:
    return line.end() - len(line.group().lstrip())


def _defined(line: str) -> str:
    """The head of a definition that begins on this line, without its arguments; empty when none does."""
    code = line.strip()
    found = _DEFINITION.match(code) or _SQL.match(code) or (_C_FUNCTION.match(line) if "(" in line else None)
    if found is None or _NOT_A_NAME.match(code):
        return ""
    head = code[: found.end()]
    end = _NAME_END.search(head, 1)
    return " ".join((head[: end.start()] if end else head).split())[:120]


def _level(line: str) -> int:
    indent = len(line.expandtabs(_TAB)) - len(line.lstrip())
    return 1 + min(max(indent, 0) // 2, 2 * _MAX_INDENT_LEVELS)
