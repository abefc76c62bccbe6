"""When the machine is yielded to others, and when it is taken back."""

from __future__ import annotations

from pathlib import Path

from monk.pressure import HOLD_SECONDS, RELEASE_SECONDS, Gauge, PressureWatch, read_pressure

CALM, HARD = {"memory": 0.0}, {"memory": 35.0}


def seconds_until(gauge: Gauge, wanted: str, readings: dict[str, float], start: float) -> float:
    """The moment at which a gauge that sees the same every second says `wanted`."""
    now = start
    while gauge.turn(readings, now) != wanted:
        now += 1.0
        assert now - start < 1000, f"it never said {wanted}"
    return now


def test_pressure_that_lasts_holds_and_calm_that_lasts_longer_releases() -> None:
    gauge = Gauge({"memory": 20.0})

    held_at = seconds_until(gauge, "hold", HARD, 0.0)
    released_at = seconds_until(gauge, "release", CALM, held_at)

    assert held_at == HOLD_SECONDS
    assert released_at - held_at == RELEASE_SECONDS


def test_a_short_stall_is_no_reason_to_stop() -> None:
    gauge = Gauge({"memory": 20.0})

    said = [gauge.turn(HARD if second % 9 else CALM, float(second)) for second in range(100)]

    assert said == [None] * 100


def test_what_lies_between_half_the_limit_and_the_limit_changes_nothing() -> None:
    free, held = Gauge({"memory": 20.0}), Gauge({"memory": 20.0})
    seconds_until(held, "hold", HARD, 0.0)

    said = [gauge.turn({"memory": 15.0}, 100.0 + second) for gauge in (free, held) for second in range(200)]

    assert set(said) == {None}


def test_a_limit_of_zero_and_a_silent_kernel_are_ignored() -> None:
    gauge = Gauge({"memory": 0.0, "io": 20.0})

    assert [gauge.turn(HARD, float(second)) for second in range(100)] == [None] * 100
    assert [gauge.turn({}, float(second)) for second in range(100)] == [None] * 100


def test_the_kernels_figures_are_read_and_missing_or_strange_files_left_out(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text(
        "some avg10=12.34 avg60=1.00 avg300=0.10 total=99\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=9\n"
    )
    (tmp_path / "cpu").write_text("nothing of the kind\n")

    assert read_pressure(tmp_path) == {"memory": 12.34}


def test_the_watch_says_who_waits_for_what_and_releases_in_the_end() -> None:
    time, readings, told = [0.0], dict(HARD), []
    watch = PressureWatch(
        {"memory": 20.0}, told.append, lambda: told.append("released"), lambda: readings, lambda: time[0]
    )

    for second in range(12):
        time[0] = float(second)
        watch.look()
    readings["memory"] = 1.0
    for second in range(12, 12 + 62):
        time[0] = float(second)
        watch.look()

    assert told == ["others wait for memory (35%)", "released"]
