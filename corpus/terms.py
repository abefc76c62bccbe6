"""Text to search terms, the same for passages and questions: lower case, stems, pairs of Chinese or Japanese characters.

SQLite's own tokenizer leaves a Chinese sentence as one word and knows no Russian endings; so the index holds these terms.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from functools import lru_cache
from typing import Any

TERMS_VERSION = 1  # part of the index key

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_STOP_WORDS_TEXT = """
a an and are as at be been but by can could did do does for from had has have how i if in into is it its may might more most
no not of on or our should so such than that the their them then there these they this those to was we were what when where
which while who whom why will with would you your
и в во не что он на я с со как а то все она так его но да ты к у же вы за бы по только ее мне было вот от меня еще нет о из
ему теперь когда даже ну ли если уже или ни быть был него до вас нибудь вам там потом себя ничего ей может они тут где есть
надо ней для мы тебя их чем была сам без будто чего раз тоже себе под будет кто этот того потому этого какой ним здесь этом
один почти мой тем чтобы это какие каков сколько который которая которые почему
aber als am an auch auf aus bei bin bis da dann das dass dem den der des die doch du durch ein eine einem einen einer er es
für hat haben hier ich ihr ihre im in ist ja kann kein keine man mit nach nicht noch nur ob oder ohne sehr sich sie sind so
über um und uns unter vom von vor war was weil wenn wer wie wir wird wo zu zum zur warum welche welcher
au aux avec ce ces cet cette dans de des du elle en est et eux il ils je la le les leur lui ma mais me mes moi mon ne nos
notre nous on ou où par pas pour qu que quel quelle qui sa sans ses son sont sur ta te tu un une vos votre vous y comment
pourquoi combien quand
"""
_STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
# Chinese asks inside the run of characters: cut out, so that no pair of a question word is looked for in an answer
_ASKING = re.compile("为什么|为何|什么时候|什么|怎么样|怎么|怎样|如何|哪里|哪儿|哪些|哪个|多少|是否|吗|呢")
_LATIN_TO = 0x250
_CYRILLIC = range(0x400, 0x530)
_lock = threading.Lock()
_stemmers: dict[str, Any] = {}


def terms(text: str) -> list[str]:
    """The terms of a text in order, repeated as they are; stop words included (a passage is stored whole)."""
    found: list[str] = []
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).lower().replace("ё", "е")):
        word = match.group()
        if _CJK.search(word):
            found += _pairs(word)
        else:
            found.append(_stem(word))
    return found


def query_terms(text: str) -> list[str]:
    """The distinct terms worth searching for, in order: without stop words unless nothing else is there."""
    return list(dict.fromkeys(terms(" ".join(query_words(text))) or terms(text)))


def query_words(text: str) -> list[str]:
    """The distinct words behind `query_terms`, in lower case as a person would write them."""
    plain = _ASKING.sub(" ", unicodedata.normalize("NFKC", text).lower().replace("ё", "е"))
    return list(dict.fromkeys(word for word in _WORD.findall(plain) if word not in _STOP_WORDS))


def numbers(text: str) -> set[str]:
    """The numbers in a text as written, thousands and decimals kept apart: "3.5", "1,024", "2"."""
    return set(_NUMBER.findall(text))


def _pairs(word: str) -> list[str]:
    """Overlapping pairs of a run without spaces; other letters inside it stay words."""
    found: list[str] = []
    position = 0
    for run in _CJK.finditer(word):
        if run.start() > position:
            found.append(_stem(word[position : run.start()]))
        characters = run.group()
        found += [characters[i : i + 2] for i in range(max(1, len(characters) - 1))]
        position = run.end()
    if position < len(word):
        found.append(_stem(word[position:]))
    return found


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """The stem by the rules of the alphabet: Russian for Cyrillic, English for Latin; numbers and others as they are."""
    if len(word) < 3 or any(char.isdigit() for char in word):
        return word
    first = ord(word[0])
    language = "russian" if first in _CYRILLIC else "english" if first < _LATIN_TO else ""
    if not language:
        return word
    with _lock:  # the stemmers keep state while they work
        return str(_stemmer(language).stemWord(word))


def _stemmer(language: str) -> Any:
    if language not in _stemmers:
        import snowballstemmer

        _stemmers[language] = snowballstemmer.stemmer(language)
    return _stemmers[language]
