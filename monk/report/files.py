"""Puts a written report where people look for it: dated files and `latest.*`. The seam for other ways of delivery.

A file is there whole or not at all: written beside, on disk, then renamed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from monk.errors import HomeUnusable

FORMATS = ("md", "html", "json")


class ReportFolder:
    """`$MONK_HOME/reports`. One writer at a time; readers any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def free_name(self, day: date) -> str:
        """ "2026-11-23", or "2026-11-23-2" and so on when that day has a report already."""
        taken = {path.stem for path in self._folder.glob(f"{day.isoformat()}*.*")} if self._folder.is_dir() else set()
        name, number = day.isoformat(), 1
        while name in taken:
            number += 1
            name = f"{day.isoformat()}-{number}"
        return name

    def deliver(self, name: str, contents: Mapping[str, str]) -> list[Path]:
        """Write `name.md`, `.html` and `.json`, then the same as `latest.*`. Raises HomeUnusable; no half file is left."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            written = [_write(self._folder / f"{name}.{format_}", text) for format_, text in contents.items()]
            for format_, text in contents.items():
                _write(self._folder / f"latest.{format_}", text)
            _sync_folder(self._folder)
        except OSError as exc:
            why = exc.strerror or str(exc)
            raise HomeUnusable(
                f"the report's files cannot be written to {self._folder}: {why}; the report itself is kept, "
                "`monk report` shows it"
            ) from exc
        return written


def _write(path: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o640)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only once its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
