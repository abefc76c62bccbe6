"""Weight formats: copies of the model in others, measured beside it in turns; only the one that pays stays on the disk.

Which format runs best hangs on the kernels that llama.cpp has for it on this processor: Q4_1, without one of its own,
reads prompts at half the speed of F16 on AVX2. A copy with at least as many bits says the same as the original.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from monk.engine.config import EngineConfig
from monk.engine.gguf_file import BLOCKS, GgufFile
from monk.engine.tuning import session
from monk.engine.tuning.course import ANSWER_TOKENS, LEAST_MARGIN, PROMPT_TOKENS, SHARED_ANSWER_TOKENS, trial_of
from monk.engine.tuning.trial import Notebook, Setting, Situation, Trial
from monk.errors import MonkError

log = logging.getLogger(__name__)

Weights = Literal["F16", "Q8_0", "Q4_0"]
BITS: dict[Weights, float] = {"F16": 16.0, "Q8_0": 8.5, "Q4_0": 4.5}
TYPE_IDS: dict[Weights, int] = {"F16": 1, "Q8_0": 8, "Q4_0": 2}
FREE_BYTES = 2 << 30  # that a copy must leave
OVERHEAD = 1.1  # embeddings and vocabulary may stay wider
TURNS = 3
LEAST_SECONDS = 20.0  # for one of them in one turn, at most; on a quiet machine most need a tenth of it
DEPTH, PIECE = 256, 128  # weights do not care for the context


@dataclass(frozen=True, slots=True)
class Format:
    """One line of the comparison. Rates in tokens per second; `file` of a copy that was kept."""

    name: str
    prompts: float | None
    answers: float | None
    gain: float | None  # times faster than the model as it is, over a whole thought
    says: str
    file: Path | None = None


def compare(
    config: EngineConfig, file: GgufFile, setting: Setting, folder: Path, seconds: float, told: session.Told
) -> list[Format]:
    """The model as it is first. Copies go to `folder`; those that do not pay are removed again."""
    places = {weights: folder / f"{config.model_path.stem}.{weights}.gguf" for weights in BITS}
    refused = {weights: reason for weights in places if (reason := refusal(file, weights, folder)) is not None}
    for weights, place in places.items():
        if weights not in refused:
            told({"event": "writing", "file": str(place)})
            try:
                session.requantise(config.model_path, place, weights)
            except MonkError as error:
                refused[weights] = error.message
    files: dict[str, Path] = {"as it is": config.model_path}
    files |= {weights: place for weights, place in places.items() if weights not in refused}
    books = _measured(config, files, setting, seconds, told)
    formats = list(judged(books, setting, bits_of(file)))
    for found in formats[1:]:
        if found.says != "chosen":
            files[found.name].unlink(missing_ok=True)
    kept = [replace(found, file=files[found.name] if found.says == "chosen" else None) for found in formats]
    return kept + [Format(weights, None, None, None, reason) for weights, reason in refused.items()]


def bits_of(file: GgufFile) -> float:
    """Bits for each weight."""
    return 8.0 * file.weight_bytes / max(1, file.num_parameters)


def refusal(file: GgufFile, weights: Weights, folder: Path) -> str | None:
    """Why there should be no such copy; None when all is well."""
    if len(file.parts) > 1:
        return "the model is in several files"
    if _main_type(file) == TYPE_IDS[weights]:
        return "it is the format of the model"
    needed = int(file.num_parameters * BITS[weights] / 8 * OVERHEAD) + FREE_BYTES
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        return f"a copy needs {needed / (1 << 30):.1f} GiB of disk, {free / (1 << 30):.1f} are free in {folder}"
    return None if all(tensor.type_id in BLOCKS for tensor in file.tensors) else "its weights are of an unknown type"


def _main_type(file: GgufFile) -> int:
    """Of most of the weights."""
    counts: dict[int, int] = {}
    for tensor in file.tensors:
        counts[tensor.type_id] = counts.get(tensor.type_id, 0) + tensor.num_elements
    return max(counts, key=lambda kind: counts[kind])


def _measured(
    config: EngineConfig, files: dict[str, Path], setting: Setting, seconds: float, told: session.Told
) -> dict[str, Notebook]:
    """In turns, so that a busy minute of the machine hits them all."""
    books = {name: Notebook() for name in files}
    share = max(LEAST_SECONDS, seconds / (TURNS * len(files)))
    for turn in range(1, TURNS + 1):
        situation = Situation(setting, depth=DEPTH, piece=PIECE, forks=False, rounds=(turn,))
        for name, path in files.items():
            one = replace(config, model_path=path, model_sha256=None)
            try:
                session.measure(one, situation, share, told, books[name])
            except MonkError as error:
                log.warning("a format cannot be measured", extra={"file": str(path), "reason": error.message})
    return books


def judged(books: dict[str, Notebook], setting: Setting, bits: float) -> Iterator[Format]:
    """The first of the books is of the model as it is. Pure."""
    priced = {name: _price(book, setting) for name, book in books.items()}
    first = next(iter(priced.values()))
    gains = {name: first[0] / price for name, (price, _) in priced.items() if price and first[0]}
    sure = {name: gain for name, gain in gains.items() if gain > 1.0 + max(LEAST_MARGIN, first[1], priced[name][1])}
    safe = {name: gain for name, gain in sure.items() if _bits(name, bits) >= bits - 0.25}
    best = max(safe, key=lambda name: safe[name], default=None)
    for place, (name, book) in enumerate(books.items()):
        prompt, step = _rates(book, setting)
        if place == 0:
            says = "now"
        elif name not in gains:
            says = "not measured"
        elif name == best:
            says = "chosen"
        elif name in sure and name not in safe:
            says = "faster, but with fewer bits its answers are worse"
        else:
            says = "faster, not fastest" if name in sure else "no clear gain"
        yield Format(name, prompt, step, gains.get(name), says)


def _bits(name: str, of_model: float) -> float:
    return next((bits for weights, bits in BITS.items() if weights == name), of_model)


def trials_of(setting: Setting) -> tuple[Trial, Trial]:
    """A piece of a prompt, and a step."""
    prompt, step = trial_of(setting, "prompt", PIECE, DEPTH), trial_of(setting, "step", setting.width, DEPTH)
    return replace(prompt, question="pace"), replace(step, question="pace")


def _price(book: Notebook, setting: Setting) -> tuple[float, float]:
    """Seconds of a thought, and how far the repeats differ as a share of it; zeros where something is missing."""
    prompt, step = trials_of(setting)
    price = spread = 0.0
    for tokens, trial in ((PROMPT_TOKENS, prompt), (ANSWER_TOKENS + SHARED_ANSWER_TOKENS, step)):
        best = book.best(trial)
        if best is None:
            return 0.0, 0.0
        price += tokens * best / trial.rows
        spread += tokens * book.spread(trial) / trial.rows
    return price, spread / price


def _rates(book: Notebook, setting: Setting) -> tuple[float | None, float | None]:
    prompt, step = trials_of(setting)
    rates = [None if (best := book.best(trial)) is None else round(trial.rows / best, 1) for trial in (prompt, step)]
    return rates[0], rates[1]
