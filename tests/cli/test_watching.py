"""What is told of a batch's progress, and how long it may still take."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from coordinator.cli.tables import age
from coordinator.cli.watching import TimeLeft, clock, counts, duration, fraction, grace
from coordinator.client import PartitionProgress, Progress


def running(**fields: object) -> Progress:
    return Progress(id="b", state="running", **fields)  # type: ignore[arg-type]


def ticking(*times: float) -> TimeLeft:
    times_left: Iterator[float] = iter(times)
    return TimeLeft(lambda: next(times_left))


def test_counts_that_are_zero_are_not_told() -> None:
    assert counts(running()) == "0 matched"
    told = counts(running(matched=2000, ended=1200, signalled=800, propagated=3))
    assert told == "2,000 matched, 1,200 ended, 800 asked to end and still at it, 3 descendants ended"
    assert counts(running(propagated=1)).endswith("1 descendant ended")


def test_what_a_grace_is_still_to_kill_is_told() -> None:
    waiting = Progress(id="b", state="completed", grace_s=90.0, awaits_grace=True)
    assert grace(waiting) == "; what has not ended after 90s is killed"
    assert grace(Progress(id="b", state="completed", grace_s=90.0)) == ""


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.5, "0.5s"), (0, "0s"), (45, "45s"), (90, "90s"), (300, "5m"), (7200, "2h"), (86400, "1d")]
)
def test_durations_are_shown_as_one_asks_for_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_where_what_remains_is_counted_it_tells_the_time_left() -> None:
    assert ticking(0.0).seconds(running(remaining=300, rate_per_s=100.0)) == 3.0


def test_otherwise_the_speed_of_the_cursors_does() -> None:
    left = ticking(10.0, 12.0, 14.0)
    assert left.seconds(running(progress_fraction=0.5)) is None
    assert left.seconds(running(progress_fraction=0.6)) == pytest.approx(8.0)
    assert left.seconds(running(progress_fraction=1.0)) == 0.0


def test_a_batch_that_stood_still_is_timed_anew() -> None:
    left = ticking(0.0, 100.0, 101.0)
    left.seconds(running(progress_fraction=0.1))
    assert left.seconds(Progress(id="b", state="paused", progress_fraction=0.2)) is None
    assert left.seconds(running(progress_fraction=0.2)) is None
    assert left.seconds(running(progress_fraction=0.6)) == pytest.approx(1.0)


def test_how_much_is_decided_is_the_mean_over_the_partitions_where_it_is_not_told() -> None:
    shares = [PartitionProgress(partition=0, cursor_fraction=1.0), PartitionProgress(partition=1)]
    assert fraction(running(partitions=shares)) == 0.5
    assert fraction(running()) == 0.0


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3:20"), (3723, "1:02:03")])
def test_times_left_are_short(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        ("2026-11-21T09:30:00.500000Z", "now"),
        ("2026-11-21T09:29:48.000000Z", "13s"),
        ("2026-11-21T06:30:00.000000Z", "3h"),
        ("2026-11-14T06:30:00.000000Z", "7d"),
        ("", ""),
    ],
)
def test_ages_are_short(since: str, shown: str) -> None:
    assert age(since, datetime(2026, 11, 21, 9, 30, 1, tzinfo=UTC)) == shown
