"""The engine in a child process, as the rest of the program uses it: started, fed, and started again when it dies.

    off ──start──▶ starting ──ready──▶ ready ──child dies──▶ restarting ──ready──▶ ready
     ▲                │ model unusable, memory too small        │
     └─────stop───────┴──▶ failed ◀─────────────────────────────┘        (start may be called again)

One supervisor thread owns the child: it spawns it, reads its socket, and watches its beats. Callers only send, and wait
on their own mailbox. Every open stream of a dead child raises EngineDied; what it delivered before stands.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from monk.engine import wire
from monk.engine.client import EngineState, EngineStatus, Finished, ModelCard, Segment, Stream, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.mailbox import Mailbox
from monk.engine.pages import TUNABLES, huge_environment
from monk.engine.request import check_length
from monk.engine.spawned import Spawned
from monk.engine.totals import Totals
from monk.errors import Conflict, EngineDied, ModelUnusable, MonkError, Unavailable

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 30.0
HEALTHY_SECONDS = 60.0  # a child that lived this long, or computed something, resets the backoff
POLITE_SECONDS = 3.0  # how long stop waits before it uses force
LOAD_ATTEMPTS = 5  # a child that dies this often before it was ever ready is not tried again


class EngineProcess:
    """An `EngineClient`. Thread-safe."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._lock = threading.Condition()
        self._start_lock = threading.Lock()
        self._state: EngineState = "off"
        self._error: MonkError | None = None
        self._card: ModelCard | None = None
        self._child: Spawned | None = None
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._streams: dict[str, Mailbox] = {}
        self._calls: dict[int, _Call] = {}
        self._call_numbers = itertools.count(1)
        self._num_restarts = 0
        self._last_error: str | None = None
        self._told_reason: str | None = None  # as the log has it: every start may fail for the same
        self._totals = Totals()
        self._runs_with: dict[str, Any] = {}
        self._wears: list[dict[str, Any]] = []
        self._rss_bytes = 0
        self._beat_at = time.monotonic()

    # --- the contract

    def start(self) -> None:
        with self._start_lock:
            if self._supervisor is not None and self._state not in ("off", "failed") and not self._stopping.is_set():
                return
            if self._supervisor is not None:
                self._supervisor.join()  # the one before is on its way out
            self._launch()

    def _launch(self) -> None:
        with self._lock:
            self._stopping.clear()
            self._error = None
            self._set_state("starting")
            # the kernel ties the child's death signal to the thread that spawned it: this one lives as long as the
            # child
            self._supervisor = threading.Thread(target=self._supervise, name="engine", daemon=True)
            self._supervisor.start()

    def card(self, timeout: float | None = None) -> ModelCard:
        return self._when_ready(timeout)

    def tokenize(self, segments: list[Segment], *, add_bos: bool = True) -> list[int]:
        rows = [[segment.text, segment.control] for segment in segments]
        result = self._ask({"do": "tokenize", "segments": rows, "add_bos": add_bos})
        assert isinstance(result, list)
        return result

    def detokenize(self, ids: list[int]) -> str:
        return str(self._ask({"do": "detokenize", "ids": list(ids)}))

    def think(self, request: ThoughtRequest) -> Stream:
        card = self._when_ready(None)
        check_length(request, card.context)
        mailbox = Mailbox(lambda: self._cancel(request.id))
        with self._lock:
            if request.id in self._streams:
                raise Conflict(f"thought {request.id} is open already")
            child = self._child
            if child is None or self._state != "ready":
                raise EngineDied("the engine stopped before it took the thought; ask again")
            self._streams[request.id] = mailbox
        self._send(child, {"do": "think", "request": wire.request_to_json(request)})
        return mailbox

    def status(self) -> EngineStatus:
        with self._lock:
            totals = self._totals
            return EngineStatus(
                state=self._state,
                pid=self._child.pid if self._child else None,
                model=self._card,
                num_restarts=self._num_restarts,
                last_error=self._last_error,
                active=totals.active,
                waiting=totals.waiting,
                rss_bytes=self._rss_bytes,
                prefill_tokens=totals.whole("prefill_tokens"),
                decode_tokens=totals.whole("decode_tokens"),
                prefill_seconds=totals.sum("prefill_seconds"),
                decode_seconds=totals.sum("decode_seconds"),
                beat_at=self._beat_at,
                shared_tokens=totals.whole("shared_tokens"),
                forked_tokens=totals.whole("forked_tokens"),
                deduplicated=totals.whole("deduplicated"),
                kv=totals.kv(),
                drafted_tokens=totals.whole("drafted_tokens"),
                accepted_tokens=totals.whole("accepted_tokens"),
                runs_with=self._runs_with,
                wears=tuple(self._wears),
                waves=totals.whole("waves"),
            )

    def stop(self) -> None:
        with self._lock:
            supervisor, child = self._supervisor, self._child
            self._stopping.set()
            self._lock.notify_all()
        if child is not None:
            with contextlib.suppress(OSError):
                child.channel.send({"do": "stop"})
            child.end_after(POLITE_SECONDS)
        if supervisor is not None and supervisor is not threading.current_thread():
            supervisor.join()

    # --- callers

    def _when_ready(self, timeout: float | None) -> ModelCard:
        """Wait for a loaded model, starting the engine if nobody did. One that was stopped stays stopped."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._state == "off" and not self._stopping.is_set():
            self.start()
        with self._lock:
            while True:
                if self._state == "ready" and self._card is not None:
                    return self._card
                if self._state == "failed" and self._error is not None:
                    raise self._error
                if self._state == "off" or self._stopping.is_set():
                    raise Unavailable("the engine is stopped")
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise Unavailable(f"the model is not loaded after {timeout:g} s; it is still being read")
                self._lock.wait(left)

    def _ask(self, frame: wire.Frame) -> Any:
        """Send a question and wait for its reply; asked again if the child dies over it."""
        while True:
            self._when_ready(None)
            call = _Call()
            number = next(self._call_numbers)
            with self._lock:
                child = self._child
                if child is None or self._state != "ready":
                    continue
                self._calls[number] = call
            self._send(child, {**frame, "call": number})
            call.done.wait()
            if call.error is None:
                return call.result
            if not isinstance(call.error, EngineDied) or self._stopping.is_set():
                raise call.error

    def _cancel(self, thought_id: str) -> None:
        with self._lock:
            child = self._child if thought_id in self._streams else None
        if child is not None:
            self._send(child, {"do": "cancel", "id": thought_id})

    def _send(self, child: Spawned, frame: wire.Frame) -> None:
        """A child that is gone is the supervisor's business: it ends the streams and calls."""
        with contextlib.suppress(OSError):
            child.channel.send(frame)

    # --- the supervisor

    def _supervise(self) -> None:
        backoff, unready = FIRST_BACKOFF_SECONDS, 0
        while not self._stopping.is_set():
            started_at = time.monotonic()
            computed = self._totals.work()
            try:
                self._run_child()
            except OSError as exc:
                self._last_error = f"the engine cannot be started: {exc}"
            except Exception:  # the rim: without its supervisor every caller would wait for ever
                self._last_error = "the supervisor met a defect; see the log"
                log.exception("engine supervisor failed")
            was_ready = self._state == "ready"
            self._lose_child()
            if self._stopping.is_set() or self._state == "failed":
                break
            unready = 0 if was_ready else unready + 1
            if unready >= LOAD_ATTEMPTS:
                self._give_up(self._unloadable())
                break
            healthy = time.monotonic() - started_at > HEALTHY_SECONDS or self._totals.work() > computed
            backoff = FIRST_BACKOFF_SECONDS if healthy else min(2 * backoff, LAST_BACKOFF_SECONDS)
            self._num_restarts += 1
            log.error("engine died", extra={"reason": self._last_error, "restart_in_seconds": backoff})
            self._stopping.wait(backoff)
        with self._lock:
            if self._state != "failed":
                self._set_state("off")

    def _run_child(self) -> None:
        """Spawn one child and read its socket until it ends."""
        tunables = huge_environment(self._config.huge_pages, os.environ.get(TUNABLES, ""))
        child = Spawned.spawn("monk.engine.child", tunables)
        with self._lock:
            self._child = child
            self._beat_at = time.monotonic()
            if self._stopping.is_set():
                return
        child.channel.send({"do": "load", "config": self._config.to_json()})
        while (frames := child.channel.receive()) is not None:
            for frame in frames:
                self._take(frame)
            self._check_pulse(child)

    def _lose_child(self) -> None:
        """The child is gone or must go: reap it, and end every stream and call it had."""
        child = self._child
        if child is not None:
            last_words = child.bury()
            if self._state != "failed" and not self._stopping.is_set():  # a reason that was told, or a stop, stands
                self._last_error = child.verdict or last_words
        with self._lock:
            self._child = None
            if self._state in ("starting", "ready"):
                self._set_state("restarting")
            self._totals.end_of_child()
            streams, self._streams = self._streams, {}
            calls, self._calls = self._calls, {}
        paused = self._stopping.is_set()
        for mailbox in streams.values():
            mailbox.put(Finished("paused", "", 0, 0, 0.0, 0.0) if paused else EngineDied(self._death_notice()))
        for call in calls.values():
            call.fail(EngineDied(self._death_notice()))

    def _death_notice(self) -> str:
        return (
            f"the engine process died ({self._last_error or 'no last words'}); tokens received so far stand, ask again"
        )

    def _check_pulse(self, child: Spawned) -> None:
        now = time.monotonic()
        if now - child.heard_at > self._config.silence_seconds:
            child.condemn(f"no sign of life for {self._config.silence_seconds:g} s")
        elif now - self._beat_at > self._config.step_seconds:
            child.condemn(f"one step took more than {self._config.step_seconds:g} s")

    # --- what the child says

    def _take(self, frame: wire.Frame) -> None:
        child = self._child
        assert child is not None
        child.heard_at = time.monotonic()
        match frame["event"]:
            case "message":
                self._deliver(frame["id"], wire.message_from_json(frame["message"]))
            case "error":
                self._deliver(frame["id"], wire.error_from_json(frame["error"]))
            case "reply":
                self._reply(frame)
            case "beat":
                self._feel(frame)
            case "log":
                log.log(frame["level"], frame["text"], extra=frame["facts"])
            case "ready":
                with self._lock:
                    self._card = wire.card_from_json(frame["card"])
                    self._told_reason = None
                    self._set_state("ready")
            case "failed":
                self._give_up(wire.error_from_json(frame["error"]))

    def _deliver(self, thought_id: str, item: Any) -> None:
        with self._lock:
            mailbox = self._streams.get(thought_id)
            if isinstance(item, Finished | MonkError):
                self._streams.pop(thought_id, None)
        if mailbox is not None:
            mailbox.put(item)

    def _reply(self, frame: wire.Frame) -> None:
        with self._lock:
            call = self._calls.pop(frame["call"], None)
        if call is None:
            return
        if "error" in frame:
            call.fail(wire.error_from_json(frame["error"]))
        else:
            call.answer(frame["result"])

    def _feel(self, frame: wire.Frame) -> None:
        with self._lock:
            self._rss_bytes = frame["rss_bytes"]
            counters = frame["counters"]
            self._runs_with, self._wears = frame.get("runs_with", {}), frame.get("wears", [])
            idle = counters is not None and not counters["active"] and not counters["waiting"]
            self._beat_at = time.monotonic() if idle else max(self._beat_at, frame["progress_at"])
            if counters is not None:
                self._totals.now = counters

    def _give_up(self, error: MonkError) -> None:
        """The model will not load however often it is tried."""
        with self._lock:
            self._error = error
            self._last_error = error.message
            self._set_state("failed")
        if self._told_reason != error.message:
            log.error("engine failed", extra={"reason": error.message})
        self._told_reason = error.message

    def _unloadable(self) -> ModelUnusable:
        path = self._config.model_path
        return ModelUnusable(
            f"the engine died {LOAD_ATTEMPTS} times while loading {path} ({self._last_error}); "
            "try another model or a smaller context",
            file=str(path),
        )

    def _set_state(self, state: EngineState) -> None:
        """With the lock held."""
        self._state = state
        self._lock.notify_all()


@dataclass(slots=True)
class _Call:
    """A question on its way."""

    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: MonkError | None = None

    def answer(self, result: Any) -> None:
        self.result = result
        self.done.set()

    def fail(self, error: MonkError) -> None:
        self.error = error
        self.done.set()
