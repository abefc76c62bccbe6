"""What the measurements say: the setting to run with, the gain, and figures others reckon with. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from monk.engine.tuning.course import CHUNK, COPIES, QUESTIONS, Verdict, answer, prompts_of, trial_of
from monk.engine.tuning.trial import Notebook, Phase, Setting, Situation

# what of a setting goes where in EngineConfig; see `record.fill`
FIELDS = {
    "threads_prompt": "threads_batch",
    "threads_step": "threads",
    "threads_single": "threads_single",
    "width": "most_slots",
    "chunk": "most_ubatch",
    "type_k": "kv_type_k",
    "type_v": "kv_type_v",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """`verdicts` in the order of the questions. Gains are times faster than now; None: not measured."""

    setting: Setting
    verdicts: tuple[Verdict, ...]
    prompt_gain: float | None
    answer_gain: float | None

    def values(self) -> dict[str, Any]:
        """By field of EngineConfig."""
        named = {field: getattr(self.setting, name) for name, field in FIELDS.items()}
        return {**named, "flash_attention": "on" if self.setting.flash else "off"}

    def reshapes_kv(self, now: Setting) -> bool:
        """KV on the disk would be of no use with it."""
        mine, others = self.setting, now
        return (mine.flash, mine.type_k, mine.type_v) != (others.flash, others.type_k, others.type_v)


def choose(situation: Situation, notebook: Notebook) -> Choice:
    """The setting after all questions, as far as they have answers."""
    chosen, verdicts = situation.now, []
    for question in QUESTIONS:
        chosen, told = answer(question, situation, chosen, notebook)
        verdicts += told
    return Choice(chosen, tuple(verdicts), *(_gain(situation, chosen, notebook, of) for of in ("prompt", "step")))


def _gain(situation: Situation, chosen: Setting, notebook: Notebook, of: str) -> float | None:
    if chosen == situation.now:
        return 1.0
    pair = []
    for setting in (situation.now, chosen):
        answer_step = trial_of(setting, "step", setting.width, situation.depth)
        seconds = 0.0  # of a token
        for trial in prompts_of(situation, setting) if of == "prompt" else [answer_step]:
            best = notebook.best(replace(trial, question="worth"))
            if best is None:
                return None
            seconds += best / trial.rows
        pair.append(seconds)
    return pair[0] / pair[1]


def facts(situation: Situation, notebook: Notebook, chosen: Setting, stream_bytes: int) -> dict[str, Any]:
    """What other parts of the engine would otherwise assume, where it was measured.

    decode_seconds   of a step, by its number of thoughts, behind `depth` tokens
    copy_bytes_per_second   of KV, from one stream to another; `stream_bytes`: of one whole stream of the trials
    cell_ratio       price of a cell in the fork lane to one in streams (`grouping.py`); below 1 forking can pay
    """
    depth, width = situation.depth, chosen.width

    def took(phase: Phase, rows: int, behind: int) -> float | None:
        return notebook.middle(replace(trial_of(chosen, phase, rows, behind), question="facts"))

    steps, prompts = _points(notebook, chosen, "step"), _points(notebook, chosen, "prompt")
    told: dict[str, Any] = {"depth": depth, "step_points": steps, "prompt_points": prompts}
    told["decode_seconds"] = {int(rows): seconds for rows, behind, seconds in steps if behind == depth}
    single, copying = took("step", 1, depth), took("copy", min(COPIES, width), depth)
    if stream_bytes and single is not None and copying is not None and copying > single:
        told["copy_bytes_per_second"] = round(min(COPIES, width) * stream_bytes / (copying - single))
    empty, own, shared = took("step", width, 0), took("step", width, depth), took("shared", width, depth)
    if empty is not None and own is not None and shared is not None and own > empty:
        told["cell_ratio"] = round(max(0.05, (shared - empty) / (own - empty)), 3)
    return told


def _points(notebook: Notebook, chosen: Setting, phase: Phase) -> list[list[float]]:
    """The middle of all calls of one phase under the chosen setting, by rows and depth. Without those by which a chunk was
    chosen: of five that are alike, the one that seemed fastest is not as fast the next time."""
    taken: dict[tuple[int, int], list[float]] = {}
    for trial, seconds in notebook.taken.items():
        is_ours = replace(trial, question="") == trial_of(chosen, phase, trial.rows, trial.depth)
        if is_ours and trial.question != CHUNK:
            taken.setdefault((trial.rows, trial.depth), []).extend(seconds)
    return [[rows, depth, round(median(seconds), 6)] for (rows, depth), seconds in sorted(taken.items()) if seconds]
