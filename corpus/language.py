"""Which language a text is in, as far as the program's own words and the reading of numbers depend on it.

Counts letters and function words; knows English, Russian, German, French and Chinese. What it cannot tell is English.
"""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "ru", "de", "fr", "zh"]

_LETTERS = re.compile(r"[^\W\d_]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_WORD = re.compile(r"[a-zà-öø-ÿœß]+")
_SCRIPT_SHARE = 0.3  # of the letters: names of models and formats are Latin in every language
_MOST_CHARACTERS = 4000  # enough to know, however long the text
_ENGLISH = """
the of and to is are was were be does do did how what which when why who where that this with for from by on at it its as
not can has have should
"""
_GERMAN = """
der die das den dem des ein eine einen einem einer und oder ist sind war wird werden wie was welche welcher welches wann
warum wer wo wohin mit für von vom zum zur im ins auf aus bei nicht kein keine es er sie ich wir kann hat haben hier viel
viele nach über durch pro
"""
_FRENCH = """
le la les un une des du de et ou est sont était a à au aux que qui quel quelle quels quelles quand pourquoi comment combien
où dans pour par sur avec sans ne pas ce cette ces il elle ils se son sa ses l d qu n en faut peut
"""
_FUNCTION_WORDS: dict[Language, frozenset[str]] = {
    "en": frozenset(_ENGLISH.split()),
    "de": frozenset(_GERMAN.split()),
    "fr": frozenset(_FRENCH.split()),
}


def language_of(text: str) -> Language:
    """The language of a question, an answer or a sentence of a document."""
    text = text[:_MOST_CHARACTERS]
    letters = len(_LETTERS.findall(text))
    if not letters:
        return "en"
    if len(_HAN.findall(text)) >= _SCRIPT_SHARE * letters:
        return "zh"
    if len(_CYRILLIC.findall(text)) >= _SCRIPT_SHARE * letters:
        return "ru"
    words = _WORD.findall(text.lower())
    counts = {language: sum(word in known for word in words) for language, known in _FUNCTION_WORDS.items()}
    return max(counts, key=lambda language: counts[language])  # of equals the first, English
