"""Markdown tokens written as Markdown again, in one plain form: everything closed, everything escaped.

Knows the tokens that `prose.parse` lets through, and nothing of jobs. Blocks recurse at most as deep as the parser nests
them; inline tokens are walked flat, however deep a hostile text nests its asterisks.
"""

from __future__ import annotations

from collections.abc import Callable

from markdown_it.token import Token

from monk.report.escape import code, escape, fenced, quoted

Blocks = tuple[list[str], int]  # lines, and the index of the token after them
MIDDLE = "\u2060"  # stands before text that begins inside a line, so that it is not escaped as a line's beginning
_MARKS = {
    "em_open": "*",
    "em_close": "*",
    "strong_open": "**",
    "strong_close": "**",
    "s_open": "~~",
    "s_close": "~~",
}


def write(tokens: list[Token]) -> list[str]:
    """Lines, one blank line between blocks."""
    return _blocks(tokens, 0, "")[0]


def _blocks(tokens: list[Token], at: int, until: str, *, tight: bool = False) -> Blocks:
    lines: list[str] = []
    while at < len(tokens) and tokens[at].type != until:
        found, at = _WRITERS.get(tokens[at].type, _skip)(tokens, at)
        if found:
            lines += ["", *found] if lines and not tight else found
    return lines, at + 1


def _skip(tokens: list[Token], at: int) -> Blocks:
    return [], at + 1


def _paragraph(tokens: list[Token], at: int) -> Blocks:
    return inline(tokens[at + 1].children or []).split("\n"), at + 3


def _heading(tokens: list[Token], at: int) -> Blocks:
    text = " ".join(inline(tokens[at + 1].children or []).split())
    return [f"{'#' * int(tokens[at].tag[1])} {text}".rstrip()], at + 3


def _code(tokens: list[Token], at: int) -> Blocks:
    return fenced(tokens[at].content, tokens[at].info), at + 1


def _rule(tokens: list[Token], at: int) -> Blocks:
    return ["* * *"], at + 1


def _quote(tokens: list[Token], at: int) -> Blocks:
    lines, after = _blocks(tokens, at + 1, "blockquote_close")
    return quoted(lines) or [">"], after


def _list(tokens: list[Token], at: int) -> Blocks:
    opening, tight = tokens[at], _is_tight(tokens, at)
    number = int(opening.attrs.get("start", 1)) if opening.type == "ordered_list_open" else None
    lines: list[str] = []
    at += 1
    while tokens[at].type == "list_item_open":
        mark = opening.markup if number is None else f"{number}{opening.markup}"
        inside, at = _blocks(tokens, at + 1, "list_item_close", tight=tight)
        lines += [*([""] if lines and not tight else []), *_item(mark, inside)]
        number = None if number is None else number + 1
    return lines, at + 1


def _is_tight(tokens: list[Token], at: int) -> bool:
    """Whether the list's own paragraphs are hidden, which is how the parser says that no blank line stands between."""
    own = tokens[at].level + 2
    for token in tokens[at + 1 :]:
        if token.level < own - 1:
            break
        if token.type == "paragraph_open" and token.level == own:
            return token.hidden
    return True


def _item(mark: str, lines: list[str]) -> list[str]:
    first, *rest = lines or [""]
    indent = " " * (len(mark) + 1)
    return [f"{mark} {first}" if first else mark, *(indent + line if line else "" for line in rest)]


def _table(tokens: list[Token], at: int) -> Blocks:
    rows: list[list[str]] = []
    styles: list[str] = []
    while tokens[at].type != "table_close":
        token = tokens[at]
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            if token.type == "th_open":
                styles.append(str(token.attrs.get("style", "")))
            rows[-1].append(_cell(tokens[at + 1].children or []))
        at += 1
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], f"|{'|'.join(_delimiter(style) for style in styles)}|", *lines[1:]], at + 1


def _cell(children: list[Token]) -> str:
    for token in children:
        if token.type == "code_inline":
            token.content = token.content.replace("|", "\\|")
    return " ".join(inline(children).split())


def _delimiter(style: str) -> str:
    left, right = ("left" in style or "center" in style), ("right" in style or "center" in style)
    return f"{':' if left else '-'}---{':' if right else '-'}"


def inline(children: list[Token]) -> str:
    """Inline tokens as Markdown; newlines stand for soft and hard breaks."""
    pieces: list[str] = []
    for token in children:
        if token.type in ("softbreak", "hardbreak"):
            pieces.append("\n" if token.type == "softbreak" else "  \n")
        elif token.type == "code_inline":
            pieces.append(code(" ".join(token.content.split("\n"))))
        elif token.type in _MARKS:
            pieces.append(_MARKS[token.type])
        else:
            pieces.append(_words(token.content, at_start=not pieces or pieces[-1].endswith("\n")))
    return "".join(pieces).strip("\n")


def _words(text: str, at_start: bool) -> str:
    """Escaped text; blanks at its ends belong to the sentence, except at a line's beginning."""
    left = "" if at_start else text[: len(text) - len(text.lstrip(" "))]
    right = text[len(text.rstrip(" ")) :] if text.strip(" ") else ""
    words = escape(text.strip(" ")) if at_start else escape(MIDDLE + text.strip(" "))[1:]
    return left + words + right


_WRITERS: dict[str, Callable[[list[Token], int], Blocks]] = {
    "paragraph_open": _paragraph,
    "heading_open": _heading,
    "fence": _code,
    "code_block": _code,
    "hr": _rule,
    "blockquote_open": _quote,
    "bullet_list_open": _list,
    "ordered_list_open": _list,
    "table_open": _table,
}
