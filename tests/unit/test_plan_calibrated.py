"""Speeds from what was measured here: exact where the model of time holds, sensible where points are missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from monk.cli.app import app
from monk.daemon import engine_config
from monk.engine import fingerprint
from monk.engine.bench import rates
from monk.engine.bench.point import Point as BenchPoint
from monk.engine.bench.rates import Rate
from monk.engine.machine import physical_cores
from monk.engine.tuning import record
from monk.engine.tuning.choice import choose, facts
from monk.engine.tuning.course import trial_of
from monk.engine.tuning.trial import Trial
from monk.plan.calibrated import Calibrated, Measured, Point
from monk.plan.speed import Sight
from monk.settings import load
from tests.engine_models import write_tiny_model
from tests.tuned_machine import ASKED, even, run

TOKEN, POSITION, CELL = 2e-3, 3e-8, 1.5e-7  # seconds, of a machine that is made up


class General:
    """Shares that are four times too rosy."""

    def step_seconds(self, rows: int, depth: int) -> float:
        return (0.010 + 0.001 * rows + rows * depth * CELL) / 4

    def prompt_seconds(self, tokens: int, depth: int = 0) -> float:
        return tokens * (TOKEN + (depth + tokens / 2) * POSITION) / 4


def step(rows: int, depth: int) -> float:
    return 0.010 + 0.001 * rows + rows * depth * CELL


def prompt(tokens: int, depth: int = 0) -> float:
    return tokens * (TOKEN + (depth + tokens / 2) * POSITION)


def measured(steps: list[tuple[int, int]], prompts: list[tuple[int, int]]) -> Measured:
    return Measured(
        tuple(Point(rows, depth, step(rows, depth)) for rows, depth in steps),
        tuple(Point(rows, depth, prompt(rows, depth)) for rows, depth in prompts),
        "2026-11-26T00:00:00+00:00",
    )


FULL = measured([(1, 0), (1, 4096), (8, 4096), (16, 0), (16, 4096), (32, 4096)], [(512, 0), (512, 4096)])


@pytest.mark.parametrize(("rows", "depth"), [(1, 0), (1, 131072), (4, 1000), (16, 20000), (64, 0), (64, 8192)])
def test_steps_between_and_beyond_what_was_measured(rows: int, depth: int) -> None:
    assert Calibrated(FULL, General()).step_seconds(rows, depth) == pytest.approx(step(rows, depth), rel=0.001)


@pytest.mark.parametrize(("tokens", "depth"), [(100, 0), (8192, 0), (131072, 0), (1000, 60000)])
def test_prompts_between_and_beyond_what_was_measured(tokens: int, depth: int) -> None:
    assert Calibrated(FULL, General()).prompt_seconds(tokens, depth) == pytest.approx(prompt(tokens, depth), rel=0.001)


def test_calls_of_the_chunks_own_length_set_the_price() -> None:
    slow = replace(FULL, prompts=(*FULL.prompts, Point(64, 4096, 64 * 2 * prompt(512, 4096) / 512)))

    assert Calibrated(slow, General(), 64).prompt_seconds(8192) == pytest.approx(2 * prompt(8192), rel=0.001)
    assert Calibrated(slow, General(), 512).prompt_seconds(8192) == pytest.approx(prompt(8192), rel=0.001)


def test_a_tuning_times_the_chosen_chunk_behind_much_and_behind_nothing() -> None:
    """Few rows attend to many tokens faster, row by row, than many rows do: no chunk's price is another's, scaled."""

    def machine(trial: Trial) -> float:
        attention = trial.rows * (trial.depth + trial.rows / 2) * 4e-9 * trial.rows
        return even(trial) + (attention if trial.phase == "prompt" else 0.0)

    notebook, _ = run(ASKED, machine)
    chosen = choose(ASKED, notebook).setting
    told = Measured.of(facts(ASKED, notebook, chosen, stream_bytes=0), "2026-11-26T00:00:00+00:00")

    assert chosen.chunk != ASKED.piece
    assert told is not None
    for depth in (0, ASKED.depth):
        predicted = Calibrated(told, General(), chosen.chunk).prompt_seconds(chosen.chunk, depth)
        assert predicted == pytest.approx(machine(trial_of(chosen, "prompt", chosen.chunk, depth)), rel=0.001)


def test_what_was_not_measured_at_two_depths_is_scaled() -> None:
    shallow = measured([(1, 0), (8, 0)], [(512, 0)])
    pace = Calibrated(shallow, General())

    assert pace.step_seconds(4, 0) == pytest.approx(step(4, 0), rel=0.001)
    assert pace.step_seconds(8, 4096) > step(8, 0)
    assert pace.prompt_seconds(8192) == pytest.approx(prompt(8192), rel=0.02)


def test_of_several_measurements_at_a_place_the_middle_one_counts() -> None:
    def also(points: tuple[Point, ...]) -> tuple[Point, ...]:
        return (*points, *(replace(p, seconds=share * p.seconds) for p in points for share in (0.5, 3.0)))

    pace = Calibrated(replace(FULL, steps=also(FULL.steps), prompts=also(FULL.prompts)), General())

    assert pace.step_seconds(16, 20000) == pytest.approx(step(16, 20000), rel=0.001)
    assert pace.prompt_seconds(8192) == pytest.approx(prompt(8192), rel=0.001)


def test_an_outlier_at_one_of_many_depths_is_outweighed() -> None:
    depths = (0, 512, 2048, 8192, 32768)
    many = measured([(16, depth) for depth in depths], [(512, depth) for depth in depths])
    slow = replace(many.steps[3], seconds=1.3 * many.steps[3].seconds)  # behind 8,192
    pace = Calibrated(replace(many, steps=(*many.steps[:3], slow, many.steps[4])), General())

    assert pace.step_seconds(16, 131072) == pytest.approx(step(16, 131072), rel=0.1)


def test_behind_more_than_all_windows_hold_time_does_not_grow() -> None:
    near = Sight(1.0, 512)
    steps = (Point(1, 1024, 0.020), Point(1, 4096, 0.022))
    pace = Calibrated(Measured(steps, (Point(512, 1024, 1.0), Point(512, 4096, 1.1)), ""), General(), 512, near)

    assert pace.step_seconds(1, 100000) == pytest.approx(0.021, rel=0.01)
    assert pace.prompt_seconds(512, 100000) == pytest.approx(1.05, rel=0.01)


def test_noise_never_makes_time_run_backwards() -> None:
    odd = Measured(
        (Point(1, 0, 0.02), Point(1, 4096, 0.01), Point(8, 0, 0.01), Point(8, 4096, 0.02)),
        (Point(512, 0, 1.0), Point(512, 4096, 0.5)),
        "",
    )
    pace = Calibrated(odd, General())

    assert pace.step_seconds(64, 100000) >= pace.step_seconds(8, 0) > 0
    assert 0 < pace.prompt_seconds(1000) <= pace.prompt_seconds(100000)


@pytest.mark.parametrize("facts", [{}, {"step_points": [[1, 0, 0.1]]}, {"step_points": "x", "prompt_points": [[1]]}])
def test_a_record_that_does_not_tell_enough_is_not_used(facts: dict[str, object]) -> None:
    assert Measured.of(facts, "") is None


def test_after_a_tuning_the_plan_reckons_with_what_was_measured(tmp_path: Path) -> None:
    path, home = write_tiny_model(tmp_path / "tiny.gguf"), tmp_path / "home"
    config = replace(engine_config(load({}, home=home)), model_path=path, model_sha256=None)

    def planned(*more: str) -> dict[str, Any]:
        arguments = ["plan", str(path), "--home", str(home), "--json", *more]
        return dict(json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout))

    before = planned()
    home.mkdir(exist_ok=True)
    sha256 = fingerprint.sha256_of((path,), config.hash_cache)  # as `monk tune` leaves it
    key, points = (
        record.key_of(config, sha256),
        ([[p.rows, p.depth, p.seconds] for p in kind] for kind in (FULL.steps, FULL.prompts)),
    )
    facts = dict(zip(("step_points", "prompt_points"), points, strict=True))
    record.keep(config, record.Record(key, {"most_slots": 2}, FULL.at, 40.0, False, {}, facts, []))
    after, other, elsewhere = (
        planned(),
        planned("--flash", "on"),
        planned("--ram", "8GB", "--bandwidth", "9GB/s", "--cores", "2"),
    )
    shown = CliRunner().invoke(app, ["plan", str(path), "--home", str(home)]).output

    assert before["measured_at"] is None and after["measured_at"] == FULL.at
    assert after["decode_tokens_per_second"]["0"]["1"] == pytest.approx(1 / step(1, 0), rel=0.01)
    assert after["prompt_seconds"]["1024"] == pytest.approx(prompt(1024), abs=0.051)
    assert after["slots"] == 2, "and opens what was chosen there"
    assert f"speeds as `monk tune` measured them here at {FULL.at}" in shown
    assert other["measured_at"] is None, "what was measured without flash attention tells nothing of it"
    assert elsewhere["measured_at"] is None, "nor of another machine"


def rate(test: Literal["prompt", "answer"], rows: int, depth: int, seconds: float, flash: bool = False) -> Rate:
    """A benchmark on this machine: 512 tokens of a prompt, or steps of so many rows."""
    tokens = 512 if test == "prompt" else 32
    point = BenchPoint(test, tokens, rows, depth, flash, "f16", "f16", physical_cores(), 512)
    return Rate(point, (tokens if test == "prompt" else rows) / seconds, "2026-11-26T01:00:00+00:00")


def test_after_a_benchmark_the_plan_reckons_with_what_was_measured(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    home = tmp_path / "home"
    home.mkdir()
    config = replace(engine_config(load({}, home=home)), model_path=path, model_sha256=None)
    sha256 = fingerprint.sha256_of((path,), config.hash_cache)
    rates.keep(
        home / "bench",
        sha256,
        [
            *(rate("answer", rows, depth, step(rows, depth)) for rows, depth in ((1, 0), (1, 512), (16, 0), (16, 512))),
            *(rate("prompt", 1, depth, prompt(512, depth)) for depth in (0, 512)),
            rate("answer", 1, 0, 99.0, flash=True),
        ],
    )

    def planned(*more: str) -> dict[str, Any]:
        command = ["plan", str(path), "--home", str(home), "--json", *more]
        return dict(json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout))

    plan, other = planned(), planned("--flash", "on")

    assert (plan["measured_by"], plan["measured_at"]) == ("monk bench", "2026-11-26T01:00:00+00:00")
    assert plan["decode_tokens_per_second"]["0"]["16"] == pytest.approx(16 / step(16, 0), rel=0.01)
    assert plan["prompt_seconds"]["1024"] == pytest.approx(prompt(1024), rel=0.02, abs=0.1)
    assert other["measured_at"] is None, "one step with flash attention tells too little"
