"""Sentences and search terms in the languages that people write in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.sentences import sentences
from corpus.terms import numbers, query_terms, terms


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    "parts",
    [
        ["One ends here.", "Another begins!", "Does a third?"],
        ["Dr. Smith measured 3.5 GB, e.g. on a server, see Fig. 2 there.", "It was enough."],
        ["Монах читает ночью.", "Утром он пишет отчёт!", "А что потом?"],
        ["Это было в 1837 г. и т. е. давно, см. рис. 5 там.", "А. С. Пушкин умер.", "Конец."],
        ["Das gilt z. B. am 3. Mai und d. h. immer.", "Danach gilt es nicht mehr."],
        ["Le modèle tient, p. ex. en mémoire.", "«Il lit la nuit.»", "Puis il écrit."],
        ["模型在夜间运行。", "早上有一份报告！", "你相信吗？"],
        ['"Is it true?"', "He said so."],
        ["It is 12.", "Then it was over."],
        ["The answer is no.", "Pump No. 5 is new."],
    ],
)
def test_sentences_end_where_a_reader_ends_them(parts: list[str]) -> None:
    joiner = "" if "。" in parts[0] else " "
    assert split(joiner.join(parts)) == parts


def test_a_line_break_alone_does_not_end_a_sentence_but_an_empty_line_does() -> None:
    assert split("One sentence\nover two lines\n\nand another") == ["One sentence\nover two lines", "and another"]


@given(st.text(alphabet='aБ.!? \n。"1'))
def test_no_letter_is_lost_between_sentences(text: str) -> None:
    assert "".join("".join(piece.split()) for piece in split(text)) == "".join(text.split())


def test_russian_endings_do_not_part_a_question_from_its_answer() -> None:
    assert set(query_terms("Сколько памяти занимают модели?")) & set(terms("Модель занимает память сервера"))


def test_chinese_is_searched_by_pairs() -> None:
    assert terms("审计日志") == ["审计", "计日", "日志"]


def test_stop_words_are_not_searched_for_unless_they_are_all_there_is() -> None:
    assert query_terms("What is the size of it?") == ["size"]
    assert query_terms("to be or not to be") == ["to", "be", "or", "not"]


def test_numbers_are_kept_as_written() -> None:
    assert numbers("3.5 GB of 1,024 and 16 experts") == {"3.5", "1,024", "16"}


def test_chinese_question_words_are_not_looked_for() -> None:
    assert query_terms("北厅的水泵什么时候修好的？") == ["北厅", "厅的", "的水", "水泵", "修好", "好的"]
    assert query_terms("为什么？") == ["为什", "什么"], "unless nothing else is there"
