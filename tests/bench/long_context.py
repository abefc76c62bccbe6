"""A document of so many tokens, read in one context by a real daemon that is killed in the middle of it:
`python -m tests.bench.long_context --tokens 65536 --yarn 8 --home FOLDER --document FILE...`

The text is cut so that with its three planted sentences, at the start, in the middle and at the end, it fills the context. A
`read` job asks for all three. When half of the prompt is computed the daemon gets SIGKILL, once, and is started again. What was
computed is restored from the KV blocks, the rest is computed, and time and memory are held against the plan. It may be stopped
(Ctrl-C) and started again with the same --home at any time: it goes on where it was, which is the point.

Exit status 1: a block's worth of tokens more was computed twice than a kill may cost, or more memory was taken than planned.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import psutil

from monk.engine import embedded, gguf_file, memory
from monk.engine.client import ModelUse
from monk.engine.config import EngineConfig
from monk.engine.model_use import KvType
from monk.plan.machines import measured
from monk.plan.speed import Work
from tests.running import RunningDaemon

ANSWER_TOKENS, FRAME_TOKENS = 64, 512  # behind and around the document
BLOCK = 1024
PLANTED = (
    (
        "The gate of the northern archive opens with the number 7391.",
        "Which number opens the gate of the northern archive?",
    ),
    ("Sister Oduya keeps 264 beehives behind the mill.", "How many beehives does Sister Oduya keep?"),
    (
        "The night train to Velmora leaves from platform 58.",
        "From which platform does the night train to Velmora leave?",
    ),
)
ANSWERS = ("7391", "264", "58")
LOOK_SECONDS = 2.0


@dataclass(slots=True)
class Story:
    """What came of all lives so far; kept in the home."""

    job: str = ""
    killed_at: int = 0  # tokens that were computed then
    lives: int = 0
    seconds: float = 0.0  # while the job ran
    processor_seconds: float = 0.0  # of the engine
    computed: int = 0  # prompt tokens, over all lives
    restored: int = 0
    failures: int = 0  # blocks found wrong
    peak_bytes: int = 0
    by_life: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def main() -> int:
    """Run until the job has ended, print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.long_context", description=__doc__)
    parser.add_argument("--tokens", type=int, required=True, help="of the document")
    parser.add_argument("--yarn", type=float, default=0.0, help="factor; 0: the model's own positions")
    parser.add_argument("--model", type=Path, help="GGUF; default: the embedded one")
    parser.add_argument("--document", type=Path, nargs="+", required=True, help="texts, joined and repeated as needed")
    parser.add_argument("--home", type=Path, required=True, help="kept, so that it can be run again")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--kv-type-k", choices=get_args(KvType), default="f16")
    parser.add_argument("--minutes", type=float, default=600.0, help="of this run; another one goes on")
    parser.add_argument("--kill-at", type=float, default=0.5, help="share of the prompt; 0: never")
    chosen = parser.parse_args()
    model = chosen.model or embedded.model_path()
    chosen.home.mkdir(parents=True, exist_ok=True)
    record = chosen.home / "long.json"
    story = Story(**json.loads(record.read_text())) if record.exists() else Story()
    home = chosen.home / "home"
    document = home / "corpus" / "long.txt"
    if not document.exists():
        document.parent.mkdir(parents=True, exist_ok=True)
        document.write_text(text_of(model, chosen.document, chosen.tokens), encoding="utf-8")
    daemon = RunningDaemon(home, **settings(chosen, model))
    deadline = time.monotonic() + chosen.minutes * 60.0
    try:
        while time.monotonic() < deadline:
            if (job := live(daemon, story, record, chosen, deadline)) is not None:
                said = daemon.rows(
                    "SELECT text FROM thoughts WHERE job_id = ? AND name LIKE 'part-%' ORDER BY name", story.job
                )
                return tell(story, job, [row[0] for row in said], chosen, model)
    except KeyboardInterrupt:
        pass
    finally:
        daemon.http.close()
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.terminate()
            daemon.process.wait(60)
    print(f"not finished: {story.computed} tokens computed in {story.seconds:.0f} s; the same command goes on")
    return 0


def settings(chosen: argparse.Namespace, model: Path) -> dict[str, str]:
    wanted = {
        "MONK_MODEL": str(model.resolve()),
        "MONK_CONTEXT": str(chosen.tokens + FRAME_TOKENS + ANSWER_TOKENS),
        "MONK_SLOTS": str(chosen.slots),
        "MONK_KV_BLOCK_TOKENS": str(BLOCK),
        "MONK_KV_TYPE_K": chosen.kv_type_k,
    }
    return {**wanted, "MONK_YARN_FACTOR": str(chosen.yarn)} if chosen.yarn else wanted


def text_of(model: Path, paths: list[Path], tokens: int) -> str:
    """Of so many tokens, with the planted sentences as paragraphs of their own."""
    from llama_cpp import Llama

    words = Llama(str(model), vocab_only=True, verbose=False)
    whole = "\n\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
    room = tokens - sum(len(words.tokenize(f"{said}\n\n".encode(), add_bos=False)) for said, _ in PLANTED)
    ids: list[int] = []
    while len(ids) < room:
        ids += words.tokenize(f"{whole}\n\n".encode(), add_bos=False)
    text = words.detokenize(ids[:room]).decode(errors="ignore")
    paragraphs = text.split("\n\n")
    for place, (said, _) in zip((len(paragraphs), len(paragraphs) // 2, 0), reversed(PLANTED), strict=True):
        paragraphs.insert(place, said)
    return "\n\n".join(paragraphs)


def live(
    daemon: RunningDaemon, story: Story, record: Path, chosen: argparse.Namespace, deadline: float
) -> dict[str, Any] | None:
    """One life of the daemon; the job when it has ended, None when the daemon was killed or the time is over."""
    daemon.start()
    story.lives += 1
    if not story.job:
        daemon.http.post("/corpus/sync").raise_for_status()
        daemon.wait_for(lambda: daemon.get("/corpus")["documents"], 600.0, "the document")
        questions = [question for _, question in PLANTED]
        story.job = daemon.submit(
            "read", {"document": "long.txt", "questions": questions}, budget={"tokens": ANSWER_TOKENS}
        )
    daemon.http.post("/night/open", json={"until": None}).raise_for_status()
    began, before, told = time.monotonic(), asdict(story), 0.0
    while time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        job: dict[str, Any] = daemon.get(f"/jobs/{story.job}")
        note(story, before, daemon.get("/status")["engine"], time.monotonic() - began)
        story.keep(record)
        if job["finished_at"]:
            daemon.stop()
            return job
        if time.monotonic() - told > 60.0:
            told = time.monotonic()
            print(f"{time.strftime('%H:%M:%S')} {story.computed} computed, {story.restored} restored", flush=True)
        if not story.killed_at and chosen.kill_at and story.computed >= chosen.kill_at * chosen.tokens:
            story.killed_at = story.computed
            daemon.kill()
            story.keep(record)
            print(f"killed behind {story.killed_at} tokens", flush=True)
            time.sleep(3.0)  # its engine notices, and leaves
            return None
    return None


def note(story: Story, before: dict[str, Any], engine: dict[str, Any], seconds: float) -> None:
    """The figures of this life on top of those before it."""
    story.seconds = before["seconds"] + seconds
    story.computed = before["computed"] + engine["prefill_tokens"]
    story.restored = before["restored"] + engine["kv"]["tokens_restored"]
    story.failures = before["failures"] + engine["kv"]["failures"]
    if engine["pid"]:
        try:
            times = psutil.Process(engine["pid"]).cpu_times()
            status = Path(f"/proc/{engine['pid']}/status").read_text().splitlines()
        except (psutil.NoSuchProcess, OSError):
            return
        story.processor_seconds = before["processor_seconds"] + times.user + times.system
        peak = next((int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM")), 0)
        story.peak_bytes = max(story.peak_bytes, peak)


def tell(story: Story, job: dict[str, Any], model_said: list[str], chosen: argparse.Namespace, model: Path) -> int:
    """Print the table; the exit status. A quotation in the report may be the program's own finding: both are told."""
    file = gguf_file.read(model)
    config = EngineConfig(
        model,
        context=chosen.tokens + FRAME_TOKENS + ANSWER_TOKENS,
        slots=chosen.slots,
        kv_folder=chosen.home,
        kv_type_k=chosen.kv_type_k,
        model_use=ModelUse(yarn_factor=chosen.yarn or None),
    )
    plan = memory.fit(file, config)
    machine = measured(plan.threads_batch)
    planned = Work.of(file, config).prompt_seconds(machine, chosen.tokens)
    threads = plan.threads_batch
    lost = story.computed - chosen.tokens
    print(f"{model.name}, {chosen.tokens} tokens, YaRN {chosen.yarn:g}, {story.lives} lives, job {job['state']}")
    print(f"  memory: {story.peak_bytes / 2**20:.0f} MiB at most, {plan.total_bytes / 2**20:.0f} planned")
    print(
        f"  time: {story.seconds:.0f} s by the clock, {story.processor_seconds / threads:.0f} s of {threads} cores,"
        f" {planned:.0f} s planned for the prompt"
    )
    print(f"  tokens: {story.computed} computed, {story.restored} restored, killed behind {story.killed_at}")
    print(f"  blocks found wrong: {story.failures}")
    if job["state"] != "done":
        print(f"  {job['error']}")
        return 1
    for part, answer, said in zip(job["result"]["parts"], ANSWERS, model_said, strict=True):
        by_model = "said by the model" if answer in said else "not said by the model"
        by_report = "quoted in the report" if answer in part["answer"] else "not in the report"
        print(f"  {part['question']} {by_model}, {by_report}: {' '.join(said.split())[:100]}")
    if job["result"]["parts_read"] != 1:
        print(f"  read in {job['result']['parts_read']} parts: it did not fit into one context")
    allowed = len(PLANTED) * FRAME_TOKENS + 2 * story.lives * BLOCK  # a block that was cut, and the proofs
    if lost > allowed:
        print(f"  {lost} tokens beside the document were computed; {allowed} are what questions and kills may cost")
    return int(lost > allowed or story.peak_bytes - plan.repack_bytes > 1.05 * plan.total_bytes or story.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
