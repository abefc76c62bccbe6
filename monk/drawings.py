"""Pictures that come as plain data, as results of jobs carry them: checked, then drawn by `pictures.py`.

    {"form": "lines", "title", "x", "y", "lines": [{"name", "points": [[x, y], ...], "manner", "group"}], "log_x", "log_y"}
    {"form": "heat", "title", "x", "y", "columns", "rows", "values": [[0.5, null], ...], "most"}

The data may be anybody's: sizes are bounded, numbers are finite, and an unknown form or field is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from monk import pictures
from monk.errors import InvalidInput
from monk.pictures import Line, Manner

MOST = 16  # pictures of one result that are looked at
Words = Annotated[str, Field(max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e18, le=1e18)]
Strict = ConfigDict(extra="forbid", frozen=True)


class LineData(BaseModel):
    """One line; see `pictures.Line`."""

    model_config = Strict

    name: Words
    points: Annotated[list[tuple[Number, Number]], Field(max_length=2000)]
    manner: Manner = "measured"
    group: Words = ""


class Lines(BaseModel):
    """Lines over two axes."""

    model_config = Strict

    form: Literal["lines"]
    title: Words
    x: Words
    y: Words
    lines: Annotated[list[LineData], Field(max_length=40)]
    log_x: bool = False
    log_y: bool = False

    @model_validator(mode="after")
    def _has_logarithms(self) -> Self:
        if any(x < 0 for line in self.lines for x, _ in line.points) and self.log_x:
            raise ValueError("log_x, and a point lies left of 0")
        if any(y <= 0 for line in self.lines for _, y in line.points) and self.log_y:
            raise ValueError("log_y, and a point lies not above 0")
        return self

    def draw(self) -> str:
        """The SVG."""
        drawn = [Line(line.name, line.points, line.manner, line.group) for line in self.lines]
        return pictures.lines(self.title, self.x, self.y, drawn, log_x=self.log_x, log_y=self.log_y)


class Heat(BaseModel):
    """A table of shares."""

    model_config = Strict

    form: Literal["heat"]
    title: Words
    x: Words
    y: Words
    columns: Annotated[list[Words], Field(min_length=1, max_length=100)]
    rows: Annotated[list[Words], Field(min_length=1, max_length=100)]
    values: list[list[Number | None]]
    most: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if len(self.values) != len(self.rows) or any(len(row) != len(self.columns) for row in self.values):
            raise ValueError(f"values must have {len(self.rows)} rows of {len(self.columns)}")
        return self

    def draw(self) -> str:
        """The SVG."""
        return pictures.heat(self.title, self.x, self.y, self.columns, self.rows, self.values, self.most)


_FORMS: TypeAdapter[Lines | Heat] = TypeAdapter(Annotated[Lines | Heat, Field(discriminator="form")])


def draw(data: Any) -> str:
    """The picture as SVG. Raises InvalidInput for what is none."""
    return checked(data).draw()


def checked(data: Any) -> Lines | Heat:
    """The picture that some data means. Raises InvalidInput, naming what is wrong with it."""
    try:
        return _FORMS.validate_python(data)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"a picture cannot be drawn: {place + ': ' if place else ''}{first['msg']}; known forms are lines and heat",
            param="pictures",
        ) from exc


def of_result(result: Any) -> list[Any]:
    """The pictures that a job's result says it has, unchecked; none of what is no list of them."""
    found = result.get("pictures") if isinstance(result, dict) else None
    return found[:MOST] if isinstance(found, list) else []
