"""What a partition cannot read is kept for an operator, the same on every replay, and never stops it."""

from __future__ import annotations

import pytest

from coordinator.model import limits
from coordinator.model.errors import UnknownLevelError
from coordinator.model.messages import Act, Adopt, ChildEnded, EndChildren, Invoke, Level, Message, Start, encode
from tests.partition.world import World, unkeyed

NO_MESSAGE = "it is not a message: a msgpack map with kind and v is expected"


def above(message: Message) -> bytes:
    message.v = 2
    return encode(message)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", NO_MESSAGE),
        (b"\xc1", NO_MESSAGE),
        (b"hello", NO_MESSAGE),
        (b"\x93\x01\x02\x03", NO_MESSAGE),
        (b"\x91" * 2_000, NO_MESSAGE),
        (encode(Act(action="kill", id="x"))[:-2], NO_MESSAGE),
        (b"\x82\xa4kind\x01\xa1v\x01", "it is not a command of kind 1 as the schema of version 1 has it"),
        (b"\x82\xa4kind\x7e\xa1v\x01", "it is not a command of kind 126 as the schema of version 1 has it"),
        (
            encode(Start(id="x", attempt=1, service="s", handler="h")),
            "it is not a command of kind 64 as the schema of version 1 has it",
        ),
        (above(Act(action="kill", id="x")), "its schema version 2 is above the partition's level 1"),
        (b"\x82\xa4kind\x01\xa1v\x07", "its schema version 7 is above the partition's level 1"),
        (
            encode(Invoke(id=unkeyed(1), service="Greeter", handler="greet", source=9, number=1)),
            "its source partition 9 does not exist",
        ),
        (
            encode(Adopt(parent=unkeyed(1), child=unkeyed(2))),
            "only partitions send it to each other, numbered by their outbox",
        ),
        (
            encode(ChildEnded(parent=unkeyed(1), child=unkeyed(2), outcome="success")),
            "only partitions send it to each other, numbered by their outbox",
        ),
        (
            encode(EndChildren(parent="p", children=(), action="kill")),
            "only partitions send it to each other, numbered by their outbox",
        ),
        (
            encode(Act(action="restart", id="x")),
            "action 'restart' is none of cancel, kill, pause, resume, purge, restart-as-new, count",
        ),
        (
            encode(Invoke(id="x", service="Greeter", handler="greet")),
            "'x' is not an invocation id: inv_1 and 33 letters or digits",
        ),
        (
            encode(Invoke(id=unkeyed(1), service="", handler="greet")),
            "service and handler must have 1 to 256 characters",
        ),
        (
            encode(Invoke(id=unkeyed(1), service="Cart", handler="add", type=1)),
            "a service (type 0) has no key; a virtual object (1) or workflow (2) needs one",
        ),
        (
            encode(Invoke(id=unkeyed(1), service="Cart", handler="add", key="a", type=1)),
            f"{unkeyed(1)} does not carry the partition key of its key; everything of a key shares a partition",
        ),
    ],
)
def test_the_reason_is_stable_and_the_record_is_kept(value: bytes, reason: str) -> None:
    world = World()
    answer = world.answer(value, to=0)
    [letter] = world.dead_letters()
    assert (answer.code, answer.detail) == (400, letter.reason)
    assert letter.reason == reason
    assert (letter.partition, letter.position, letter.value) == (0, 0, value)


def test_the_next_record_is_applied_as_if_nothing_had_been() -> None:
    world = World()
    world.append(b"hello", to=0)
    assert world.status(world.invoke()) == "ready"


def test_a_record_that_is_too_large_is_kept_up_to_the_limit() -> None:
    world = World()
    value = encode(Invoke(id=unkeyed(1), service="Greeter", handler="greet", input=bytes(limits.RECORD_BYTES_MAX)))
    answer = world.answer(value, to=0)
    assert answer.detail == f"it has {len(value)} bytes; a record may have {limits.RECORD_BYTES_MAX}"
    assert world.dead_letters()[0].value == value[: limits.RECORD_BYTES_MAX]


def test_a_record_of_the_largest_size_is_applied() -> None:
    world = World()
    message = Invoke(id=unkeyed(1), service="Greeter", handler="greet", input=bytes(limits.RECORD_BYTES_MAX - 100_000))
    message.input = bytes(len(message.input or b"") + limits.RECORD_BYTES_MAX - len(encode(message)))
    assert len(encode(message)) == limits.RECORD_BYTES_MAX
    assert world.answer(message).code == 200


def test_a_level_that_is_known_is_taken() -> None:
    world = World()
    assert world.answer(Level(level=limits.SCHEMA_LEVEL)).code == 200
    assert world.partitions[0].machine.state.level == limits.SCHEMA_LEVEL


def test_a_level_below_the_present_one_is_a_dead_letter() -> None:
    world = World()
    assert world.answer(Level(level=0)).detail == "the partition is at level 1 and cannot go back to 0"


def test_a_build_stops_at_a_level_that_it_does_not_know() -> None:
    world = World()
    with pytest.raises(UnknownLevelError, match="start one that knows it"):
        world.append(Level(level=limits.SCHEMA_LEVEL + 1))
