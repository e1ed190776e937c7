"""Timers: scheduled starts, retries and retention, of single rows and of slices that were ended together."""

from __future__ import annotations

import pytest

from coordinator.model.filters import Filter
from coordinator.model.messages import Act
from tests.partition.world import SECOND, World

ALL = Filter(all=True)


def standing_alone(world: World, retentions: list[int]) -> list[str]:
    """Scheduled invocations, which concern nobody else: a batch ends them by a set-based statement."""
    return [world.invoke(due_at=world.now + 3_600 * SECOND, retention=retention) for retention in retentions]


def test_nothing_fires_but_in_ticks() -> None:
    world = World()
    id = world.invoke(due_at=world.now + SECOND)
    world.append(Act(action="count", id=id), after=10 * SECOND)
    assert world.status(id) == "scheduled"
    world.tick()
    assert world.status(id) == "ready"


def test_a_timer_that_is_due_and_has_not_fired_has_not_happened() -> None:
    world = World()
    id = world.invoke(due_at=world.now + SECOND)
    world.now += 10 * SECOND
    world.batch("r1", "kill", Filter(all=True, status=("scheduled",)))
    world.tick()
    assert (world.status(id), world.row(id).attempt) == ("killed", 0)


def test_one_that_ended_before_its_start_never_starts() -> None:
    world = World()
    id = world.invoke(due_at=world.now + SECOND)
    world.act("cancel", id)
    world.tick(after=SECOND)
    assert (world.status(id), world.row(id).attempt) == ("cancelled", 0)


def test_a_single_row_expires_when_its_retention_is_over() -> None:
    world = World()
    id = world.invoke(retention=10 * SECOND)
    world.complete(id)
    world.tick(after=10 * SECOND - 1)
    assert world.status(id) == "success"
    world.tick(after=1)
    assert world.find(id) is None


def test_a_retention_of_nothing_expires_at_the_next_tick() -> None:
    world = World()
    id = world.invoke(retention=0)
    world.complete(id)
    assert world.status(id) == "success"
    world.tick()
    assert world.find(id) is None


def test_a_slice_that_was_ended_together_expires_row_by_row_as_each_is_due() -> None:
    world = World()
    ids = standing_alone(world, [5 * SECOND, 1 * SECOND, 9 * SECOND, 1 * SECOND])
    world.batch("r1", "kill", ALL)
    world.tick()
    assert {world.status(id) for id in ids} == {"killed"}
    left = []
    for _ in range(10):
        world.tick_until_idle()
        left.append([world.find(id) is not None for id in ids])
        world.now += SECOND
    assert left[0] == [True, True, True, True]
    assert left[1] == left[4] == [True, False, True, False]
    assert left[5] == left[8] == [False, False, True, False]
    assert left[9] == [False, False, False, False]


@pytest.mark.parametrize("timers", [1, 2, 3])
def test_a_slice_expires_within_the_quota_of_each_tick(timers: int) -> None:
    world = World()
    ids = standing_alone(world, [SECOND] * 7)
    world.batch("r1", "kill", ALL)
    world.tick()
    world.tick(after=SECOND, timers=timers)
    assert sum(world.find(id) is None for id in ids) == timers
    world.tick_until_idle(timers=timers)
    assert not any(world.find(id) for id in ids)


def test_a_slice_spares_what_came_between() -> None:
    world = World()
    (first,) = standing_alone(world, [SECOND])
    running = world.invoke(retention=SECOND)
    (last,) = standing_alone(world, [SECOND])
    world.batch("r1", "kill", Filter(all=True, status=("scheduled",)))
    world.tick()
    world.tick(after=10 * SECOND)
    world.tick_until_idle()
    assert [world.status(id) for id in (first, running, last)] == [None, "ready", None]


def test_the_retention_of_rows_that_a_batch_ended_counts_from_the_batch() -> None:
    world = World()
    (alone,) = standing_alone(world, [10 * SECOND])
    tied = world.invoke(retention=10 * SECOND)
    world.batch("r1", "kill", ALL)
    world.tick(after=9 * SECOND)
    assert [world.status(id) for id in (alone, tied)] == ["killed", "killed"]
    world.tick(after=SECOND)
    world.tick_until_idle()
    assert [world.find(id) for id in (alone, tied)] == [None, None]


def test_a_count_in_force_counts_a_row_before_it_expires() -> None:
    world = World()
    id = world.in_status("completed", retention=SECOND)
    world.batch("r1", "count", ALL, paused=True)
    world.tick(after=SECOND)
    assert world.find(id) is None
    assert world.counts("r1") == {"matched": 1, "applied": 1}
