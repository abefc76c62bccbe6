"""What is asked, in which order, and what measurements decide: without a model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from monk.engine.tuning import table
from monk.engine.tuning.choice import choose, facts
from monk.engine.tuning.course import HOPELESS, HOPELESS_AT_ONCE, next_trial, trial_of
from monk.engine.tuning.formats import judged, trials_of
from monk.engine.tuning.host import thread_choices
from monk.engine.tuning.size import sized
from monk.engine.tuning.trial import Notebook, Situation, Trial
from tests.tuned_machine import ASKED, NOW, even, run


def verdict_of(situation: Situation, notebook: Notebook, question: str, value: str) -> str:
    rows = table.rows(choose(situation, notebook), notebook)
    return next(str(row["verdict"]) for row in rows if (row["question"], row["with"]) == (question, value))


def test_where_nothing_makes_a_difference_everything_stays_and_is_told_as_no_gain() -> None:
    notebook, _ = run(ASKED, even)

    choice = choose(ASKED, notebook)

    assert choice.setting == NOW
    assert (choice.prompt_gain, choice.answer_gain) == (1.0, 1.0)
    assert verdict_of(ASKED, notebook, "flash attention", "on") == "no clear gain"


def test_what_is_faster_beyond_doubt_is_chosen_and_its_gain_told() -> None:
    def machine(trial: Trial) -> float:
        seconds = even(trial) * (0.5 if trial.threads == 2 and trial.phase == "prompt" else 1.0)
        return seconds * (0.6 if trial.phase == "step" and trial.rows == 32 else 1.0)

    notebook, _ = run(ASKED, machine)
    choice = choose(ASKED, notebook)

    assert choice.setting == NOW.but(threads_prompt=2, width=32)
    assert choice.prompt_gain == pytest.approx(2.0)
    assert choice.answer_gain == pytest.approx(1 / 0.6)
    assert (
        table.gains(choice.prompt_gain, choice.answer_gain) == "prompts x2.00, answers x1.67 against the settings now"
    )


def test_the_gain_of_answers_is_that_of_the_batch_where_only_one_thought_ran_before() -> None:
    alone = replace(ASKED, now=NOW.but(width=1), flash=(), threads=(), chunks=(), kv_types=())

    notebook, _ = run(alone, lambda trial: even(trial) * (0.5 if trial.phase == "step" and trial.rows == 32 else 1.0))
    choice = choose(alone, notebook)

    assert choice.setting.width == 32
    assert choice.answer_gain == pytest.approx(2.0)


def test_two_percent_are_not_worth_a_change() -> None:
    notebook, _ = run(ASKED, lambda trial: even(trial) * (0.98 if trial.flash else 1.0))

    assert choose(ASKED, notebook).setting == NOW


def test_a_gain_within_the_noise_of_the_repeats_is_no_gain() -> None:
    calls: dict[Trial, int] = {}

    def noisy(trial: Trial) -> float:
        calls[trial] = calls.get(trial, 0) + 1
        return even(trial) * (0.85 if trial.flash else 1.0) * (1.0, 1.5, 1.6, 1.4, 1.5)[calls[trial] - 1]

    notebook, _ = run(ASKED, noisy)

    assert choose(ASKED, notebook).setting.flash is False
    assert verdict_of(ASKED, notebook, "flash attention", "on") == "no clear gain"


def test_one_slow_repeat_among_three_does_not_hide_a_gain() -> None:
    calls: dict[Trial, int] = {}

    def hit_once(trial: Trial) -> float:
        calls[trial] = calls.get(trial, 0) + 1
        return even(trial) * (0.7 if trial.flash else 1.0) * (3.0 if calls[trial] == 1 else 1.0)

    notebook, _ = run(ASKED, hit_once)

    assert choose(ASKED, notebook).setting.flash is True


def test_one_measurement_decides_nothing() -> None:
    notebook = Notebook()
    for width in (8, 16, 32):
        trial = replace(trial_of(NOW, "step", width, 1024), question="width of the batch")
        notebook.take(trial, 0.001 * width * (0.1 if width == 32 else 1.0))

    assert choose(ASKED, notebook).setting == NOW


def test_alternatives_take_turns_so_that_a_busy_minute_hits_them_all() -> None:
    _, made = run(replace(ASKED, threads=(), widths=(), chunks=(), kv_types=()), even)

    asked = [trial for trial in made if trial.question == "flash attention"]
    prompts = [trial.flash for trial in asked if trial.phase == "prompt" and trial.depth == 0]
    assert prompts == [False, True] * 3  # not: all of one, then all of the other


def test_the_weightiest_question_comes_first_and_what_was_not_reached_stays_as_it_is() -> None:
    def machine(trial: Trial) -> float:
        return even(trial) * (0.5 if trial.flash else 1.0) * (0.5 if trial.threads == 2 else 1.0)

    notebook, made = run(ASKED, machine, most=14)

    choice = choose(ASKED, notebook)
    assert choice.setting == NOW.but(flash=True)
    assert all(trial.threads == 4 for trial in made)
    assert verdict_of(ASKED, notebook, "threads, prompts", "2") == "not measured"


def test_a_machine_that_gets_quieter_makes_nothing_look_faster() -> None:
    made = 0

    def waking(trial: Trial) -> float:
        nonlocal made
        made += 1
        return even(trial) * max(1.0, 6.0 * 0.97**made)  # every call a little faster than the one before

    notebook, _ = run(ASKED, waking)

    assert choose(ASKED, notebook).setting == NOW


def test_what_is_slower_together_than_what_runs_now_is_not_taken() -> None:
    def machine(trial: Trial) -> float:
        factor = 0.8 if trial.threads == 2 and trial.phase == "prompt" else 1.0
        return even(trial) * (factor if trial.question != "worth" else 1.5 if trial.threads == 2 else 1.0)

    notebook, _ = run(ASKED, machine)

    assert verdict_of(ASKED, notebook, "threads, prompts", "2") == "chosen"
    assert choose(ASKED, notebook).setting == NOW


def test_when_the_time_is_short_what_was_chosen_so_far_is_proved_first() -> None:
    notebook, _ = run(ASKED, lambda trial: even(trial) * (0.5 if trial.flash else 1.0), most=14)

    first = next_trial(ASKED, notebook, closing=True)
    while (trial := next_trial(ASKED, notebook, closing=True)) is not None and trial.question == "worth":
        notebook.take(trial, even(trial) * (0.5 if trial.flash else 1.0))

    assert first is not None and first.question == "worth"
    assert choose(ASKED, notebook).prompt_gain == pytest.approx(2.0)
    assert trial is not None and trial.question == "threads, prompts"  # and then it goes on


def test_the_proof_of_what_was_chosen_times_its_chunk_behind_nothing_too() -> None:
    """A tuning whose time is up measures nothing after it, and a plan needs both."""
    asked = replace(ASKED, flash=(), threads=(), widths=(), kv_types=())

    def machine(trial: Trial) -> float:
        return even(trial) * (0.5 if trial.phase == "prompt" and trial.rows == 256 else 1.0)

    _, made = run(asked, machine)
    notebook, _ = run(asked, machine, most=next(at for at, one in enumerate(made) if one.question == "pace of a chunk"))
    while (trial := next_trial(asked, notebook, closing=True)) is not None and trial.question == "worth":
        notebook.take(trial, machine(trial))
    choice = choose(asked, notebook)
    prompts = {
        (rows, depth) for rows, depth, _ in facts(asked, notebook, choice.setting, stream_bytes=0)["prompt_points"]
    }

    assert choice.setting.chunk == 256
    assert choice.prompt_gain == pytest.approx(2.0)
    assert {(256, 0), (256, asked.depth)} <= prompts


def test_how_time_grows_with_depth_is_known_before_what_takes_minutes_is_asked() -> None:
    _, made = run(ASKED, even)
    long_ones = [at for at, trial in enumerate(made) if trial.question in ("width of the batch", "chunk of a prompt")]
    notebook, _ = run(ASKED, even, most=min(long_ones))

    told = facts(ASKED, notebook, NOW, stream_bytes=0)
    steps, prompts = ({(rows, depth) for rows, depth, _ in told[points]} for points in ("step_points", "prompt_points"))

    assert steps >= {(rows, depth) for rows in (1, NOW.width // 2, NOW.width) for depth in (0, ASKED.depth)}
    assert prompts >= {(ASKED.piece, 0), (ASKED.piece, ASKED.depth)}


def test_a_choice_is_made_by_the_fastest_calls_and_a_plan_by_the_middle_ones() -> None:
    calls: dict[Trial, int] = {}

    def noisy(trial: Trial) -> float:
        calls[trial] = calls.get(trial, 0) + 1
        return even(trial) * (1.0, 1.4, 1.3)[(calls[trial] - 1) % 3]

    notebook, _ = run(replace(ASKED, rounds=(3,)), noisy)
    told = facts(ASKED, notebook, NOW, stream_bytes=0)

    assert choose(ASKED, notebook).setting == NOW
    assert {round(seconds / rows, 6) for rows, _, seconds in told["step_points"]} == {0.0013}
    assert told["decode_seconds"][NOW.width] == pytest.approx(0.0013 * NOW.width)


def test_a_chunk_that_only_seemed_fast_promises_nothing() -> None:
    def lucky(trial: Trial) -> float:
        return even(trial) * (0.6 if trial.question == "chunk of a prompt" and trial.rows == 256 else 1.0)

    notebook, _ = run(ASKED, lucky)
    chosen = choose(ASKED, notebook).setting
    points = facts(ASKED, notebook, chosen, stream_bytes=0)["prompt_points"]

    assert chosen.chunk == 256
    assert {round(seconds / rows, 6) for rows, _, seconds in points} == {0.001}


def test_later_questions_are_asked_under_what_earlier_ones_chose() -> None:
    _, made = run(ASKED, lambda trial: even(trial) * (0.5 if trial.flash else 1.0))

    assert {trial.flash for trial in made if trial.threads != 4} == {True}


@pytest.mark.parametrize(("times", "tries"), [(HOPELESS - 0.1, 3), (HOPELESS + 0.1, 2), (HOPELESS_AT_ONCE + 0.1, 1)])
def test_what_is_hopeless_is_not_tried_again(times: float, tries: int) -> None:
    notebook, _ = run(ASKED, lambda trial: even(trial) * (times if trial.threads == 1 else 1.0))

    trial = trial_of(NOW.but(threads_prompt=1), "prompt", 128, 0)
    assert notebook.count(replace(trial, question="threads, prompts")) == tries


def test_what_cannot_be_tried_is_told_with_its_reason_and_holds_nothing_up() -> None:
    situation, notebook = ASKED, Notebook()
    while (trial := next_trial(situation, notebook)) is not None:
        if trial.rows == 32 and trial.phase == "step":
            notebook.skip(trial, "32 thoughts need 12.00 GiB")
        else:
            notebook.take(trial, even(trial))

    assert verdict_of(situation, notebook, "width of the batch", "32") == "32 thoughts need 12.00 GiB"
    assert verdict_of(situation, notebook, "width of the batch", "8") == "no clear gain"


def test_without_a_lane_for_shared_beginnings_flash_attention_is_decided_by_the_rest() -> None:
    notebook = Notebook()
    while (trial := next_trial(ASKED, notebook)) is not None:
        if trial.phase == "shared":
            notebook.skip(trial, "the model's KV cannot be forked")
        else:
            notebook.take(trial, even(trial) * (0.5 if trial.flash else 1.0))

    assert choose(ASKED, notebook).setting.flash is True


def test_forks_that_pay_speak_against_flash_attention() -> None:
    def machine(trial: Trial) -> float:
        return even(trial) * (0.02 if trial.phase == "shared" else 0.97 if trial.flash else 1.0)

    notebook, _ = run(ASKED, machine)

    assert verdict_of(ASKED, notebook, "flash attention", "on") in ("slower", "no clear gain")


def test_while_there_is_kv_to_keep_what_shapes_it_is_measured_but_not_changed() -> None:
    situation = replace(ASKED, keeps_kv=True)
    notebook, _ = run(situation, lambda trial: even(trial) * (0.5 if trial.flash else 1.0))

    choice = choose(situation, notebook)

    assert choice.setting.flash is False
    assert verdict_of(situation, notebook, "flash attention", "on") == "kept"
    assert any("1.00 GiB of KV" in note and "--keep-kv" in note for note in table.notes(situation, choice, 1 << 30))


def test_a_choice_that_makes_stored_kv_useless_says_so() -> None:
    notebook, _ = run(ASKED, lambda trial: even(trial) * (0.5 if trial.flash else 1.0))
    choice = choose(ASKED, notebook)

    assert any("1.00 GiB of KV on the disk would be of no use" in note for note in table.notes(ASKED, choice, 1 << 30))
    assert not any("of no use" in note for note in table.notes(ASKED, choice, 0))


@pytest.mark.parametrize(("free", "verdict", "type_k"), [(False, "advised", "f16"), (True, "chosen", "q8_0")])
def test_other_kv_types_change_answers_so_they_are_only_taken_by_leave(free: bool, verdict: str, type_k: str) -> None:
    situation = replace(ASKED, takes_kv_types=free)
    notebook, _ = run(situation, lambda trial: even(trial) * (0.5 if trial.type_k == "q8_0" else 1.0))

    assert verdict_of(situation, notebook, "KV types", "q8_0, f16") == verdict
    assert choose(situation, notebook).setting.type_k == type_k


def test_behind_a_short_context_flash_attention_is_not_decided() -> None:
    situation = replace(ASKED, depth=256)
    notebook, made = run(situation, lambda trial: even(trial) * (0.1 if trial.flash else 1.0))

    assert not any(trial.flash for trial in made)
    assert any("undecided" in note for note in table.notes(situation, choose(situation, notebook), 0))


def test_what_the_owner_fixed_is_not_asked() -> None:
    situation = Situation(NOW, depth=1024, piece=128)
    notebook, made = run(situation, even)

    assert {trial.phase for trial in made} <= {"prompt", "step", "shared", "copy"}
    assert table.rows(choose(situation, notebook), notebook) == []


def test_figures_for_others_are_those_that_were_measured() -> None:
    def machine(trial: Trial) -> float:
        match trial.phase:
            case "copy":
                return even(replace(trial, rows=1)) + 0.004
            case "shared":
                return 0.016 + 0.2 * 0.016
            case "step" if trial.depth:
                return 2 * even(trial)
        return even(trial)

    notebook, _ = run(ASKED, machine)
    told = facts(ASKED, notebook, NOW, stream_bytes=10_000_000)

    assert told["cell_ratio"] == pytest.approx(0.2)
    assert told["copy_bytes_per_second"] == pytest.approx(4 * 10_000_000 / 0.003, rel=0.01)  # a step of one is 0.002
    assert told["decode_seconds"][32] == pytest.approx(0.064)


def test_notebook_and_situation_come_back_from_json_as_they_were() -> None:
    notebook, _ = run(ASKED, even, most=20)
    notebook.skip(trial_of(NOW, "step", 64, 1024), "no room")

    again = Notebook.from_json(json.loads(json.dumps(notebook.to_json())))

    assert (again.taken, again.skipped) == (notebook.taken, notebook.skipped)
    assert Situation.from_json(json.loads(json.dumps(ASKED.to_json()))) == ASKED


@pytest.mark.parametrize(
    ("speed", "depth", "piece"),
    [(5000.0, 4096, 512), (2000.0, 1024, 512), (200.0, 256, 128), (30.0, 0, 32), (0.5, 0, 32)],
)
def test_a_slow_model_is_measured_with_less(speed: float, depth: int, piece: int) -> None:
    found = sized(replace(ASKED, depth=0, piece=0), speed, 40.0, 32768)

    assert (found.depth, found.piece) == (depth, piece)


def test_calls_that_would_take_most_of_the_time_are_left_out() -> None:
    found = sized(replace(ASKED, widths=(8, 32, 64), chunks=(128, 512, 1024)), 5.0, 40.0, 32768)

    assert found.chunks == () and 64 not in found.widths


def test_a_context_that_the_model_does_not_have_is_not_built() -> None:
    assert sized(ASKED, 10_000.0, 40.0, 1024).depth == 256


def test_threads_worth_a_trial_are_parts_of_the_cores_within_the_quota() -> None:
    assert thread_choices(2, 2, None) == (2, 1)
    assert thread_choices(64, 128, None) == (128, 64, 48, 32, 16)
    assert thread_choices(64, 128, 4.0) == (4,)


def test_a_format_with_fewer_bits_is_told_but_not_chosen() -> None:
    def book(factor: float) -> Notebook:
        made = Notebook()
        for trial in trials_of(NOW):
            for _ in range(3):
                made.take(trial, even(trial) * factor)
        return made

    books = {"as it is": book(1.0), "F16": book(1.1), "Q8_0": book(0.8), "Q4_0": book(0.5)}

    says = {found.name: found.says for found in judged(books, NOW, bits=5.0)}

    assert says["Q8_0"] == "chosen" and says["F16"] == "no clear gain"
    assert says["Q4_0"] == "faster, but with fewer bits its answers are worse"
