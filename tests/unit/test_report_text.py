"""What people, models and documents wrote can harm neither a terminal nor the report's own structure."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from monk.report.escape import code, escape, literal, quoted
from monk.report.prose import to_html, to_markdown
from monk.report.scrub import REPLACED, cut, harmless, one_line, plain

COMMONMARK = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

PIECES = st.sampled_from(
    [
        *("<script>alert(1)</script>", "<!--", "-->", "<img src=x onerror=y>", "</article>", "</div>", "<a href='x'>"),
        *(
            "\x1b[2J",
            "\x1b]0;t\x07",
            "\x9b31m",
            "\u202e",
            "\u2066",
            "\r",
            "\x00",
            "\ud800",
            "&#x202e;",
            "&#27;",
            "&lt;b&gt;",
        ),
        *("# ", "## x\n", "===\n", "---\n", "```\n", "~~~~\n", "``", "`", "> ", "- ", "* ", "+ ", "1. ", "1) ", "    "),
        *(
            "|",
            "| a | b |\n|---|---|\n| c | d |\n",
            "[x](javascript:alert(1))",
            "[x](http://e)",
            "![x](http://e/i.png)",
        ),
        *("[x]: http://e\n", "[x]", "<http://e>", "[1]", "**", "__", "_", "~~", "\\", "&amp;", "\n", "\n\n", "\t", " "),
        *("слово", "word", "日本語", "$x_1$", "👩\u200d🚀", "*", "[", "]", "(", ")", "!", ":"),
    ]
)
HOSTILE = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=200))


def kinds(markdown: str) -> set[str]:
    """All token types of a text, read by a parser that allows everything."""
    found: set[str] = set()
    for token in COMMONMARK.parse(markdown):
        found |= {token.type, *(child.type for child in token.children or ())}
    return found


def shown(markdown: str) -> str:
    """The letters a reader sees, without blanks."""
    pieces: list[str] = []
    for token in COMMONMARK.parse(markdown):
        pieces += [child.content for child in token.children or ()] or [token.content if not token.children else ""]
    return re.sub(r"\s", "", "".join(pieces))


@given(HOSTILE)
def test_a_scrubbed_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert not HARMFUL.search(plain(text))
    plain(text).encode("utf-8")
    assert "\n" not in one_line(text)


def test_line_ends_of_every_system_become_newlines() -> None:
    assert plain("a\r\nb\rc\u2028d\x85e") == "a\nb\nc\nd\ne"


def test_a_harmful_character_is_seen_to_have_been_there() -> None:
    assert plain("\x1b[31mred") == f"{REPLACED}[31mred"


def test_a_cut_text_says_so_and_ends_at_a_word() -> None:
    assert cut("one two three", 9) == "one two…"
    assert cut("one two", 7) == "one two"


def test_numbers_that_json_cannot_say_become_null() -> None:
    assert harmless({"a": [float("nan"), float("inf"), 1.5, "\x00"]}) == {"a": [None, None, 1.5, REPLACED]}


@given(HOSTILE)
def test_escaped_text_is_shown_as_it_stands_and_is_no_markup(text: str) -> None:
    line = one_line(text)
    markdown = escape(line)
    assert kinds(markdown) <= {"paragraph_open", "inline", "text", "paragraph_close"}
    assert shown(markdown) == re.sub(r"\s", "", line)


@given(HOSTILE)
def test_a_heading_and_a_quote_of_hostile_text_stay_one_heading_and_one_quote(text: str) -> None:
    heading = COMMONMARK.parse(f"### {escape(one_line(text))}\n\nafter")
    assert [token.type for token in heading if token.level == 0 and token.nesting] == [
        *("heading_open", "heading_close", "paragraph_open", "paragraph_close")
    ]
    block = COMMONMARK.parse("\n".join(quoted(literal(plain(text)).split("\n"))) + "\n\n## after")
    top = [token.type for token in block if token.level == 0]
    assert [type_ for type_ in top if type_ != "inline"] == [
        *("blockquote_open", "blockquote_close", "heading_open", "heading_close")
    ]


@given(HOSTILE)
def test_a_code_span_holds_its_line(text: str) -> None:
    line = one_line(text)
    tokens = COMMONMARK.parseInline(code(line)) if line else []
    assert [child.content for token in tokens for child in token.children or ()] == ([line] if line else [])


@settings(max_examples=200)
@given(HOSTILE)
def test_a_models_markdown_is_closed_in_itself(text: str) -> None:
    markdown = "\n".join(to_markdown(text))
    tokens = COMMONMARK.parse(f"{markdown}\n\n## ours\n")
    assert [token.type for token in tokens[-3:]] == ["heading_open", "inline", "heading_close"]
    assert (tokens[-3].tag, tokens[-3].level) == ("h2", 0)
    assert {token.tag for token in tokens[:-3] if token.type == "heading_open"} <= {"h4", "h5", "h6"}
    assert not kinds(markdown) & {"html_block", "html_inline", "link_open", "image"}
    assert not HARMFUL.search(markdown)


@settings(max_examples=200)
@given(HOSTILE)
def test_a_models_html_holds_only_tags_of_prose(text: str) -> None:
    html = to_html(text)
    tags = set(re.findall(r"</?([a-zA-Z0-9!-]+)", html))
    allowed = "p br h4 h5 h6 ul ol li pre code em strong s blockquote hr table thead tbody tr th td"
    assert tags <= set(allowed.split())
    assert not HARMFUL.search(html)
    assert not re.search(r"<[^>]*\s(href|src|on\w+)=", html)


@given(HOSTILE)
def test_a_models_words_survive_being_written_again(text: str) -> None:
    once = "\n".join(to_markdown(text))
    assert shown("\n".join(to_markdown(once))) == shown(once)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("# Title", ["#### Title"]),
        ("Title\n===", ["#### Title"]),
        ("```\nopen", ["```", "open", "```"]),
        ("[the site](https://e.org/a_b)", ["the site (https://e.org/a_b)"]),
        ("<https://e.org>", ["https://e.org"]),
        ("![dot](https://e.org/p.png)", ["(image: dot, https://e.org/p.png)"]),
        ("<b>bold</b>", [r"\<b>bold\</b>"]),
        ("so it is [1] and [2].", ["so it is [1] and [2]."]),
        ("snake_case, 5 * 3", ["snake_case, 5 * 3"]),
        ("- a\n- b", ["- a", "- b"]),
        ("3. a\n4. b", ["3. a", "4. b"]),
        ("| a |\n|--:|\n| `x\\|y` |", ["| a |", "|----:|", "| `x\\|y` |"]),
        ("- a\n\n  ```py\n  x\n", ["- a", "", "  ```py", "  x", "  ```"]),
        ("", []),
    ],
)
def test_an_answer_keeps_its_form_and_loses_its_teeth(given_: str, expected: list[str]) -> None:
    assert [line for line in to_markdown(given_) if line or expected] == expected


def test_citation_marks_lead_to_their_quotations_and_others_are_text() -> None:
    html = to_html("said [1], not [2]", "job_x-1", 1)
    assert '<a href="#job_x-1-1">1</a>' in html
    assert "[2]" in html


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "*a _b " * 5_000, "> " * 2_000 + "x", "<!-- " * 10_000, "**" * 10_000 + "a"]
)
def test_a_text_made_to_be_slow_or_deep_is_rendered(text: str) -> None:
    assert to_html(text)
    assert to_markdown(text)


def test_nothing_but_text_is_needed() -> None:
    values: list[Any] = [None, 5, 1.5, True, ["x"]]
    assert [plain(value) for value in values] == ["", "5", "1.5", "True", "['x']"]
