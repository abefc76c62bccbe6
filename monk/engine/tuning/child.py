"""The process that measures, started by `session.py`: `python -m monk.engine.tuning.child --socket-fd N --parent PID`.

It gets one frame with everything, tells each trial before it is made and each result as soon as it is there, and ends
when there is nothing left to ask or the time is used up. It dies with its parent, and of what llama.cpp aborts on.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from monk.engine import gguf_file, memory, wire
from monk.engine.bound import take_place
from monk.engine.child import NATIVE_ENVIRONMENT, attach, first_frames, keep_company
from monk.engine.config import EngineConfig
from monk.engine.machine import measured_available_bytes
from monk.engine.relay import Relay
from monk.engine.tuning.course import next_trial
from monk.engine.tuning.size import sized
from monk.engine.tuning.trial import Notebook, Situation
from monk.errors import MonkError

CLOSING_SHARE = 0.2  # of the time, kept for the proof of what was chosen


def main(arguments: list[str] | None = None) -> int:
    channel = attach(arguments, "Measures how a model runs best; started by the program itself.")
    os.environ.update(NATIVE_ENVIRONMENT)
    if not (frames := first_frames(channel)):
        return 0
    logging.basicConfig(level=logging.WARNING, handlers=[Relay(channel)])
    keep_company(channel, lambda _frames: None)
    try:
        _obey(channel, frames[0])
    except MonkError as error:
        channel.send({"event": "failed", "error": wire.error_to_json(error)})
        return error.exit_status
    return 0


def _obey(channel: wire.Channel, frame: dict[str, Any]) -> None:
    if frame["do"] == "requantise":
        from monk.engine.llama import requantise

        requantise(Path(frame["source"]), Path(frame["target"]), frame["weights"], frame["threads"])
        channel.send({"event": "done", "all": True})
    else:
        _measure(channel, frame)


def _measure(channel: wire.Channel, frame: dict[str, Any]) -> None:
    from monk.engine.tuning.bench import Bench, OutOfTime, Refused  # numpy and llama.cpp: half a second

    config = EngineConfig.from_json(frame["config"])
    situation, notebook = Situation.from_json(frame["situation"]), Notebook.from_json(frame["notebook"])
    file = gguf_file.read(config.model_path)
    take_place(config, file, memory.fit(file, config))
    bench = Bench(config, file, measured_available_bytes(), lambda: None)
    channel.send({"event": "loaded"})
    ends_at = time.monotonic() + frame["seconds"]
    timer = threading.Timer(frame["seconds"], bench.abort)
    timer.daemon = True
    timer.start()
    done = False
    try:
        rate = bench.probe()
        if not situation.piece:
            situation = sized(situation, rate, frame["seconds"], max(file.train_context, 256))
        channel.send({"event": "sized", "situation": situation.to_json(), "tokens_per_second": rate})
        bench.face(situation)
        while not done and time.monotonic() < ends_at:
            left = ends_at - time.monotonic()
            trial = next_trial(situation, notebook, closing=left < CLOSING_SHARE * frame["seconds"])
            if trial is None:
                done = True
                continue
            row = Notebook({trial: []}).to_json()["taken"][0]
            channel.send({"event": "trying", "trial": row})
            try:
                seconds = bench.measure(trial)
            except Refused as refusal:
                notebook.skip(trial, str(refusal))
                channel.send({"event": "skipped", "trial": row, "reason": str(refusal)})
                continue
            notebook.take(trial, seconds)
            channel.send({"event": "took", "trial": row, "seconds": seconds})
    except OutOfTime:
        pass
    timer.cancel()
    channel.send({"event": "done", "all": done})
    bench.close()


if __name__ == "__main__":
    sys.exit(main())
