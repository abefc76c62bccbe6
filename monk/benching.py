"""What the kind `bench` sees of the house: `jobs.context.Bench` over the engine's measuring process and what is expected.

$MONK_HOME/bench/<model>-<key>.json    what was measured (monk/engine/bench/rates.py)
$MONK_HOME/bench/<job>/                KV of long beginnings, gone when the job has ended
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from db.models import Job
from jobs.context import MinutesUsed
from monk.engine import gguf_file, memory
from monk.engine.bench import rates
from monk.engine.bench.meters import Energy
from monk.engine.bench.point import Point
from monk.engine.bench.rates import Rate
from monk.engine.bench.session import Session, Stop, Stopped
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.fingerprint import sha256_of
from monk.engine.gguf_file import GgufFile
from monk.engine.machine import measured_available_bytes, physical_cores, ram_bytes
from monk.engine.model_use import said
from monk.engine.model_use import told as settings_of
from monk.engine.tuning import host, record
from monk.plan.machines import measured as measured_machine
from monk.plan.speed import Machine, Work
from monk.thinking import Paused

QUIET_EVENTS = frozenset({"repeat"})  # too many for the diary


class Asker(Protocol):
    """The run, as far as it is needed here."""

    @property
    def job(self) -> Job: ...
    def note(self, type_: str, data: dict[str, Any]) -> None: ...
    def must_stop(self) -> Stop: ...
    def model_use(self) -> ModelUse: ...


@dataclass(frozen=True, slots=True)
class Yard:
    """What all benchmarks share. `is_over`: whether a job has ended, so that what it left may go."""

    home: Path
    config: EngineConfig
    is_over: Callable[[str], bool]

    @property
    def folder(self) -> Path:
        return self.home / "bench"

    def sweep(self, but: str) -> None:
        """Remove the folders of jobs that have ended, were cancelled, or are not known."""
        with suppress(OSError):
            for place in self.folder.iterdir():
                if place.name.startswith("job_") and place.name != but and self.is_over(place.name):
                    shutil.rmtree(place, ignore_errors=True)


class Benching:
    """For one run. See `jobs.context.Bench` for what each method gives."""

    def __init__(self, run: Asker, yard: Yard) -> None:
        self._run, self._yard = run, yard
        self._session: Session | None = None
        self._closing = threading.Lock()

    # ── where we are ──────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self, context: int, ubatch: int) -> dict[str, Any]:
        self._yard.sweep(self._run.job.id)
        config, file = self._config, self._file
        if ubatch:
            config = replace(config, ubatch=ubatch)
        available = measured_available_bytes()
        longest = context or memory.fit(file, config, available).context
        plan = memory.fit(file, replace(config, slots=1, context=longest, kv_folder=None), available)
        machine = measured_machine(physical_cores())
        facts = host.host()
        energy = Energy()
        told = {
            "host": {**facts, "kernel": platform.release(), "memory_bytes": ram_bytes()},
            "build": host.build(),
            "model": {
                "name": config.name or file.path.name,
                "sha256": self._sha256,
                "architecture": file.architecture,
                "parameters": file.num_parameters,
                "weight_bytes": file.weight_bytes,
                "train_context": file.train_context,
                "settings": said(self._run.model_use()),
            },
            "base": {
                "context": longest,
                "flash": plan.flash_attention,
                "type_k": config.kv_type_k,
                "type_v": config.kv_type_v,
                "ubatch": plan.ubatch,
                "threads_prompt": plan.threads_batch,
                "threads_step": plan.threads,
                "threads_single": config.threads_single or plan.threads,
            },
            "threads": list(host.thread_choices(physical_cores(), facts["threads"], facts["quota"])),
            "machine": {"bandwidth": machine.bandwidth, "gflops": machine.gflops},
            "energy": energy.problem,
            "plan_bytes": plan.total_bytes,
            "available_bytes": available,
        }
        self._run.note("bench-planned", {"context": longest, "memory_bytes": plan.total_bytes})
        return told

    # ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def measure(self, point: dict[str, Any], repeats: int, here: dict[str, Any]) -> dict[str, Any]:
        asked = Point.from_json(point)
        try:
            found = self._opened().measure(asked, repeats)
        except Stopped as stopped:
            if stopped.why == "minutes":
                raise MinutesUsed from stopped
            raise Paused from stopped
        expected = {} if "refused" in found else self._expected(asked, here)
        row = {**asked.to_json(), **expected, **found, "measured_at": record.now_text()}
        self._run.note("bench-measured", _short(row))
        return row

    def _opened(self) -> Session:
        if self._session is None:
            folder = self._yard.folder / self._run.job.id
            facts = {
                "model_sha256": self._sha256,
                "build": host.build(),
                "use": settings_of(self._run.model_use()),
                "rotation_disabled": os.environ.get("LLAMA_ATTN_ROT_DISABLE", ""),
            }
            config = replace(self._config, memory_reserve_bytes=self._yard.config.memory_reserve_bytes)
            self._session = Session(config, self._run.model_use(), folder, facts, self._told, self._run.must_stop)
        return self._session

    def _told(self, frame: dict[str, Any]) -> None:
        if frame["event"] not in QUIET_EVENTS:
            self._run.note(f"bench-{frame['event']}", {name: value for name, value in frame.items() if name != "event"})

    def _expected(self, point: Point, here: dict[str, Any]) -> dict[str, Any]:
        """Tokens per second by the roofline as `monk plan` reckons, and the bound: what the machine's own figures allow."""
        machine = Machine(**here["machine"])
        work = Work.of(self._file, replace(self._config, model_use=self._run.model_use(), **point.settings))
        middle = point.depth + point.tokens // 2
        if point.test == "prompt":
            seconds = work.prompt_seconds(machine, point.tokens, point.depth)
            operations = point.tokens * (
                2.0 * work.active_parameters + work.attention_operations * work.sight.behind(middle)
            )
            bound = point.tokens * machine.gflops * 1e9 / operations
            return {"predicted": round(point.tokens / seconds, 4), "bound": round(bound, 4)}
        seconds = work.step_seconds(machine, point.rows, middle)
        read = work.read_bytes(point.rows) + point.rows * work.sight.behind(middle) * work.kv_bytes
        return {
            "predicted": round(point.rows / seconds, 4),
            "bound": round(point.rows * machine.bandwidth / read, 4),
        }

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def keep(self, rows: list[dict[str, Any]], here: dict[str, Any]) -> str:
        found = [
            Rate(Point.from_json(row), row["tokens_per_second"]["median"], row["measured_at"])
            for row in rows
            if "refused" not in row
        ]
        if here["model"]["settings"] or not found:  # of another expert count or another rope: not this model's rates
            return ""
        return str(rates.keep(self._yard.folder, self._sha256, found))

    def leave(self) -> None:
        self.close()
        shutil.rmtree(self._yard.folder / self._run.job.id, ignore_errors=True)

    def close(self) -> None:
        with self._closing:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    # ── the model ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _file(self) -> GgufFile:
        return gguf_file.read(self._yard.config.model_path)

    @cached_property
    def _sha256(self) -> str:
        config = self._yard.config
        return config.model_sha256 or sha256_of(self._file.parts, config.hash_cache)

    @cached_property
    def _config(self) -> EngineConfig:
        """As the engine runs for this job: what was tuned fills the gaps."""
        config = self._yard.config
        found = record.find(config, self._sha256)
        filled = config if found is None else record.fill(config, found.values)
        return filled.under(self._run.model_use())


def _short(row: dict[str, Any]) -> dict[str, Any]:
    names = ("test", "tokens", "rows", "depth", "flash", "type_k", "type_v", "threads", "tokens_per_second", "refused")
    return {name: row[name] for name in names if name in row}
