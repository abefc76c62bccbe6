"""Settings of place and pages on the real engine: each acts, as the kernel tells of its process; none changes an answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monk.engine import pages
from monk.engine.binding import Binding
from monk.engine.client import Finished, NewTokens, Sampling, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.engine.topology import shown, this_machine
from monk.errors import SettingsInvalid
from tests.engine_models import write_tiny_model

pytestmark = pytest.mark.real
PROMPT = tuple(b"A long document that is read once and kept. " * 8)
WEIGHTS = 24 << 20
CPU = str(max(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_tiny_model(tmp_path_factory.mktemp("models") / "moe.gguf", "qwen3moe", experts=16, width=256, layers=2)
    assert path.stat().st_size > WEIGHTS
    return path


@contextmanager
def running(model: Path, **values: Any) -> Iterator[EngineProcess]:
    engine = EngineProcess(
        EngineConfig(model, **{"context": 16384, "slots": 4, "threads": 1, "beat_seconds": 0.05, **values})
    )
    try:
        engine.card(60.0)
        yield engine
    finally:
        engine.stop()


def answer(engine: EngineProcess) -> tuple[int, ...]:
    ids: list[int] = []
    request = ThoughtRequest(f"{time.monotonic()}", PROMPT, 8, Sampling(logit_bias={258: -100.0}))
    for message in engine.think(request):
        ids += message.ids if isinstance(message, NewTokens) else ()
        assert not isinstance(message, Finished) or message.reason == "length"
    return tuple(ids)


def told(engine: EngineProcess, name: str) -> int:
    """Bytes, as /proc/<pid>/status has them."""
    status = Path(f"/proc/{engine.status().pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.M)
    return int(found[1]) * 1024 if found else 0


def affinities(engine: EngineProcess) -> set[str]:
    """Of all its threads."""
    return {
        next(
            line for line in (task / "status").read_text().splitlines() if line.startswith("Cpus_allowed_list")
        ).split()[1]
        for task in Path(f"/proc/{engine.status().pid}/task").iterdir()
    }


def test_every_thread_keeps_to_the_cpus_that_were_set(model: Path) -> None:
    with running(model, cpus=CPU) as engine:
        answer(engine)
        assert affinities(engine) == {CPU}
        assert engine.card().tuning["binding"]["cpus"] == CPU


def test_pages_follow_the_binding(model: Path) -> None:
    bound = Binding("numactl", (int(CPU),), "interleave", (0,), 1, "for a test")
    with running(model, binding=bound) as engine:
        answer(engine)
        policies = Path(f"/proc/{engine.status().pid}/numa_maps").read_text()
        assert affinities(engine) == {CPU}
        assert engine.card().tuning["binding"] == {
            "numa": "numactl", "cpus": CPU, "memory": "interleave 0", "reason": "for a test",
        }  # fmt: skip

    rows = [row.split() for row in policies.splitlines()]
    large = [row for row in rows if any(word.startswith("anon=") and int(word[5:]) > 2000 for word in row)]
    assert large and {row[1] for row in large} == {"interleave:0"}, "KV among them"
    assert sum(row[1] == "interleave:0" for row in rows) > 0.9 * len(rows), "all but a few of the kernel's own"


def test_weights_are_mapped_or_copied_as_set(model: Path) -> None:
    with running(model) as engine:
        assert affinities(engine) == {shown(os.sched_getaffinity(0))}, "all, where nothing is set"
        assert told(engine, "VmLck") == 0
        mapped = answer(engine), told(engine, "RssFile"), told(engine, "RssAnon")
    with running(model, mmap=False) as engine:
        copied = answer(engine), told(engine, "RssFile"), told(engine, "RssAnon")

    assert mapped[0] == copied[0]
    assert mapped[1] - copied[1] > WEIGHTS * 0.9, "from the file they came, and are not there any more"
    assert copied[2] - mapped[2] > WEIGHTS * 0.9, "but in memory of its own"


def test_weights_are_locked_as_set(model: Path) -> None:
    if pages.lock_limit() < 2 * WEIGHTS:
        pytest.skip("this account may not lock so much")
    with running(model, mlock=True) as engine:
        assert told(engine, "VmLck") >= WEIGHTS


@pytest.mark.skipif(pages.huge_mode() not in ("madvise", "always"), reason="this kernel gives no huge pages")
def test_kv_lies_in_huge_pages_as_set_and_weights_too_where_they_are_copied(model: Path) -> None:
    found = {}
    for name, values in {
        "on": {"huge_pages": "on"},
        "copied": {"huge_pages": "on", "mmap": False},
        "off": {"huge_pages": "off"},
    }.items():
        with running(model, **values) as engine:
            found[name] = pages.huge_bytes(engine.status().pid or 0)

    kv = 4 * 16384 * 512
    assert found["on"] > 0.9 * kv
    assert found["copied"] - found["on"] > 0.8 * WEIGHTS
    assert found["off"] == 0


def test_another_type_of_kv_takes_other_bytes(model: Path) -> None:
    taken = {}
    for kind in ("f32", "f16", "q8_0"):
        with running(model, kv_type_k=kind, kv_type_v="f16") as engine:
            taken[kind] = told(engine, "RssAnon"), engine.card().kv_bytes_per_token

    tokens = 4 * 16384
    assert [taken[kind][1] for kind in taken] == [768, 512, 392]
    for more, less in (("f32", "f16"), ("f16", "q8_0")):
        planned = tokens * (taken[more][1] - taken[less][1])
        assert abs(taken[more][0] - taken[less][0] - planned) < 2 << 20, f"{more} against {less}"


def test_kv_on_the_disk_is_kept_by_what_shapes_it_and_by_nothing_else(model: Path, tmp_path: Path) -> None:
    kept: dict[str, Any] = {"kv_folder": tmp_path / "kv", "kv_block_tokens": 64, "context": 1024}
    blocks = len(PROMPT) // 64
    place: dict[str, Any] = {"mmap": False, "cpus": CPU, "huge_pages": "off", "ubatch": 128, "numa": "auto"}
    if pages.lock_limit() >= 2 * WEIGHTS:
        place |= {"mmap": True, "mlock": True}
    with running(model, **kept) as engine:
        said = answer(engine)
        assert figures(engine, "blocks_written", blocks) == blocks

    with running(model, **kept, **place) as engine:
        assert answer(engine) == said
        assert figures(engine, "hits", blocks) == blocks, "where it runs and lies shapes no KV"
    for shaped in ({"kv_type_k": "q8_0"}, {"flash_attention": "on"}):
        with running(model, **kept, **shaped) as engine:
            answer(engine)
            figures(engine, "blocks_written", 2)
            assert engine.status().kv.hits == 0, f"of other KV: {shaped}"


def figures(engine: EngineProcess, name: str, least: int) -> int:
    """Of the store, as soon as a beat has told of so many."""
    deadline = time.monotonic() + 20
    while getattr(engine.status().kv, name) < least and time.monotonic() < deadline:
        time.sleep(0.02)
    return int(getattr(engine.status().kv, name))


def test_what_cannot_be_had_is_told_before_the_model_is_loaded(model: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [({"cpus": "4000"}, "cpus names 4000, and this machine has")]
    if len(this_machine().nodes) == 1:
        wrong.append(({"numa": "distribute"}, "this machine has one memory node to choose from"))
    for values, reason in wrong:
        engine = EngineProcess(EngineConfig(model, context=512, slots=1, threads=1, **values))
        with pytest.raises(SettingsInvalid, match=reason):
            engine.card(60.0)
        engine.stop()


LOCKED_OUT = """
import ctypes, resource, sys
from pathlib import Path
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.errors import MonkError
ctypes.CDLL(None).prctl(24, 14, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_IPC_LOCK: what is started now cannot have it
resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 20))
engine = EngineProcess(EngineConfig(Path(sys.argv[1]), context=512, slots=1, threads=1, mlock=True))
try:
    engine.card(60.0)
except MonkError as exc:
    print(type(exc).__name__, exc)
engine.stop()
"""


def test_a_lock_that_the_limit_forbids_is_refused_with_the_figures(model: Path) -> None:
    command = [sys.executable, "-c", LOCKED_OUT, str(model)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert re.match(
        r"SettingsInvalid mlock is on and must lock \d\d\.\d MiB, and RLIMIT_MEMLOCK allows 1\.0 MiB; write LimitMEMLOCK",
        said,
    ), said
