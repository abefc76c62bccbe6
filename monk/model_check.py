"""Whether the model can run with what a job asks of it, said when the job is submitted and not in the night.

Reads the header of the model's file, again only when the file has changed; the model itself need not be loaded. A file that
cannot be read refuses no job: what is wrong with it is told where the engine starts.
"""

from __future__ import annotations

import threading
from pathlib import Path

from monk.engine import gguf_file
from monk.engine.client import ModelUse
from monk.engine.model_use import OwnSettings, check, check_ranges, plain
from monk.errors import ModelUnusable

Stamp = tuple[int, int]
Facts = tuple[OwnSettings, tuple[Path, ...]]


class ModelCheck:
    """Callable from any thread: raises InvalidInput for settings that this model cannot run with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: tuple[Stamp, Facts] | None = None

    def __call__(self, use: ModelUse) -> None:
        check_ranges(use)
        facts = self._facts()
        if facts is not None:
            check(use, facts[0])

    def plain(self, use: ModelUse) -> ModelUse:
        """Without what the file says anyway: equal ways to run are equal values. Refuses nothing."""
        facts = self._facts()
        return use if facts is None else plain(use, facts[0])

    def parts(self) -> tuple[Path, ...]:
        """The files the model consists of; none when it cannot be read."""
        facts = self._facts()
        return () if facts is None else facts[1]

    def _facts(self) -> Facts | None:
        """What the file says; None when it cannot be read."""
        with self._lock:
            try:
                stat = self._path.stat()
                stamp = stat.st_mtime_ns, stat.st_size
                if self._known is None or self._known[0] != stamp:
                    file = gguf_file.read(self._path)
                    self._known = stamp, (OwnSettings.of(file), file.parts)
            except (OSError, ModelUnusable):
                return None
            return self._known[1]
