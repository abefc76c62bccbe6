"""The process that measures, started by `session.py`: `python -m monk.engine.bench.child --socket-fd N --parent PID`.

A first frame says with what; each further one is a measurement, told as soon as it is made. It dies with its parent, as
soon as that one closes the socket, and of what llama.cpp aborts on.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import time
from pathlib import Path

from monk.engine import gguf_file, wire
from monk.engine.bench.point import Point
from monk.engine.child import NATIVE_ENVIRONMENT, attach, first_frames, keep_company
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.machine import measured_available_bytes
from monk.engine.model_use import settled
from monk.engine.relay import Relay
from monk.errors import MonkError


def main(arguments: list[str] | None = None) -> int:
    channel = attach(arguments, "Measures how fast a model runs; started by the daemon.")
    os.environ.update(NATIVE_ENVIRONMENT)
    if not (frames := first_frames(channel)):
        return 0
    logging.basicConfig(level=logging.WARNING, handlers=[Relay(channel)])
    asked: queue.SimpleQueue[wire.Frame] = queue.SimpleQueue()

    def hear(more: list[wire.Frame]) -> None:
        for frame in more:
            asked.put(frame)

    hear(frames[1:])
    keep_company(channel, hear)
    try:
        _serve(channel, frames[0], asked)
    except MonkError as error:
        channel.send({"event": "failed", "error": wire.error_to_json(error)})
        return error.exit_status
    return 0


def _serve(channel: wire.Channel, first: wire.Frame, asked: queue.SimpleQueue[wire.Frame]) -> None:
    from monk.engine.bench.gauge import Gauge, Refused  # numpy and llama.cpp: half a second

    config = EngineConfig.from_json(first["config"])
    file = gguf_file.read(config.model_path)
    use = settled(ModelUse(**first["use"]), config.model_use, config.own_settings(file))
    folder = None if first["folder"] is None else Path(first["folder"])
    available = measured_available_bytes()
    began = time.monotonic()
    gauge = Gauge(config, use, file, available, folder, first["facts"], channel.send)
    channel.send({"event": "loaded", "seconds": round(time.monotonic() - began, 1), "energy": gauge.energy.problem})
    while True:
        frame = asked.get()
        try:
            figures = gauge.measure(Point.from_json(frame["point"]), frame["repeats"])
        except Refused as refusal:
            channel.send({"event": "refused", "reason": str(refusal)})
        else:
            channel.send({"event": "measured", "figures": figures})


if __name__ == "__main__":
    sys.exit(main())
