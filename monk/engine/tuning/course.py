"""The questions, in order of importance, and which trial comes next. Pure: over what is known so far.

A question compares alternatives by the seconds that a token costs with each. The first alternative is what runs now, or
what earlier questions have chosen; it stands unless another is faster beyond doubt (`choice.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from monk.engine.tuning.trial import Notebook, Phase, Setting, Situation, Trial

# What a thought is made of when a choice helps one phase and harms another: so many tokens. A question on a document
# reads a thousand tokens and writes two hundred; samples and questions on one text go on from a shared beginning.
PROMPT_TOKENS, ANSWER_TOKENS, SHARED_ANSWER_TOKENS = 1000.0, 150.0, 50.0
ALONE_TOKENS = 20.0  # the last thought of a night, and a question asked by day
LEAST_MARGIN = 0.03  # a gain below is not worth a change
LEAST_DEPTH = 1024  # tokens of context that tell something of attention, and may change what shapes KV
HOPELESS, HOPELESS_AT_ONCE = (
    1.5,
    4.0,
)  # so many times slower than the first alternative: not tried a third, or second, time
CHUNK = "chunk of a prompt"
COPIES = 4  # streams copied at once, to know what one costs

Weighed = tuple[float, Trial]  # tokens of that kind in a thought


@dataclass(frozen=True, slots=True)
class Alternative:
    """A setting, and the trials that tell its price."""

    setting: Setting
    trials: tuple[Weighed, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """`shapes_kv`: another answer makes the KV on disk useless. `changes_text`: it is the owner who may want it."""

    name: str
    alternatives: Callable[[Situation, Setting], list[Alternative]]
    shapes_kv: bool = False
    changes_text: bool = False
    proves: bool = False  # what the others chose, together; if it is slower than what runs now, that stays

    def asked(self, situation: Situation, chosen: Setting) -> list[Alternative]:
        """The alternatives, with trials of this question's own."""
        return [
            Alternative(
                one.setting, tuple((weight, replace(trial, question=self.name)) for weight, trial in one.trials)
            )
            for one in self.alternatives(situation, chosen)
        ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of an alternative. `seconds` and `margin` are None while it is not measured well enough."""

    question: str
    alternative: Alternative
    seconds: float | None  # of the thought, or of one token
    margin: float | None  # by how much another must be faster, as a share
    says: str  # "now", "chosen", "slower", "no clear gain", "not measured", "kept", "advised", or a reason
    gain: float | None = None  # times faster than the first alternative


def next_trial(situation: Situation, notebook: Notebook, *, closing: bool = False) -> Trial | None:
    """What to measure now; None when all questions have their answers. `closing`: the time is short, so that what was
    chosen so far is proved before anything else is asked."""
    for rounds in situation.rounds:
        chosen = situation.now
        for question in QUESTIONS:
            if question.proves or not closing:
                todo = _open_trials(question.asked(situation, chosen), notebook, rounds)
                if todo:
                    return min(todo, key=notebook.count)  # the first of those that had the fewest turns
            chosen = answer(question, situation, chosen, notebook)[0]
    return next_trial(situation, notebook) if closing else None


def _open_trials(alternatives: list[Alternative], notebook: Notebook, rounds: int) -> list[Trial]:
    return [
        trial
        for alternative in _with_hope(alternatives, notebook)
        for _, trial in alternative.trials
        if notebook.count(trial) < rounds and trial not in notebook.skipped
    ]


def _with_hope(alternatives: list[Alternative], notebook: Notebook) -> list[Alternative]:
    """Those that may still win. A question with a single alternative only wants to know."""
    if len(alternatives) < 2:
        return alternatives
    first = alternatives[0]
    if _misses(first, first, notebook) is not None:
        return []
    first_price = price(first, first, notebook)
    return [one for one in alternatives if _hopes(one, first, first_price, notebook)]


def _hopes(one: Alternative, first: Alternative, first_price: float | None, notebook: Notebook) -> bool:
    if _misses(one, first, notebook) is not None:
        return False
    its_price = price(one, first, notebook)
    is_new = any(notebook.count(trial) < 2 for _, trial in one.trials)
    limit = HOPELESS_AT_ONCE if is_new else HOPELESS
    return its_price is None or first_price is None or its_price < limit * first_price


def price(alternative: Alternative, first: Alternative, notebook: Notebook) -> float | None:
    """Seconds; what cannot be measured with the first alternative either is left out. None: not known yet."""
    total = 0.0
    for weight, trial in _counted(alternative, first, notebook):
        best = notebook.best(trial)
        if best is None:
            return None
        total += weight * best / trial.rows
    return total or None


def _counted(alternative: Alternative, first: Alternative, notebook: Notebook) -> list[Weighed]:
    out_of_reach = {trial.phase for _, trial in first.trials if trial in notebook.skipped and trial.phase == "shared"}
    return [(weight, trial) for weight, trial in alternative.trials if trial.phase not in out_of_reach]


def _misses(alternative: Alternative, first: Alternative, notebook: Notebook) -> str | None:
    """Why one of its trials cannot be made."""
    return next(
        (notebook.skipped[trial] for _, trial in _counted(alternative, first, notebook) if trial in notebook.skipped),
        None,
    )


def _margin(alternative: Alternative, first: Alternative, notebook: Notebook, its_price: float) -> float:
    spread = sum(
        weight * notebook.spread(trial) / trial.rows for weight, trial in _counted(alternative, first, notebook)
    )
    return max(LEAST_MARGIN, spread / its_price)


def answer(
    question: Question, situation: Situation, chosen: Setting, notebook: Notebook
) -> tuple[Setting, list[Verdict]]:
    """The setting to go on with, and what is to be said of each alternative."""
    alternatives = question.asked(situation, chosen)
    if not alternatives:
        return chosen, []
    first = alternatives[0]
    verdicts = [_judged(question, one, first, notebook) for one in alternatives]
    best = min((one for one in verdicts[1:] if one.says == "faster"), key=lambda one: one.seconds or 0.0, default=None)
    if question.proves and (verdicts[-1].gain or 1.0) < 1.0:
        return situation.now, verdicts
    if best is None:
        return chosen, [_plain(one, verdicts, kept="") for one in verdicts]
    kept = ""
    if question.changes_text and not situation.takes_kv_types:
        kept = "advised"
    elif (question.shapes_kv or question.changes_text) and situation.keeps_kv:
        kept = "kept"
    told = [_plain(one, verdicts, kept, best=one is best) for one in verdicts]
    return (chosen if kept else best.alternative.setting), told


def _judged(question: Question, one: Alternative, first: Alternative, notebook: Notebook) -> Verdict:
    seconds = price(one, first, notebook)
    if (reason := _misses(one, first, notebook)) is not None:
        return Verdict(question.name, one, None, None, reason)
    first_seconds = price(first, first, notebook)
    if seconds is None or first_seconds is None:
        return Verdict(question.name, one, seconds, None, "not measured")
    margin = max(_margin(one, first, notebook, seconds), _margin(first, first, notebook, first_seconds))
    gain = first_seconds / seconds
    if one is first:
        return Verdict(question.name, one, seconds, margin, "now", 1.0)
    says = "faster" if gain > 1.0 + margin else "slower" if gain < 1.0 - LEAST_MARGIN else "no clear gain"
    return Verdict(question.name, one, seconds, margin, says, gain)


def _plain(verdict: Verdict, all_: list[Verdict], kept: str, *, best: bool = False) -> Verdict:
    """With the last word: of several that are faster one is taken."""
    if best:
        return replace(verdict, says=kept or "chosen")
    return replace(verdict, says="faster, not fastest") if verdict.says == "faster" else verdict


# ── the questions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def trial_of(setting: Setting, phase: Phase, rows: int, depth: int) -> Trial:
    """The trial of one phase under a setting."""
    threads = {"prompt": setting.threads_prompt, "copy": setting.threads_single}.get(
        phase, setting.threads_step if rows > 1 else setting.threads_single
    )
    return Trial(phase, rows, depth, setting.flash, threads, setting.type_k, setting.type_v)


def _pace(situation: Situation, chosen: Setting) -> list[Alternative]:
    """Nothing is chosen by it. Asked before what takes minutes: a plan needs to know how time grows with depth."""
    return _known([*_pieces(situation, chosen, situation.piece), *_steps(situation, chosen)], chosen)


def _chunk_pace(situation: Situation, chosen: Setting) -> list[Alternative]:
    """The same of calls as they will be. Scaled from a piece, a chunk of another length is told a third too fast: attention
    of fewer rows behind many is cheaper, and that is taken for the price of every token."""
    is_known = chosen.chunk == situation.piece or not situation.chunks
    return [] if is_known else _known(prompts_of(situation, chosen), chosen)


def _known(trials: list[Trial], chosen: Setting) -> list[Alternative]:
    return [Alternative(chosen, tuple((1.0, trial) for trial in trials))]


def _both_depths(situation: Situation) -> list[int]:
    """Behind the context and behind nothing."""
    return sorted({situation.depth, 0}, reverse=True)


def prompts_of(situation: Situation, setting: Setting) -> list[Trial]:
    """A prompt's call under a setting, as far as chunks can be tried, behind the context and behind nothing."""
    return _pieces(situation, setting, setting.chunk if situation.chunks else situation.piece)


def _pieces(situation: Situation, chosen: Setting, tokens: int) -> list[Trial]:
    return [trial_of(chosen, "prompt", tokens, depth) for depth in _both_depths(situation)]


def _steps(situation: Situation, chosen: Setting) -> list[Trial]:
    """Of three widths, because what a row behind many costs grows with the rows at first: 1.6 us a cell of one row, 4 us of
    each of 32."""
    widths = sorted({1, max(1, chosen.width // 2), chosen.width})
    return [trial_of(chosen, "step", rows, depth) for rows in widths for depth in _both_depths(situation)]


def _asks_anything(situation: Situation) -> bool:
    return any((situation.flash, situation.threads, situation.widths, situation.chunks, situation.kv_types))


def _flash(situation: Situation, chosen: Setting) -> list[Alternative]:
    if situation.depth < LEAST_DEPTH or not situation.flash:  # behind less they do not differ in what matters
        return []
    settings = [chosen, *(chosen.but(flash=flash) for flash in situation.flash if flash != chosen.flash)]
    return [Alternative(one, _thought(situation, one)) for one in settings]


def _thought(situation: Situation, setting: Setting) -> tuple[Weighed, ...]:
    depth, own = situation.depth, ANSWER_TOKENS
    trials = [
        (PROMPT_TOKENS / 2, trial_of(setting, "prompt", situation.piece, 0)),
        (PROMPT_TOKENS / 2, trial_of(setting, "prompt", situation.piece, depth)),
    ]
    if situation.forks and not setting.flash:  # with it nothing is forked: all steps are those of streams
        trials.append((SHARED_ANSWER_TOKENS, trial_of(setting, "shared", setting.width, depth)))
    elif situation.forks:
        own += SHARED_ANSWER_TOKENS
    return (*trials, (own, trial_of(setting, "step", setting.width, depth)))


def _threads_prompt(situation: Situation, chosen: Setting) -> list[Alternative]:
    return _varied(chosen, "threads_prompt", situation.threads, lambda one: ("prompt", situation.piece, 0))


def _threads_step(situation: Situation, chosen: Setting) -> list[Alternative]:
    return _varied(chosen, "threads_step", situation.threads, lambda one: ("step", one.width, situation.depth))


def _threads_single(situation: Situation, chosen: Setting) -> list[Alternative]:
    return _varied(chosen, "threads_single", situation.threads, lambda one: ("step", 1, situation.depth))


def _width(situation: Situation, chosen: Setting) -> list[Alternative]:
    return _varied(chosen, "width", situation.widths, lambda one: ("step", one.width, situation.depth))


def _chunk(situation: Situation, chosen: Setting) -> list[Alternative]:
    return _varied(chosen, "chunk", situation.chunks, lambda one: ("prompt", one.chunk, situation.depth))


def _varied(
    chosen: Setting, name: str, values: tuple[int, ...], asks: Callable[[Setting], tuple[Phase, int, int]]
) -> list[Alternative]:
    settings = [chosen, *(chosen.but(**{name: value}) for value in values if value != getattr(chosen, name))]
    return [Alternative(one, ((1.0, trial_of(one, *asks(one))),)) for one in settings] if len(settings) > 1 else []


def _kv_types(situation: Situation, chosen: Setting) -> list[Alternative]:
    others = [
        chosen.but(type_k=k, type_v=v)
        for k, v, flash in situation.kv_types
        if flash == chosen.flash and (k, v) != (chosen.type_k, chosen.type_v)
    ]
    if not others or situation.depth < LEAST_DEPTH:
        return []
    depth = situation.depth
    return [
        Alternative(
            one,
            (
                (PROMPT_TOKENS, trial_of(one, "prompt", situation.piece, depth)),
                (ANSWER_TOKENS, trial_of(one, "step", one.width, depth)),
            ),
        )
        for one in [chosen, *others]
    ]


def _worth(situation: Situation, chosen: Setting) -> list[Alternative]:
    """What runs now beside what was chosen: the gain that is told, and the proof of the whole."""
    if chosen == situation.now:
        return []
    return [Alternative(one, _whole(situation, one)) for one in (situation.now, chosen)]


def _whole(situation: Situation, setting: Setting) -> tuple[Weighed, ...]:
    """A thought under a setting: its prompt, its answer among others, and a little of one alone."""
    prompts = prompts_of(situation, setting)
    return (
        *((PROMPT_TOKENS / len(prompts), trial) for trial in prompts),
        (ANSWER_TOKENS + SHARED_ANSWER_TOKENS, trial_of(setting, "step", setting.width, situation.depth)),
        (ALONE_TOKENS, trial_of(setting, "step", 1, situation.depth)),
    )


def _facts(situation: Situation, chosen: Setting) -> list[Alternative]:
    """Nothing is chosen by these; `choice.facts` makes figures of them. The pace again, of all that was chosen, because the
    price of a cell is told by neighbours in time."""
    if not _asks_anything(situation):
        return []
    trials = [*prompts_of(situation, chosen), *_steps(situation, chosen)]
    if situation.depth:
        trials.append(trial_of(chosen, "copy", min(COPIES, chosen.width), situation.depth))
    if situation.depth and situation.forks and not chosen.flash:
        trials.append(trial_of(chosen, "shared", chosen.width, situation.depth))
    return _known(trials, chosen)


QUESTIONS = (
    Question("flash attention", _flash, shapes_kv=True),
    Question("threads, prompts", _threads_prompt),
    Question("threads, batches", _threads_step),
    Question("threads, one thought", _threads_single),
    Question("pace", _pace),
    Question("width of the batch", _width),
    Question(CHUNK, _chunk),
    Question("pace of a chunk", _chunk_pace),
    Question("KV types", _kv_types, shapes_kv=True, changes_text=True),
    Question("worth", _worth, proves=True),
    Question("facts", _facts),
)
SILENT = frozenset({"pace", "pace of a chunk", "worth", "facts"})  # not for the table
