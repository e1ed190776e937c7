"""Keys of virtual objects: one holder at a time, the others wait in order of arrival."""

from __future__ import annotations

import pytest

from coordinator.model.filters import Filter
from coordinator.model.invocation import KEY
from tests.partition.world import SECOND, World
from tests.simulation.cluster import Bounds, bounded


def test_the_first_holds_the_key_and_the_others_wait() -> None:
    world = World()
    ids = [world.invoke("Cart", key="a") for _ in range(3)]
    assert [world.status(id) for id in ids] == ["ready", "pending", "pending"]
    assert [bool(world.row(id).ties & KEY) for id in ids] == [True, False, False]


@pytest.mark.parametrize("end", ["complete", "kill"])
def test_the_key_goes_to_the_first_that_waits(end: str) -> None:
    world = World()
    ids = [world.invoke("Cart", key="a") for _ in range(3)]
    if end == "complete":
        world.complete(ids[0])
    else:
        world.act("kill", ids[0])
    assert [world.status(id) for id in ids][1:] == ["ready", "pending"]


def test_a_key_is_free_when_nobody_is_left() -> None:
    world = World()
    world.complete(world.invoke("Cart", key="a"))
    assert world.partitions[0].store.holder("Cart", "a") is None
    assert world.status(world.invoke("Cart", key="a")) == "ready"


def test_a_retry_a_suspension_and_a_pause_keep_the_key() -> None:
    world = World()
    id = world.invoke("Cart", key="a")
    waiter = world.invoke("Cart", key="a")
    world.back_off(id)
    world.tick(after=SECOND)
    world.suspend(id)
    world.act("pause", id)
    assert world.status(waiter) == "pending"
    world.act("kill", id)
    assert world.status(waiter) == "ready"


def test_different_keys_and_different_services_do_not_wait_for_each_other() -> None:
    world = World()
    ids = [world.invoke("Cart", key="a"), world.invoke("Cart", key="b"), world.invoke("Room", key="a")]
    assert [world.status(id) for id in ids] == ["ready"] * 3


def test_a_shared_handler_and_a_workflow_need_no_turn() -> None:
    world = World()
    world.invoke("Cart", key="a")
    assert world.status(world.invoke("Cart", "get", key="a", shared=True)) == "ready"
    assert world.status(world.invoke("Flow", "run", key="a", type=2)) == "ready"


def test_a_scheduled_one_joins_the_queue_when_it_is_due() -> None:
    world = World()
    later = world.invoke("Cart", key="a", due_at=world.now + SECOND)
    holder = world.invoke("Cart", key="a")
    world.tick(after=SECOND)
    assert (world.status(holder), world.status(later)) == ("ready", "pending")
    world.complete(holder)
    assert world.status(later) == "ready"


def test_a_cancelled_waiter_is_passed_over() -> None:
    world = World()
    holder, first, second = (world.invoke("Cart", key="a") for _ in range(3))
    world.act("cancel", first)
    world.complete(holder)
    assert (world.status(first), world.status(second)) == ("cancelled", "ready")


def test_the_key_stays_locked_while_it_is_handed_on_and_newcomers_queue() -> None:
    with bounded(Bounds(rows_per_record=4)):
        world = World()
        holder = world.invoke("Cart", key="a")
        dead = [world.invoke("Cart", key="a") for _ in range(20)]
        live = world.invoke("Cart", key="a")
        world.batch("r1", "kill", Filter(ids=tuple(dead)), paused=True)
        world.complete(holder)
        newcomer = world.invoke("Cart", key="a")
        assert (world.status(live), world.status(newcomer)) == ("pending", "pending")
        assert world.partitions[0].store.holder("Cart", "a") == 0
        world.tick_until_idle(work=3)
        assert {world.status(id) for id in dead} == {"killed"}
        assert (world.status(live), world.status(newcomer)) == ("ready", "pending")


def test_waiters_of_a_batch_in_force_are_never_started_though_no_tick_has_come() -> None:
    world = World()
    holder, waiter, other = (world.invoke("Cart", key="a") for _ in range(3))
    world.batch("r1", "kill", Filter(ids=(waiter,)), paused=True)
    world.complete(holder)
    assert [delivery.id for delivery in world.deliveries()][-1:] == [other]
    assert (world.status(waiter), world.row(waiter).attempt) == ("killed", 0)


def test_a_batch_is_not_completed_before_the_keys_it_freed_are_handed_on() -> None:
    world = World()
    ids = [world.invoke("Cart", key="a") for _ in range(40)]
    world.batch("r1", "kill", Filter(ids=tuple(ids[:-1])))
    states = []
    while world.told("r1").state != "completed":
        world.tick(work=1, single=10)
        states.append((world.partitions[0].machine.state.works, world.told("r1").state))
    assert any(works for works, _ in states)
    assert world.status(ids[-1]) == "ready"
