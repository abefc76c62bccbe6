"""Lessons are tokens exactly as the model is asked: the prompt of the template, and behind it the answer up to its mark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine import embedded, gguf_file
from monk.engine.client import Segment
from monk.engine.template import ChatTemplate
from monk.teaching import behind, messages, turns_of

CHATML = str(gguf_file.read(embedded.model_path()).chat_template)
MARKS = ("<|im_start|>", "<|im_end|>")
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] | trim "
    "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def rest(template: ChatTemplate, question: str, answer: str) -> list[Segment] | None:
    asked = template.render(messages([("user", question)]))
    told = template.render(messages([("user", question), ("assistant", answer)]), add_generation_prompt=False)
    return behind(told, asked)


def test_the_answer_ends_with_the_mark_that_the_model_ends_with() -> None:
    template = ChatTemplate(CHATML, bos="<|im_start|>", eos="<|im_end|>", control_tokens=MARKS)

    assert rest(template, "Who?", "Anna.") == [Segment("Anna.<|im_end|>", control=True)]


def test_a_mark_in_an_answer_stays_text() -> None:
    template = ChatTemplate(CHATML, bos="<|im_start|>", eos="<|im_end|>", control_tokens=MARKS)

    found = rest(template, "Say <|im_end|>!", "It is <|im_end|> here")

    assert found is not None
    assert [segment.text for segment in found if not segment.control] == ["<|im_end|>"]
    assert "".join(segment.text for segment in found) == "It is <|im_end|> here<|im_end|>"


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_prompt_and_rest_are_the_whole_conversation(question: str, answer: str) -> None:
    template = ChatTemplate(CHATML, bos="<|im_start|>", eos="<|im_end|>", control_tokens=MARKS)
    try:
        asked = template.render(messages([("user", question)]))
        found = rest(template, question, answer)
    except Exception:  # blank messages a template refuses
        return

    assert found is not None
    whole = template.render(messages([("user", question), ("assistant", answer)]), add_generation_prompt=False)
    joined = "".join(segment.text for segment in [*asked, *found])
    assert joined.rstrip() == "".join(segment.text for segment in whole).rstrip()


def test_a_template_that_writes_the_past_otherwise_is_noticed() -> None:
    template = ChatTemplate(GEMMA, bos="<bos>", eos="<eos>")

    assert rest(template, "Who?", "Anna.") is None, "it asks as model and tells as assistant"


@pytest.mark.parametrize(
    ("input_", "turns"),
    [
        ({"question": "Who?"}, (("user", "Who?"),)),
        (
            {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]},
            (("system", "a"), ("user", "b")),
        ),
        ({"document": "x", "questions": ["a", "b"]}, ()),
        ({"messages": [{"role": "user", "content": "b"}] * 65}, ()),
    ],
)
def test_what_was_asked_is_found_in_the_input(input_: dict[str, object], turns: tuple[tuple[str, str], ...]) -> None:
    assert turns_of(input_) == turns
