"""Where sentences end, in languages that end them with . ! ? … and in those that use 。！？. Knows no dictionary but a
short list of abbreviations; when in doubt it does not cut, because half a sentence is worse than two."""

from __future__ import annotations

import re
from itertools import pairwise

Span = tuple[int, int]

_CLOSERS = "\"'”’»«“)\\]}』」）》"
_OPENERS = "\"'“‘«„»(\\[{『「（《¿¡"
_END = re.compile(  # linear, whatever the text: this runs on hostile documents in the daemon itself
    rf"(?P<cjk>[。！？｡]+[{_CLOSERS}]*)"  # nothing need follow
    rf"|(?P<stop>(?<![.!?…])[.!?…]++[{_CLOSERS}]*+)(?:\[\d{{1,4}}\])*+(?=\s)"
    r"|(?P<gap>\n[ \t]*+\n)"
)
_ROW_BREAK = re.compile(r"\n(?=[ \t]*(?:[-*+•|]|\d{1,3}[.)])[ \t])")
_ABBREVIATIONS_TEXT = """
e.g i.e etc cf vs al fig figs eq eqs no nos vol ch sec pp p dr mr mrs ms prof st jr sr inc ltd co corp approx dept est
jan feb mar apr jun jul aug sep sept oct nov dec
z.b d.h u.a bzw ca evtl ggf inkl nr abs art bd hrsg s str usw vgl bspw sog u.u o.ä d.i
m mm mme mlle p.ex c.-à-d env éd av apr réf
т.е т.к т.д т.п т.н др пр г гг в вв руб коп тыс млн млрд ул д стр с рис табл гл см ср напр им акад проф н.э т
"""
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_TEXT.split())  # English, German, French, Russian; without the last dot
_BEFORE_NUMBERS = frozenset(("no", "nos"))  # "No. 5"; "The answer is no." has ended
_MAY_END = frozenset(("etc", "al", "co", "inc", "ltd", "usw", "т.д", "т.п", "др", "пр", "г", "гг", "н.э", "руб"))
_LAST_WORD = re.compile(r"[\w.\-]+\Z")
_MONTH = re.compile(
    r"\s+(?:Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Jahrhundert|Kapitel)"
)


def sentences(text: str) -> list[Span]:
    """Spans of the sentences of `text`, in order, without the white space between them; nothing but white space is lost."""
    spans: list[Span] = []
    start = 0
    for match in _END.finditer(text):
        if match.lastgroup == "stop" and not _ends(text, match.start("stop"), match.end()):
            continue
        _append(spans, text, start, match.end())
        start = match.end()
    _append(spans, text, start, len(text))
    return spans


def units(text: str) -> list[Span]:
    """The sentences, and where one runs over rows of a table or points of a list, each row and point by itself."""
    return [(start + first, start + last) for start, end in sentences(text) for first, last in _rows(text[start:end])]


def _rows(sentence: str) -> list[Span]:
    starts = [0, *(match.end() for match in _ROW_BREAK.finditer(sentence)), len(sentence) + 1]
    return [
        (start, start + len(sentence[start : end - 1].rstrip()))
        for start, end in pairwise(starts)
        if sentence[start : end - 1].strip()
    ]


def _append(spans: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    if left < right:
        spans.append((start + left, start + right))


def _ends(text: str, stop: int, after: int) -> bool:
    """Whether the mark at `stop` ends a sentence; `after` is behind its closing quotes."""
    following = text[after : after + 40].lstrip().lstrip(_OPENERS.replace("\\", ""))
    if following[:1].islower():
        return False
    if text[stop] != "." or text[stop : stop + 2] == "..":
        return True
    found = _LAST_WORD.search(text, max(0, stop - 40), stop)
    if found is None:
        return True
    word = found.group().lower()
    if word in _BEFORE_NUMBERS and not following[:1].isdigit():
        return True
    if word in _ABBREVIATIONS:
        return word in _MAY_END and following[:1].isupper()
    if len(word) == 1 and word.isalpha():
        return False  # an initial: A. S. Pushkin
    if word.isdigit() and len(word) <= 2:
        return _is_real_end_after_number(text, found.start(), after)
    return True


def _is_real_end_after_number(text: str, number: int, after: int) -> bool:
    """ "3." begins a list item, "am 3. Mai" goes on; "in 12 of 40. Then" has ended."""
    line_start = text.rfind("\n", 0, number) + 1
    return bool(text[line_start:number].strip()) and not _MONTH.match(text, after)
