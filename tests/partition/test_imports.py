"""Imports: rows of another system taken over as they stand, in any order."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.model.invocation import CHILDREN, KEY, PARENT
from coordinator.model.messages import Act, Import, ImportEnd
from coordinator.model.statuses import NAMES
from tests.partition.world import SECOND, World, keyed, unkeyed
from tests.simulation.cluster import Bounds, bounded


@pytest.mark.parametrize("status", NAMES.values())
def test_a_row_is_stored_in_its_status(status: str) -> None:
    world = World()
    key = "a" if status == "pending" else None
    id = world.import_row(status, key=key)
    assert NAMES_OF[status] == world.status(id)


NAMES_OF = {status: status for status in NAMES.values()} | {"completed": "success"}


@pytest.mark.parametrize("status", ["ready", "running"])
def test_what_ran_elsewhere_is_started_here(status: str) -> None:
    world = World()
    id = world.import_row(status)
    assert [delivery.id for delivery in world.deliveries()] == [id]
    world.run(id)
    assert world.status(id) == "running"
    world.complete(id)
    assert world.status(id) == "success"


def test_one_that_is_there_is_left_alone() -> None:
    world = World()
    id = world.in_status("suspended")
    before = world.row(id)
    answer = world.answer(
        Import(id=id, service="Other", handler="x", status="completed", outcome="killed", created_at=1, modified_at=1)
    )
    assert (answer.code, answer.status) == (200, "existing")
    assert world.row(id) == before


def test_times_are_kept_and_timers_go_on() -> None:
    world = World()
    old = world.now - 100 * SECOND
    fields: dict[str, Any] = {"created_at": old, "modified_at": old + 1}
    scheduled = world.import_row("scheduled", due_at=world.now + SECOND, **fields)
    retry = world.import_row("backing-off", due_at=world.now + 2 * SECOND, **fields)
    ended = world.import_row("completed", completed_at=old, retention=103 * SECOND, **fields)
    assert (world.row(retry).created_at, world.row(retry).modified_at) == (old, old + 1)
    statuses = []
    for _ in range(3):
        world.tick(after=SECOND)
        statuses.append([world.status(id) for id in (scheduled, retry, ended)])
    assert statuses == [["ready", "backing-off", "success"], ["ready", "ready", "success"], ["ready", "ready", None]]


def test_a_queue_is_ordered_by_the_time_of_joining_and_then_by_id() -> None:
    world = World()
    first, second, third = sorted(keyed("a", number) for number in range(3))
    at = world.now - 10 * SECOND
    world.import_row("pending", service="Cart", key="a", id=third, inboxed_at=at)
    world.import_row("pending", service="Cart", key="a", id=second, inboxed_at=at)
    world.import_row("pending", service="Cart", key="a", id=first, inboxed_at=at + 1)
    assert {world.status(id) for id in (first, second, third)} == {"pending"}
    world.append(ImportEnd())
    order = []
    for _ in range(3):
        [ready] = [id for id in (first, second, third) if world.status(id) == "ready"]
        order.append(ready)
        world.complete(ready)
    assert order == [second, third, first]


def test_newcomers_queue_behind_the_imported() -> None:
    world = World()
    holder = world.import_row("suspended", service="Cart", key="a")
    waiter = world.import_row("pending", service="Cart", key="a")
    newcomer = world.invoke("Cart", key="a")
    world.act("kill", holder)
    assert (world.status(waiter), world.status(newcomer)) == ("ready", "pending")


def test_a_holder_may_come_after_those_that_wait_for_it() -> None:
    world = World()
    waiters = [world.import_row("pending", service="Cart", key="a") for _ in range(2)]
    holder = world.import_row("suspended", service="Cart", key="a")
    world.append(ImportEnd())
    assert world.row(holder).ties & KEY
    assert [world.status(id) for id in waiters] == ["pending", "pending"]
    world.act("kill", holder)
    assert [world.status(id) for id in waiters].count("ready") == 1


def test_a_second_active_one_of_a_key_runs_beside_its_holder() -> None:
    world = World()
    holder = world.import_row("running", service="Cart", key="a")
    other = world.import_row("running", service="Cart", key="a")
    assert (world.row(holder).shared, world.row(other).shared) == (False, True)
    world.complete(other)
    assert world.partitions[0].store.holder("Cart", "a") == world.row(holder).seq


def test_keys_without_a_holder_are_handed_on_when_the_import_ends() -> None:
    with bounded(Bounds(rows_per_record=4)):
        world = World()
        waiters = [world.import_row("pending", service="Cart", key=f"k{number}") for number in range(12)]
        world.append(ImportEnd())
        world.tick_until_idle(work=2)
        assert {world.status(id) for id in waiters} == {"ready"}
        assert not world.partitions[0].machine.state.loose_keys


def test_an_import_that_begins_while_keys_are_handed_on_is_waited_for_too() -> None:
    with bounded(Bounds(rows_per_record=4)):
        world = World()
        for number in range(12):
            world.import_row("pending", service="Cart", key=f"k{number:02}")
        world.append(ImportEnd())
        late = world.import_row("pending", service="Cart", key="a")  # sorts before all that are left
        world.tick_until_idle(work=2)
        newcomer = world.invoke("Cart", key="a")
        assert (world.status(late), world.status(newcomer)) == ("pending", "pending")  # its holder may come yet
        later = world.import_row("pending", service="Cart", key="b")
        world.append(ImportEnd())
        world.tick_until_idle(work=2)
        assert (world.status(late), world.status(newcomer), world.status(later)) == ("ready", "pending", "ready")


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("parent_first", [True, False])
def test_a_child_and_its_parent_find_each_other_in_any_order(parent_first: bool, partitions: int) -> None:
    world = World(partitions)
    parent, child = unkeyed(1), unkeyed(2)
    rows = [("suspended", parent, None), ("ready", child, parent)]
    for status, id, of in rows if parent_first else rows[::-1]:
        world.import_row(status, id=id, parent=of)
        world.arrive()
    assert world.row(parent).ties & CHILDREN
    assert world.row(child).ties & PARENT
    world.complete(child)
    world.arrive()
    assert world.status(parent) == "ready"


@pytest.mark.parametrize("parent_first", [True, False])
@pytest.mark.parametrize(("outcome", "status"), [("killed", "killed"), ("success", "suspended")])
def test_a_child_of_a_killed_parent_is_killed_in_any_order(outcome: str, status: str, parent_first: bool) -> None:
    world = World()
    parent, child = unkeyed(1), unkeyed(2)

    def import_parent() -> None:
        world.import_row("completed", id=parent, outcome=outcome)

    if parent_first:
        import_parent()
    world.import_row("suspended", id=child, parent=parent)
    world.settle()
    if not parent_first:
        import_parent()
    world.settle()
    assert world.status(child) == status
    assert not world.partitions[0].store.edges(parent, "", 10)


def test_a_child_adopted_by_a_parent_that_is_asked_to_cancel_is_asked_too() -> None:
    world = World()
    parent, first, second = unkeyed(1), unkeyed(2), unkeyed(3)
    world.import_row("suspended", id=parent)
    world.import_row("suspended", id=first, parent=parent)
    world.arrive()
    world.act("cancel", parent)
    world.import_row("suspended", id=second, parent=parent)
    world.settle()
    assert world.row(second).cancel
    for id in (first, second):
        assert world.status(id) == "ready"
        world.complete(id, "cancelled")
    world.settle()
    assert world.status(parent) == "ready"


def test_a_detached_child_has_no_edge() -> None:
    world = World()
    parent = world.import_row("suspended")
    child = world.import_row("suspended", parent=parent, detached=True)
    world.act("kill", parent)
    world.settle()
    assert world.status(child) == "suspended"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "bogus"}, "status 'bogus' is none of"),
        ({"status": "completed", "outcome": None}, "a completed invocation has an outcome"),
        ({"status": "completed", "outcome": "bogus"}, "a completed invocation has an outcome"),
        ({"status": "pending"}, "waits for its key"),
        ({"status": "pending", "type": 2, "key": "a"}, "waits for its key"),
        ({"status": "ready", "key": "a"}, "has no key"),
        ({"status": "ready", "parent": "nobody"}, "is not an invocation id"),
    ],
)
def test_a_row_that_cannot_be_is_a_dead_letter(fields: dict[str, object], reason: str) -> None:
    world = World()
    id = keyed("a", 1) if fields.get("key") else unkeyed(1)
    given = {"service": "Flow", "handler": "run", "created_at": 1, "modified_at": 1, "outcome": None, **fields}
    answer = world.answer(Import(id=id, **given))  # type: ignore[arg-type]
    assert answer.code == 400
    assert reason in str(answer.detail)
    assert world.answer(Act(action="count", id=id)).code == 404
