"""The folder of each training in `$MONK_HOME/training`, and the way from lessons to a version on the shelf.

training/<job>/lessons.jsonl, checkpoint.safetensors, adapter/    gone when the job has its verdict
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs.examples import Example, read_lines
from monk.engine import gguf_file
from monk.engine.machine import measured_available_bytes, measured_gflops, physical_cores
from monk.errors import HomeUnusable, InvalidInput, ModelUnusable, NotFound, Unavailable
from monk.lora.shelf import Adapter, Shelf
from monk.lora.training import session
from monk.lora.training.recipe import GIB, Proposal, Recipe, Shape, Wishes, propose
from monk.lora.training.trainer import Spec

MOST_FILE_BYTES = 1 << 30
HEADROOM = 1.3  # of the planned memory, before the process is refused more
HEADROOM_BYTES = 3 * GIB // 2


@dataclass(frozen=True, slots=True)
class Room:
    """`night_seconds`: how long a night lasts here. `reserve_bytes`: memory that stays free.

    `save_seconds`: what a crash in the middle of a training loses at most."""

    home: Path
    shelf: Shelf
    model: Path
    reserve_bytes: int
    save_seconds: float
    night_seconds: Callable[[], float]
    now: Callable[[], datetime]

    def folder(self, job_id: str) -> Path:
        return self.home / "training" / job_id

    def examples_in(self, name: str) -> list[Example]:
        """Of a JSONL file in the inbox. Raises NotFound, InvalidInput."""
        inbox = (self.home / "inbox").resolve()
        path = (inbox / name).resolve()
        if not path.is_relative_to(inbox):
            raise InvalidInput(
                f"file {name[:200]!r} is not in {inbox}; put it there, or send the examples themselves", param="file"
            )
        try:
            size = path.stat().st_size
            if size > MOST_FILE_BYTES:
                raise InvalidInput(f"{path} has {size} bytes; at most {MOST_FILE_BYTES} are read", param="file")
            return read_lines(path.read_text(encoding="utf-8"), name)
        except FileNotFoundError as exc:
            raise NotFound(f"there is no file {name[:200]!r} in {inbox}", param="file") from exc
        except UnicodeDecodeError as exc:
            raise InvalidInput(f"{path} is no UTF-8 text (byte {exc.start}); save it as UTF-8", param="file") from exc
        except OSError as exc:
            raise InvalidInput(f"{path} cannot be read: {exc.strerror}", param="file") from exc

    def write(self, job_id: str, lessons: Iterable[dict[str, Any]]) -> dict[str, str]:
        """{"data", "sha256"} of the lessons, on disk when this returns. Raises HomeUnusable."""
        folder = self.folder(job_id)
        path = folder / "lessons.jsonl"
        digest = hashlib.sha256()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(".lessons.new")
            with fresh.open("wb") as file:
                for lesson in lessons:
                    line = json.dumps(lesson, ensure_ascii=False).encode() + b"\n"
                    digest.update(line)
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as exc:
            raise HomeUnusable(f"{path} cannot be written: {exc.strerror}; make room") from exc
        return {"data": str(path), "sha256": digest.hexdigest()}

    def propose(self, lengths: list[int], longest: int, wishes: Wishes) -> Proposal:
        """What fits now. Raises MemoryTooSmall, InvalidInput."""
        available = measured_available_bytes() - self.reserve_bytes
        return propose(self._shape, lengths, longest, wishes, available, measured_gflops(), self.night_seconds())

    @property
    def _shape(self) -> Shape:
        return Shape.of(gguf_file.read(self.model))

    def train(
        self,
        job_id: str,
        plan: dict[str, Any],
        base: str | None,
        model_key: str,
        told: session.Told,
        must_stop: Callable[[], session.Stop],
    ) -> dict[str, Any] | None:
        """What came out; None when it was paused. `plan`: {"data", "sha256", "recipe", "memory_bytes"}, as it was made."""
        data = Path(plan["data"])
        if _sha256(data) != plan["sha256"]:
            raise HomeUnusable(f"{data} is gone or was changed since this training began; submit it again")
        if (free := measured_available_bytes() - self.reserve_bytes) < plan["memory_bytes"]:
            raise Unavailable(
                f"this training needs {plan['memory_bytes'] / GIB:.2f} GiB, {max(0, free) / GIB:.2f} are free now; it is tried "
                "again later"
            )
        spec = Spec(
            model=base or str(self.model),
            model_key=f"{model_key}/{base or ''}",
            data=str(data),
            data_sha256=plan["sha256"],
            folder=str(self.folder(job_id)),
            recipe=Recipe(**plan["recipe"]),
            threads=physical_cores(),
            memory_bytes=int(plan["memory_bytes"] * HEADROOM) + HEADROOM_BYTES,
            save_seconds=self.save_seconds,
        )
        if base is not None and not (Path(base) / "config.json").is_file():
            raise ModelUnusable(f"base {base} has no config.json; give the folder of a model in safetensors")
        return session.train(spec, told, must_stop)

    def keep(self, job_id: str, name: str, folder: str, source: str) -> Adapter:
        """Put what was trained on the shelf, as the next version of the name. Raises AdapterUnusable."""
        return self.shelf.add_version(name, Path(folder), self.model, self.now(), source)

    def leave(self, job_id: str) -> None:
        """The training is over, and its result on the shelf."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
