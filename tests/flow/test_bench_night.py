"""A benchmark by the public command on a real daemon and a real (tiny) model: killed, gone on with, told and drawn."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import commands
from tests.engine_models import write_tiny_model
from tests.running import RunningDaemon

QUICK = ("--prompt-tokens", "32", "--answer-tokens", "4", "--repeats", "1")


@pytest.fixture
def daemon(home: Path, tmp_path: Path) -> Iterator[RunningDaemon]:
    (home / "corpus").mkdir()
    model = write_tiny_model(tmp_path / "tiny.gguf", context=8192)
    made = RunningDaemon(home, MONK_MODEL=str(model), MONK_CORPUS_SETTLE_SECONDS="0", MONK_SLOTS="2")
    yield made
    made.http.close()
    if made.process is not None and made.process.poll() is None:
        made.kill()


def steps(daemon: RunningDaemon, job_id: str) -> dict[str, str]:
    """When each finished step ended."""
    return dict(daemon.rows("SELECT name, finished_at FROM steps WHERE job_id = ?", job_id))


@pytest.mark.real
@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets to daemons killed under them
def test_a_benchmark_goes_through_a_kill_measures_nothing_twice_and_is_told(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.start()
    command = [
        sys.executable,
        "-m",
        "monk.cli",
        "bench",
        "--now",
        "--context",
        "3072",
        "--widths",
        "1,3",
        "--threads",
        "2,1",
        *QUICK,
    ]
    command += ["--json", str(tmp_path / "b.json"), "--picture", str(tmp_path / "b.svg")]
    follower = subprocess.Popen(
        command, env=daemon.environ, cwd=commands.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    job_id = daemon.wait_for(lambda: [row[0] for row in daemon.rows("SELECT id FROM jobs")], 60, "the job")[0]
    daemon.wait_for(lambda: len(steps(daemon, job_id)) >= 6, 60, "five measurements")
    daemon.kill()
    before = steps(daemon, job_id)
    assert 6 <= len(before) < 18, "it was killed in the middle"
    daemon.start()
    out, err = follower.communicate(timeout=120)

    assert follower.returncode == 0, err
    after = steps(daemon, job_id)
    assert {name: after[name] for name in before} == before, "what was measured was not measured again"
    assert "the daemon is away" in err and "prompt 32 behind 2048, flash off" in err
    assert ("| 3 answers | 1024 | off | f16 |" in out and "Energy was not measured" in out) or "J/token" in out
    result = json.loads((tmp_path / "b.json").read_text())
    assert result["job"] == job_id and result["ended"] == "all" and len(result["rows"]) == len(after) - 2
    assert [row for row in result["rows"] if "refused" in row] == []
    assert max(row["depth"] for row in result["rows"]) == 3072 - 32 - 1
    assert not (daemon.home / "bench" / job_id).exists() and Path(result["kept"]).is_file()
    assert result["here"]["model"]["sha256"] in Path(result["kept"]).read_text()
    for name in ("b.svg", "b-2.svg", "b-3.svg", "b-4.svg"):
        assert ET.parse(tmp_path / name).getroot().tag.endswith("svg")
    assert daemon.get("/status")["night"]["open"] is False, "the night that was opened for it is closed again"

    report = daemon.http.get("/reports/latest.html").text
    assert report.count('<img src="data:image/svg+xml;base64,') == 4
    assert "Picture: " in daemon.http.get("/reports/latest.md").text
    shown = daemon.monk("bench", "--show", "--markdown", str(tmp_path / "b.md"))
    assert shown.status == 0 and "| test " in (tmp_path / "b.md").read_text(), shown.err
    assert daemon.http.get(f"/jobs/{job_id}/pictures/1.svg").status_code == 200
    huge = daemon.monk("bench", "--now", "--context", "16777216", "--depths", "0")
    assert huge.status == 2 and "needs" in huge.err and "GiB are free" in huge.err, huge
    assert daemon.stop() == 0
