"""The outbox: numbered per destination, taken in order by its receivers, chained in a digest."""

from __future__ import annotations

import pytest

from coordinator.model.errors import CorruptionError
from coordinator.model.journal import Call, Step, StepKind
from coordinator.model.messages import ChildEnded, Invoke, decode_command, encode
from coordinator.partition.machine import Machine
from coordinator.partition.state import DELIVERIES
from coordinator.stores.memory import MemoryStore
from tests.partition.world import World, unkeyed
from tests.simulation.cluster import Record

CHILD = Step(kind=StepKind.CALL, call=Call(service="Namer", handler="pick"))


def test_each_destination_has_numbers_of_its_own_dense_from_one() -> None:
    world = World(3)
    for _ in range(5):
        parent = world.in_status("running")
        world.call(parent, *[CHILD] * 4)
    for partition in world.partitions:
        numbers: dict[int, list[int]] = {}
        for entry in partition.sent:
            numbers.setdefault(entry.destination, []).append(entry.number)
        assert numbers
        assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())


def test_a_command_carries_its_source_and_number() -> None:
    world = World()
    parent = world.in_status("running")
    world.call(parent, CHILD, CHILD)
    assert [(command.source, command.number) for command in world.commands()] == [(0, 1), (0, 2)]


def test_a_message_is_taken_once_however_often_it_comes() -> None:
    world = World()
    world.in_status("running")
    message = Invoke(id=unkeyed(1), service="Greeter", handler="greet", source=0, number=1)
    assert world.answer(message).code == 200
    world.act("kill", unkeyed(1))
    world.act("purge", unkeyed(1))
    assert world.append(message) is None
    assert world.find(unkeyed(1)) is None


def test_a_gap_stops_the_partition_loudly() -> None:
    world = World()
    world.append(ChildEnded(parent=unkeyed(1), child=unkeyed(2), outcome="success", source=0, number=1), to=0)
    world.append(ChildEnded(parent=unkeyed(1), child=unkeyed(2), outcome="success", source=0, number=2), to=0)
    with pytest.raises(CorruptionError, match="sent number 4 after 2"):
        world.append(ChildEnded(parent=unkeyed(1), child=unkeyed(2), outcome="success", source=0, number=4), to=0)


def test_a_refused_message_of_a_partition_is_taken_too() -> None:
    world = World()
    world.append(Invoke(id=unkeyed(1), service="", handler="x", source=0, number=1))
    world.append(Invoke(id=unkeyed(1), service="Greeter", handler="greet", source=0, number=2))
    assert world.status(unkeyed(1)) == "ready"


def test_records_of_the_log_are_applied_in_order_without_gaps() -> None:
    machine = Machine(MemoryStore(), partition=0, partitions=1)
    machine.store.begin()
    for position in (1, -1):
        with pytest.raises(CorruptionError, match="missing from the log"):
            machine.apply(Record(position, 0, b""))


@pytest.mark.parametrize("other", [{"partition": 1}, {"partitions": 3}, {"log": "other"}])
def test_a_store_of_another_partition_or_log_is_refused(other: dict[str, object]) -> None:
    mine: dict[str, object] = {"partition": 0, "partitions": 2, "log": "mine"}
    store = MemoryStore()
    machine = Machine(store, **mine)  # type: ignore[arg-type]
    record = Record(0, 0, b"")
    store.begin()
    machine.apply(record)
    machine.finish_run(record)
    store.commit()
    assert Machine(store, **mine).state.position == 0  # type: ignore[arg-type]
    with pytest.raises(CorruptionError, match="the store belongs to partition 0 of 2"):
        Machine(store, **{**mine, **other})  # type: ignore[arg-type]


def test_the_digest_tells_outboxes_apart_after_they_are_trimmed() -> None:
    digests = []
    for service in ("Greeter", "Greeter", "Other"):
        world = World()
        world.invoke(service)
        partition = world.partitions[0]
        partition.store.begin()
        partition.store.outbox_trim(DELIVERIES, 1)
        partition.store.commit()
        assert not partition.store.outbox_list(DELIVERIES, 0, 10)
        digests.append(partition.machine.state.heads[DELIVERIES].digest)
    assert digests[0] == digests[1] != digests[2]


def test_what_is_handed_out_is_what_is_stored() -> None:
    world = World()
    world.invoke()
    world.invoke()
    partition = world.partitions[0]
    stored = partition.store.outbox_list(DELIVERIES, 0, 10)
    assert stored == [(entry.number, entry.value) for entry in partition.sent]


def test_a_message_is_the_same_bytes_whenever_it_is_written() -> None:
    message = Invoke(id=unkeyed(1), service="Greeter", handler="greet", headers={"b": "1", "a": "2"})
    assert encode(decode_command(encode(message))) == encode(message)
