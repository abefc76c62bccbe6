"""Whether the model can run with what a job asks of it, said when the job is submitted and not in the night.

Reads the header of the model's file, again only when the file has changed; the model itself need not be loaded. A file that
cannot be read refuses no job: what is wrong with it is told where the engine starts. Memory is refused here only where a
single thought would need more than the whole machine has: what is free at night is not known yet.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from monk.engine import gguf_file, memory
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.gguf_file import GgufFile
from monk.engine.machine import whole_bytes
from monk.engine.model_use import OwnSettings, check, check_ranges, over, plain, said
from monk.errors import InvalidInput, MemoryTooSmall, ModelUnusable

Stamp = tuple[int, int]
Facts = tuple[OwnSettings, GgufFile]


class ModelCheck:
    """Callable from any thread: raises InvalidInput for settings that this model cannot run with."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._known: tuple[Stamp, Facts] | None = None

    def __call__(self, use: ModelUse) -> None:
        check_ranges(use)
        facts = self._facts()
        if facts is not None:
            check(use, facts[0])
            self._check_memory(use, *facts)

    def _check_memory(self, use: ModelUse, own: OwnSettings, file: GgufFile) -> None:
        if plain(use, own) == ModelUse():
            return
        config = self._config.under(plain(over(use, self._config.model_use), own))
        try:
            memory.fit(file, replace(config, slots=1, kv_folder=None), whole_bytes())
        except MemoryTooSmall as exc:
            raise InvalidInput(f"{said(use)}: {exc.message}", param="model") from exc

    def plain(self, use: ModelUse) -> ModelUse:
        """Without what file and house say anyway: equal ways to run are equal values. Refuses nothing."""
        facts = self._facts()
        return use if facts is None else plain(use, facts[0])

    def parts(self) -> tuple[Path, ...]:
        """The files the model consists of; none when it cannot be read."""
        facts = self._facts()
        return () if facts is None else facts[1].parts

    def _facts(self) -> Facts | None:
        """What the file says; None when it cannot be read."""
        with self._lock:
            try:
                stat = self._config.model_path.stat()
                stamp = stat.st_mtime_ns, stat.st_size
                if self._known is None or self._known[0] != stamp:
                    file = gguf_file.read(self._config.model_path)
                    self._known = stamp, (self._own(file), file)
            except (OSError, ModelUnusable):
                return None
            return self._known[1]

    def _own(self, file: GgufFile) -> OwnSettings:
        """With what is set; what a tuning may choose is not known here."""
        own = self._config.own_settings(file)
        return replace(own, kv_type_k=None, kv_type_v=None) if self._config.kv_types_free else own
