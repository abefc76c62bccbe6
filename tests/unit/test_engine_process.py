"""The child process: what it refuses, how it dies, and that nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from monk.engine import embedded, process
from monk.engine.client import Finished, NewTokens, Sampling, Segment, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.errors import EngineDied, InvalidInput, MemoryTooSmall, ModelUnusable, SettingsInvalid, Unavailable
from tests.engine_models import write_tiny_model

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def start() -> Iterator[Callable[..., EngineProcess]]:
    """Makes engines and stops them afterwards."""
    made: list[EngineProcess] = []

    def make(path: Path, **values: object) -> EngineProcess:
        config = EngineConfig(path, **{"context": 512, "slots": 4, "threads": 1, **values})  # type: ignore[arg-type]
        made.append(EngineProcess(config))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()


def wait_for(happens: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def bytes_of(text: str) -> tuple[int, ...]:
    """Ids of the tiny model's byte tokenizer."""
    return tuple(text.encode())


def test_a_missing_model_is_a_failure_that_stays(start: Callable[..., EngineProcess], tmp_path: Path) -> None:
    engine = start(tmp_path / "none.gguf")

    with pytest.raises(ModelUnusable, match="does not exist"):
        engine.card(PATIENCE_SECONDS)

    engine.stop()  # the child is gone for certain: its exit status must not have replaced the reason
    status = engine.status()
    assert status.state == "failed" and status.num_restarts == 0
    assert status.last_error is not None and "does not exist" in status.last_error
    with pytest.raises(ModelUnusable):
        engine.think(ThoughtRequest("t", (1,), 1))


def test_a_truncated_model_is_refused_and_works_once_it_is_whole(
    start: Callable[..., EngineProcess], tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny.read_bytes()[:-1000])
    engine = start(path)
    with pytest.raises(ModelUnusable, match="truncated"):
        engine.card(PATIENCE_SECONDS)

    path.write_bytes(tiny.read_bytes())
    engine.start()

    assert engine.card(PATIENCE_SECONDS).architecture == "qwen3"


def test_a_model_with_another_hash_is_refused(start: Callable[..., EngineProcess], tiny: Path) -> None:
    with pytest.raises(ModelUnusable, match="not the pinned model"):
        start(tiny, model_sha256=embedded.SHA256).card(PATIENCE_SECONDS)


def test_too_little_memory_is_refused_with_figures(start: Callable[..., EngineProcess], tiny: Path) -> None:
    engine = start(tiny, memory_reserve_bytes=1 << 49)

    with pytest.raises(MemoryTooSmall) as caught:
        engine.card(PATIENCE_SECONDS)

    assert isinstance(caught.value.facts["needed_bytes"], int)
    assert "GiB" in caught.value.message


def test_a_model_that_llama_cpp_rejects_fails_with_its_reason(
    start: Callable[..., EngineProcess], tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "renamed.gguf"
    path.write_bytes(tiny.read_bytes().replace(b"blk.1.attn_k.weight", b"blk.1.attn_x.weight"))

    with pytest.raises(ModelUnusable, match="attn_k"):
        start(path).card(PATIENCE_SECONDS)


def test_kv_types_that_the_model_cannot_have_are_refused_by_name_before_it_is_loaded(
    start: Callable[..., EngineProcess], tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "latent.gguf", "deepseek2", experts=8)

    with pytest.raises(ModelUnusable, match=r"kv_type_k is q8_0 and kv_type_v f16.*give the same for both"):
        start(path, kv_type_k="q8_0").card(PATIENCE_SECONDS)


def test_callers_do_not_wait_longer_than_they_said(start: Callable[..., EngineProcess], tiny: Path) -> None:
    with pytest.raises(Unavailable):
        start(tiny).card(timeout=0.001)


def test_the_child_takes_nothing_along_and_leaves_nothing(start: Callable[..., EngineProcess], tiny: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with tiny.open("rb") as ours:
        os.set_inheritable(ours.fileno(), True)
        engine = start(tiny)
        engine.card(PATIENCE_SECONDS)
        child = psutil.Process(engine.status().pid)
        assert str(tiny) not in [file.path for file in child.open_files() if file.fd == ours.fileno()]
        assert len([link for link in Path(f"/proc/{child.pid}/fd").iterdir() if "socket" in os.readlink(link)]) == 1
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"

    engine.stop()

    assert not child.is_running()
    assert set(os.listdir("/proc/self/fd")) <= before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("engine")]


def test_a_child_that_dies_again_and_again_leaks_nothing(
    start: Callable[..., EngineProcess], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "FIRST_BACKOFF_SECONDS", 0.01)
    engine = start(tiny)
    engine.card(PATIENCE_SECONDS)
    before = len(os.listdir("/proc/self/fd"))
    for times in range(1, 4):
        assert engine.detokenize(list(bytes_of("alive"))) == "alive"
        os.kill(engine.status().pid or 0, signal.SIGKILL)
        wait_for(lambda times=times: engine.status().num_restarts == times)

    assert engine.detokenize(list(bytes_of("alive"))) == "alive"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_that_never_gets_ready_is_given_up(
    start: Callable[..., EngineProcess], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    engine = start(tiny)

    with pytest.raises(ModelUnusable, match="died 5 times while loading"):
        engine.card(PATIENCE_SECONDS)


def test_a_frozen_child_is_noticed_and_replaced(start: Callable[..., EngineProcess], tiny: Path) -> None:
    engine = start(tiny, silence_seconds=3.0, beat_seconds=0.2)
    engine.card(PATIENCE_SECONDS)
    stream = engine.think(ThoughtRequest("t", bytes_of("hello"), 400))
    frozen = engine.status().pid or 0

    os.kill(frozen, signal.SIGSTOP)

    with pytest.raises(EngineDied, match="no sign of life"):
        list(stream)
    engine.card(PATIENCE_SECONDS)
    assert engine.status().pid != frozen


def test_the_heart_beats_and_counts(start: Callable[..., EngineProcess], tiny: Path) -> None:
    engine = start(tiny, beat_seconds=0.1)
    engine.card(PATIENCE_SECONDS)
    asked_at = time.monotonic()
    end = list(engine.think(ThoughtRequest("t", bytes_of("hello"), 20)))[-1]
    assert isinstance(end, Finished)

    wait_for(lambda: engine.status().decode_tokens == end.num_decoded and engine.status().beat_at > asked_at)

    status = engine.status()
    assert status.prefill_tokens == 5
    assert status.rss_bytes > 10 << 20
    assert (status.active, status.waiting) == (0, 0)


def test_a_stop_in_the_middle_of_a_long_prefill_is_quick(start: Callable[..., EngineProcess]) -> None:
    engine = start(embedded.model_path(), context=8192, slots=1)
    engine.card(PATIENCE_SECONDS)
    stream = engine.think(ThoughtRequest("t", tuple(range(1000, 9000)), 16))
    time.sleep(0.3)

    started = time.monotonic()
    engine.stop()

    assert time.monotonic() - started < 5.0
    assert isinstance(end := list(stream)[-1], Finished) and end.reason == "paused"


def test_long_prefill_lets_running_thoughts_go_on(start: Callable[..., EngineProcess]) -> None:
    engine = start(embedded.model_path(), context=2048, slots=2, prefill_slice_seconds=0.2)
    talking = engine.think(ThoughtRequest("talking", (1, 2, 3), 400, Sampling(logit_bias={2: -100.0, 0: -100.0})))
    while not isinstance(talking.receive(PATIENCE_SECONDS), NewTokens):
        pass
    reading = engine.think(ThoughtRequest("reading", tuple(range(1000, 2200)), 1))
    heard = 0
    ended = threading.Event()
    reader = threading.Thread(target=lambda: (list(reading), ended.set()))
    reader.start()
    while not ended.is_set():
        message = talking.receive(0.1)
        heard += isinstance(message, NewTokens)
    reader.join()

    assert heard >= 3
    talking.cancel()


def test_json_schema_gives_json(start: Callable[..., EngineProcess]) -> None:
    engine = start(embedded.model_path())
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["n", "ok"],
    }
    prompt = tuple(engine.tokenize([Segment("Give a number.", False)]))
    whole = list(engine.think(ThoughtRequest("json", prompt, 48, Sampling(json_schema=schema))))[-1]
    assert isinstance(whole, Finished) and whole.reason == "stop"

    import json

    assert set(json.loads(whole.text)) == {"n", "ok"}


def test_impossible_schemas_and_grammars_fail_alone(start: Callable[..., EngineProcess], tiny: Path) -> None:
    engine = start(tiny)
    for name, sampling in (
        ("ref", Sampling(json_schema={"$ref": "https://elsewhere.example/x"})),
        ("type", Sampling(json_schema={"type": "wish"})),
        ("left", Sampling(grammar="root ::= root")),
        ("rootless", Sampling(grammar="a ::= [a-z]")),
        ("undefined", Sampling(grammar="root ::= nothing")),
        ("empty", Sampling(grammar="")),
        ("deep", Sampling(grammar="root ::= " + "(" * 20000)),
    ):
        with pytest.raises(InvalidInput):
            list(engine.think(ThoughtRequest(name, (65,), 4, sampling)))
    assert engine.status().num_restarts == 0


def test_the_child_dies_with_its_parent(tiny: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from monk.engine.process import EngineProcess\n"
        "from monk.engine.config import EngineConfig\n"
        "engine = EngineProcess(EngineConfig(Path(sys.argv[1]), context=512, slots=1, threads=1)); engine.card(60)\n"
        "sys.stdout.write(f'{engine.status().pid}\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tiny)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())

        parent.kill()
        parent.wait()

        wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", 2.0)


def test_the_child_imports_only_what_it_needs() -> None:
    program = (
        "import sys, monk.engine.child, monk.engine.runner, monk.engine.llama; sys.stdout.write(' '.join(sys.modules))"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )

    assert not loaded & {"sqlalchemy", "fastapi", "uvicorn", "chromadb", "torch", "pydantic", "monk.settings"}


def test_asking_for_the_package_costs_nothing() -> None:
    program = "import sys, monk.engine, monk.engine.client, monk.engine.config; sys.stdout.write(' '.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )

    assert not loaded & {"numpy", "llama_cpp", "jinja2", "gguf"}


def test_settings_the_model_cannot_have_are_refused(start: Callable[..., EngineProcess], tiny: Path) -> None:
    with pytest.raises(SettingsInvalid):
        start(tiny, kv_type_v="q8_0", flash_attention="off")
