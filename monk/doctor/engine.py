"""The engine, really: its process is started, loads the model, and thinks a few tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from monk.doctor.finding import Finding
from monk.settings import Settings

START_SECONDS = 600.0  # 60 GB from a slow disk
TRIAL_TOKENS = 32
TRIAL = "The monk counts the hours of the night:"


def engine(settings: Settings) -> Iterator[Finding]:
    """A running daemon's engine is asked after; otherwise one is started and stopped."""
    from monk.doctor.net import answers

    if answers(settings):
        yield _of_daemon(settings)
        return
    from monk.daemon import engine_config
    from monk.engine.client import Finished, Segment, ThoughtRequest
    from monk.engine.process import EngineProcess

    began = time.monotonic()
    tried = EngineProcess(replace(engine_config(settings), tune_seconds=0.0))  # a check changes nothing
    tried.start()
    try:
        card = tried.card(timeout=START_SECONDS)
        loaded_seconds = time.monotonic() - began
        prompt = tuple(tried.tokenize([Segment(TRIAL, control=False)]))
        *_, end = tried.think(ThoughtRequest("doctor", prompt, TRIAL_TOKENS))
        assert isinstance(end, Finished)
        speed = end.num_decoded / end.decode_seconds if end.decode_seconds else 0.0
        yield Finding(
            "engine", "ok", f"{card.name} loaded in {loaded_seconds:.1f} s, thinks {speed:.1f} tokens/s alone"
        )
    finally:
        tried.stop()


def _of_daemon(settings: Settings) -> Finding:
    from monk.client import Client

    with Client(settings) as daemon:
        told = daemon.get("/status")["engine"]
    if told["state"] == "failed":
        return Finding(
            "engine",
            "fail",
            f"the daemon's engine failed: {told['last_error']}",
            "see the findings above, and the journal",
        )
    speed = told.get("decode_tokens_per_second")
    rate = f", {speed:.1f} tokens/s so far" if speed else ""
    return Finding("engine", "ok", f"the daemon's engine is {told['state']}{rate}")
