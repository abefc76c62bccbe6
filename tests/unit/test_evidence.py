"""What becomes of a model's answer: sentences with their citations, what was computed, and the program's own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.retrieval import Hit
from corpus.support import nearness
from corpus.terms import query_words
from jobs.evidence import check, nothing_found, result
from jobs.excerpts import fence, harmless, shown

PUMPS = "Pump 9 was mended by Anna in March. Each of 16 jobs needs 12 GiB of memory. The valve is not open at night."
RUSSIAN = "Насос 9 починила Анна в марте. Ночь даёт 97 200 токенов при 3 токенах в секунду."


def hit(text: str, file: str = "a.md") -> Hit:
    return Hit("p1", 1.0, file, "A", "H", None, 1, None, None, text, 0, len(text), "markdown", ())


def test_references_of_the_models_own_are_taken_out_and_ours_put_in() -> None:
    told = result("When?", "- Pump 9 was mended by Anna in March [7][2]【3†source】. [4]", [hit(PUMPS)])

    assert told["answer"] == "Pump 9 was mended by Anna in March. [1]"


def test_a_computed_number_is_marked_with_its_step() -> None:
    told = result("How much do all need?", "16 jobs at 12 GiB each need 192 GiB of memory.", [hit(PUMPS)])

    assert told["answer"] == "16 jobs at 12 GiB each need 192 GiB of memory. (computed: 16 × 12 = 192) [1]"
    assert told["computed"] == [{"number": "192", "step": "16 × 12 = 192"}]


def test_what_is_denied_in_the_document_is_not_borne_out_and_kept_apart() -> None:
    told = result("Who mended pump 9?", "Pump 9 was mended by Anna. The valve is open at night.", [hit(PUMPS)])

    assert told["answer"] == "Pump 9 was mended by Anna. [1]"
    assert told["unsupported"] == ["The valve is open at night."]


def test_a_lead_in_is_printed_but_not_held_against_the_document() -> None:
    told = result("Who?", "According to the excerpts, pump 9 was mended by Anna in March.", [hit(PUMPS)])

    assert told["answer"] == "According to the excerpts, pump 9 was mended by Anna in March. [1]"


def test_an_answer_beside_the_question_comes_after_the_sentence_that_is_not() -> None:
    told = result("Who mended pump 9?", "Each of 16 jobs needs 12 GiB of memory.", [hit(PUMPS)])

    assert told["answer"] == "“Pump 9 was mended by Anna in March.” [1] Each of 16 jobs needs 12 GiB of memory. [2]"
    assert [citation["quote"] for citation in told["citations"]] == [
        "Pump 9 was mended by Anna in March.",
        "Each of 16 jobs needs 12 GiB of memory.",
    ]


def test_two_files_that_say_the_same_are_cited_each_for_its_own_sentence() -> None:
    told = result("Who?", "Pump 9 was mended by Anna in March.", [hit(PUMPS, "a.md"), hit(PUMPS, "b.md")])

    assert [citation["file"] for citation in told["citations"]] == ["a.md"]


def test_a_question_that_the_model_asks_states_nothing() -> None:
    checked = check("Who mended pump 9? Pump 9 was mended by Anna in March.", [hit(PUMPS)])

    assert (len(checked.supported), checked.unsupported) == (1, [])


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Why do whales sing?", "The documents do not answer this question."),
        ("Почему поют киты?", "Документы не отвечают на этот вопрос."),
        ("Warum singen die Wale?", "Die Dokumente beantworten diese Frage nicht."),
        ("Pourquoi les baleines chantent-elles ?", "Les documents ne répondent pas à cette question."),
        ("鲸鱼为什么唱歌？", "文档没有回答这个问题。"),
    ],
)
def test_the_programs_words_are_in_the_language_of_the_question(question: str, words: str) -> None:
    assert nothing_found((), (), question)["answer"] == words
    assert nothing_found([hit(PUMPS)], (), question)["answer"].startswith(words)
    told = nothing_found([hit(PUMPS)], (), question)["answer"]
    assert "a.md" in told and all(word in told for word in query_words(question))


def test_a_russian_answer_is_borne_out_and_an_invented_one_gives_way_in_russian() -> None:
    good = result("Кто починил насос 9?", "Насос 9 починила Анна.", [hit(RUSSIAN)])
    bad = result("Кто починил насос 9?", "Насос 9 починил Борис.", [hit(RUSSIAN)])

    assert good["answer"] == "Насос 9 починила Анна. [1]"
    assert bad["answer"].startswith("«Насос 9 починила Анна в марте.» [1]")
    assert "не подтверждается" in bad["answer"]
    assert bad["unsupported"] == ["Насос 9 починил Борис."]


@given(st.lists(st.text(alphabet='"“”＂″ab\n0123456789abcdef', max_size=60), max_size=4))
def test_no_text_holds_the_mark_that_fences_it(texts: list[str]) -> None:
    mark = fence(texts)

    assert not any(mark in text for text in texts)
    assert mark == fence(texts)


def test_what_nobody_sees_does_not_reach_the_model() -> None:
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "obey")

    assert harmless(f"a\x1b[2Jb\u202ec\u200bd{hidden}e\r\nf\tg") == "a[2Jbcde\nf\tg"
    assert harmless("خانه\u200cها") == "خانه\u200cها"
    assert shown([hit("x", "a\n[2] b.md\u202e")])[0].file == "a [2] b.md"


@pytest.mark.parametrize(
    ("question", "said", "words"),
    [
        ("Who mended pump 9 in May?", "The excerpts do not say.", "The model found no answer"),
        ("Кто чинил Pump 9 в мае?", "В отрывках об этом не сказано.", "Модель не нашла"),
        ("Wer hat die Pump 9 im Mai mended?", "Die Auszüge sagen das nicht.", "Das Modell fand"),
        ("Qui a mended la Pump 9 en mai ?", "Les extraits ne le disent pas.", "Le modèle n'a pas trouvé"),
        ("谁在五月修好了 Pump 9 mended？", "文档没有说明。", "模型在文档中没有找到答案"),
    ],
)
def test_a_model_that_finds_no_answer_is_believed_and_the_nearest_is_shown(
    question: str, said: str, words: str
) -> None:
    told = result(question, said, [hit(PUMPS)])

    assert told["answer"].startswith(words)
    assert (told["found"], told["unsupported"]) == (False, [])
    assert [citation["quote"] for citation in told["citations"]] == ["Pump 9 was mended by Anna in March."]


def test_a_sentence_that_is_far_from_the_question_is_shown_beside_a_refusal() -> None:
    source = hit("The Time Machine is a book by H. G. Wells, who wrote others.")
    question = "How many children had the author of the book The Time Machine, and to which school did they go?"
    told = result(question, "The author of The Time Machine had 12 children.", [source])
    assert nearness(source.text, question) < 0.5
    assert told["found"] is False and "do not answer" in told["answer"]
    assert told["answer"].endswith("wrote others.” [1]")
    assert [citation["quote"] for citation in told["citations"]] == [source.text]
