"""Times and durations: what is understood, what is refused, and that showing a time loses nothing."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.model.errors import CallerError
from coordinator.model.times import END_US, parse_duration, parse_rfc3339, parse_when, to_rfc3339

NOW = 1_795_253_400_000_000  # 2026-11-21T09:30:00Z
SECOND = 1_000_000
HOUR = 3_600 * SECOND


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("500ms", 500_000),
        ("10s", 10 * SECOND),
        ("1h", HOUR),
        ("2h30m", 2 * HOUR + 1_800 * SECOND),
        ("1h 30m", HOUR + 1_800 * SECOND),
        ("7d", 168 * HOUR),
        ("1w", 168 * HOUR),
        ("1.5h", HOUR + 1_800 * SECOND),
        ("250us", 250),
        ("3 days", 72 * HOUR),
        ("0s", 0),
        ("PT86400S", 24 * HOUR),
        ("PT1H", HOUR),
        ("P1DT2H3M4.5S", 26 * HOUR + 184_500_000),
        ("P2W", 336 * HOUR),
        ("pt1h", HOUR),
        ("PT0S", 0),
    ],
)
def test_a_duration_is_understood(text: str, us: int) -> None:
    assert parse_duration(text) == us


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "h", "-1h", "1y", "1M", "P", "PT", "P1DT", "P1M", "P1Y", "1h,30m", "1e3s", "²s", "٣s", "1h x"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CallerError, match="is no duration"):
        parse_duration(text)


def test_a_duration_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(CallerError, match="longer than"):
        parse_duration("999999999999d")


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-11-21T09:30:00Z", NOW),
        ("2026-11-21t09:30:00z", NOW),
        ("2026-11-21 09:30:00Z", NOW),
        ("2026-11-21T09:30:00.201Z", NOW + 201_000),
        ("2026-11-21T09:30:00.123456789Z", NOW + 123_456),
        ("2026-11-21T10:30:00+01:00", NOW),
        ("2026-11-21T04:00:00-05:30", NOW),
        ("1970-01-01T00:00:00Z", 0),
        ("2016-12-31T23:59:60Z", 1_483_228_799_000_000),
        ("2h", NOW - 2 * HOUR),
        ("7d", NOW - 168 * HOUR),
        ("PT1H", NOW - HOUR),
    ],
)
def test_a_time_is_understood(text: str, us: int) -> None:
    assert parse_when(text, NOW) == us


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-11-21",
        "2026-11-21T09:30:00",  # where?
        "2026-11-21T09:30Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T09:30:00+24:00",
        "20261121T093000Z",
        "1795253400",
        "",
    ],
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CallerError, match=r"is no time.*2026-11-21T09:30:00Z"):
        parse_when(text, NOW)


@pytest.mark.parametrize(
    "text", ["1969-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00", "99999d", "0000-01-01T00:00:00Z"]
)
def test_a_time_outside_what_can_be_shown_is_refused(text: str) -> None:
    with pytest.raises(CallerError):
        parse_when(text, NOW)


def test_where_only_a_time_is_meant_an_age_is_refused() -> None:
    with pytest.raises(CallerError, match="is no time"):
        parse_rfc3339("2h")


@given(st.integers(0, END_US - 1))
def test_a_shown_time_reads_back_as_itself(us: int) -> None:
    shown = to_rfc3339(us)
    assert len(shown) == len("2026-11-21T09:30:00.000000Z")
    assert parse_when(shown, NOW) == parse_rfc3339(shown) == us


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_an_offset_is_read_as_the_standard_library_reads_it(naive: datetime, minutes: int) -> None:
    at = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_when(at.isoformat(), NOW) == expected


@given(st.text(max_size=40))
def test_any_text_is_either_understood_or_refused(text: str) -> None:
    for parse in (lambda: parse_when(text, NOW), lambda: parse_duration(text)):
        with suppress(CallerError):
            assert 0 <= parse() < END_US
