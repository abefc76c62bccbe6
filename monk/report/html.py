"""The report as one HTML file that asks nobody for anything: no script, styles inside. The only links that leave it lead
to the daemon that wrote it: a citation to its passage. The only images are those the program draws of a job's figures; they
are inside too, as data of an <img>, where an SVG can neither run nor load anything.

Jinja escapes everything; the only markup let in from outside is what `prose.to_html` wrote of a model's Markdown.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from monk.drawings import draw
from monk.report.prose import to_html
from monk.report.view import View

TEMPLATES = Path(__file__).parent / "templates"


def to_page(report: View) -> str:
    """The whole page."""
    return render("report.html", report=report)


def render(template: str, **values: Any) -> str:
    """A template of this folder with values, every one escaped."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = _prose
    environment.filters["drawn"] = _drawn
    environment.globals["style"] = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    return environment


def _drawn(data: dict[str, Any]) -> str:
    """A picture as the address of an <img>."""
    return f"data:image/svg+xml;base64,{b64encode(draw(data).encode()).decode('ascii')}"


def _prose(text: str, anchor: str = "", num_citations: int = 0) -> Markup:
    return Markup(to_html(text, anchor, num_citations))
