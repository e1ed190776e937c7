"""Lanes: only what has a participant is delivered, and what has none takes no slot from the others."""

from __future__ import annotations

from coordinator.model import limits
from coordinator.model.filters import Filter
from coordinator.model.messages import Completed, Drop, Released, Serve, Start, Started
from tests.partition.world import World


def serve(world: World, *lanes: str, reclaim: bool = False) -> None:
    assert world.answer(Serve(lanes=lanes, reclaim=reclaim), to=0).code == 200


def started(world: World) -> list[str]:
    """What the newest record has started."""
    return [delivery.id for delivery in world.deliveries() if isinstance(delivery, Start)]


def test_what_nobody_serves_waits_and_is_started_once_somebody_does() -> None:
    world = World()
    serve(world)
    greet, name = world.invoke("Greeter"), world.invoke("Namer")
    assert (world.status(greet), world.row(greet).attempt) == ("ready", 0)
    assert not world.partitions[0].machine.open_lanes
    serve(world, "Namer")
    assert started(world) == [name]
    serve(world, "Namer", "Greeter")
    assert started(world) == [greet]


def test_one_that_was_replaced_changes_nothing_by_what_it_says_late() -> None:
    world = World()
    assert world.answer(Serve(lanes=("Greeter",), tenure=7), to=0).code == 200
    held = world.invoke("Greeter")
    for late in (Serve(lanes=(), tenure=6), Serve(lanes=(), tenure=6, reclaim=True), Serve(lanes=("Namer",))):
        answer = world.answer(late, to=0)
        assert (answer.code, answer.status) == (409, "stale")
        assert "tenure 7" in (answer.detail or "")
        assert world.deliveries() == []
    assert world.row(held).attempt == 1
    assert started(world) == []
    assert world.invoke("Greeter") in started(world)
    for number in (7, 8):
        assert world.answer(Serve(lanes=("Namer",), tenure=number), to=0).code == 200
    assert world.partitions[0].machine.state.served == ("Namer",)


def test_a_lane_that_nobody_serves_takes_no_slot_and_no_tick() -> None:
    world = World()
    serve(world, "Namer")
    for _ in range(limits.DELIVERIES_MAX + 1):
        world.invoke("Greeter")
    assert world.tick_until_idle() == 0
    name = world.invoke("Namer")
    assert started(world) == [name]


def test_a_pinned_invocation_waits_for_its_deployment_and_a_new_one_for_its_service() -> None:
    world = World()
    serve(world, "Greeter", "@dp_1")
    pinned, new = world.invoke(), world.invoke()
    world.append(Started(id=pinned, attempt=1, deployment="dp_1"))
    serve(world, "Greeter", "@dp_2")
    for id in (pinned, new):
        world.append(Released(id=id, attempt=1))
    assert started(world) == [new]
    assert world.status(pinned) == "ready"
    serve(world, "@dp_1")
    assert started(world) == [pinned]


def test_one_that_is_resumed_on_another_deployment_waits_there() -> None:
    world = World()
    serve(world, "Greeter", "@dp_1")
    id = world.in_status("running")
    world.append(Started(id=id, attempt=1, deployment="dp_1"))
    serve(world)
    world.append(Released(id=id, attempt=1))
    world.act("pause", id)
    world.act("resume", id, deployment="dp_2")
    serve(world, "@dp_2")
    assert started(world) == [id]


def test_one_that_is_resumed_on_another_deployment_is_not_started_from_the_lane_it_has_left() -> None:
    world = World()
    serve(world)
    id = world.invoke("Greeter")
    world.act("pause", id)
    world.act("resume", id, deployment="dp_2")
    serve(world, "Greeter")
    assert started(world) == []
    assert world.tick_until_idle() == 0
    serve(world, "@dp_2")
    assert started(world) == [id]


def test_a_lane_whose_slots_are_taken_holds_up_no_other() -> None:
    world = World()
    serve(world, "Greeter", "Namer")
    first, *_ = [world.invoke("Greeter") for _ in range(limits.DELIVERIES_MAX)]
    greet = world.invoke("Greeter")
    assert started(world) == []
    assert world.tick_until_idle() == 0
    name = world.invoke("Namer")
    assert started(world) == [name]
    world.append(Completed(id=first, attempt=1, outcome="success"))
    assert started(world) == [greet]


def test_a_slot_comes_back_to_the_lane_that_it_was_taken_from() -> None:
    world = World()
    serve(world, "Greeter")
    ids = [world.invoke("Greeter") for _ in range(limits.DELIVERIES_MAX + 1)]
    world.append(Started(id=ids[0], attempt=1, deployment="dp_1"))
    world.append(Completed(id=ids[0], attempt=1, outcome="success"))
    assert started(world) == [ids[-1]]


def test_lanes_take_turns_where_a_record_cannot_start_all() -> None:
    world = World()
    serve(world)
    ids = {service: [world.invoke(service) for _ in range(20)] for service in ("Greeter", "Mailer", "Namer")}
    serve(world, "Namer", "Greeter")
    assert started(world) == ids["Greeter"][: limits.ROWS_PER_RECORD_MAX - 1]
    world.tick()
    assert started(world)[: limits.ROWS_PER_RECORD_MAX - 1] == ids["Namer"][: limits.ROWS_PER_RECORD_MAX - 1]
    world.tick_until_idle()
    assert {world.row(id).attempt for id in ids["Greeter"] + ids["Namer"]} == {1}
    assert {world.row(id).attempt for id in ids["Mailer"]} == {0}


def test_a_killed_one_is_not_started_when_its_lane_is_served() -> None:
    world = World()
    serve(world)
    world.invoke()
    world.batch("r1", "kill", Filter(service="Greeter"))
    last = world.invoke()
    serve(world, "Greeter")
    assert started(world) == [last]


def test_what_was_delivered_before_a_new_carrier_is_taken_back_and_delivered_again() -> None:
    world = World()
    running, ready = world.in_status("running"), world.invoke()
    suspended = world.in_status("suspended")
    serve(world, "Greeter", reclaim=True)
    deliveries = [(type(delivery), delivery.id, delivery.attempt) for delivery in world.deliveries()]
    assert deliveries == [(Drop, running, 1), (Drop, ready, 1), (Start, running, 2), (Start, ready, 2)]
    assert world.status(suspended) == "suspended"
    assert world.partitions[0].machine.state.held == {"Greeter": 2}


def test_many_that_were_delivered_are_taken_back_in_ticks() -> None:
    world = World()
    many = [world.invoke() for _ in range(100)]
    serve(world, "Greeter", reclaim=True)
    assert len(started(world)) <= limits.ROWS_PER_RECORD_MAX
    assert world.tick_until_idle(work=10, timers=1, single=1) >= 8
    assert {world.row(id).attempt for id in many} == {2}


def test_a_released_attempt_is_delivered_again_and_counts_where_a_reason_is_given() -> None:
    world = World()
    id = world.in_status("running")
    world.append(Released(id=id, attempt=1))
    assert (started(world), world.row(id).retry) == ([id], 0)
    world.append(Released(id=id, attempt=2, failure="its participant vanished"))
    assert started(world) == [id]
    assert (world.row(id).retry, world.row(id).last_failure) == (1, "its participant vanished")
    assert world.answer(Released(id=id, attempt=2)).code == 409
