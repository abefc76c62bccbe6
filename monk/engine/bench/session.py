"""Measurements as the daemon sees them: a process that makes one after the other, and another one when it dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from monk.engine import wire
from monk.engine.bench.point import Point
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.model_use import told as settings_of
from monk.engine.spawned import Spawned

log = logging.getLogger(__name__)

MODULE = "monk.engine.bench.child"
LIVES = 2  # processes that may die of one measurement before it is given up
SILENT_SECONDS = 120.0  # a process without a beat for this long hangs
Stop = Literal["paused", "minutes"] | None
Told = Callable[[wire.Frame], None]


class Stopped(Exception):
    """The measurement was cut off; nothing of it counts."""

    def __init__(self, why: Literal["paused", "minutes"]) -> None:
        super().__init__(why)
        self.why = why


class Session:
    """One thread. The process is started by the first measurement and lives until `close`."""

    def __init__(
        self,
        config: EngineConfig,
        use: ModelUse,
        folder: Path | None,
        facts: dict[str, Any],
        told: Told = lambda frame: None,
        must_stop: Callable[[], Stop] = lambda: None,
    ) -> None:
        """`folder`: where KV of long beginnings is kept; `facts`: what of model and build is in its names."""
        self._first = {
            "config": config.to_json(),
            "use": settings_of(use),
            "folder": None if folder is None else str(folder),
            "facts": facts,
        }
        self._told, self._must_stop = told, must_stop
        self._child: Spawned | None = None

    def measure(self, point: Point, repeats: int) -> dict[str, Any]:
        """The figures, or {"refused": why}. Raises Stopped, ModelUnusable, MemoryTooSmall.

        A process that dies of a point tries it once more, in case somebody else killed it; then the point is refused.
        """
        last_words = ""
        for _ in range(LIVES):
            if (why := self._must_stop()) is not None:
                raise Stopped(why)
            frame, last_words = self._ask({"point": point.to_json(), "repeats": repeats})
            if frame is not None:
                return frame["figures"] if frame["event"] == "measured" else {"refused": frame["reason"]}
            log.warning("a measuring process died", extra={"reason": last_words, "point": str(point)})
        return {"refused": f"the process died of it ({last_words})"}

    def close(self) -> str:
        """End the process; its last words."""
        if self._child is None:
            return ""
        child, self._child = self._child, None
        last_words = child.bury()
        return child.verdict or last_words

    def _ask(self, request: wire.Frame) -> tuple[wire.Frame | None, str]:
        """(what came of it, ""), or (None, last words)."""
        try:
            if self._child is None:
                self._child = Spawned.spawn(MODULE)
                self._child.channel.send(self._first)
            self._child.channel.send(request)
            while (frames := self._child.channel.receive()) is not None:
                for frame in frames:
                    self._child.heard_at = time.monotonic()
                    if (end := self._heard(frame)) is not None:
                        return end, ""
                if (why := self._must_stop()) is not None:
                    raise Stopped(why)
                if time.monotonic() - self._child.heard_at > SILENT_SECONDS:
                    self._child.condemn("it hung")
        except OSError:
            pass  # it is gone: its last words say why
        except BaseException:
            self.close()
            raise
        return None, self.close()

    def _heard(self, frame: wire.Frame) -> wire.Frame | None:
        """The frame, if it ends a measurement."""
        match frame["event"]:
            case "beat":
                pass
            case "log":
                log.log(frame["level"], frame["text"], extra=frame["facts"])
            case "failed":
                raise wire.error_from_json(frame["error"])
            case "measured" | "refused":
                return frame
            case _:
                self._told(frame)
        return None
