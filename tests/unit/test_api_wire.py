"""JSON in and out: what is refused, and what is escaped."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monk.api.wire import MOST_DEPTH, decode, dump, load
from monk.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "a is a number too large"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": {"b": ["x\\u0000y"]}}', "a.b.0 contains U+0000 at character 1"),
        ('{"a": "\\ud83d"}', r"half of a surrogate pair (\ud83d)"),
        ('{"\\u0000": 1}', "U+0000"),
        ('{"a": 9223372036854775808}', "a is an integer beyond 64 bits"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ('{"a": ', "no JSON"),
        ("", "no JSON"),
    ],
)
def test_what_could_not_be_kept_is_refused_with_its_place(text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        load(text)

    assert told in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 900, 100_000])
def test_deep_nesting_is_refused_and_never_crashes(depth: int) -> None:
    with pytest.raises(InvalidInput, match="nested deeper than 64"):
        load("[" * depth + "]" * depth)


def test_the_deepest_nesting_that_is_allowed_is_read() -> None:
    assert load("[" * MOST_DEPTH + "]" * MOST_DEPTH) is not None


def test_a_newline_may_stand_unescaped_in_a_string_because_shells_put_it_there() -> None:
    assert load('{"question": "two\nlines"}') == {"question": "two\nlines"}


def test_bytes_that_are_no_utf8_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"no UTF-8 at byte 3 \(0xff\)"):
        decode(b"abc\xff")


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    assert decode(b"\xef\xbb\xbf{}") == "{}"


def test_what_a_terminal_might_obey_is_escaped_and_other_letters_stand() -> None:
    told = dump({"text": "\x1b[31mПривет\x9b2J\u202e\u2028"})

    assert told == '{"text":"\\u001b[31mПривет\\u009b2J\\u202e\\u2028"}'
    assert json.loads(told) == {"text": "\x1b[31mПривет\x9b2J\u202e\u2028"}


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_whatever_is_taken_in_comes_out_the_same(value: object) -> None:
    assert load(dump(value)) == value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        load(text)
    except InvalidInput as refused:
        refused.message.encode()
