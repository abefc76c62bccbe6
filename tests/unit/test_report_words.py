"""How the report says numbers and times."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from monk import errors
from monk.report import words

MOSCOW = timezone(timedelta(hours=3))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.84, "0.8 s"),
        (9.0, "9 s"),
        (59.6, "1 min"),
        (65, "1 min 5 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (32_400, "9 h"),
        (36_300, "10 h 5 min"),
        (90_000, "1 d 1 h"),
        (-3, "0 s"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_counts_speeds_and_sizes_have_their_units() -> None:
    assert words.count(1, "job") == "1 job"
    assert words.count(12_345, "token") == "12,345 tokens"
    assert [words.times(n) for n in (1, 2, 3)] == ["once", "twice", "3 times"]
    assert [words.speed(x) for x in (0.421, 8.314, 83.14, 1204)] == [
        *("0.42 tokens/s", "8.31 tokens/s", "83.1 tokens/s", "1,204 tokens/s")
    ]
    assert [words.size(x) for x in (512, 1536, 61_203_283_968)] == ["512 bytes", "1.5 KiB", "57.0 GiB"]


def test_a_moment_is_as_short_as_its_neighbour_allows() -> None:
    morning = datetime(2026, 11, 23, 7, 0, tzinfo=MOSCOW)
    assert words.moment(morning, morning) == "07:00"
    assert words.moment(morning - timedelta(hours=9), morning) == "22 Nov 22:00"
    assert words.moment(morning - timedelta(days=365), morning) == "23 Nov 2025 07:00"
    assert words.day(morning) == "Monday, 23 November 2026"


def test_the_offset_of_a_zone_is_said_on_both_sides_of_greenwich() -> None:
    assert words.offset(datetime(2026, 1, 1, tzinfo=MOSCOW)) == "UTC+03:00"
    assert words.offset(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))) == "UTC-03:30"


def test_every_code_of_an_error_has_its_advice() -> None:
    codes = {
        error.code for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.MonkError)
    }
    told = {code: words.advice(code) for code in codes}
    assert all(text.endswith(".") for text in told.values())
    assert words.advice("never_heard_of").startswith("Look at what it says")
