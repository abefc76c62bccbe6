"""Pictures that come as data: drawn when they are sound, refused in one sentence when not."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from monk.drawings import draw, of_result
from monk.errors import InvalidInput

LINES: dict[str, Any] = {
    "form": "lines",
    "title": "Speed of <b>$x_1$</b> & $y",
    "x": "tokens before",
    "y": "tokens/s",
    "log_x": True,
    "log_y": True,
    "lines": [{"name": "measured", "points": [[0, 40.0], [512, 30.0], [4096, 20]], "manner": "measured", "group": "a"}],
}
HEAT: dict[str, Any] = {
    "form": "heat",
    "title": "Found",
    "x": "tokens",
    "y": "depth",
    "columns": ["1k", "2k"],
    "rows": ["start", "end"],
    "values": [[1.0, 0.5], [None, 0]],
}


def words(svg: str) -> str:
    return " ".join(text for element in ET.fromstring(svg).iter() if (text := (element.text or "").strip()))


def test_lines_are_drawn_with_nought_on_a_logarithmic_axis_and_words_as_they_are() -> None:
    told = words(draw(LINES))

    for word in ("Speed of <b>$x_1$</b> & $y", "measured", "4k", "512"):
        assert word in told
    assert "0" in told.split()


def test_a_heat_map_is_drawn() -> None:
    told = words(draw(HEAT)).split()

    assert {"100", "50", "–", "0", "start", "2k"} <= set(told)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"form": "pie"}, "known forms are lines and heat"),
        ({}, "known forms are lines and heat"),
        ("<svg/>", "known forms are lines and heat"),
        ({**LINES, "script": "alert(1)"}, "script"),
        ({**LINES, "lines": [{"name": "a", "points": [[1, float("nan")]]}]}, "finite number"),
        ({**LINES, "lines": [{"name": "a", "points": [[1, 0]]}]}, "log_y, and a point lies not above 0"),
        ({**LINES, "lines": [{"name": "a", "points": [[-1, 5]]}]}, "log_x, and a point lies left of 0"),
        ({**LINES, "title": "x" * 201}, "at most 200 characters"),
        ({**LINES, "lines": [{"name": "a", "points": [[1, 2]] * 2001}]}, "at most 2000 items"),
        ({**HEAT, "values": [[1.0]]}, "values must have 2 rows of 2"),
        ({**HEAT, "most": 0}, "greater than 0"),
        ({**HEAT, "columns": ["x"] * 101}, "at most 100 items"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(data: Any, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        draw(data)

    assert told in refused.value.message and "\n" not in refused.value.message


def test_a_result_may_have_none_or_something_else() -> None:
    assert of_result(None) == of_result({"answer": "x"}) == of_result({"pictures": "x"}) == []
    assert of_result({"pictures": [LINES] * 20}) == [LINES] * 16
