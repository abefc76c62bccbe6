"""What others wrote reaches the terminal without its escapes."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.console import Console

from monk.cli.terminal import clean, one_line, say, say_json, say_markdown, say_side_by_side, say_table


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1bP1$tx\x1b\\after", "after"),
        ("a\x08b\x07c\x00d", "abcd"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("\x1b]unterminated text stays", "unterminated text stays"),
        ("tab\tnewline\nкириллица 漢字 🙂", "tab\tnewline\nкириллица 漢字 🙂"),
        ("half\ud800", "half"),
    ],
)
def test_escapes_controls_and_overrides_are_removed(written: str, shown: str) -> None:
    assert clean(written) == shown


@given(some.text(alphabet=some.characters(), max_size=200))
def test_no_text_keeps_a_control_character(text: str) -> None:
    assert not [char for char in clean(text) if char not in "\n\t" and (ord(char) < 32 or 127 <= ord(char) < 160)]


def test_one_line_is_one_line_and_says_where_it_was_cut() -> None:
    assert one_line("a\n b\t c") == "a b c"
    assert one_line("abcdef", 4) == "abc…"


def test_json_escapes_what_a_terminal_might_obey_and_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"text": "\x1b[2J\x9b\u202eпривет"})

    printed = capsys.readouterr().out

    assert "\x1b" not in printed and "\x9b" not in printed and "\u202e" not in printed
    assert "привет" in printed
    assert json.loads(printed) == {"text": "\x1b[2J\x9b\u202eпривет"}


def test_a_table_is_plain_whole_and_without_trailing_spaces_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("id", "asked"), [("job_1", "x" * 300), ("job_22", "[bold]not markup[/]\x1b[31m")], may_shrink="asked")

    lines = capsys.readouterr().out.splitlines()

    assert lines[0] == "id      asked"
    assert lines[1] == "job_1   " + "x" * 300
    assert lines[2] == "job_22  [bold]not markup[/]"


def test_markdown_is_printed_as_it_stands_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    say_markdown("# Title\n\n**bold** \x1b[5mblink\n")

    assert capsys.readouterr().out == "# Title\n\n**bold** blink\n"


def test_say_cleans(capsys: pytest.CaptureFixture[str]) -> None:
    say("\x1b[31mred")

    assert capsys.readouterr().out == "red\n"


def test_two_texts_stand_in_columns_on_a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, width=100)

    say_side_by_side(("base", "one " * 20), ("lawyer\x1b[31m", "[bold]two[/]\x1b[2J"))

    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert lines[0][0] == "base" and lines[0][-1] == "lawyer"
    assert lines[1][-1] == "[bold]two[/]" and lines[1].count("one") < 20
    assert lines[2] == ["one"] * (20 - lines[1].count("one"))


def test_two_texts_stand_one_under_the_other_where_it_is_narrow_or_nobody_watches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say_side_by_side(("base", "one"), ("lawyer", "two"))
    piped = capsys.readouterr().out
    terminal(monkeypatch, width=99)
    say_side_by_side(("base", "one"), ("lawyer", "two"))

    assert piped == capsys.readouterr().out == "base\none\n\nlawyer\ntwo\n\n"


def terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> io.StringIO:
    screen = io.StringIO()
    made = Console(file=screen, width=width, force_terminal=True, color_system=None, markup=False, highlight=False)
    monkeypatch.setattr("monk.cli.terminal.console", lambda: made)
    return screen
