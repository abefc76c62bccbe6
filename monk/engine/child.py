"""The engine's process, started by `process.py`: `python -m monk.engine.child --socket-fd N --parent PID`.

Three threads. The main one owns the model and runs the engine loop; the reader takes commands from the socket and
answers questions about words; the heart says every second that the process lives and when the last step ended. The
process ends with its parent, whatever happens to that one: by death signal, and by the end of the socket.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monk.engine import fingerprint, gguf_file, lane_plan, memory, wire, words
from monk.engine.bound import bound, take_place, within
from monk.engine.client import AS_ITS_FILE_SAYS, Message, ModelCard, ModelUse, Segment
from monk.engine.config import EngineConfig
from monk.engine.model_use import settled, told
from monk.engine.pages import huge_bytes
from monk.engine.relay import Relay
from monk.engine.tuning.force import in_force, prices
from monk.engine.tuning.record import fill
from monk.engine.tuning.tuner import known_or_measured
from monk.errors import EngineFailed, InvalidInput, ModelUnusable, MonkError

if TYPE_CHECKING:
    from monk.engine.archive import Archive
    from monk.engine.llama import LlamaModel
    from monk.engine.runner import Runner

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
BEAT_SECONDS = 1.0  # of the small children; the engine has a setting
STORE_SECONDS = 2.0  # for blocks on their way to the disk when the parent says stop; it waits not much longer
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

NATIVE_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # on an assert ggml would start a debugger
    # Threads wait for each other a thousand times a step. By default OpenMP spins there for milliseconds, a disaster as
    # soon as anyone else wants a core: 7 tokens/s against 37 on two cores with a load of 6 to 8. Hardly any spinning puts
    # threads to sleep at every wait, and waking one costs more than the wait: a step of 32 (SmolLM2 F16, depth 160) took
    # 154, 158, 150 and 125 ms with 200, 1000, 3000 and 8000 turns; beside two busy loops 305 ms with 200, 353 with 8000
    # (medians, two cores, 2026-11-25).
    "GOMP_SPINCOUNT": "8000",
}


def main(arguments: list[str] | None = None) -> int:
    channel = attach(arguments, "The engine's process; started by the daemon.")
    os.environ.update(NATIVE_ENVIRONMENT)
    return Child(channel).run()


def attach(arguments: list[str] | None, description: str) -> wire.Channel:
    """The way to the parent, as `Spawned.spawn` gives it on the command line; from now on the process dies with it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    die_with(options.parent)
    be_the_first_to_go()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    return wire.Channel(socket.socket(fileno=options.socket_fd))


def first_frames(channel: wire.Channel) -> list[wire.Frame]:
    """What the parent says first; empty when it has gone without a word."""
    while not (frames := channel.receive()):
        if frames is None:
            return []
    return frames


def keep_company(channel: wire.Channel, hear: Callable[[list[wire.Frame]], None]) -> None:
    """Tell the parent once a second that we are alive, and hear what it says, each in a thread of its own. When it closes its
    end there is nobody left to work for."""

    def listen() -> None:
        with suppress(OSError, ValueError):
            while (frames := channel.receive()) is not None:
                hear(frames)
        os._exit(0)

    def beat() -> None:
        with suppress(OSError):
            while True:
                channel.send({"event": "beat"})
                time.sleep(BEAT_SECONDS)

    threading.Thread(target=listen, name="reader", daemon=True).start()
    threading.Thread(target=beat, name="heart", daemon=True).start()


def die_with(parent: int) -> None:
    """Have the kernel kill us when the parent dies; if it died before we could ask, leave now."""
    if platform.system() == "Linux":  # elsewhere the end of the socket has to do
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def be_the_first_to_go() -> None:
    """The OOM killer should take the engine, which resumes, before the daemon or anything of the user's."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


class Child:
    """One engine over one socket."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self._model: LlamaModel | None = None
        self._runner: Runner | None = None
        self._archive: Archive | None = None
        self._card: ModelCard | None = None
        self._outbox = Outbox(channel)
        self._progress_at = time.monotonic()  # while there is no runner yet

    def run(self) -> int:
        first = self._wait_for_config()
        if first is None:
            return 0
        config = EngineConfig.from_json(first["config"])
        logging.basicConfig(level=logging.INFO, handlers=[Relay(self._channel)])
        threading.Thread(target=self._beat, args=(config.beat_seconds,), name="heart", daemon=True).start()
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        try:
            self._load(config)
        except MonkError as error:
            self._channel.send({"event": "failed", "error": wire.error_to_json(error)})
            return error.exit_status
        assert self._runner is not None and self._card is not None
        self._channel.send({"event": "ready", "card": asdict(self._card)})
        self._runner.run()
        if self._archive is not None:
            self._archive.store.close(STORE_SECONDS)
        self._channel.send({"event": "stopped"})
        return 0

    def _wait_for_config(self) -> wire.Frame | None:
        while True:
            frames = self._channel.receive()
            if frames is None:
                return None
            if frames:
                return frames[0] if len(frames) == 1 else None  # what can follow before "ready" is only a stop

    # --- loading

    def _load(self, config: EngineConfig) -> None:
        file = gguf_file.read(config.model_path)
        house = _house(file, config)
        plan = memory.fit(file, config)
        config = bound(config, plan)
        take_place(config, file, plan)
        if config.model_sha256 is not None:
            sha256 = fingerprint.check_pin(file.parts, config.model_sha256)
        else:
            sha256 = fingerprint.sha256_of(file.parts, config.hash_cache)
        given, record = config, known_or_measured(config, file, sha256, lambda _frame: self._note_progress())
        if record is not None:
            config = fill(config, record.values)
        config = within(config)
        plan = memory.fit(file, config)
        config = replace(config, flash_attention="on" if plan.flash_attention else "off")  # what others differ from
        from monk.engine.archive import open_archive
        from monk.engine.llama import LlamaModel  # takes half a second: a refused file should not wait for it
        from monk.engine.runner import Runner, RunnerConfig

        self._model = LlamaModel(config, plan, self._note_progress, file, house)
        assert config.binding is not None
        tuning = {**in_force(given, plan, record), "binding": config.binding.facts()}
        self._card = make_card(file, config, plan, sha256, self._model, tuning)
        settings = RunnerConfig(
            context=self._card.context,
            block_tokens=config.kv_block_tokens,
            prefill_slice_seconds=config.prefill_slice_seconds,
            decode_share=config.decode_share,
            flush_seconds=config.flush_seconds,
            share_prefixes=config.share_prefixes,
            speculates=config.speculation == "auto",
            **prices(record),
            own=config.own_settings(file),
            house=house,
        )
        self._archive = open_archive(file, config, plan, sha256)
        self._runner = Runner(self._model, settings, self._outbox.deliver, self._archive)
        self._log(logging.INFO, "threads and memory bound", **config.binding.facts())
        self._report(file, plan)

    def _report(self, file: gguf_file.GgufFile, plan: memory.Plan) -> None:
        """Plan and truth side by side, for the log."""
        self._log(logging.INFO, "model loaded", **plan.facts(), rss_bytes=rss_bytes(), huge_bytes=huge_bytes())
        if file.chat_template is None:
            self._log(logging.WARNING, "model has no chat template, plain names are used instead")
        if plan.context > file.train_context + lane_plan.PAD:
            self._log(
                logging.WARNING, "context is longer than the model was trained for", train_context=file.train_context
            )

    def _log(self, level: int, text: str, **facts: object) -> None:
        self._channel.send({"event": "log", "level": level, "text": text, "facts": facts})

    def _note_progress(self) -> None:
        self._progress_at = time.monotonic()
        if self._runner is not None:  # loaded anew, with other settings
            self._runner.counters.progress_at = self._progress_at

    # --- commands

    def _read(self) -> None:
        """Until the parent is gone; then so are we, in the middle of whatever runs."""
        with suppress(OSError, ValueError):
            while (frames := self._channel.receive()) is not None:
                for frame in frames:
                    self._obey(frame)
        os._exit(0)

    def _obey(self, frame: wire.Frame) -> None:
        if self._runner is None:  # only a stop can come before "ready": there is nothing to save yet
            os._exit(0)
        match frame["do"]:
            case "think":
                self._runner.think(wire.request_from_json(frame["request"]))
            case "cancel":
                self._runner.cancel(frame["id"])
            case "stop":
                self._runner.stop()
            case "tokenize" | "detokenize":
                self._channel.send({"event": "reply", "call": frame["call"], **self._answer(frame)})

    def _answer(self, frame: wire.Frame) -> dict[str, Any]:
        assert self._model is not None and self._card is not None
        try:
            if frame["do"] == "detokenize":
                return {"result": words.detokenize(self._model, self._known(frame["ids"]))}
            segments = [Segment(text, control) for text, control in frame["segments"]]
            return {"result": words.tokenize(self._model, segments, self._card.control_tokens, frame["add_bos"])}
        except MonkError as error:
            return {"error": wire.error_to_json(error)}

    def _known(self, ids: list[int]) -> list[int]:
        """Ids out of the vocabulary would read beyond its end."""
        assert self._model is not None
        for token in ids:
            if not 0 <= token < self._model.vocab_size:
                raise EngineFailed(f"token {token} is not in the vocabulary")
        return ids

    # --- signs of life

    def _beat(self, seconds: float) -> None:
        with suppress(OSError):
            while True:
                self._channel.send({"event": "beat", "rss_bytes": rss_bytes(), **self._pulse()})
                time.sleep(seconds)

    def _pulse(self) -> dict[str, Any]:
        if self._runner is None:
            return {"counters": None, "progress_at": self._progress_at}
        counters = asdict(self._runner.counters)
        if self._archive is not None:
            counters |= {f"kv_{name}": value for name, value in asdict(self._archive.store.counters).items()}
        runs_with = told(self._runner.runs_with)
        wears = [{"sha256": worn.sha256, "scale": worn.scale} for worn in self._runner.wears]
        return {
            "counters": counters,
            "progress_at": counters["progress_at"],
            "runs_with": runs_with,
            "wears": wears,
        }


class Outbox:
    """Sends what the loop delivers. The runner already gathers tokens, so each message is one frame."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel

    def deliver(self, thought_id: str, message: Message | MonkError) -> None:
        if isinstance(message, MonkError):
            self._channel.send({"event": "error", "id": thought_id, "error": wire.error_to_json(message)})
        else:
            self._channel.send({"event": "message", "id": thought_id, "message": wire.message_to_json(message)})


def _house(file: gguf_file.GgufFile, config: EngineConfig) -> ModelUse:
    """What the model runs with by itself. Raises ModelUnusable when the settings are not for this model."""
    try:
        return settled(config.model_use, AS_ITS_FILE_SAYS, config.own_settings(file))
    except InvalidInput as exc:
        raise ModelUnusable(f"{config.model_path.name}: {exc.message}", param=exc.param) from exc


def make_card(
    file: gguf_file.GgufFile,
    config: EngineConfig,
    plan: memory.Plan,
    sha256: str,
    model: LlamaModel,
    tuning: dict[str, Any],
) -> ModelCard:
    """What the rest of the program learns of the model."""
    return ModelCard(
        name=config.name or str(file.metadata.get("general.name") or config.model_path.stem),
        path=str(config.model_path),
        sha256=sha256,
        architecture=file.architecture,
        num_parameters=file.num_parameters,
        weight_bytes=plan.weight_bytes,
        train_context=file.train_context,
        context=min(config.context or plan.context, model.context),
        slots=plan.slots,
        kv_bytes_per_token=plan.kv_bytes_per_token,
        vocab_size=model.vocab_size,
        chat_template=file.chat_template,
        bos=file.special_token("bos"),
        eos=file.special_token("eos"),
        control_tokens=file.control_tokens,
        tuning=tuning,
    )


def rss_bytes() -> int:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:  # macOS
        import psutil

        return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    sys.exit(main())
