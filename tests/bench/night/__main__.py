"""A night over documents with questions whose answers are known:
`python -m tests.bench.night --corpus FOLDER [--questions FILE] [--model GGUF]`

A real daemon (`monk serve`) gets a home of its own and a copy of the folder. It reads it, takes the questions over HTTP, opens
the night, and is waited for; then its JSON report is taken, and every citation in it is looked up again by other means than the
program's (see independent.py). False answers and false refusals are counted. The questions at hand (mixed.json) are about a
collection of published documents: OWASP ASVS, Python PEPs, manuals of zlib, zstd, brotli, xz and LuaJIT, The Time Machine.
Exit status 1: a citation does not stand where the report says.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from tests.bench.night.independent import MISSING, PLACE
from tests.bench.night.questions import Known, load
from tests.bench.night.verdicts import Judged, judged, table
from tests.running import RunningDaemon, running

MIXED = Path(__file__).with_name("mixed.json")
READING_SECONDS = 3600.0
LOOK_SECONDS = 2.0  # an answer takes longer, and a look takes time from it


def main() -> int:
    """Run the night, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.night", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of documents")
    parser.add_argument("--questions", type=Path, default=MIXED, help="JSON file, see questions.py")
    parser.add_argument("--model", type=Path, help="GGUF; default: the embedded one")
    parser.add_argument("--home", type=Path, help="keep the daemon's home there: what is read once is not read again")
    parser.add_argument("--leave-out", nargs="*", default=["ocr_truth"], help="names that are not copied")
    parser.add_argument("--hours", type=float, default=2.0, help="how long the night may take")
    parser.add_argument("--json", type=Path, help="write report and verdicts there")
    parser.add_argument("--again", type=Path, help="judge the report in this file instead of running a night")
    chosen = parser.parse_args()
    questions = load(chosen.questions)
    report = json.loads(chosen.again.read_text())["report"] if chosen.again else the_night(chosen, questions)
    by_question = {job["question"]: job for job in report["done"]}
    all_judged = [judged(one, by_question.get(one.question), chosen.corpus) for one in questions]
    print("\n".join(table(all_judged)))
    if chosen.json:
        chosen.json.write_text(_json(report, all_judged), encoding="utf-8")
    return int(any(finding.verdict in (PLACE, MISSING) for one in all_judged for finding in one.findings))


def the_night(chosen: argparse.Namespace, questions: list[Known]) -> dict[str, Any]:
    """The JSON report of a night in which all questions were asked."""
    model = {"MONK_MODEL": str(chosen.model.resolve())} if chosen.model else {}
    with tempfile.TemporaryDirectory(prefix="monk-night-") as name:
        home = (chosen.home or Path(name)) / "home"
        left_out = shutil.ignore_patterns(*chosen.leave_out)
        shutil.copytree(chosen.corpus, home / "corpus", ignore=left_out, dirs_exist_ok=True)
        with running(home, MONK_CORPUS_SETTLE_SECONDS="0", **model) as daemon:
            daemon.http.timeout = httpx.Timeout(chosen.hours * 3600)  # a busy machine is slow, not wrong
            _tell("reading", lambda: read(daemon))
            ids = [daemon.submit("answer", {"question": one.question}) for one in questions]
            daemon.http.post("/night/open", json={})
            _tell("thinking", lambda: wait(daemon, ids, chosen.hours * 3600))
            daemon.http.post("/night/close")
            report = daemon.wait_for(lambda: _reported(daemon, len(ids)), 60.0, "the report on all of them")
            daemon.stop()
    if failed := report["failed"]:
        sys.exit("\n".join(f"{job['question']}: {job['error']['message']}" for job in failed))
    return report


def _reported(daemon: RunningDaemon, num_jobs: int) -> dict[str, Any] | None:
    """The last report with what earlier ones of this night told, as the morning may come in the middle; None: not yet."""
    reports = [daemon.get(f"{one['url']}.json") for one in daemon.get("/reports")["reports"]]
    told = {key: list({job["id"]: job for one in reports for job in one[key]}.values()) for key in ("done", "failed")}
    if not reports or sum(map(len, told.values())) + len(reports[0]["left"]) < num_jobs:
        return None
    return {**reports[0], **told}


def read(daemon: RunningDaemon) -> None:
    """Have the corpus read."""
    daemon.http.post("/corpus/sync")
    state = daemon.wait_for(lambda: _read(daemon), READING_SECONDS, "the end of reading")
    if state["state"] == "failed":
        sys.exit(f"the corpus cannot be read: {state['error']}")
    print(f"{state['documents']} documents, {state['passages']} passages, {state['num_unreadable']} unreadable")


def _read(daemon: RunningDaemon) -> dict[str, Any]:
    state: dict[str, Any] = daemon.get("/corpus")
    return state if state["state"] == "failed" or (state["state"] == "idle" and state["last"]) else {}


def wait(daemon: RunningDaemon, ids: list[str], seconds: float) -> None:
    """Until all of these jobs are final, or the time is over: what is left then is told as unfinished."""
    left, deadline = list(ids), time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        left = [job_id for job_id in left if not daemon.get(f"/jobs/{job_id}")["finished_at"]]


def _tell(name: str, work: Callable[[], object]) -> None:
    began = time.monotonic()
    work()
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def _json(report: dict[str, Any], all_judged: list[Judged]) -> str:
    return json.dumps({"report": report, "judged": [asdict(one) for one in all_judged]}, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    sys.exit(main())
