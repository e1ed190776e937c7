"""Ticks: numbered, bounded, and wanted only when there is something to do."""

from __future__ import annotations

import pytest

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.messages import Control, Tick
from coordinator.partition import ticks
from tests.partition.world import SECOND, World
from tests.simulation.cluster import Bounds, bounded

ALL = Filter(all=True)


@pytest.mark.parametrize("number", [0, 1, 3, 1_000])
def test_a_tick_that_is_not_the_next_does_nothing(number: int) -> None:
    world = World()
    id = world.invoke()
    world.tick()
    world.batch("r1", "kill", ALL)
    world.append(Tick(tick=number))
    assert world.status(id) == "ready"
    assert world.partitions[0].machine.state.tick == 1
    assert not world.last


def test_the_next_tick_does_work() -> None:
    world = World()
    id = world.invoke()
    world.tick()
    world.batch("r1", "kill", ALL)
    world.append(Tick(tick=2))
    assert world.status(id) == "killed"


def test_a_repeated_tick_does_its_work_once() -> None:
    world = World()
    for _ in range(4):
        world.invoke()
    world.batch("r1", "kill", ALL)
    for _ in range(3):
        world.append(Tick(tick=1, sweep=1, single=1))
    assert world.counts("r1") == {"matched": 1, "ended": 1}


def test_sizes_are_clamped_from_below_so_that_every_tick_gets_on() -> None:
    world = World()
    world.invoke(due_at=world.now + 1)
    id = world.in_status("suspended")
    world.batch("r1", "kill", Filter(ids=(id,)))
    world.append(Tick(tick=1, sweep=0, single=0, timers=0, work=0), after=1)
    assert world.status(id) == "killed"
    assert len(world.deliveries()) == 1


def test_sizes_are_clamped_from_above() -> None:
    world = World()
    for number in range(limits.TICK_SINGLE_MAX + 10):
        world.invoke("Greeter" if number % 2 else "Namer")
    world.batch("r1", "kill", ALL, rate=1_000_000)  # a rate takes the single path
    world.tick(after=10 * SECOND, single=1_000_000, sweep=1_000_000)
    assert world.counts("r1")["matched"] == limits.TICK_SINGLE_MAX


@pytest.mark.parametrize("sweep", [1, 2, 5])
def test_a_tick_sweeps_no_more_candidates_than_its_quota(sweep: int) -> None:
    world = World()
    # So that none is held: they stand alone.
    world.partitions[0].machine.state.held = {"Greeter": limits.DELIVERIES_MAX}
    world.partitions[0].held = limits.DELIVERIES_MAX
    for _ in range(12):
        world.invoke()
    world.batch("r1", "kill", ALL)
    world.tick(sweep=sweep)
    assert world.counts("r1")["matched"] == sweep


@pytest.mark.parametrize("single", [1, 2, 5])
def test_a_tick_catches_up_no_more_tied_rows_than_its_quota(single: int) -> None:
    world = World()
    for _ in range(12):
        world.invoke()
    world.batch("r1", "kill", ALL)
    world.tick(single=single)
    assert world.counts("r1")["matched"] == single


def test_timers_have_a_quota_of_their_own() -> None:
    world = World()
    ids = [world.invoke(due_at=world.now + 1) for _ in range(6)]
    world.tick(after=SECOND, timers=2)
    assert [world.status(id) for id in ids].count("ready") == 2
    world.tick_until_idle(timers=2)
    assert {world.status(id) for id in ids} == {"ready"}


def test_a_full_tick_of_due_timers_leaves_scans_their_own_quota() -> None:
    world = World()
    for _ in range(3):
        world.invoke(due_at=world.now + 1)
    id = world.in_status("suspended")
    world.batch("r1", "kill", Filter(ids=(id,)))
    world.tick(after=SECOND, timers=1, work=1, single=1)
    assert world.status(id) == "killed"


def test_progress_is_told_at_most_twice_a_second_and_the_end_at_once() -> None:
    world = World()
    for _ in range(10):
        world.invoke()
    world.batch("r1", "kill", ALL)
    told = [world.told("r1").number]
    for _ in range(9):
        world.tick(single=1, after=SECOND // 10)
        told.append(world.told("r1").number)
    assert told[-1] - told[0] == 1
    assert world.told("r1").state == "running"
    world.tick_until_idle()
    assert world.told("r1").state == "completed"


def test_more_batches_than_one_tick_may_tell_of_are_told_in_the_next_ones() -> None:
    world = World()
    count = 3 * limits.PENDING_BATCHES_MAX
    running = [world.in_status("running") for _ in range(count)]
    for number, id in enumerate(running):
        world.batch(f"r{number}", "cancel", Filter(ids=(id,)))
        world.tick_until_idle()
    for id in running:
        world.complete(id, "cancelled")
    world.now += SECOND
    for _ in range(3):
        world.tick(sweep=1, single=1, timers=1, work=1)
        assert len(world.last) <= limits.PENDING_BATCHES_MAX
    assert {world.told(f"r{number}").tally.ended for number in range(count)} == {1}


def test_no_tick_is_wanted_when_nothing_waits_for_one() -> None:
    world = World()
    world.invoke()
    assert not ticks.wanted(world.partitions[0].machine, world.now)
    assert ticks.next_due(world.partitions[0].machine, world.now) is None


def test_a_tick_is_wanted_when_the_first_timer_is_due() -> None:
    world = World()
    world.invoke(due_at=world.now + SECOND)
    machine = world.partitions[0].machine
    assert ticks.next_due(machine, world.now) == world.now + SECOND
    assert not ticks.wanted(machine, world.now)
    assert ticks.wanted(machine, world.now + SECOND)


def test_a_tick_is_wanted_at_once_for_a_batch_and_not_for_a_paused_one() -> None:
    world = World()
    world.invoke()
    world.batch("r1", "kill", ALL)
    assert ticks.wanted(world.partitions[0].machine, world.now)
    world.append(Control(request="r1", revision=1, paused=True))
    assert not ticks.wanted(world.partitions[0].machine, world.now)


def test_a_tick_is_wanted_for_stored_work() -> None:
    with bounded(Bounds(rows_per_record=4)):
        world = World()
        first = world.invoke("Cart", key="a")
        for _ in range(10):
            world.invoke("Cart", key="a")
        world.batch("r1", "kill", Filter(service="Cart", status=("pending",)), paused=True)
        world.complete(first)
        assert world.partitions[0].machine.state.works == 1
        assert ticks.wanted(world.partitions[0].machine, world.now)
        world.tick_until_idle()
        assert world.partitions[0].machine.state.works == 0


def test_time_never_runs_backwards_for_the_partition() -> None:
    world = World()
    id = world.invoke(due_at=world.now + 10 * SECOND)
    world.tick(after=10 * SECOND)
    assert world.status(id) == "ready"
    world.append(Tick(tick=2), after=-20 * SECOND)
    assert world.partitions[0].machine.now == world.now + 20 * SECOND
