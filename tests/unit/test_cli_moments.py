"""Moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from monk.cli.moments import parse_moment, parse_span, shown, spelled
from monk.errors import InvalidInput

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)  # midnight in Berlin


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("2h", timedelta(hours=2)),
        ("90m", timedelta(minutes=90)),
        ("1d12h", timedelta(hours=36)),
        ("1h30m5s", timedelta(hours=1, minutes=30, seconds=5)),
        ("0s", timedelta(0)),
    ],
)
def test_a_span_is_read(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "h", "2", "2 h", "h2", "-1h", "2x", "٢h"])
def test_what_is_no_span_is_none(text: str) -> None:
    assert parse_span(text) is None


def test_a_clock_time_is_its_next_coming_in_the_given_zone() -> None:
    assert parse_moment("06:30", EVENING, BERLIN, "until") == datetime(2026, 11, 23, 5, 30, tzinfo=UTC)
    assert parse_moment("23:59", EVENING, BERLIN, "until") == datetime(2026, 11, 23, 22, 59, tzinfo=UTC)


def test_a_clock_time_that_is_now_means_tomorrow() -> None:
    assert parse_moment("00:00", EVENING, BERLIN, "until") == EVENING + timedelta(days=1)


def test_a_clock_time_in_the_skipped_hour_of_spring_is_the_jump_itself() -> None:
    before = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # 01:30 in Berlin; 02:00 becomes 03:00

    assert parse_moment("02:30", before, BERLIN, "until") == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_a_clock_time_in_the_doubled_hour_of_autumn_is_its_first_showing() -> None:
    before = datetime(2026, 10, 24, 23, 0, tzinfo=UTC)  # 01:00 in Berlin

    assert parse_moment("02:30", before, BERLIN, "until") == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_an_rfc_3339_moment_keeps_its_offset_and_one_without_is_taken_in_the_zone() -> None:
    assert parse_moment("2026-12-01T06:30:00+03:00", EVENING, BERLIN, "x").isoformat() == "2026-12-01T06:30:00+03:00"
    assert parse_moment("2026-12-01T06:30", EVENING, BERLIN, "x") == datetime(2026, 12, 1, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "bla", "25:00", "06:61", "2026-13-01", "999999999999999d"])
def test_what_is_no_moment_is_refused_with_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--until .* is no moment; write 06:30, 2h, or 2026"):
        parse_moment(text, EVENING, BERLIN, "--until")


def test_a_moment_is_shown_in_the_readers_zone() -> None:
    assert shown("2026-12-01T05:30:00+00:00", BERLIN) == "2026-12-01 06:30"
    assert shown(None) == "-"
    assert shown("whatever") == "whatever"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (12, "12 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (100_000, "1 d 3 h"), (-5, "0 s")],
)
def test_a_length_of_time_is_spelled_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert spelled(seconds) == text
