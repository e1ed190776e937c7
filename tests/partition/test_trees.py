"""Call trees: edges, the end of children, kill downwards, cancel to the leaves first and back up."""

from __future__ import annotations

import pytest

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.invocation import CHILDREN, HELD, PARENT, CancelState
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.messages import Drop, EndChildren, Invoke, Notify, Released, Signal, Start, decode_delivery
from coordinator.partition.state import DELIVERIES
from tests.partition.world import World
from tests.simulation.cluster import Bounds, bounded

CHILD = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick"))
DETACHED = Step(kind=StepKind.SEND, call=Call(service="Mailer", handler="send"))


@pytest.fixture(params=[1, 3], ids=["one partition", "three partitions"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def parent_with(world: World, *calls: Call) -> tuple[str, list[str]]:
    """A running invocation and those it has called, which are there."""
    parent = world.in_status("running")
    children = world.call(parent, *calls)
    world.arrive()
    return parent, children


def test_an_edge_and_the_message_that_creates_the_child_are_one_record(world: World) -> None:
    parent = world.in_status("running")
    children = world.call(parent, CHILD, DETACHED)
    assert [command.detached for command in world.commands() if isinstance(command, Invoke)] == [False, True]
    assert world.row(parent).ties & CHILDREN
    assert world.row(parent).children == 1
    world.arrive()
    assert [world.status(id) for id in children] == ["ready", "ready"]
    assert [bool(world.row(id).ties & PARENT) for id in children] == [True, False]


def test_the_end_of_a_child_wakes_its_suspended_parent(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    world.suspend(parent)
    world.complete(child)
    world.arrive()
    assert world.status(parent) == "ready"
    assert not world.row(parent).ties & CHILDREN


def test_each_child_wakes_it(world: World) -> None:
    parent, children = parent_with(world, CHILD, CHILD)
    for child in children:
        world.suspend(parent)
        assert world.status(parent) == "suspended"
        world.complete(child)
        world.arrive()
        assert world.status(parent) == "ready"


def test_a_child_that_ended_before_the_suspension_was_reported_wakes_it_all_the_same(world: World) -> None:
    parent, [child, _] = parent_with(world, CHILD, CHILD)
    world.complete(child)
    world.arrive()
    assert world.status(parent) == "running"
    world.suspend(parent)
    assert world.status(parent) == "ready"
    assert [type(delivery) for delivery in world.deliveries()] == [Start]
    world.suspend(parent, awaiting=(1,))  # the new attempt has seen it and waits for the other one
    assert world.status(parent) == "suspended"


ONCE = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick", key="a", type=1, idempotency_key="once"))


def test_a_call_that_meets_an_invocation_by_its_idempotency_key_gets_the_result_of_that_one(world: World) -> None:
    taken = world.invoke("Namer", "pick", idempotency_key="once", key="a")
    parent = world.in_status("running")
    world.call(parent, ONCE)
    world.suspend(parent, awaiting=(0,))
    world.arrive()
    assert [world.status(id) for id in (parent, taken)] == ["suspended", "ready"]
    world.complete(taken, output=b"Ann")
    world.arrive()
    [start] = world.deliveries()
    assert isinstance(start, Start)
    assert (start.id, start.entries[0].value, start.entries[0].outcome) == (parent, b"Ann", "success")
    late = world.in_status("running")
    world.call(late, ONCE)
    world.arrive()
    [notify] = world.deliveries()
    assert isinstance(notify, Notify)
    assert (notify.id, notify.entry.value) == (late, b"Ann")


def test_neither_kill_nor_cancel_goes_down_to_what_was_only_attached_to(world: World) -> None:
    taken = world.invoke("Namer", "pick", idempotency_key="once", key="a")
    parents = [world.in_status("running") for _ in range(2)]
    for parent in parents:
        world.call(parent, ONCE)
    world.arrive()
    world.act("kill", parents[0])
    world.act("cancel", parents[1])
    world.settle()
    assert [world.status(id) for id in (*parents, taken)] == ["killed", "running", "ready"]
    assert world.row(parents[1]).cancel == CancelState.SIGNALLED
    world.complete(taken)
    world.settle()


def test_all_that_have_attached_to_a_call_are_told_in_the_smallest_ticks_too() -> None:
    world = World()
    taken = world.invoke("Namer", "pick", idempotency_key="once", key="a")
    parents = [world.in_status("running") for _ in range(2 * limits.ROWS_PER_RECORD_MAX)]
    for parent in parents:
        world.call(parent, ONCE)
        world.arrive()
        world.suspend(parent, awaiting=(0,))
    world.complete(taken, output=b"Ada")
    for _ in range(3 * len(parents)):
        world.tick(sweep=1, single=1, timers=1, work=1)
        world.arrive()
    assert {world.status(parent) for parent in parents} == {"ready"}
    assert world.wanted_at() is None or world.wanted_at() > world.now


def test_kill_ends_attached_descendants_and_spares_detached_ones(world: World) -> None:
    parent, [child, mail] = parent_with(world, CHILD, DETACHED)
    [grandchild, other_mail] = world.call(child, CHILD, DETACHED)
    world.arrive()
    world.act("kill", parent)
    world.settle()
    assert [world.status(id) for id in (parent, child, grandchild)] == ["killed"] * 3
    assert [world.status(id) for id in (mail, other_mail)] == ["ready", "ready"]


def test_a_killed_child_does_not_answer_a_parent_that_was_killed_before_it(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    world.act("kill", parent)
    world.settle()
    assert world.status(child) == "killed"
    kinds = [type(command) for command in world.commands()]
    assert kinds == []


def test_a_kill_by_batch_counts_descendants_of_every_depth_as_propagated(world: World) -> None:
    top, [middle] = parent_with(world, CHILD)
    [bottom] = world.call(middle, CHILD)
    world.arrive()
    for partition in world.partitions:
        world.batch("r1", "kill", Filter(ids=(top,)), to=partition.number)
    world.settle()
    assert [world.status(id) for id in (top, middle, bottom)] == ["killed"] * 3
    batches = [partition.machine.batches["r1"] for partition in world.partitions]
    assert sum(batch.propagated for batch in batches) == 2
    assert sum(batch.tally.matched for batch in batches) == 1


def test_what_is_sent_for_a_batch_and_what_has_arrived_are_equal_for_each_pair_once_it_is_settled(world: World) -> None:
    top, [middle] = parent_with(world, CHILD)
    world.call(middle, CHILD, CHILD, CHILD)
    world.arrive()
    for partition in world.partitions:
        world.batch("r1", "kill", Filter(ids=(top,)), to=partition.number)
    world.settle()
    sent: dict[tuple[int, int], int] = {}
    for partition in world.partitions:
        batch = partition.machine.batches["r1"]
        sent |= {(partition.number, to): count for to, count in batch.sent.items()}
    received: dict[tuple[int, int], int] = {}
    for partition in world.partitions:
        batch = partition.machine.batches["r1"]
        received |= {(source, partition.number): count for source, count in batch.received.items()}
    assert sent == received != {}


def test_messages_for_a_batch_that_has_not_come_yet_are_counted_for_it() -> None:
    world = World(3)
    parent, children = parent_with(world, *[CHILD] * 8)
    home = world.route(Invoke(id=parent, service="s", handler="h"))
    world.batch("r1", "kill", Filter(ids=(parent,)), to=home)
    world.settle()
    assert {world.status(id) for id in children} == {"killed"}
    elsewhere = next(p for p in world.partitions if p.number != home and "r1" in p.machine.batches)
    before = elsewhere.machine.batches["r1"]
    assert before.received[home] == 1
    elsewhere.restart()
    world.batch("r1", "kill", Filter(ids=(parent,)), to=elsewhere.number)
    told = world.told("r1", of=elsewhere.number)
    assert (told.received, told.propagated) == ({home: 1}, before.propagated)


def test_a_cancel_asks_the_leaves_first_and_comes_back_up(world: World) -> None:
    top, [middle] = parent_with(world, CHILD)
    world.suspend(top)
    [bottom] = world.call(middle, CHILD)
    world.suspend(middle)
    world.arrive()
    world.act("cancel", top)
    world.settle()
    states = [CancelState(world.row(id).cancel) for id in (top, middle, bottom)]
    assert states == [CancelState.REQUESTED, CancelState.REQUESTED, CancelState.SIGNALLED]
    assert [world.status(id) for id in (top, middle)] == ["suspended", "suspended"]
    world.complete(bottom, "cancelled")
    world.settle()
    assert [world.status(id) for id in (top, middle)] == ["suspended", "ready"]
    assert world.row(middle).cancel == CancelState.SIGNALLED
    world.complete(middle, "cancelled")
    world.settle()
    assert world.status(top) == "ready"


def test_a_running_one_is_signalled_once_its_last_child_is_back(world: World) -> None:
    parent, children = parent_with(world, CHILD, CHILD)
    world.act("cancel", parent)
    world.settle()
    for child in children:
        assert not any(isinstance(delivery, Signal) and delivery.id == parent for delivery in world.deliveries())
        world.complete(child, "cancelled")
        world.arrive()
    assert [(type(delivery), delivery.id) for delivery in world.deliveries()] == [(Signal, parent)]


def test_attached_calls_fail_as_cancelled_from_the_request_until_the_handler_knows(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    world.act("cancel", parent)
    assert len(world.call(parent, CHILD, DETACHED)) == 1  # the detached one
    assert not world.deliveries()  # nothing is told before the signal
    world.suspend(parent, awaiting=(1,))
    assert world.status(parent) == "suspended"
    world.settle()
    world.complete(child, "cancelled")
    world.arrive()
    [start] = world.deliveries()
    assert isinstance(start, Start)
    assert start.cancelled
    assert [(entry.done, entry.outcome) for entry in start.entries] == [(True, "cancelled")] * 2 + [(True, None)]
    assert world.call(parent, CHILD) == []  # it crossed with the signal
    [told] = world.deliveries()
    assert isinstance(told, Notify)
    assert (told.entry.done, told.entry.outcome) == (True, "cancelled")
    assert len(world.call(parent, Step(kind=StepKind.SURFACED), CHILD)) == 1  # compensation may call


def test_a_batch_that_comes_to_light_with_a_call_lets_no_child_begin() -> None:
    world = World()
    parent = world.in_status("running")
    world.batch("r1", "cancel", Filter(all=True))
    assert world.call(parent, CHILD) == []
    assert [type(delivery) for delivery in world.deliveries()] == [Signal, Notify]


def test_what_ends_while_the_children_are_cancelled_is_not_told_before_the_signal(world: World) -> None:
    parent, [first, second] = parent_with(world, CHILD, CHILD)
    world.act("cancel", parent)
    world.settle()
    world.complete(first, "cancelled")
    world.arrive()
    assert not world.deliveries()
    world.append(Released(id=parent, attempt=1))
    [start] = world.deliveries()
    assert isinstance(start, Start)
    assert [entry.done for entry in start.entries] == [False, False]
    world.complete(second, "cancelled")
    world.arrive()
    assert [type(delivery) for delivery in world.deliveries()] == [Signal]
    world.suspend(parent, cancelled=True, awaiting=(1,))
    [start] = world.deliveries()
    assert isinstance(start, Start)
    assert [entry.outcome for entry in start.entries] == ["cancelled", "cancelled"]


def test_a_signal_that_crosses_with_a_suspension_is_delivered_again(world: World) -> None:
    parent = world.in_status("running")
    world.act("cancel", parent)
    world.suspend(parent)
    [start] = world.deliveries()
    assert isinstance(start, Start)
    assert start.cancelled
    world.suspend(parent, cancelled=True)  # it has surfaced; now it waits for its compensation
    assert world.status(parent) == "suspended"


def test_a_child_that_ended_during_the_request_wakes_one_that_suspends_after_the_signal(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    world.act("cancel", parent)
    world.settle()
    world.complete(child, "cancelled")
    world.arrive()
    world.suspend(parent, cancelled=True)
    assert world.status(parent) == "ready"
    world.suspend(parent, cancelled=True)
    assert world.status(parent) == "suspended"


def test_a_kill_overtakes_a_cancel(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    world.act("cancel", parent)
    world.settle()
    world.act("kill", parent)
    world.settle()
    assert [world.status(id) for id in (parent, child)] == ["killed", "killed"]


def test_the_children_of_one_that_completes_go_on(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    world.complete(parent)
    world.settle()
    assert world.status(child) == "ready"
    world.complete(child)
    world.settle()
    assert world.row(child).ties == 0


def test_a_child_that_was_killed_on_its_own_answers_its_parent(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    world.suspend(parent)
    world.act("kill", child)
    world.settle()
    assert world.status(parent) == "ready"


def test_more_children_than_a_record_names_are_told_in_chunks() -> None:
    with bounded(Bounds(rows_per_record=4)):
        world = World()
        parent = world.in_status("running")
        children = [id for _ in range(5) for id in world.call(parent, *[CHILD] * 4)]
        world.arrive()
        world.batch("r1", "kill", Filter(ids=(parent,)))
        world.settle()
        assert {world.status(id) for id in children} == {"killed"}
        batch = world.partitions[0].machine.batches["r1"]
        assert batch.propagated == 20
        assert batch.sent[0] == batch.received[0] >= 5


def test_a_message_that_names_too_many_children_is_a_dead_letter() -> None:
    world = World()
    many = tuple(world.invoke() for _ in range(limits.CHILDREN_PER_RECORD_MAX + 1))
    message = EndChildren(source=0, number=1, parent=many[0], children=many, action="kill")
    assert world.answer(message, to=0).code == 400
    assert {world.status(id) for id in many} == {"ready"}


def test_a_report_with_too_many_steps_is_a_dead_letter() -> None:
    world = World()
    parent = world.in_status("running")
    assert world.take(parent, *[CHILD] * (limits.STEPS_PER_REPORT_MAX + 1)).code == 400


def test_a_call_whose_invoke_would_be_too_large_is_refused_where_it_is_made() -> None:
    world = World()
    parent = world.in_status("running")
    large = Call(service="Namer", handler="pick", input=bytes(limits.CALL_BYTES_MAX + 1))
    assert world.take(parent, Step(kind=StepKind.CALL, call=large)).code == 400
    fits = Call(service="Namer", handler="pick", input=bytes(limits.CALL_BYTES_MAX))
    [child] = world.call(parent, Step(kind=StepKind.CALL, call=fits))
    world.arrive()
    assert world.status(child) == "ready"


def test_a_call_beyond_the_bound_of_children_fails_in_the_handler() -> None:
    world = World()
    parent = world.in_status("running")
    world.overwrite(parent, children=limits.CHILDREN_MAX)
    assert world.call(parent, CHILD) == []
    [notify] = world.deliveries()
    assert isinstance(notify, Notify)
    assert notify.entry.outcome == "failure"
    assert "100000" in (notify.entry.failure or "")
    assert len(world.call(parent, DETACHED)) == 1


def test_a_call_beyond_the_bound_of_depth_fails_in_the_handler() -> None:
    world = World()
    deepest = world.invoke(depth=limits.DEPTH_MAX)
    assert world.call(deepest, CHILD) == []
    [notify] = world.deliveries()
    assert isinstance(notify, Notify)
    assert "10000 deep" in (notify.entry.failure or "")
    above = world.invoke(depth=limits.DEPTH_MAX - 1)
    assert len(world.call(above, CHILD)) == 1


def test_participants_are_told_to_drop_what_was_killed(world: World) -> None:
    parent, [child] = parent_with(world, CHILD)
    assert world.row(child).ties & HELD
    world.act("kill", parent)
    world.settle()
    drops = {
        (delivery.id, delivery.attempt)
        for partition in world.partitions
        for value in world.of(DELIVERIES, partition.sent)
        if isinstance(delivery := decode_delivery(value), Drop)
    }
    assert drops == {(parent, 1), (child, 1)}
    assert all(not partition.machine.state.held for partition in world.partitions)
