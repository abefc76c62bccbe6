"""Which kinds of job there are: ours, one file each in this package, and the owner's own, Markdown files in a folder.

Knows how to check a job's input before it is accepted, and how to run it. Loading costs no model and no database.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.context import Context
from jobs.own import load_own_kinds
from monk.errors import InvalidInput, UnknownKind

FolderState = tuple[tuple[str, int, int], ...] | None  # (name, mtime in ns, bytes) of each file; None: never looked
OURS = ("answer", "think", "read", "chat", "train", "needle", "bench")


@dataclass(frozen=True, slots=True)
class Kind:
    """A recipe. `run` returns the job's result: JSON with at least "answer" (Markdown text)."""

    name: str
    summary: str
    input_model: type[BaseModel]
    run: Callable[[Context], dict[str, Any]]
    source: str  # "night-monk", or the path of the owner's file
    alone: bool = False  # nothing else may run beside it, and the engine gives its memory back


class Kinds:
    """All kinds by name. The owner's files are read anew when they change; a broken one is told, and stops nothing."""

    def __init__(self, own_folder: Path | None) -> None:
        self._own_folder = own_folder
        self._ours = {name: _ours(name) for name in OURS}
        self._seen: tuple[FolderState, tuple[list[Kind], list[str]]] = (None, ([], []))

    def all(self) -> dict[str, Kind]:
        """Every usable kind by name. An owner's file may replace one of ours."""
        return {**self._ours, **{kind.name: kind for kind in self._own()[0]}}

    def problems(self) -> list[str]:
        """One line for each of the owner's files that cannot be used."""
        return self._own()[1]

    def get(self, name: str) -> Kind:
        """Raises UnknownKind, naming those that exist and the nearest."""
        kinds = self.all()
        if name in kinds:
            return kinds[name]
        near = difflib.get_close_matches(name, kinds, n=1)
        known = f"did you mean {near[0]}? Known" if near else "known"
        raise UnknownKind(f"there is no kind {name!r}; {known}: {', '.join(sorted(kinds))}", param="kind")

    def runs_alone(self, name: str) -> bool:
        """Whether a job of this kind wants the machine for itself; False for a kind that is not there (any more)."""
        kind = self.all().get(name)
        return kind is not None and kind.alone

    def validate(self, name: str, input_: Any) -> dict[str, Any]:
        """The input as its kind stores it, defaults filled in. Raises UnknownKind, or InvalidInput naming the field."""
        model = self.get(name).input_model
        try:
            return model.model_validate(input_).model_dump(mode="json")
        except ValidationError as exc:
            first = exc.errors()[0]
            field = ".".join(["input", *(str(part) for part in first["loc"])])
            raise InvalidInput(f"{field}: {_sentence(first, model)}", param=field) from exc

    def _own(self) -> tuple[list[Kind], list[str]]:
        """The owner's kinds and what is wrong with them; parsed again only when a file of the folder has changed."""
        if self._own_folder is None:
            return [], []
        now, (seen, loaded) = _state(self._own_folder), self._seen
        if now != seen:
            found, problems = load_own_kinds(self._own_folder)
            loaded = [Kind(own.name, own.summary, own.input_model, own.run, str(own.file)) for own in found], problems
            self._seen = now, loaded
        return loaded


def _state(folder: Path) -> FolderState:
    """Changes when a Markdown file is added, removed, renamed or written."""
    return tuple(_mark(file) for file in sorted(folder.glob("*.md")))


def _mark(file: Path) -> tuple[str, int, int]:
    try:
        known = file.stat()
    except OSError:  # a dangling link, or gone since the folder was listed: loading it says so
        return file.name, 0, 0
    return file.name, known.st_mtime_ns, known.st_size


def _ours(name: str) -> Kind:
    module = importlib.import_module(f"jobs.{name}")
    summary = (module.__doc__ or "").strip().splitlines()[0]
    return Kind(name, summary, module.Input, module.run, "night-monk", getattr(module, "ALONE", False))


def _sentence(error: Any, model: type[BaseModel]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"is missing; fields are {', '.join(model.model_fields)}"
    if error["type"] == "extra_forbidden":
        return f"is no field of this kind; fields are {', '.join(model.model_fields)}"
    shown = repr(error["input"])
    return f"{message} (got {shown if len(shown) <= 80 else shown[:77] + '...'})"
