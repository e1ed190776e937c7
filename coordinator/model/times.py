"""Times and durations as people write them, and as we show them.

Inside, a time is microseconds since the epoch, UTC, and a duration is microseconds. Outside, a time is RFC
3339 or an age (`2h`: two hours before now), a duration is `90s`, `1h 30m` or ISO 8601 (`PT1H30M`, as Restate
writes its retentions). "Now" is always passed in.

A month or a year has no fixed length, so durations stop at weeks.
"""

import re
from datetime import datetime, timedelta
from typing import Final

from coordinator.model.errors import CallerError
from coordinator.model.limits import DAY_US, HOUR_US, SECOND_US

END_US: Final = 253_402_300_800 * SECOND_US
"""The first microsecond that RFC 3339 cannot write any more: the year 10000."""

_UNITS_US: Final = {
    **dict.fromkeys(("us", "µs"), 1),
    "ms": 1_000,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), SECOND_US),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60 * SECOND_US),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), HOUR_US),
    **dict.fromkeys(("d", "day", "days"), DAY_US),
    **dict.fromkeys(("w", "week", "weeks"), 7 * DAY_US),
}
_ISO_UNITS_US: Final = (7 * DAY_US, DAY_US, HOUR_US, 60 * SECOND_US, SECOND_US)

# Bounded digits keep the arithmetic small, whatever is sent.
_NUMBER: Final = r"(\d{1,18})(?:\.(\d{1,9}))?"
_PART: Final = re.compile(rf"\s*{_NUMBER}\s*([a-zµ]+)", re.ASCII)
_ISO: Final = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?", re.ASCII | re.IGNORECASE
)
_RFC_3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1)  # naive on purpose: its isoformat ends where a `Z` belongs
_EXAMPLES: Final = "write RFC 3339 as in 2026-11-21T09:30:00Z, or an age as in 90s, 2h or 7d"


def parse_when(text: str, now_us: int) -> int:
    """A time in RFC 3339, or an age counted back from `now_us`, as microseconds since the epoch.

    Raises CallerError (without a field) when it is neither, or lies outside the years 1970 to 9999.
    """
    age_us = _duration(text)
    if age_us is None:
        return parse_rfc3339(text)
    return _within_calendar(now_us - age_us, text)


def parse_rfc3339(text: str) -> int:
    """A time in RFC 3339, with its offset, as microseconds since the epoch. What lies below one is cut off.

    Raises CallerError (without a field) when it is none, or lies outside the years 1970 to 9999.
    """
    match = _RFC_3339.fullmatch(text.strip())
    if match is None:
        raise CallerError(f"{_shown(text)} is no time; {_EXAMPLES}")
    return _within_calendar(_from_rfc3339(match, text), text)


def parse_duration(text: str) -> int:
    """A duration as microseconds: `500ms`, `1h`, `1h 30m`, or ISO 8601 as in `PT86400S`.

    Raises CallerError (without a field) when it is none, or longer than eight thousand years.
    """
    duration_us = _duration(text)
    if duration_us is None:
        raise CallerError(f"{_shown(text)} is no duration; write one as in 500ms, 10s, 1h or PT1H30M")
    if duration_us >= END_US:
        raise CallerError(f"{_shown(text)} is longer than eight thousand years")
    return duration_us


def to_rfc3339(at_us: int) -> str:
    """Microseconds since the epoch as `2026-11-21T09:30:00.000000Z`. They must lie before the year 10000."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds") + "Z"


def _within_calendar(at_us: int, text: str) -> int:
    if not 0 <= at_us < END_US:
        raise CallerError(f"{_shown(text)} lies outside the years 1970 to 9999")
    return at_us


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _duration(text: str) -> int | None:
    stripped = text.strip()
    return _iso(stripped) if stripped[:1] in ("P", "p") else _units(stripped)


def _iso(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None or text[-1] in "PpTt":
        return None
    groups = match.groups()
    parts = zip(groups[::2], groups[1::2], _ISO_UNITS_US, strict=True)
    return sum(_amount(whole, fraction, unit_us) for whole, fraction, unit_us in parts if whole is not None)


def _units(text: str) -> int | None:
    total, at = 0, 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None or match[3] not in _UNITS_US:
            return None
        total += _amount(match[1], match[2], _UNITS_US[match[3]])
        at = match.end()
    return total if at else None


def _amount(whole: str, fraction: str | None, unit_us: int) -> int:
    """Exact: what lies below a microsecond is cut off."""
    amount_us = int(whole) * unit_us
    return amount_us if fraction is None else amount_us + int(fraction) * unit_us // 10 ** len(fraction)


def _from_rfc3339(match: re.Match[str], text: str) -> int:
    year, month, day, hour, minute, second = (int(match[number]) for number in range(1, 7))
    leap = second == 60  # RFC 3339 has leap seconds, the epoch has none: the last second of the minute stands for it
    try:
        at = datetime(year, month, day, hour, minute, second - leap)
    except ValueError as error:
        raise CallerError(f"{_shown(text)} is no time: {error}; {_EXAMPLES}") from None
    fraction_us = int((match[7] or "").ljust(6, "0")[:6])
    offset_us = 0
    if match[9] is not None:
        if int(match[10]) > 23 or int(match[11]) > 59:
            raise CallerError(f"{_shown(text)} is no time: its offset exceeds 23:59; {_EXAMPLES}")
        offset_us = (int(match[10]) * 60 + int(match[11])) * 60 * SECOND_US
        offset_us = -offset_us if match[9] == "-" else offset_us
    return (at - _EPOCH) // timedelta(microseconds=1) + fraction_us - offset_us
