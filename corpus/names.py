"""Names in a text: words that mean one thing or person, so that a statement on Qwen3-32B is not borne out by one on
Qwen3-30B-A3B, nor one on Boris by one on Anna.

A name is a word with digits or inner capitals in it (Qwen3-32B, q8_0, NUMA, DeepSeek), and a capitalised word, but not in
German, which capitalises every noun, and not at a statement's beginning unless the passage knows no such common word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from corpus.language import language_of
from corpus.numerals import LETTERS, NAME, is_number, unit_of
from corpus.terms import query_terms, terms

_ODD = re.compile(r"\d|(?<=\w)[^\W\d_](?<=[A-ZÀ-ÖØ-ÞА-ЯЁ])")  # a digit, or a capital that is not the first letter
_JOINTS = re.compile(r"[-._–\s]")
_WORD = re.compile(rf"[{LETTERS}]+")
_MARK = "qqq"  # beside it a stop word has no query term of its own


def coded_names(text: str) -> set[str]:
    """Names told by their form alone, in lower case and without hyphens: "Qwen3-32B" is "qwen332b"."""
    return {_JOINTS.sub("", name).lower() for name in spelled_names(text)}


def spelled_names(text: str) -> list[str]:
    """The same as they are written."""
    found = (part for match in NAME.finditer(text) for part in _parts(match.group()))
    return [name for name in found if _ODD.search(name) and unit_of(name) is None]


def _parts(name: str) -> list[str]:
    """Qwen3-30B-A3B is one name; KV-cache is the name KV and a word."""
    return [name] if any(map(str.isdigit, name)) else _JOINTS.split(name)


def missing_names(statement: str, sentence: str, around: str) -> bool:
    """Whether the statement names someone or something that the sentence does not speak of.

    `around`: the passage with its title and headings. A name that stands only there will do if the sentence itself names
    nothing of the kind that the statement does not: "It has 48 layers", under the heading of the model.
    """
    return _missing_coded(statement, sentence, around) or _missing_capitalised(statement, sentence, around)


def _missing_coded(statement: str, sentence: str, around: str) -> bool:
    said, there = coded_names(statement), coded_names(sentence)
    absent = {name for name in said if not any(_same(name, other) for other in there)}
    if not absent:
        return False
    known = coded_names(around)
    rivals = {other for other in there if not any(_same(name, other) for name in said) and any(map(str.isdigit, other))}
    return bool(rivals) or any(not any(_same(name, other) for other in known) for name in absent)


def _same(name: str, other: str) -> bool:
    """The same letters and digits; a plural s or a shorter form of four letters and more ("Qwen3") counts too."""
    return (
        name == other or name.removesuffix("s") == other.removesuffix("s") or (len(name) > 3 and other.startswith(name))
    )


def _missing_capitalised(statement: str, sentence: str, around: str) -> bool:
    if language_of(statement) == "de":
        return False
    in_sentence, in_passage, said = set(terms(sentence)), set(terms(around)), set(terms(statement))
    common = {stem for word in _WORD.findall(around) if word[:1].islower() for stem in terms(word)}
    absent = {stem for place, stem in _capitalised(statement) if not (place == 0 and stem in common)} - in_sentence
    rivals = {stem for _, stem in _capitalised(sentence)} - common - said
    return bool(absent) and (bool(rivals) or not absent <= in_passage)


def _capitalised(text: str) -> Iterator[tuple[int, str]]:
    """(place among the words, stem) of the capitalised words that are neither coded names nor function words."""
    words = [part for match in NAME.finditer(text) for part in _parts(match.group())]
    for place, word in enumerate(words):
        if not word[:1].isupper() or len(word) < 2 or _ODD.search(word) or is_number(word):
            continue
        if query_terms(f"{word} {_MARK}") != [_MARK]:
            yield from ((place, stem) for stem in terms(word))
