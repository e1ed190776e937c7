"""Whatever bytes stand on a stream, its decoder gives a message or says that it is none: no record may stop
a partition.
"""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.model import messages
from tests.contract.goldens import CASES, DECODERS, decoder_of, golden

ALL = list(DECODERS.values())
CASE = st.sampled_from(CASES)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.datetimes().map(lambda at: msgpack.Timestamp.from_datetime(at.replace(tzinfo=None).astimezone()))
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(0, 300), inner),
    max_leaves=12,
)


def read(decode: Any, value: bytes) -> msgspec.Struct | None:
    """The message, None when it is refused; any other error fails the test."""
    messages.read_head(value)
    try:
        message = decode(value)
    except messages.UNREADABLE:
        return None
    assert isinstance(message, msgspec.Struct)
    return message


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_refused(value: bytes) -> None:
    for decode in ALL:
        read(decode, value)


@given(VALUES)
def test_random_msgpack_is_a_message_or_refused(value: Any) -> None:
    for decode in ALL:
        read(decode, msgpack.packb(value))


@given(CASE, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=4), st.data())
def test_golden_bytes_with_some_of_them_changed_are_a_message_or_refused(
    case: str, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    value = bytearray(golden(case))
    for place, byte in changes:
        value[place % len(value)] = byte
    for decode in ALL:
        read(decode, bytes(value))
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(value)), st.integers(0, len(value)))))
    inserted = data.draw(st.binary(max_size=6))
    for decode in ALL:
        read(decode, bytes(value[:start]) + inserted + bytes(value[end:]))


@pytest.mark.parametrize("case", CASES)
def test_bytes_that_end_too_early_or_go_on_are_refused(case: str) -> None:
    value = golden(case)
    for end in range(len(value)):
        with pytest.raises(msgspec.DecodeError):
            decoder_of(case)(value[:end])
    with pytest.raises(msgspec.DecodeError):
        decoder_of(case)(value + b"\xc0")


@given(CASE, st.data(), VALUES)
def test_golden_messages_with_another_value_somewhere_are_a_message_or_refused(
    case: str, data: st.DataObject, other: Any
) -> None:
    """What is read all the same is written and read again without loss."""
    message = msgpack.unpackb(golden(case), strict_map_key=False)
    place = message
    while True:
        key = data.draw(st.sampled_from(list(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = other
    decode = decoder_of(case)
    found = read(decode, msgpack.packb(message))
    if found is not None:
        assert decode(messages.encode(found)) == found


@pytest.mark.parametrize("stream", DECODERS, ids=str)
def test_a_message_of_another_stream_is_refused(stream: Any) -> None:
    others = [case for case in CASES if decoder_of(case) is not DECODERS[stream]]
    assert others
    for case in others:
        with pytest.raises(msgspec.ValidationError):
            DECODERS[stream](golden(case))


@pytest.mark.parametrize("case", CASES)
def test_the_head_of_every_message_can_be_read_alone(case: str) -> None:
    message = msgpack.unpackb(golden(case), strict_map_key=False)
    assert messages.read_head(golden(case)) == (message["kind"], message["v"])


def test_a_header_that_promises_more_than_there_is_costs_nothing() -> None:
    for header in (b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"):
        for decode in ALL:
            with pytest.raises(msgspec.DecodeError):
                decode(header)


def test_text_that_is_not_utf_8_is_refused() -> None:
    value = golden("Submit-example").replace(b"kill", b"\xff\xfe\xfd\xfc")
    with pytest.raises(messages.UNREADABLE):
        messages.decode_request(value)


@pytest.mark.parametrize("depth", [900, 1_000, 100_000])
def test_what_is_said_of_values_nested_deep_does_not_depend_on_the_stack(depth: int) -> None:
    """The reason becomes part of the outbox, so it must be the same on every replay."""
    deep = b"\x83\xa1x" + b"\x91" * depth + b"\xc0" + b"\xa4kind\x01" + b"\xa1v\x01"
    with pytest.raises(messages.UNREADABLE):
        messages.decode_command(deep)

    def at_depth(frames: int) -> tuple[int, int] | None:
        return messages.read_head(deep) if frames == 0 else at_depth(frames - 1)

    assert at_depth(0) == at_depth(500)
