"""Prompt templates: Markdown files, the owner's before ours, filled in by Jinja's sandbox.

Values are data: what stands in a question or a document is never read as a template.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from monk.errors import InvalidInput, NotFound

OURS = Path(__file__).parent / "prompts"
_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False, autoescape=False
)


class Prompts:
    """Templates by file name without the ending. The owner's are read at each use, so an edit counts for the next job."""

    def __init__(self, own_folder: Path | None) -> None:
        self._folders = [folder for folder in (own_folder, OURS) if folder is not None]

    def render(self, name: str, values: dict[str, Any]) -> str:
        """The prompt as text. Raises NotFound for a name, InvalidInput for a template that cannot be filled in."""
        for folder in self._folders:
            file = folder / f"{name}.md"
            if file.is_file():
                return fill(file.read_text(encoding="utf-8"), values, str(file))
        raise NotFound(f"there is no prompt {name!r} in {' or '.join(str(folder) for folder in self._folders)}")


@lru_cache(maxsize=256)
def _compiled(template: str) -> Template:
    """Compiling costs more than filling in, and a kind fills one template in for many prompts."""
    return _environment.from_string(template)


def fill(template: str, values: dict[str, Any], where: str) -> str:
    """One template filled in. Raises InvalidInput naming the file and what is wrong in it."""
    try:
        return _compiled(template).render(**values).strip()
    except TemplateError as exc:
        line = getattr(exc, "lineno", None)
        at = f"{where}, line {line}" if line else where
        raise InvalidInput(f"the prompt {at} cannot be filled in: {exc.message}", param="prompt") from exc
