"""The process that trains, started by `session.py`: `python -m monk.lora.training.child --socket-fd N --parent PID`.

It gets one frame with everything and tells how it goes; a second frame asks it to save and leave, or to end early. It dies
with its parent, is the first that the kernel takes when memory runs out, and cannot take more than was planned.
"""

from __future__ import annotations

import logging
import resource
import sys
from typing import Any

from monk.engine import wire
from monk.engine.child import attach, first_frames, keep_company
from monk.engine.relay import Relay
from monk.errors import MonkError


def main(arguments: list[str] | None = None) -> int:
    channel = attach(arguments, "Trains an adapter; started by the daemon.")
    if not (frames := first_frames(channel)):
        return 0
    logging.basicConfig(level=logging.WARNING, handlers=[Relay(channel)])
    return Child(channel).run(frames)


class Child:
    """One training for one parent."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self._asked: Any = None

    def run(self, frames: list[wire.Frame]) -> int:
        self._hear(frames[1:])
        keep_company(self._channel, self._hear)
        try:
            self._train(frames[0]["spec"])
        except MonkError as error:
            self._channel.send({"event": "failed", "error": wire.error_to_json(error)})
            return error.exit_status
        return 0

    def _train(self, values: dict[str, Any]) -> None:
        from monk.lora.training.trainer import Spec, Trainer, too_small  # torch takes seconds

        spec = Spec.from_json(values)
        try:
            if spec.memory_bytes:
                resource.setrlimit(resource.RLIMIT_DATA, (spec.memory_bytes, spec.memory_bytes))
            trainer = Trainer(spec, self._channel.send)
            self._channel.send({"event": "loaded", "step": trainer.resumed_at})
            if trainer.run(lambda: self._asked) == "paused":
                self._channel.send({"event": "paused"})
                return
            self._channel.send({"event": "done", "outcome": trainer.finish()})
        except (MemoryError, RuntimeError) as exc:
            if isinstance(exc, RuntimeError) and "alloc" not in str(exc):
                raise
            raise too_small(spec) from exc

    def _hear(self, frames: list[wire.Frame]) -> None:
        for frame in frames:
            self._asked = frame["why"]


if __name__ == "__main__":
    sys.exit(main())
