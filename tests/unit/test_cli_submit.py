"""What is asked, from the ways to say it."""

from __future__ import annotations

import io

import pytest

from monk.cli.submit import kind_and_input, looking_into
from monk.errors import InvalidInput


def test_text_is_a_question_and_for_chat_a_message() -> None:
    assert kind_and_input("Why?", None, None, None, None) == ("answer", {"question": "Why?"})
    assert kind_and_input("Why?", "think", None, None, None) == ("think", {"question": "Why?"})
    assert kind_and_input("Hi", "chat", None, None, None) == ("chat", {"messages": [{"role": "user", "content": "Hi"}]})


def test_a_dash_reads_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Зачем?\n"))

    assert kind_and_input("-", None, None, None, None) == ("answer", {"question": "Зачем?\n"})


def test_a_document_with_questions_is_read() -> None:
    expected = {"document": "a.pdf", "questions": ["Who?", "When?"]}

    assert kind_and_input(None, None, None, "a.pdf", ["Who?", "When?"]) == ("read", expected)


def test_input_is_taken_as_json_for_any_kind() -> None:
    assert kind_and_input(None, "minutes", '{"text": "x"}', None, None) == ("minutes", {"text": "x"})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((None, None, None, None, None), "nothing is asked; give one of TEXT"),
        (("a", None, "{}", None, None), "TEXT and --input are too many"),
        (("a", None, None, None, ["b"]), "--question needs --document"),
        ((None, None, None, "a.pdf", None), "--document a.pdf needs --question"),
        ((None, None, "{", None, None), "--input is no JSON"),
        ((None, None, "[1]", None, None), "must be a JSON object"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_out(given: tuple[None], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        kind_and_input(*given)  # type: ignore[call-arg]


def test_what_restricts_the_documents_goes_into_the_input_once() -> None:
    asked = {"question": "Why?"}

    assert looking_into(asked, {}) == asked
    assert looking_into(asked, {"folder": "notes"}) == {"question": "Why?", "only": {"folder": "notes"}}
    with pytest.raises(InvalidInput, match='holds "only" already'):
        looking_into({**asked, "only": {}}, {"folder": "notes"})
