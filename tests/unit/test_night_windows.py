"""When it is night: windows, days and zones, also in the two odd nights of the year."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monk.errors import InvalidInput, SettingsInvalid
from monk.windows import Calendar, Span, Window, moment, named_zone, parse_days, parse_windows, system_zone

BERLIN = ZoneInfo("Europe/Berlin")
ALL_DAYS = parse_days("mon-sun")


def at(zone: ZoneInfo, text: str, fold: int = 0) -> datetime:
    """A moment by what the zone's clock shows."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


def calendar(night: str, days: str = "mon-sun", zone: str = "Europe/Berlin") -> Calendar:
    return Calendar.parse(night, days, zone)


# ── parsing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_windows_are_parsed_in_the_order_of_the_day() -> None:
    assert parse_windows("22:00-07:00, 12:30-13:15") == (Window(750, 795), Window(1320, 1860))


def test_always_is_one_whole_day_and_never_is_no_window() -> None:
    assert parse_windows("always") == (Window(0, 1440),)
    assert parse_windows("Never") == ()


def test_a_window_may_end_at_midnight_in_both_ways_of_writing_it() -> None:
    assert parse_windows("20:00-24:00") == parse_windows("20:00-00:00") == (Window(1200, 1440),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no window"),
        ("22:00", "is no window"),
        ("22:00-07:00,", "is no window"),
        ("ten to seven", "is no window"),
        ("25:00-07:00", "there is no time 25:00"),
        ("22:61-07:00", "there is no time 22:61"),
        ("24:30-07:00", "there is no time 24:30"),
        ("22:00-22:00", 'write "always"'),
        ("00:00-24:00,22:00-7", "is no window"),
        ("24:00-07:00", "write 00:00"),
    ],
)
def test_a_window_that_cannot_be_read_is_named_with_the_way_out(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        parse_windows(text)
    assert caught.value.param == "night"


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("sat,sun", {5, 6}),
        ("mon-sun", set(range(7))),
        ("fri-mon", {4, 5, 6, 0}),
        ("Wednesday", {2}),
        ("mon-tue, thu", {0, 1, 3}),
        ("tue-tue", {1}),
    ],
)
def test_days_are_lists_and_ranges_that_may_wrap(text: str, days: set[int]) -> None:
    assert parse_days(text) == days


@pytest.mark.parametrize("text", ["", "mo", "mon-", "-fri", "mon--fri", "1-5", "funday"])
def test_a_day_that_cannot_be_read_is_named_with_the_way_out(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no day; use mon, tue") as caught:
        parse_days(text)
    assert caught.value.param == "night_days"


# ── spans ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_night_goes_across_midnight() -> None:
    span = calendar("22:00-07:00").span(at(BERLIN, "2026-11-23 03:00"))
    assert span == Span(at(BERLIN, "2026-11-22 22:00"), at(BERLIN, "2026-11-23 07:00"))


def test_an_edge_belongs_to_what_begins_there() -> None:
    nights = calendar("22:00-07:00")
    assert nights.span(at(BERLIN, "2026-11-22 22:00")) is not None
    assert nights.span(at(BERLIN, "2026-11-23 07:00")) is None
    assert nights.next_open_at(at(BERLIN, "2026-11-22 22:00")) == at(BERLIN, "2026-11-23 22:00")


@pytest.mark.parametrize(
    ("begins", "ends", "hours"),
    [("2026-03-28 22:00", "2026-03-29 07:00", 8), ("2026-10-24 22:00", "2026-10-25 07:00", 10)],
)
def test_the_two_odd_nights_in_berlin_last_eight_and_ten_real_hours(begins: str, ends: str, hours: int) -> None:
    span = calendar("22:00-07:00").span(at(BERLIN, begins) + timedelta(hours=4))
    assert span == Span(at(BERLIN, begins), at(BERLIN, ends))
    assert span.closes_at is not None
    assert span.closes_at - span.opened_at == timedelta(hours=hours)


def test_moscow_has_no_odd_nights() -> None:
    nights = calendar("22:00-07:00", zone="Europe/Moscow")
    opens = datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(364):
        following = nights.next_open_at(opens)
        assert following is not None
        span = nights.span(following)
        assert span is not None and span.closes_at is not None
        assert span.closes_at - span.opened_at == timedelta(hours=9)
        opens = following


def test_an_edge_in_the_skipped_hour_falls_on_the_jump() -> None:
    jump = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    assert moment(BERLIN, datetime(2026, 3, 29, 2, 30)) == jump  # noqa: DTZ001
    span = calendar("22:00-02:30").span(jump - timedelta(minutes=1))
    assert span is not None and span.closes_at == jump


def test_an_edge_in_the_doubled_hour_falls_on_its_first_showing() -> None:
    first = at(BERLIN, "2026-10-25 02:30", fold=0)
    nights = calendar("22:00-02:30")
    span = nights.span(first - timedelta(minutes=1))
    assert span is not None and span.closes_at == first
    assert nights.span(at(BERLIN, "2026-10-25 02:10", fold=1)) is None, "it must not open again in the second showing"


def test_a_window_inside_the_skipped_hour_does_not_occur_that_day() -> None:
    nights = calendar("02:10-02:50")
    assert nights.next_open_at(at(BERLIN, "2026-03-28 12:00")) == at(BERLIN, "2026-03-30 02:10")
    only_sundays = calendar("02:10-02:50", "sun")
    assert only_sundays.next_open_at(at(BERLIN, "2026-03-28 12:00")) == at(BERLIN, "2026-04-05 02:10")


def test_a_clock_that_jumps_at_midnight_opens_the_night_at_the_jump() -> None:
    cairo = ZoneInfo("Africa/Cairo")  # 2026-04-24 00:00 → 01:00
    assert moment(cairo, datetime(2026, 4, 24, 0, 30)) == datetime(2026, 4, 23, 22, 0, tzinfo=UTC)  # noqa: DTZ001


def test_days_name_the_day_on_which_a_night_begins() -> None:
    nights = calendar("22:00-07:00", "fri")
    assert nights.span(at(BERLIN, "2026-11-28 03:00")) is not None, "Saturday morning belongs to Friday's night"
    assert nights.span(at(BERLIN, "2026-11-27 03:00")) is None
    assert nights.next_open_at(at(BERLIN, "2026-11-28 03:00")) == at(BERLIN, "2026-12-04 22:00")


def test_windows_that_overlap_or_touch_are_one_night() -> None:
    nights = calendar("20:00-23:00,22:00-24:00,00:00-06:00")
    span = nights.span(at(BERLIN, "2026-11-22 23:30"))
    assert span == Span(at(BERLIN, "2026-11-22 20:00"), at(BERLIN, "2026-11-23 06:00"))


def test_never_has_no_night() -> None:
    nights = calendar("never")
    assert nights.span(datetime(2026, 11, 22, tzinfo=UTC)) is None
    assert nights.next_open_at(datetime(2026, 11, 22, tzinfo=UTC)) is None


@pytest.mark.parametrize("night", ["always", "07:00-19:00,19:00-07:00", "00:00-24:00", "05:00-04:00,03:00-06:00"])
def test_windows_without_a_gap_are_a_night_without_an_end_cut_each_morning(night: str) -> None:
    nights = calendar(night)
    assert nights.span(at(BERLIN, "2026-11-22 06:59")) == Span(at(BERLIN, "2026-11-21 07:00"), None)
    assert nights.span(at(BERLIN, "2026-11-22 07:00")) == Span(at(BERLIN, "2026-11-22 07:00"), None)
    assert nights.next_open_at(at(BERLIN, "2026-11-22 07:00")) == at(BERLIN, "2026-11-23 07:00")


def test_always_on_weekdays_is_one_night_from_monday_to_saturday() -> None:
    span = calendar("always", "mon-fri").span(at(BERLIN, "2026-11-25 12:00"))
    assert span == Span(at(BERLIN, "2026-11-23 00:00"), at(BERLIN, "2026-11-28 00:00"))


def test_mornings_are_at_seven_by_the_local_clock_also_when_it_jumps() -> None:
    nights = calendar("always")
    assert nights.next_morning(at(BERLIN, "2026-03-28 07:00")) == at(BERLIN, "2026-03-29 07:00")
    assert nights.last_morning(at(BERLIN, "2026-10-25 06:59")) == at(BERLIN, "2026-10-24 07:00")


# ── against brute force ───────────────────────────────────────────────────────────────────────────────────────────────

ODD_WEEKS = [
    ("Europe/Berlin", datetime(2026, 3, 26, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 22, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 29, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 21, tzinfo=UTC)),  # jumps at midnight
    ("Africa/Cairo", datetime(2026, 10, 27, tzinfo=UTC)),  # falls back over midnight
    ("Australia/Lord_Howe", datetime(2026, 4, 2, tzinfo=UTC)),  # by half an hour
    ("Pacific/Apia", datetime(2011, 12, 27, tzinfo=UTC)),  # skipped a whole day
    ("Europe/Moscow", datetime(2026, 3, 26, tzinfo=UTC)),
]
MINUTES = st.integers(0, 1439)
WINDOWS = st.lists(st.tuples(MINUTES, MINUTES).filter(lambda pair: pair[0] != pair[1]), min_size=1, max_size=3).map(
    lambda pairs: tuple(Window(a, b if b > a else b + 1440) for a, b in pairs)
)


def brute_force(windows: tuple[Window, ...], days: frozenset[int], zone: ZoneInfo, start: datetime) -> list[bool]:
    """Walk five days minute by minute, after ten to settle in. What counts is the furthest the wall clock has shown: an
    edge is passed when it is shown, or a later time, for the first time."""
    furthest = None
    night = []
    for minute in range(-10 * 1440, 5 * 1440):
        shown = (start + timedelta(minutes=minute)).astimezone(zone).replace(tzinfo=None)
        furthest = shown if furthest is None else max(furthest, shown)
        if minute >= 0:
            night.append(any(_inside(window, days, furthest) for window in windows))
    return night


def _inside(window: Window, days: frozenset[int], shown: datetime) -> bool:
    for back in (0, 1):
        day = shown.replace(hour=0, minute=0) - timedelta(days=back)
        minutes = (shown - day) // timedelta(minutes=1)
        if day.weekday() in days and window.opens_minutes <= minutes < window.closes_minutes:
            return True
    return False


@settings(max_examples=25, deadline=None)
@given(week=st.sampled_from(ODD_WEEKS), windows=WINDOWS, days=st.sets(st.integers(0, 6), min_size=1))
def test_the_calendar_equals_a_walk_minute_by_minute(
    week: tuple[str, datetime], windows: tuple[Window, ...], days: set[int]
) -> None:
    zone, start = ZoneInfo(week[0]), week[1]
    nights = Calendar(windows, frozenset(days), zone)
    walked = brute_force(windows, frozenset(days), zone, start)
    for minute in range(0, 5 * 1440, 7):
        now = start + timedelta(minutes=minute)
        assert (nights.span(now) is not None) == walked[minute], now.astimezone(zone)


@settings(max_examples=60, deadline=None)
@given(
    week=st.sampled_from(ODD_WEEKS),
    windows=WINDOWS,
    days=st.sets(st.integers(0, 6), min_size=1),
    minute=st.integers(0, 5 * 1440),
)
def test_a_span_contains_its_moment_and_the_next_opening_is_the_first(
    week: tuple[str, datetime], windows: tuple[Window, ...], days: set[int], minute: int
) -> None:
    zone, now = ZoneInfo(week[0]), week[1] + timedelta(minutes=minute)
    nights = Calendar(windows, frozenset(days), zone)
    span, following = nights.span(now), nights.next_open_at(now)
    if span is not None:
        assert span.opened_at <= now and (span.closes_at is None or now < span.closes_at)
    assert following is not None and following > now
    begun = nights.span(following)
    assert begun is not None and begun.opened_at == following
    if not nights.endless:
        before = nights.span(following - timedelta(microseconds=1))
        assert before is None, "two nights never touch"
        if span is None:
            middle = now + (following - now) / 2
            assert nights.span(middle) is None


# ── the system's zone ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_system_zone_is_what_localtime_points_to(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    link.symlink_to("/usr/share/zoneinfo/Asia/Yekaterinburg")
    assert system_zone(None, link).key == "Asia/Yekaterinburg"


def test_a_copied_localtime_without_a_name_is_read_as_a_file(tmp_path: Path) -> None:
    copy = tmp_path / "localtime"
    copy.write_bytes(Path("/usr/share/zoneinfo/Europe/Berlin").read_bytes())
    zone = system_zone(None, copy)
    assert datetime(2026, 7, 1, 12, tzinfo=UTC).astimezone(zone).hour == 14


def test_tz_goes_before_localtime(tmp_path: Path) -> None:
    assert system_zone(":Europe/Moscow", tmp_path / "none").key == "Europe/Moscow"
    assert system_zone("/usr/share/zoneinfo/Europe/Moscow", tmp_path / "none").key == "Europe/Moscow"


def test_without_any_word_of_a_zone_it_is_utc(tmp_path: Path) -> None:
    assert system_zone(None, tmp_path / "none").key == "UTC"
    assert system_zone("", tmp_path / "none").key == "UTC"


def test_a_zone_without_a_name_is_refused_with_the_way_out() -> None:
    with pytest.raises(SettingsInvalid, match="set MONK_TIMEZONE"):
        system_zone("MSK-3")
    with pytest.raises(SettingsInvalid, match="Europe/Moscow"):
        named_zone("Europe/Moskva")


def test_a_calendar_without_a_zone_takes_the_system_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TZ", "Asia/Vladivostok")
    assert Calendar((), ALL_DAYS).zone.key == "Asia/Vladivostok"
