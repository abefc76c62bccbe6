"""The measuring itself: real models, the real llama_decode, in real processes that may die."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from monk.engine import embedded, gguf_file, memory
from monk.engine.client import ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.engine.tuning import formats, record, session
from monk.engine.tuning.record import Record
from monk.engine.tuning.tuner import Tuned, tune
from tests import commands
from tests.engine_models import write_tiny_mamba, write_tiny_model

pytestmark = pytest.mark.real

SHA = "ab" * 32
MODELS: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen3moe": {"experts": 8},
    "gemma3": {"window": 256, "layers": 6},
    "deepseek2": {"experts": 8},
}


def made(folder: Path, architecture: str) -> EngineConfig:
    path = folder / f"{architecture}.gguf"
    if architecture == "mamba":
        write_tiny_mamba(path)
    else:
        write_tiny_model(path, architecture, **MODELS[architecture])
    return EngineConfig(path, tune_folder=folder / "tune", kv_folder=folder / "kv")


def tuned_in(config: EngineConfig, seconds: float, **more: Any) -> Tuned:
    return tune(config, gguf_file.read(config.model_path), SHA, seconds, **more)


@pytest.mark.parametrize("architecture", [*MODELS, "mamba"])
def test_every_kind_of_memory_can_be_measured(tmp_path: Path, architecture: str) -> None:
    config = made(tmp_path, architecture)

    done = tuned_in(config, 8.0, short=True)

    taken = done.outcome.notebook.taken
    assert {"prompt", "step"} <= {trial.phase for trial in taken}
    assert all(seconds > 0 for repeats in taken.values() for seconds in repeats)
    assert any(trial.phase == "shared" for trial in taken) == (architecture in ("qwen3", "qwen3moe", "deepseek2"))
    assert done.outcome.problem == "" and done.record.problem == ""
    EngineConfig(config.model_path, **done.record.values)  # raises for values out of range
    assert done.record.facts["decode_seconds"]


def test_the_embedded_model_is_measured_within_its_time(tmp_path: Path) -> None:
    config = EngineConfig(embedded.model_path(), tune_folder=tmp_path)
    began = time.monotonic()

    done = tuned_in(config, 5.0, short=True)

    assert time.monotonic() - began < 5.0 + 20.0  # loading, and the last call
    assert done.outcome.notebook.taken
    assert done.outcome.seconds < 5.0 + 10.0


@pytest.mark.parametrize(
    ("architecture", "asked"),
    [("qwen3", session.KV_TYPES), ("deepseek2", (("q8_0", "q8_0", True),)), ("mamba", ())],
)
def test_only_kv_types_that_the_model_can_have_are_asked_about(
    tmp_path: Path, architecture: str, asked: tuple[tuple[str, str, bool], ...]
) -> None:
    config = made(tmp_path, architecture)
    file = gguf_file.read(config.model_path)

    situation = session.situation_of(file, config, memory.fit(file, config), short=False, keeps_kv=False)

    assert situation.kv_types == asked


def test_combinations_that_do_not_fit_are_skipped_with_the_figures(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "fat.gguf", layers=8, heads=8, kv_heads=8, head_size=128)  # 32 KiB a token
    file, config = gguf_file.read(path), EngineConfig(path)
    asked = session.situation_of(file, config, memory.fit(file, config), short=True, keeps_kv=False)
    wide = replace(asked, widths=(200,), flash=(), threads=(), chunks=(), depth=512, piece=64, rounds=(2,))
    narrow = replace(config, memory_reserve_bytes=memory.measured_available_bytes() - (2 << 30))

    outcome = session.measure(narrow, wide, 20.0)

    reasons = [reason for trial, reason in outcome.notebook.skipped.items() if trial.rows == 200]
    assert reasons and "GiB" in reasons[0]
    assert any(trial.rows == asked.now.width for trial in outcome.notebook.taken)


def measuring_children() -> list[psutil.Process]:
    mine = psutil.Process().children(recursive=True)
    return [one for one in mine if session.MODULE in " ".join(one.cmdline())]


def test_a_trial_that_kills_the_process_is_struck_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    config = made(tmp_path, "qwen3")
    heard: list[str] = []

    def kill_once(frame: dict[str, Any]) -> None:
        heard.append(frame["event"])
        if heard.count("trying") == 3 and frame["event"] == "trying":
            for child in measuring_children():
                child.send_signal(signal.SIGKILL)

    done = tuned_in(config, 20.0, short=True, told=kill_once)

    (reason,) = done.outcome.notebook.skipped.values()
    assert "the process died of it (signal 9" in reason
    assert heard.count("loaded") == 2 and "took" in heard[heard.index("loaded", 1) + 1 :]
    assert done.outcome.problem == "" and not measuring_children()


def test_the_measuring_dies_with_who_asked_for_it(tmp_path: Path) -> None:
    path = made(tmp_path, "qwen3").model_path
    script = (
        "import sys\nfrom pathlib import Path\nfrom monk.engine import gguf_file\n"
        "from monk.engine.config import EngineConfig\nfrom monk.engine.tuning.tuner import tune\n"
        "path = Path(sys.argv[1])\n"
        "tune(EngineConfig(path), gguf_file.read(path), 'ab' * 32, 60.0, told=lambda f: print(f['event'], flush=True))\n"
    )
    asker = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=commands.ROOT)
    assert asker.stdout is not None
    with asker.stdout as told:
        while told.readline().strip() != b"took":
            assert asker.poll() is None
        (child,) = (one for one in measuring_children() if one.parent() == psutil.Process(asker.pid))
        asker.kill()
        asker.wait()

    child.wait(5)
    assert not child.is_running()


def test_a_first_start_measures_says_so_and_the_second_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(made(tmp_path, "qwen3"), tune_seconds=3.0, tune_busy_percent=0.0, context=512, threads=1)
    caplog.set_level("INFO")

    first = tuning_of(config)
    said = [entry.message for entry in caplog.records]
    caplog.clear()
    (file,) = (tmp_path / "tune").iterdir()
    written_at = file.stat().st_mtime_ns
    second = tuning_of(config)

    assert "an unknown model: measuring how it runs best here" in said
    assert "measured how the model runs best here" in said
    assert second == first and file.stat().st_mtime_ns == written_at
    assert not any("unknown model" in entry.message for entry in caplog.records)
    assert first["settings"]["threads"] == {"value": 1, "from": "set"}
    assert first["settings"]["slots"]["from"] == "tuned"
    assert first["by_itself"] is True


def test_an_engine_that_is_stopped_while_it_measures_is_gone_at_once(tmp_path: Path) -> None:
    engine = EngineProcess(replace(made(tmp_path, "qwen3"), tune_seconds=60.0, tune_busy_percent=0.0))
    engine.start()
    ends_at = time.monotonic() + 30
    while not (children := measuring_children()):
        assert time.monotonic() < ends_at
        time.sleep(0.05)

    engine.stop()

    psutil.wait_procs(children, timeout=5)
    assert not measuring_children() and not (tmp_path / "tune").exists()


def tuning_of(config: EngineConfig) -> dict[str, Any]:
    engine = EngineProcess(config)
    try:
        tuning = engine.card(timeout=60).tuning
        assert list(engine.think(ThoughtRequest("t", (1, 2, 3), 2)))
        return tuning
    finally:
        engine.stop()


def test_a_record_is_followed_by_the_engine(tmp_path: Path) -> None:
    config = replace(made(tmp_path, "qwen3"), context=512)
    sha256 = record.key_of(config, sha_of(config))["model_sha256"]
    values = {"most_slots": 24, "flash_attention": "on", "threads": 1, "threads_batch": 2, "threads_single": 1}
    record.keep(config, Record(record.key_of(config, sha256), values, record.now_text(), 1.0, False, {}, {}, []))

    told = tuning_of(config)["settings"]

    assert {name: one["value"] for name, one in told.items() if one["from"] == "tuned"} == {
        "slots": 24,
        "flash_attention": "on",
        "threads": 1,
        "threads_batch": 2,
        "threads_single": 1,
    }


def sha_of(config: EngineConfig) -> str:
    from monk.engine.fingerprint import sha256_of

    return sha256_of(gguf_file.read(config.model_path).parts)


def test_only_the_copy_that_pays_stays_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "TURNS", 2)
    config = made(tmp_path, "qwen3")
    file = gguf_file.read(config.model_path)
    setting = tuned_in(config, 1.0, short=True).choice.setting
    written: list[str] = []

    told = formats.compare(
        config, file, setting, tmp_path / "models", 6.0, lambda frame: written.append(frame["event"])
    )

    assert [one.name for one in told] == ["as it is", "F16", "Q8_0", "Q4_0"]
    assert written.count("writing") == 3
    assert all(one.prompts and one.answers for one in told), told
    left = list((tmp_path / "models").iterdir())
    assert left == [one.file for one in told if one.file is not None]
    assert all(one.says != "chosen" for one in told if one.name != "as it is")  # f32 has more bits than any of them


def test_a_copy_for_which_there_is_no_room_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = gguf_file.read(made(tmp_path, "qwen3").model_path)
    monkeypatch.setattr(formats, "FREE_BYTES", 1 << 60)

    assert "of disk" in str(formats.refusal(file, "Q8_0", tmp_path))


def test_the_command_measures_shows_and_forgets(tmp_path: Path) -> None:
    config = made(tmp_path, "qwen3")
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(commands.ROOT), "MONK_HOME": str(tmp_path)}
    environ["MONK_MODEL"] = str(config.model_path)

    tried = commands.monk(environ, "tune", "--minutes", "0.05", "--dry-run")
    unknown = commands.monk(environ, "tune", "--show")
    done = json.loads(commands.monk(environ, "tune", "--minutes", "0.05", "--json").out)
    shown = commands.monk(environ, "tune", "--show")
    doctor = commands.monk(environ, "doctor", "--quick")
    forgotten = commands.monk(environ, "tune", "--forget")

    assert tried.status == 0 and "chosen: flash attention" in tried.out and "kept in" not in tried.out
    assert unknown.status == 2 and "run `monk tune`" in unknown.err
    assert Path(done["kept"]).is_file() is False and done["values"]["threads"] >= 1  # forgotten at the end
    assert "chosen: flash attention" in shown.out and "question" in shown.out
    assert "tuning: measured on" in doctor.out
    assert "forgotten" in forgotten.out
