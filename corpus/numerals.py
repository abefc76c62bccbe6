"""Numbers as they are written in five languages: their values and units, so that "1 944 000", "1,944,000" and "1.944.000"
are one number, and 12 GB is not 12 GiB. Digits inside a name (Qwen3-32B, q8_0) belong to the name and are no numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from corpus.language import Language, language_of

LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u03ff\u0400-\u052f"
NAME = re.compile(rf"(?<![{LETTERS}0-9_])[{LETTERS}][{LETTERS}0-9]*(?:[-._–][{LETTERS}0-9]+)*")
_SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u2009\u202f", " "))
_NUMBER = re.compile(
    rf"(?<![{LETTERS}0-9_.,])(?P<sign>(?<![^\s(])[-−](?=\d))?"
    r"(?P<body>\d{1,3}(?P<mark>[ ,.'’])\d{3}(?!\d)(?:(?P=mark)\d{3}(?!\d))*(?:[.,]\d{1,40})?|\d{1,40}(?:[.,]\d{1,40})?)"
)
_RANGE = re.compile(r"\s?(?:[-–]|to|and|bis|und|à|et|до|и|至|到)\s?\d{1,40}(?:[.,]\d{1,40})?(?![\d.,]\d)")
_UNIT = re.compile(rf"\s?-?(%|€|\$|£|₽|[{LETTERS}]+|小时|分钟|秒|天|万|亿|字节)")
_HAN_NUMERAL = re.compile(
    "[零〇一二两三四五六七八九十百千万亿]{2,}|[二两三四五六七八九十](?=[个倍次年月日天小分秒层种名件台页行])"
)
_HAN_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000}
_HAN_GROUPS = {"万": 10**4, "亿": 10**8}
_UNITS_TEXT = """
B: byte bytes octet octets байт байта байтов 字节
KB: kb кб Ko
MB: mb мб Mo
GB: gb гб Go
TB: tb тб To
PB: pb пб
KiB: kib киб kio
MiB: mib миб mio
GiB: gib гиб gio
TiB: tib тиб tio
k: k к
ms: ms мс millisecond milliseconds
s: s sec second seconds sekunde sekunden seconde secondes с сек секунда секунды секунд секунду 秒
min: min minute minutes minuten минута минуты минут мин 分钟
h: h hour hours stunde stunden heure heures ч час часа часов 小时
day: day days tag tage tagen jour jours день дня дней сутки суток 天
%: % percent prozent процент процента процентов pourcent
€: € eur euro euros евро
$: $ usd dollar dollars доллар доллара долларов
£: £ gbp
₽: ₽ rub рубль рубля рублей руб
thousand: thousand tausend mille тысяча тысячи тысяч тыс
万: 万
million: million millions millionen миллион миллиона миллионов млн
亿: 亿
billion: billion billions milliarde milliarden milliard milliards миллиард миллиарда миллиардов млрд
"""
_UNITS = {
    alias: unit
    for unit, aliases in (line.split(": ") for line in _UNITS_TEXT.strip().splitlines())
    for alias in aliases.split()
}
_WORDS_TEXT = """
0.5: half halb halbe halben hälfte moitié demi половина половину половины половиной
2: two twice double doubled zwei zweimal doppelt doppelte deux double два две двух вдвое дважды
3: three drei trois три трёх трех втрое
4: four vier quatre четыре четырёх четырех
5: five fünf cinq пять пяти
6: six sechs шесть шести
7: seven sieben sept семь семи
8: eight acht huit восемь восьми
9: nine neun neuf девять девяти
10: ten zehn dix десять десяти
11: eleven elf onze одиннадцать
12: twelve zwölf douze двенадцать
13: thirteen dreizehn treize тринадцать
14: fourteen vierzehn quatorze четырнадцать
15: fifteen fünfzehn quinze пятнадцать
16: sixteen sechzehn seize шестнадцать шестнадцати
17: seventeen siebzehn семнадцать
18: eighteen achtzehn восемнадцать
19: nineteen neunzehn девятнадцать
20: twenty zwanzig vingt двадцать двадцати
30: thirty dreißig trente тридцать тридцати
40: forty vierzig quarante сорок
50: fifty fünfzig cinquante пятьдесят
60: sixty sechzig soixante шестьдесят
70: seventy siebzig семьдесят
80: eighty achtzig восемьдесят
90: ninety neunzig девяносто
100: hundred hundert cent сто
1000: thousand tausend mille тысяча тысячи тысяч
"""
_WORDS = {
    word: Decimal(value)
    for value, words in (line.split(": ") for line in _WORDS_TEXT.strip().splitlines())
    for word in words.split()
}
_PLAIN_WORD = re.compile(rf"[{LETTERS}]+")


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text. `spelled` without spaces; `unit` in one spelling for all languages, None when there is none."""

    value: Decimal
    spelled: str
    unit: str | None = None

    @property
    def decimals(self) -> int:
        """Digits behind the decimal mark: how exactly the writer meant it."""
        return max(0, -int(self.value.as_tuple().exponent))

    def same_as(self, other: Number) -> bool:
        """Equal value or spelling, and no two different units."""
        if self.unit != other.unit and None not in (self.unit, other.unit):
            return False
        return self.value == other.value or self.spelled == other.spelled


def unit_of(word: str) -> str | None:
    """The unit a word stands for, None for any other word. French Go and To count as written: "to" is a word of English."""
    return _UNITS.get(word) or _UNITS.get(word.lower())


def is_number(word: str) -> bool:
    """Whether a word is a number: in digits, or a number word."""
    return word.isdigit() or word.lower() in _WORDS


def numbers_in(text: str) -> list[Number]:
    """Every number of a text: digits, number words from two on, and Chinese numerals. "one" is also an article: left out."""
    plain = text.translate(_SPACES)
    language = language_of(plain)
    return [*_written_in_digits(plain, language), *_written_in_words(plain, language), *_written_in_han(plain)]


def missing(wanted: Iterable[Number], there: Sequence[Number]) -> list[Number]:
    """Those of `wanted` that none of `there` is the same as."""
    return [number for number in wanted if not any(number.same_as(other) for other in there)]


def _written_in_digits(text: str, language: Language) -> Iterator[Number]:
    names = {place for match in NAME.finditer(text) for place in range(*match.span())}
    for match in _NUMBER.finditer(text):
        if match.start("body") in names:
            continue
        value = _value(match["body"], match["mark"], language)
        upper_end = _RANGE.match(text, match.end())  # in "20-40 GB" the 20 is of GB too
        found = _UNIT.match(text, upper_end.end() if upper_end else match.end())
        unit = unit_of(found[1]) if found else None
        yield Number(-value if match["sign"] else value, match["body"].replace(" ", ""), unit)


def _value(body: str, mark: str | None, language: Language) -> Decimal:
    """One group of three after a comma is thousands in English and Chinese; after a point in German. Several groups are."""
    if mark is None:
        return Decimal(body.replace(",", "."))
    groups = body.count(mark)
    decimal_marks = {"en": ".", "zh": ".", "de": ","}.get(language, ".,")
    if groups == 1 and mark in decimal_marks and not re.search(r"[.,]\d+[.,]", body):
        return Decimal(body.replace(",", "."))
    return Decimal(body.replace(mark, "").replace(",", "."))


def _written_in_words(text: str, language: Language) -> Iterator[Number]:
    if language == "zh":
        return
    words = [word.group().lower() for word in _PLAIN_WORD.finditer(text)]
    skip = False
    for word, following in pairwise([*words, ""]):
        value = _WORDS.get(word)
        if skip or value is None or _is_scale(word):
            skip = False
            continue
        unit_value = _WORDS.get(following, Decimal(0))
        skip = 20 <= value < 100 and 2 <= unit_value < 10  # twenty-four
        yield Number(value + unit_value if skip else value, word + following if skip else word)


def _is_scale(word: str) -> bool:
    return _UNITS.get(word) == "thousand"  # after a number it is read as its unit


def _written_in_han(text: str) -> Iterator[Number]:
    for match in _HAN_NUMERAL.finditer(text):
        yield Number(Decimal(_han_value(match.group())), match.group())


def _han_value(numeral: str) -> int:
    """三千二百 is 3200. A row of digits (二〇二六) is read digit by digit."""
    if len(numeral) > 1 and all(char in _HAN_DIGITS for char in numeral):
        return int("".join(str(_HAN_DIGITS[char]) for char in numeral))
    total = section = digit = 0
    for char in numeral:
        if char in _HAN_DIGITS:
            digit = _HAN_DIGITS[char]
        elif char in _HAN_SCALES:
            section += (digit or 1) * _HAN_SCALES[char]
            digit = 0
        else:
            total += max(section + digit, 1) * _HAN_GROUPS[char]
            section = digit = 0
    return total + section + digit
