"""A machine that is a formula: seconds of a trial, with and without noise, and a tuning run to its end on it."""

from __future__ import annotations

from collections.abc import Callable

from monk.engine.tuning.course import next_trial
from monk.engine.tuning.trial import Notebook, Setting, Situation, Trial

NOW = Setting(flash=False, threads_prompt=4, threads_step=4, threads_single=4, width=16, chunk=512)
ASKED = Situation(
    NOW,
    flash=(True,),
    threads=(4, 2, 1),
    widths=(8, 32),
    chunks=(256, 512),
    kv_types=(("q8_0", "f16", False),),
    depth=1024,
    piece=128,
)
Machine = Callable[[Trial], float]


def even(trial: Trial) -> float:
    """Nothing makes a difference but the tokens themselves."""
    return 0.001 * trial.rows


def run(situation: Situation, machine: Machine, most: int = 10_000) -> tuple[Notebook, list[Trial]]:
    """The notebook after at most so many measurements, and the trials in their order."""
    notebook, made = Notebook(), []
    while len(made) < most and (trial := next_trial(situation, notebook)) is not None:
        notebook.take(trial, machine(trial))
        made.append(trial)
    return notebook, made
