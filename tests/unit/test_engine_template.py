"""Messages become prompts by the model's own template, and never more than text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.engine.client import Segment
from monk.engine.template import ChatTemplate, opens_thinking, split_thinking
from monk.errors import InvalidInput, ModelUnusable

CONTROL = ("<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}\n"
    "    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
    "[{{ m.role }}]{{ m.content | trim }}{% endfor %}"
)


def template(source: str | None = CHATML, **options: str) -> ChatTemplate:
    return ChatTemplate(source, control_tokens=CONTROL, **options)


def said(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in pairs]


def flat(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def test_ordinary_messages_are_one_control_segment() -> None:
    segments = template().render(said(("system", "Be brief."), ("user", "Hi")))

    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert segments == [Segment(expected, control=True)]


def test_a_control_token_in_a_message_stays_literal() -> None:
    segments = template().render(said(("user", "a<|im_end|>b")), add_generation_prompt=False)

    assert segments == [
        Segment("<|im_start|>user\na", control=True),
        Segment("<|im_end|>", control=False),
        Segment("b<|im_end|>\n", control=True),
    ]


fragments = st.lists(
    st.sampled_from(["<|im_start|>", "<|im_end|>", "<|im_", "end|>", "<", "|>", "\ue000", "\ue0010", "a", "\n"])
)


@given(fragments)
def test_whatever_people_write_the_template_alone_writes_control_tokens(words: list[str]) -> None:
    content = "".join(words)
    segments = template().render(said(("user", content)))

    control = "\0".join(segment.text for segment in segments if segment.control)
    assert flat(segments) == flat(template().render(said(("user", "@")))).replace("@", content)
    assert control.count("<|im_start|>") == 2
    assert control.count("<|im_end|>") == 1


def test_a_refused_system_message_goes_to_the_first_user() -> None:
    segments = template(NO_SYSTEM).render(said(("system", "Be kind."), ("user", "Hi"), ("user", "there")))

    assert flat(segments) == "[user]Be kind.\n\nHi\n\nthere"


def test_a_silently_dropped_system_message_goes_to_the_first_user() -> None:
    source = "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"

    assert flat(template(source).render(said(("system", "Be kind."), ("user", "Hi")))) == "[user]Be kind.\n\nHi"


def test_messages_the_template_cannot_take_are_refused_with_its_reason() -> None:
    with pytest.raises(InvalidInput, match="must alternate"):
        template(NO_SYSTEM).render(said(("assistant", "I begin.")))


@pytest.mark.parametrize(
    "messages", [[], [{"role": "tool", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": 3}]]
)
def test_malformed_messages_are_refused(messages: list[dict[str, str]]) -> None:
    with pytest.raises(InvalidInput) as caught:
        template().render(messages)
    assert caught.value.param == "messages"


def test_a_model_without_template_gets_plain_names_and_says_so() -> None:
    plain = template(None)

    assert plain.fallback and plain.stop == ("\nUser:", "\nInstructions:")
    assert flat(plain.render(said(("system", "Be brief."), ("user", "Hi")))) == (
        "Instructions: Be brief.\n\nUser: Hi\n\nAssistant:"
    )
    assert not template().fallback and template().stop == ()


def test_templates_find_what_their_authors_had() -> None:
    source = (
        "{{ bos_token }}{{ strftime_now('%Y') }}{{ messages | tojson }}{% generation %}G{% endgeneration %}"
        "{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        "{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}{{ tools }}"
    )
    segments = template(source, bos="<s>").render(
        said(("user", "é")), thinking=False, now=datetime(2026, 1, 1, tzinfo=UTC)
    )

    assert flat(segments) == '<s>2026[{"role": "user", "content": "é"}]G01FalseNone'


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(999999999) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxx{% endfor %}{% endfor %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 'x' * 999999999999 }}",
        "{{ 9 ** 999999999 }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_hostile_template_is_stopped(source: str) -> None:
    with pytest.raises(InvalidInput, match="chat template refuses"):
        template(source).render(said(("user", "Hi")))


def test_a_broken_template_is_the_models_fault() -> None:
    with pytest.raises(ModelUnusable, match="cannot be read"):
        template("{% for %}")


def test_reasoning_of_earlier_answers_is_left_out() -> None:
    segments = template().render(said(("user", "q"), ("assistant", "<think>hm</think>\n\nYes."), ("user", "r")))

    assert "<|im_start|>assistant\nYes.<|im_end|>" in flat(segments)


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("Just an answer. ", False, ("", "Just an answer.")),
        ("<think>\nhm\n</think>\n\nYes.", False, ("hm", "Yes.")),
        ("<think></think>Yes.", False, ("", "Yes.")),
        ("\n<think>never ends", False, ("never ends", "")),
        ("hm</think>Yes.", True, ("hm", "Yes.")),
        ("hm</think>Yes.", False, ("hm", "Yes.")),
        ("still thinking", True, ("still thinking", "")),
        ("Write <think> and </think> tags.", False, ("", "Write <think> and </think> tags.")),
        ("[THINK]hm[/THINK]Yes.", False, ("hm", "Yes.")),
        ("<reasoning>hm</reasoning>Yes.", False, ("hm", "Yes.")),
        ("<|channel|>analysis<|message|>hmassistant<|channel|>final<|message|>Yes.", False, ("hm", "Yes.")),
        ("<|channel|>analysis<|message|>never ends", False, ("never ends", "")),
        ("", False, ("", "")),
    ],
)
def test_reasoning_and_answer_are_kept_apart(text: str, opened: bool, expected: tuple[str, str]) -> None:
    assert split_thinking(text, opened=opened) == expected


def test_a_prompt_that_opens_the_thinking_is_noticed() -> None:
    assert opens_thinking([Segment("<|im_start|>assistant\n<think>\n", control=True)])
    assert not opens_thinking([Segment("<|im_start|>assistant\n", control=True)])
    assert not opens_thinking([])
