"""Filters that name another batch: what it has killed, and what it has counted as failed."""

from __future__ import annotations

import pytest

from coordinator.model import messages
from coordinator.model.filters import Filter
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.statuses import Action
from tests.partition.world import SECOND, World

RESTART = Action.RESTART_AS_NEW
CHILD = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick"))


def counted(world: World, **names: str) -> int:
    """How many a filter matches, by a batch of its own."""
    request = f"count {names} {world.now}"
    world.now += SECOND
    world.batch(request, "count", Filter(**names))
    world.settle()
    return world.counts(request).get("matched", 0)


def test_exactly_what_a_batch_has_killed_itself_is_matched() -> None:
    world = World()
    mine = world.in_status("running", input=b"in")
    [child] = world.call(mine, CHILD)
    world.arrive()
    singly, before, cancelled = world.invoke(), world.invoke(), world.in_status("scheduled")
    world.act("kill", singly)
    world.batch("other", "kill", Filter(ids=(before,)))
    world.batch("c", "cancel", Filter(ids=(cancelled,)))
    world.settle()
    world.batch("k", "kill", Filter(service="Greeter"))
    world.settle()
    assert world.status(child) == "killed"
    assert [counted(world, killed_by=name) for name in ("k", "other", "c", "nobody's")] == [1, 1, 0, 0]
    world.batch("r", RESTART, Filter(killed_by="k"))
    world.settle()
    assert world.counts("r") == {"matched": 1, "applied": 1}
    assert world.partitions[0].store.payload(world.row(mine).seq).restarted_as is not None


def test_asking_again_restarts_again_because_the_old_ones_still_name_the_batch() -> None:
    world = World()
    world.invoke()
    world.batch("k", "kill", Filter(all=True))
    world.settle()
    for n in range(2):
        world.batch(f"r{n}", RESTART, Filter(killed_by="k"))
        world.settle()
        assert world.counts(f"r{n}") == {"matched": 1, "applied": 1}


def test_a_kill_that_is_still_pending_counts_as_well() -> None:
    world = World()
    world.invoke()
    world.batch("k", "kill", Filter(all=True), paused=True)
    assert counted(world, killed_by="k") == 1


def test_what_a_grace_has_killed_is_killed_by_its_cancel() -> None:
    world = World()
    world.in_status("running")
    world.in_status("scheduled")  # ends at once, as cancelled
    world.batch("c", "cancel", Filter(all=True), grace=SECOND)
    world.settle()
    world.now += SECOND
    world.settle()
    assert world.counts("c") == {"matched": 2, "ended": 2}
    assert counted(world, killed_by="c") == 1


def test_what_a_guarded_kill_has_killed_is_found_by_its_commit() -> None:
    world = World()
    world.invoke()
    world.batch("k", "kill", Filter(all=True), guarded=True)
    world.settle()
    world.append(messages.Commit(request="k", not_after=world.now), to=0)
    world.settle()
    assert counted(world, killed_by="k") == 1


def test_conditions_are_anded() -> None:
    world = World()
    world.invoke()
    world.invoke("Other")
    world.batch("k", "kill", Filter(all=True))
    world.settle()
    assert counted(world, killed_by="k", service="Other") == 1
    assert counted(world, killed_by="k", service="Nobody") == 0


def test_a_descendant_names_the_batch_that_ended_it_through_its_parent_apart_from_others() -> None:
    world = World()
    parent = world.in_status("running")
    [child] = world.call(parent, CHILD)
    world.arrive()
    world.batch("k", "kill", Filter(ids=(parent,)))
    world.settle()
    position = world.partitions[0].machine.batches["k"].position
    assert (world.row(parent).batch, world.row(parent).cancel_batch) == (position, None)
    assert (world.row(child).batch, world.row(child).cancel_batch) == (None, position)


@pytest.mark.parametrize("guarded", [False, True])
def test_exactly_what_failed_is_matched(guarded: bool) -> None:
    world = World()
    failed = world.import_row("completed")
    world.import_row("running")
    done = world.invoke()
    world.complete(done)
    world.batch("r", RESTART, Filter(all=True), guarded=guarded)
    world.settle()
    if guarded:
        world.append(messages.Commit(request="r", not_after=world.now), to=0)
        world.settle()
    assert world.counts("r") == {"matched": 2, "applied": 1, "failed": 1}
    assert counted(world, failed_of="r") == 1
    world.batch("p", "purge", Filter(failed_of="r"))
    world.settle()
    assert (world.find(failed), world.status(done)) == (None, "success")


def test_a_batch_that_is_not_over_has_not_failed_yet() -> None:
    world = World()
    world.import_row("completed")
    world.batch("r", RESTART, Filter(all=True), paused=True)
    assert counted(world, failed_of="r") == 0


def test_a_dry_run_fails_nothing() -> None:
    world = World()
    world.import_row("completed")
    world.batch("r", RESTART, Filter(all=True), dry_run=True)
    world.settle()
    assert counted(world, failed_of="r") == 0
