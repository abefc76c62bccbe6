"""Pictures: well-formed, with their words as text, the same bytes for the same data."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from monk.pictures import Line, heat, lines

SPEED = [
    Line("measured", [(1024, 40.0), (4096, 30.0)], group="1"),
    Line("expected", [(1024, 44.0), (4096, 28.0)], "predicted", group="1"),
]


def _words(svg: str) -> str:
    return " ".join(text for element in ET.fromstring(svg).iter() if (text := (element.text or "").strip()))


def test_lines_say_what_they_are() -> None:
    words = _words(lines("Decoding <fast>", "tokens behind", "tokens/s", SPEED, log_x=True))
    for word in ("Decoding <fast>", "tokens behind", "tokens/s", "measured", "expected", "1k", "4k"):
        assert word in words


def test_equal_data_makes_equal_bytes() -> None:
    assert lines("t", "x", "y", SPEED) == lines("t", "x", "y", SPEED)
    assert lines("t", "x", "y", SPEED) != lines("t", "x", "y", SPEED[:1])


def test_a_line_without_points_is_left_out() -> None:
    words = _words(lines("t", "x", "y", [*SPEED, Line("never", [])]))
    assert "never" not in words and "measured" in words


def test_heat_writes_each_value_out() -> None:
    words = _words(heat("Found", "tokens", "depth", ["1k", "2k"], ["start", "end"], [[1.0, 0.25], [None, 0.0]]))
    for word in ("100", "25", "–", "0", "1k", "start"):
        assert word in words.split()
