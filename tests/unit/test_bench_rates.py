"""What was measured is kept, found again, and nobody else's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from monk.engine.bench import rates
from monk.engine.bench.point import Point
from monk.engine.bench.rates import Rate
from monk.engine.tuning import host
from monk.errors import HomeUnusable

SHA = "ab" * 32
POINT = Point("answer", 64, 8, 1024, False, "f16", "f16", 2, 512, room=512)
RATE = Rate(POINT, 160.0, "2026-11-26T05:00:00+00:00")


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    prompt = Rate(replace(POINT, test="prompt", tokens=512, rows=1), 256.0, "2026-11-26T05:01:00+00:00")

    rates.keep(tmp_path / "bench", SHA, [RATE, prompt])

    assert rates.measured(tmp_path / "bench", SHA) == [RATE, prompt]
    assert (RATE.seconds, prompt.seconds) == (0.05, 2.0)
    assert rates.measured(tmp_path / "bench", "cd" * 32) == []


def test_of_a_measurement_made_again_the_newest_stands_and_others_stay(tmp_path: Path) -> None:
    other = Rate(replace(POINT, rows=4), 90.0, RATE.measured_at)
    newer = Rate(replace(POINT, room=64), 170.0, "2026-11-27T05:00:00+00:00")
    rates.keep(tmp_path, SHA, [RATE, other])

    rates.keep(tmp_path, SHA, [newer])

    assert sorted(one.tokens_per_second for one in rates.measured(tmp_path, SHA)) == [90.0, 170.0]


def test_another_host_has_measured_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates.keep(tmp_path, SHA, [RATE])
    monkeypatch.setattr(host, "build", lambda: "another build")

    assert rates.measured(tmp_path, SHA) == []


@pytest.mark.parametrize("damage", ["cut", "version", "rate", "list"])
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path: Path, damage: str) -> None:
    path = rates.keep(tmp_path, SHA, [RATE])
    values = json.loads(path.read_text())
    match damage:
        case "cut":
            path.write_text(path.read_text()[:-20])
        case "version":
            path.write_text(json.dumps({**values, "version": 99}))
        case "rate":
            next(iter(values["rates"].values()))["tokens_per_second"] = 0
            path.write_text(json.dumps(values))
        case "list":
            path.write_text("[]")

    assert rates.measured(tmp_path, SHA) == []
    rates.keep(tmp_path, SHA, [RATE])
    assert rates.measured(tmp_path, SHA) == [RATE]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "bench").write_text("")

    with pytest.raises(HomeUnusable, match="cannot be written"):
        rates.keep(tmp_path / "bench", SHA, [RATE])
