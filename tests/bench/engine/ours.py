"""Ours: EngineProcess as the daemon uses it. Sees only what `monk/engine/client.py` promises."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monk.engine.client import Finished, NewTokens, Sampling, Segment, Stream, ThoughtRequest
from monk.engine.config import EngineConfig
from monk.engine.process import EngineProcess
from monk.errors import MonkError
from tests.bench.engine.peers import REPOSITORY, WARM_TOKENS, Answer, Outcome, PeerFailed, Place
from tests.bench.engine.workloads import TOP_K, Book, Tokens, Work, copied_share

LOAD_SECONDS = 300.0
CORPUS = REPOSITORY / "corpus" / "starter"
HEAD, TAIL = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


class Ours:
    """The project's engine, with the slots it chooses itself and its KV folder on."""

    name = "ours"

    def run(self, work: Work, place: Place) -> Outcome:
        with kv_folder(place) as folder:
            if work.shape.read_before:
                read_document(work, place, folder)
            with running(place, work.context, folder) as engine:
                warm_up(engine, work)
                before = settled(engine)
                requests = requests_of(work, place)
                began = time.perf_counter()
                answers = [collect(stream) for stream in [engine.think(request) for request in requests]]
                seconds = time.perf_counter() - began
                return Outcome(seconds, tuple(answers), self._facts(work, answers, before, settled(engine)))

    def _facts(self, work: Work, answers: list[Answer], *beats: dict[str, float]) -> dict[str, float]:
        """What explains the time: steps, tokens computed, tokens spared; how much the answers repeat."""
        before, after = beats
        facts = {name: after[name] - before.get(name, 0.0) for name in after if name.endswith(("_tokens", "_seconds"))}
        prompts = [prompt for prompt in work.prompts for _ in range(work.shape.samples)]
        shares = [copied_share(prompt, answer.ids) for prompt, answer in zip(prompts, answers, strict=True)]
        return facts | {"copied_share": sum(shares) / len(shares)}


@contextmanager
def kv_folder(place: Place) -> Iterator[Path]:
    """An empty folder for KV, gone afterwards; on the disk of the cache, since /tmp may be memory."""
    place.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="kv-", dir=place.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(place: Place, context: int, folder: Path | None, **values: Any) -> Iterator[EngineProcess]:
    """A loaded engine. Raises PeerFailed with the engine's own reason if it does not load or work."""
    chosen: dict[str, Any] = {"context": context, "slots": place.slots, "threads": place.threads, "kv_folder": folder}
    engine = EngineProcess(EngineConfig(place.model, **{**chosen, **values}))
    try:
        engine.card(LOAD_SECONDS)
        yield engine
    except MonkError as error:
        raise PeerFailed(f"the engine: {error.message}") from error
    finally:
        engine.stop()


def read_document(work: Work, place: Place, folder: Path) -> None:
    """The night before: one thought over the document, then the engine ends and the disk's cache is emptied."""
    with running(place, work.context, folder) as engine:
        tail = work.prompts[0][len(work.document) :][::-1]  # another question
        collect(engine.think(ThoughtRequest("night-before", work.document + tail, 1, group="document")))
        settled(engine)
    forget(folder)


def forget(folder: Path) -> None:
    """Have the kernel drop its copies of these files, so that they come from the disk as after a day of other work."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm_up(engine: EngineProcess, work: Work) -> None:
    """One short answer to something else."""
    collect(engine.think(ThoughtRequest("warm", work.prompts[0][:WARM_TOKENS][::-1], WARM_TOKENS)))


def requests_of(work: Work, place: Place) -> list[ThoughtRequest]:
    shape = work.shape
    group = shape.name if shape.shared_tokens or shape.samples > 1 else ""
    return [
        ThoughtRequest(
            id=f"{shape.name}-{number}-{sample}",
            prompt=prompt,
            max_tokens=shape.new_tokens,
            sampling=Sampling(shape.temperature, top_k=TOP_K, seed=sample, logit_bias=place.no_end),
            group=group,
        )
        for number, prompt in enumerate(work.prompts)
        for sample in range(shape.samples)
    ]


def collect(stream: Stream) -> Answer:
    """The whole answer, by the tokens that came."""
    ids: list[int] = []
    for message in stream:
        if isinstance(message, NewTokens):
            ids += message.ids
        elif isinstance(message, Finished):
            return Answer(len(ids), message.text, tuple(ids))
    raise PeerFailed("a stream ended without Finished")


def counters(engine: EngineProcess) -> dict[str, float]:
    """The child's last beat: the status has only its totals, not the seconds outside llama.cpp."""
    return dict(engine._totals.now)


def settled(engine: EngineProcess, seconds: float = 10.0) -> dict[str, float]:
    """The counters, once a beat has come that knows of no work."""
    deadline = time.monotonic() + seconds
    beat = engine.status().beat_at
    while time.monotonic() < deadline:
        now = counters(engine)
        if engine.status().beat_at > beat and not now.get("active") and not now.get("waiting"):
            return now
        time.sleep(0.05)
    return counters(engine)


def read_book(place: Place) -> tuple[Book, dict[int, float]]:
    """The starter corpus in this model's tokens, and a bias against all tokens that could end an answer."""
    with running(place, 256, None, slots=1) as engine:

        def ids(text: str, control: bool = False, bos: bool = False) -> Tokens:
            return tuple(engine.tokenize([Segment(text, control)], add_bos=bos))

        ends = [ids(text, control=True) for text in engine.card().control_tokens]
        book = Book(
            body=ids(corpus_text()),
            head=ids(HEAD, control=True, bos=True),
            question=ids("\n\nThat was the handbook. What does it say about this?\n\n"),
            repeat=ids("Repeat the following text word for word.\n\n"),
            tail=ids(TAIL, control=True),
        )
        return book, {end[0]: -100.0 for end in ends if len(end) == 1}


def corpus_text() -> str:
    """The English chapters that are plain text, in order."""
    chapters = [path.read_text("utf-8") for path in sorted(CORPUS.glob("*.md"))]
    return "\n\n".join(text for text in chapters if text.isascii() or sum(map(str.isascii, text)) > 0.9 * len(text))
