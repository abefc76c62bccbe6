"""A training as the daemon sees it: a process that is started, listened to, and started again when it dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Literal

from monk.engine import wire
from monk.engine.spawned import Spawned
from monk.errors import EngineFailed
from monk.lora.training.trainer import Spec, too_small

log = logging.getLogger(__name__)

MODULE = "monk.lora.training.child"
OUT_OF_MEMORY = ("bad_alloc", "allocate memory")  # last words of a process that got no more
LIVES = 3  # deaths in a row without one step further
SILENT_SECONDS = 120.0  # a process without a beat for this long hangs
PAUSE_SECONDS = 10.0  # from the request to save until it is killed, which costs what it did since its last checkpoint
Told = Callable[[dict[str, Any]], None]
Stop = Literal["paused", "minutes"] | None


def train(spec: Spec, told: Told, must_stop: Callable[[], Stop]) -> dict[str, Any] | None:
    """What came out, as `Trainer.finish` tells it; None when it was paused. `told` hears of progress.

    A process that dies is started again from its checkpoint. Raises EngineFailed when it dies again and again without
    getting further, and what the training itself raises.
    """
    deaths, reached = 0, -1
    while True:
        run = _Life(told, must_stop)
        last_words = run.follow(spec)
        if run.error is not None:
            raise run.error
        if run.outcome is not None or run.is_paused or must_stop() == "paused":
            return run.outcome
        if any(words in last_words for words in OUT_OF_MEMORY):
            raise too_small(spec)
        deaths = 1 if run.step > reached else deaths + 1
        reached = max(reached, run.step)
        log.warning("the training process died", extra={"reason": last_words, "step": run.step, "deaths": deaths})
        told({"event": "died", "reason": last_words, "step": run.step})
        if deaths >= LIVES:
            raise EngineFailed(f"the training process died {deaths} times in a row at step {run.step} ({last_words})")


class _Life:
    """One process, from its start to its end."""

    def __init__(self, told: Told, must_stop: Callable[[], Stop]) -> None:
        self._told, self._must_stop = told, must_stop
        self.step = 0
        self.outcome: dict[str, Any] | None = None
        self.is_paused = False
        self.error: Exception | None = None

    def follow(self, spec: Spec) -> str:
        """Its last words."""
        child = Spawned.spawn(MODULE)
        asked: Stop = None
        asked_at = 0.0
        try:
            child.channel.send({"do": "train", "spec": spec.to_json()})
            while (frames := child.channel.receive()) is not None:
                for frame in frames:
                    child.heard_at = time.monotonic()
                    self._take(frame)
                if asked != "paused" and (why := self._must_stop()) is not None and why != asked:
                    child.channel.send({"why": why})
                    asked, asked_at = why, time.monotonic()
                if asked == "paused" and time.monotonic() - asked_at > PAUSE_SECONDS:
                    child.condemn("it did not save in time")
                if time.monotonic() - child.heard_at > SILENT_SECONDS:
                    child.condemn("it hung")
        except OSError:
            pass  # it is gone: its last words say why
        finally:
            last_words = child.bury()
        return child.verdict or last_words

    def _take(self, frame: wire.Frame) -> None:
        match frame["event"]:
            case "beat":
                return
            case "log":
                log.log(frame["level"], frame["text"], extra=frame["facts"])
                return
            case "failed":
                self.error = wire.error_from_json(frame["error"])
            case "done":
                self.outcome = frame["outcome"]
            case "paused":
                self.is_paused = True
            case _:
                self.step = max(self.step, frame["step"])
                self._told(frame)
