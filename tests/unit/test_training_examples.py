"""What an adapter is taught: both forms, every mistake by its place, and who is held back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.examples import Example, example_of, read_lines, split, unique
from monk.errors import InvalidInput


def line(**fields: object) -> str:
    return json.dumps(fields)


def example(question: str, answer: str = "yes") -> Example:
    return Example((("user", question),), answer)


def test_both_forms_of_the_field_are_read() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}]
    text = "\n".join(
        [
            line(messages=[*chat, {"role": "assistant", "content": "Hello."}]),
            "",
            line(prompt="One and one?", completion="Two."),
        ]
    )

    first, second = read_lines(text, "data.jsonl")

    assert first == Example((("system", "Be brief."), ("user", "Hi?")), "Hello.", "data.jsonl:1")
    assert (second.question, second.answer, second.source) == ("One and one?", "Two.", "data.jsonl:3")
    assert Example.from_json(json.loads(json.dumps(first.to_json()))) == first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no example"),
        ("\n \n", "holds no example"),
        ("{", "line 1: this is no JSON"),
        ("[" * 100_000, "line 1: this is no JSON"),
        ("[1]", "data:1 is list"),
        (line(prompt="a"), "has the fields prompt"),
        (line(prompt="a", completion=" "), "data:1, completion is empty"),
        (line(prompt=3, completion="b"), "data:1, prompt is int"),
        (line(messages=[]), "has no messages"),
        (line(messages=[{"role": "user", "content": "a"}]), "has no messages"),
        (
            line(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]),
            "ends with a message of the user",
        ),
        (
            line(messages=[{"role": "king", "content": "a"}, {"role": "assistant", "content": "b"}]),
            "'king' as the role of message 1",
        ),
        (line(messages=["a", {"role": "assistant", "content": "b"}]), "None as the role of message 1"),
        (
            line(messages=[{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]),
            "two messages of the assistant",
        ),
        (line(prompt="a" * 1_000_001, completion="b"), "is longer than 1000000 characters"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_lines(text, "data")
    assert told in caught.value.message and caught.value.param == "examples"


def test_of_two_answers_to_one_question_the_last_is_taught() -> None:
    assert [one.answer for one in unique([example("Who?", "A"), example(" WHO? ", "B"), example("Where?", "C")])] == [
        "B",
        "C",
    ]


def test_three_examples_are_the_fewest() -> None:
    with pytest.raises(InvalidInput, match="at least 3 are needed"):
        split([example("a"), example("b")])
    taught, held = split([example("a"), example("b"), example("c")])
    assert (len(taught), len(held)) == (2, 1)


@given(st.sets(st.text(min_size=1, max_size=20), min_size=3, max_size=200))
def test_each_example_is_on_one_side_and_stays_there_when_others_come(questions: set[str]) -> None:
    all_ = unique(example(question) for question in sorted(questions))
    if len(all_) < 4:
        return
    before, after = split(all_[:-1])[1], split(all_)[1]

    taught, held = split(all_)
    assert sorted(one.question for one in [*taught, *held]) == sorted(one.question for one in all_)
    assert 1 <= len(held) <= len(all_) - 2
    if len(before) > 1:
        assert set(before) <= set(after), "who was held back is never taught later"


def test_what_comes_over_http_is_named_by_its_number() -> None:
    with pytest.raises(InvalidInput, match="example 7 has the fields"):
        example_of({"question": "x"}, "7")
