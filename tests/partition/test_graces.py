"""The grace of a cancel: what has not ended when it is over is killed, on the cancel's account."""

from __future__ import annotations

import pytest

from coordinator.model import limits, messages
from coordinator.model.filters import Filter
from coordinator.model.journal import Call, Step, StepKind
from tests.partition.world import SECOND, World
from tests.simulation.cluster import Bounds, bounded

GRACE = 30 * SECOND
CHILD = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick"))
ALL = Filter(all=True)


def cancelled(world: World, count: int = 1, *, scanned: bool = True) -> list[str]:
    """Running invocations that a batch with a grace has asked to cancel."""
    ids = [world.in_status("running") for _ in range(count)]
    world.batch("c", "cancel", Filter(service="Greeter"), grace=GRACE)
    if scanned:
        world.tick_until_idle()
    return ids


def test_what_has_not_ended_by_then_is_killed_and_counted_as_ended() -> None:
    world = World()
    slow, quick = cancelled(world, 2)
    world.complete(quick, "cancelled")
    world.tick(after=GRACE - 1)
    assert (world.status(slow), world.counts("c")) == ("running", {"matched": 2, "ended": 1, "signalled": 1})
    world.tick(after=1)
    assert (world.status(slow), world.counts("c")) == ("killed", {"matched": 2, "ended": 2})


def test_the_partition_asks_for_a_tick_when_it_is_over_and_for_none_when_nothing_is_left() -> None:
    world = World()
    slow, other = cancelled(world, 2)
    world.tick(after=SECOND)  # tells its progress
    machine = world.partitions[0].machine
    due = world.now - SECOND + GRACE
    assert world.wanted_at() == due
    world.complete(slow, "cancelled")
    world.complete(other, "success")
    world.tick(after=SECOND)
    assert machine.batches["c"].kill is None
    assert world.wanted_at() != due


def test_it_is_in_force_at_the_tick_that_finds_it_over_whether_or_not_it_has_scanned() -> None:
    world = World()
    first, second = cancelled(world, 2)
    world.tick(after=GRACE, single=1)
    assert [world.status(first), world.status(second)] == ["killed", "running"]
    assert world.seen(second) == "killed"
    world.complete(second)  # too late: it finds it killed
    assert world.status(second) == "killed"
    assert world.counts("c") == {"matched": 2, "ended": 2}


def test_a_row_that_the_cancel_had_not_come_to_meets_both_in_order() -> None:
    world = World()
    [id] = cancelled(world, scanned=False)
    world.append(messages.Control(request="c", revision=1, paused=True), to=0)
    world.tick(after=GRACE)
    assert (world.status(id), world.seen(id)) == ("running", "killed")
    assert world.counts("c") == {}
    world.act("count", id)
    assert (world.status(id), world.counts("c")) == ("killed", {"matched": 1, "ended": 1})


def test_its_scan_follows_the_cancels_so_that_a_rate_holds_for_both() -> None:
    world = World()
    ids = [world.in_status("running") for _ in range(5)]
    world.batch("c", "cancel", ALL, grace=0, rate=1)
    world.tick()
    world.tick(after=SECOND)
    assert [world.status(id) for id in ids] == ["killed", *["running"] * 4]
    assert {world.seen(id) for id in ids} == {"killed"}
    assert world.counts("c") == {"matched": 1, "ended": 1}
    world.append(messages.Control(request="c", revision=1), to=0)  # without the rate
    world.tick_until_idle()
    assert world.counts("c") == {"matched": 5, "ended": 5}


def test_a_pause_that_comes_after_the_cancels_scan_does_not_hold_it() -> None:
    world = World()
    first, second = cancelled(world, 2)
    world.tick(after=GRACE, single=1)
    world.append(messages.Control(request="c", revision=1, paused=True), to=0)
    world.tick_until_idle()
    assert [world.status(first), world.status(second)] == ["killed", "killed"]


def test_a_sleeper_whose_time_comes_at_that_tick_does_not_wake() -> None:
    world = World()
    [id] = cancelled(world)
    world.back_off(id, GRACE)
    world.tick(after=GRACE)
    assert world.status(id) == "killed"


def test_what_the_cancel_has_not_asked_is_left_alone() -> None:
    world = World()
    before = world.in_status("running")
    world.act("cancel", before)
    [mine] = cancelled(world)
    other, late = world.in_status("running", service="Other"), world.in_status("running")
    world.tick(after=GRACE)
    world.tick_until_idle()
    assert [world.seen(id) for id in (mine, before, other, late)] == ["killed", "running", "running", "running"]
    assert world.counts("c") == {"matched": 2, "ended": 1, "already_signalled": 1}


def test_its_children_are_killed_too_and_are_on_the_cancels_account() -> None:
    world = World(3)
    parent = world.in_status("running")
    [child] = world.call(parent, CHILD)
    world.arrive()
    world.run(child)
    for number in range(3):
        world.batch("c", "cancel", Filter(ids=(parent,)), to=number, grace=GRACE)
    world.settle()
    assert world.status(child) == "running"
    world.now += GRACE
    world.settle()
    assert [world.status(parent), world.status(child)] == ["killed", "killed"]
    batches = [partition.machine.batches["c"] for partition in world.partitions]
    assert sum(batch.propagated for batch in batches) == 1
    assert sum(batch.tally.ended for batch in batches) == 1
    sent = sum(sum(batch.sent.values()) for batch in batches)
    assert sent == sum(sum(batch.received.values()) for batch in batches) == 2


@pytest.mark.parametrize("late", [False, True], ids=["before it is over", "while it is worked off"])
def test_an_abort_calls_it_off(late: bool) -> None:
    world = World()
    first, second = cancelled(world, 2)
    assert world.told("c").awaits_grace
    if late:
        world.tick(after=GRACE, single=1)
    world.append(messages.Control(request="c", revision=1, aborted=True), to=0)
    assert not world.told("c").awaits_grace
    world.tick(after=GRACE)
    assert [world.seen(first), world.seen(second)] == ["killed" if late else "running", "running"]
    assert world.told("c").state == "completed"


def test_progress_says_whether_it_is_awaited() -> None:
    world = World()
    [id] = cancelled(world)
    assert (world.told("c").state, world.told("c").awaits_grace) == ("completed", True)
    world.complete(id, "cancelled")
    world.tick(after=SECOND)
    assert not world.told("c").awaits_grace


def test_it_begins_with_the_commit_of_a_guarded_cancel() -> None:
    world = World()
    id = world.in_status("running")
    world.batch("c", "cancel", ALL, guarded=True, grace=GRACE)
    world.tick_until_idle()
    world.tick(after=2 * GRACE)
    world.append(messages.Commit(request="c", not_after=world.now), to=0)
    world.tick_until_idle()
    world.tick(after=GRACE - 1)
    assert world.status(id) == "running"
    world.tick(after=1)
    assert (world.status(id), world.counts("c")) == ("killed", {"matched": 1, "ended": 1})


def test_two_that_are_over_at_once_take_a_tick_each() -> None:
    world = World()
    ids = [world.in_status("running") for _ in range(2)]
    for id in ids:
        world.batch(id, "cancel", Filter(ids=(id,)), grace=GRACE)
    world.tick_until_idle()
    world.tick(after=GRACE)
    assert [world.status(id) for id in ids] == ["killed", "running"]
    world.tick_until_idle()
    assert [world.status(id) for id in ids] == ["killed", "killed"]
    assert [world.counts(id) for id in ids] == [{"matched": 1, "ended": 1}] * 2


def test_it_waits_for_room_among_the_pending() -> None:
    world = World()
    [id] = cancelled(world)
    with bounded(Bounds(pending=1)):
        world.batch("other", "pause", Filter(service="Nobody"), paused=True)
        world.tick(after=GRACE)
        assert world.seen(id) == "running"
        world.append(messages.Control(request="other", revision=1, aborted=True), to=0)
        world.tick_until_idle()
    assert world.status(id) == "killed"


@pytest.mark.parametrize("half_done", [False, True])
def test_it_survives_a_restart(half_done: bool) -> None:
    world = World()
    ids = cancelled(world, 2)
    if half_done:
        world.tick(after=GRACE, single=1)
    world.partitions[0].restart()
    world.now += GRACE
    world.tick_until_idle()
    assert [world.status(id) for id in ids] == ["killed", "killed"]
    assert world.counts("c") == {"matched": 2, "ended": 2}


def test_a_cancel_is_not_forgotten_while_its_kill_is_in_force() -> None:
    world = World()
    slow, other = [world.in_status("running") for _ in range(2)]
    world.act("cancel", other)  # so it is not for this cancel's grace to kill it, but for its scan to see that
    world.batch("c", "cancel", Filter(service="Greeter"), grace=GRACE)
    world.tick_until_idle()
    machine = world.partitions[0].machine
    world.tick(after=limits.NOT_AFTER_US + limits.REMEMBERED_US + limits.RETENTION_DEFAULT_US, single=1)
    assert world.status(slow) == "killed"
    assert [pending.state.request for pending in machine.pending] == ["c"]
    assert "c" in machine.batches


def test_a_dry_run_has_none() -> None:
    world = World()
    id = world.in_status("running")
    world.batch("c", "cancel", ALL, dry_run=True, grace=0)
    world.tick_until_idle()
    assert world.status(id) == "running"
    assert not world.told("c").awaits_grace


@pytest.mark.parametrize(("action", "grace"), [("kill", SECOND), ("cancel", limits.GRACE_MAX_US + 1)])
def test_what_cannot_be_meant_is_refused(action: str, grace: int) -> None:
    world = World()
    answer = world.batch("c", action, ALL, grace=grace)
    assert (answer.code, answer.detail) == (409, "only a cancel has a grace, of seven days at most")
