"""The kind `bench` as a recipe: its steps, its minutes, its result, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from jobs import bench
from jobs.context import MinutesUsed
from jobs.registry import Kinds
from monk.drawings import checked
from monk.errors import InvalidInput
from tests.unit.test_bench_course import HERE
from tests.unit.test_kinds import Desk

LOOKED = {
    **HERE,
    "host": {"cpu": "Abacus", "cores": 4},
    "build": "llama-cpp-python 0",
    "model": {"name": "tiny", "parameters": 1e6, "weight_bytes": 1 << 20, "settings": "experts 2"},
    "machine": {"bandwidth": 1e10, "gflops": 100.0},
    "energy": "this machine has no energy counters",
}


class Field:
    """A machine on which everything takes a moment, until its minutes are used up."""

    def __init__(self, most: int = 10_000, refuses: int | None = None) -> None:
        self.most, self.refuses = most, refuses
        self.measured: list[dict[str, Any]] = []
        self.kept: list[dict[str, Any]] = []
        self.closed = self.left = False

    def look(self, context: int, ubatch: int) -> dict[str, Any]:
        return LOOKED

    def measure(self, point: dict[str, Any], repeats: int, here: dict[str, Any]) -> dict[str, Any]:
        assert here == LOOKED and repeats == 3
        if len(self.measured) >= self.most:
            raise MinutesUsed
        self.measured.append(point)
        row = {**point, "predicted": 90.0, "bound": 200.0, "measured_at": "2026-11-26T05:00:00+00:00"}
        if len(self.measured) == self.refuses:
            return {**row, "refused": "it needs 9 GiB, 1 GiB is free"}
        rate = 100.0 * point["rows"] / (1 + point["depth"] / 4096)
        return {
            **row,
            "tokens_per_second": {"mean": rate, "deviation": 1.0, "median": rate},
            "memory_bytes": 1 << 28,
            "planned_bytes": 1 << 28,
            "energy_joules": None,
            "joules_per_token": None,
            "others_percent": 0.5,
        }

    def keep(self, rows: list[dict[str, Any]], here: dict[str, Any]) -> str:
        self.kept = rows
        return "rates.json"

    def close(self) -> None:
        self.closed = True

    def leave(self) -> None:
        self.left = True


def run(field: Field, **wanted: Any) -> tuple[dict[str, Any], Desk]:
    desk = Desk(Kinds(None).validate("bench", wanted), lambda *_: "")
    desk.bench = field  # type: ignore[attr-defined]
    return bench.run(desk), desk  # type: ignore[arg-type]


def test_every_measurement_is_a_step_named_by_its_settings() -> None:
    field = Field()

    result, desk = run(field)

    names = list(desk.steps)
    assert names[0] == "machine" and names[-1] == "kept" and len(names) == len(field.measured) + 2
    assert names[1] == f"1 of {len(field.measured)}: prompt 512 behind 0, flash off, kv f16, 4 threads, ubatch 512"
    assert result["ended"] == "all" and result["left"] == [] and field.closed and field.left
    assert result["rows"] == field.kept and result["kept"] == "rates.json"


def test_the_result_is_told_as_a_table_and_drawn() -> None:
    result, _ = run(Field())

    assert "| prompt | 4096 | off | f16 | 4 | 50.00\u00a0±\u00a01.00 | 90.0 | 200.0 | 0.25 |" in result["answer"]
    assert "Energy was not measured: this machine has no energy counters." in result["answer"]
    drawn = [checked(data) for data in result["pictures"]]
    assert [picture.title for picture in drawn] == [
        "tiny: prompts",
        "tiny: one answer",
        "tiny: several answers at once",
        "tiny: memory",
    ]
    widths = next(line for line in result["pictures"][2]["lines"] if line["name"] == "measured")
    assert [point[0] for point in widths["points"]] == [1, 2, 4, 8, 16, 32, 64]
    depths = {line["name"]: [point[0] for point in line["points"]] for line in result["pictures"][1]["lines"]}
    assert depths["measured"] == [0, 512, 1024, 2048, 4096, 8127] or depths["measured"][-1] == 7679
    assert depths["flash attention on, KV f16"] == [1024, 4096]


def test_when_the_minutes_are_used_up_what_was_measured_stands() -> None:
    field = Field(most=5)

    result, _ = run(field)

    assert len(result["rows"]) == 5 and result["ended"] == "minutes" and len(field.kept) == 5
    assert f"The job's minutes ended before {len(result['left'])} measurements" in result["answer"]


def test_what_does_not_fit_is_told_with_its_figures_and_stops_nothing() -> None:
    result, _ = run(Field(refuses=3))

    assert "- prompt x 1 behind 512: it needs 9 GiB, 1 GiB is free" in result["answer"]
    assert len(result["rows"]) > 20 and "| answer | 512 |" in result["answer"]


def test_nothing_measured_at_all_makes_no_picture_and_no_table() -> None:
    result, _ = run(Field(most=0))

    assert result["pictures"] == [] and result["rows"] == [] and "| test |" not in result["answer"]


@pytest.mark.parametrize(
    ("input_", "told"),
    [
        ({"kv_types": ["q4_0"]}, "kv_types 'q4_0': write one of f16, bf16, f32, q8_0"),
        ({"kv_types": ["f16,f16,f16"]}, "write one of"),
        ({"kv_types": ["q8_0"], "flash": ["off"]}, "values of q8_0 need flash attention"),
        (
            {"context": 1000, "depths": [512]},
            "context 1000 has no room for 512 tokens behind 512; it must be at least 1024",
        ),
        ({"ubatch": 8}, "ubatch must be 0 or at least 16"),
        ({"widths": [257]}, "less than or equal to 256"),
        ({"flash": ["auto"]}, "'on' or 'off'"),
        ({"repeats": 0}, "greater than or equal to 1"),
        ({"deepness": 1}, "is no field of this kind"),
    ],
)
def test_bad_input_is_refused_with_the_way_out(input_: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Kinds(None).validate("bench", input_)

    assert told in refused.value.message, refused.value.message


def test_it_wants_the_machine_for_itself() -> None:
    kinds = Kinds(None)

    assert [name for name in kinds.all() if kinds.runs_alone(name)] == ["bench"]
    assert not kinds.runs_alone("gone")
