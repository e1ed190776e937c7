"""The scenarios that a batch engine is most easily wrong about, kept by name."""

from __future__ import annotations

from coordinator.model.filters import Filter
from coordinator.model.messages import Control, Import
from tests.partition.world import World
from tests.simulation.cluster import Bounds, bounded

ALL = Filter(all=True)


def only(*status: str) -> Filter:
    return Filter(all=True, status=status)


def test_a_later_batch_finds_what_an_earlier_one_produces() -> None:
    world = World()
    id = world.in_status("suspended")
    world.batch("first", "pause", only("suspended"), paused=True)  # nobody works it off
    world.batch("second", "kill", only("paused"))
    assert world.seen(id) == "killed"
    world.tick_until_idle()
    assert world.status(id) == "killed"
    assert world.counts("first") == {"matched": 1, "applied": 1}
    assert world.counts("second") == {"matched": 1, "ended": 1}


def test_a_later_batch_passes_over_what_an_earlier_one_takes_from_it() -> None:
    world = World()
    id = world.in_status("suspended")
    world.batch("first", "pause", only("suspended"), paused=True)
    world.batch("second", "kill", only("suspended"))
    world.tick_until_idle()
    assert world.seen(id) == "paused"
    assert world.counts("second") == {}


def test_aborting_a_batch_spares_rows_that_an_earlier_one_only_looked_at() -> None:
    world = World()
    looked_at, other = world.in_status("suspended"), world.in_status("suspended")
    world.batch("first", "kill", only("paused"), paused=True)
    assert world.act("count", looked_at).status == "suspended"  # the first has no effect on it
    world.batch("second", "kill", only("suspended"), paused=True)
    world.append(Control(request="second", revision=1, aborted=True))
    world.append(Control(request="first", revision=1))
    world.tick_until_idle()
    assert world.status(looked_at) == world.status(other) == "suspended"
    assert world.counts("first") == world.counts("second") == {}


def test_aborting_a_batch_leaves_its_effect_on_rows_that_were_caught_up() -> None:
    world = World()
    touched, other = world.in_status("suspended"), world.in_status("suspended")
    world.batch("kill", "kill", ALL, paused=True)
    assert world.act("count", touched).status == "completed"
    assert world.seen(other) == "killed"
    world.append(Control(request="kill", revision=1, aborted=True))
    assert world.seen(touched) == "killed"
    assert world.seen(other) == "suspended"
    assert world.counts("kill") == {"matched": 1, "ended": 1}


def test_a_row_counted_by_a_cursor_and_touched_afterwards_is_counted_once() -> None:
    world = World()
    first, second = world.in_status("suspended"), world.in_status("suspended")
    world.batch("count", "count", only("suspended"))
    world.tick(sweep=1)  # the cursor is between the two
    assert world.counts("count") == {"matched": 1, "applied": 1}
    for id in (first, second):
        world.act("pause", id)
        world.act("resume", id)
        world.run(id)
        world.suspend(id)  # as it was when it was counted
    world.tick_until_idle()
    assert world.counts("count") == {"matched": 2, "applied": 2}


def test_a_row_purged_by_a_batch_is_not_found_by_its_idempotency_key() -> None:
    world = World()
    old = world.invoke(idempotency_key="once")
    world.complete(old)
    world.batch("purge", "purge", ALL, paused=True)
    new = world.invoke(idempotency_key="once")
    assert world.find(old) is None
    assert world.status(new) == "ready"
    assert world.counts("purge") == {"matched": 1, "applied": 1}


def test_the_row_before_a_purged_one_is_found_by_their_idempotency_key() -> None:
    world = World()
    kept = world.import_row("suspended", idempotency_key="once")
    purged = world.import_row("completed", idempotency_key="once")
    world.batch("purge", "purge", ALL, paused=True)
    new = world.invoke(idempotency_key="once")
    assert world.status(new) is None  # the first still has the key
    assert (world.status(kept), world.status(purged)) == ("suspended", None)


def test_killing_the_running_and_then_the_ready_empties_a_keys_queue_without_starting_any() -> None:
    world = World()
    queue = [world.invoke("Cart", key="a") for _ in range(5)]
    world.run(queue[0])
    world.batch("running", "kill", Filter(service="Cart", status=("running",)))
    world.batch("ready", "kill", Filter(service="Cart", status=("ready",)))
    world.tick_until_idle()
    # The first batch frees the key at the tick; what that makes ready came after the second one's position.
    assert [world.status(id) for id in queue] == ["killed", "ready", "pending", "pending", "pending"]
    assert world.counts("running") == {"matched": 1, "ended": 1}
    assert world.counts("ready") == {}


def test_killing_the_pending_and_the_running_of_a_key_starts_none_of_its_queue() -> None:
    world = World()
    queue = [world.invoke("Cart", key="a") for _ in range(5)]
    world.run(queue[0])
    world.batch("both", "kill", Filter(service="Cart", status=("running", "pending")))
    late = world.invoke("Cart", key="a")
    world.tick_until_idle()
    assert {world.status(id) for id in queue} == {"killed"}
    assert world.status(late) == "ready"
    assert [world.row(id).attempt for id in queue[1:]] == [0, 0, 0, 0]


def test_a_killed_backlog_entry_hands_its_key_on_within_the_record_that_looked_at_it() -> None:
    with bounded(Bounds(deliveries=1)):
        world = World()
        blocker = world.invoke("Cart", key="b")
        holder, waiter = world.invoke("Cart", key="a"), world.invoke("Cart", key="a")
        world.batch("kill", "kill", Filter(ids=(holder,)), paused=True)
        world.complete(blocker)  # frees the one slot: the backlog is looked at
        assert (world.status(holder), world.status(waiter)) == ("killed", "ready")
        assert [delivery.id for delivery in world.deliveries()] == [waiter]


def test_what_became_ready_before_a_sweep_of_the_same_tick_is_delivered() -> None:
    world = World()
    due = world.invoke(due_at=world.now + 1)
    suspended = world.in_status("suspended")
    world.batch("cancel", "cancel", ALL)
    later = world.invoke(due_at=world.now + 2)
    world.tick(after=10)
    assert world.status(due) == "cancelled"
    assert (world.status(suspended), world.status(later)) == ("ready", "ready")
    assert {delivery.id for delivery in world.deliveries()} == {suspended, later}


def test_a_refused_record_finishes_the_consequences_of_what_it_looked_up() -> None:
    world = World()
    holder, waiter = world.import_row("suspended", service="Cart", key="a"), world.invoke("Cart", key="a")
    world.batch("kill", "kill", Filter(ids=(holder,)), paused=True)
    world.batch("purge", "purge", Filter(ids=(holder,)), paused=True)
    again = Import(
        id=holder, service="Cart", handler="add", key="a", type=1, created_at=1, modified_at=1,
        status="completed", outcome=None,
    )  # fmt: skip
    assert world.answer(again).code == 400
    assert world.find(holder) is None
    assert world.status(waiter) == "ready"


def test_a_refused_action_is_refused_by_what_the_batches_in_force_have_made_of_the_row() -> None:
    world = World()
    id = world.in_status("suspended")
    world.batch("kill", "kill", ALL, paused=True)
    assert world.act("pause", id).code == 409
    assert world.act("purge", id).code == 200
    assert world.act("purge", id).code == 404
