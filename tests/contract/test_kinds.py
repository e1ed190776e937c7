"""Kinds: their numbers stay, and each has all parts of the contract."""

from __future__ import annotations

import pytest

from coordinator.contract import streams
from coordinator.contract.streams import Kind
from coordinator.logs.port import Stream
from coordinator.model import messages
from tests.contract.goldens import CASES, ROOT, SCHEMAS

# Number -> name, as they were given out. Logs are full of them: add to this table, never change or remove a
# line. A message that is no longer written keeps its line here, and its number is not given to another.
GIVEN_OUT = {
    1: "Invoke",
    2: "Import",
    3: "ImportEnd",
    4: "Act",
    5: "Batch",
    6: "Control",
    7: "Commit",
    8: "Tick",
    9: "Level",
    10: "Started",
    11: "Suspended",
    12: "BackingOff",
    13: "Paused",
    14: "Completed",
    15: "Steps",
    16: "ChildEnded",
    17: "EndChildren",
    18: "Adopt",
    19: "Released",
    20: "Serve",
    32: "Submit",
    33: "RequestControl",
    34: "Decide",
    35: "Lapse",
    36: "Register",
    48: "Progress",
    49: "RequestState",
    64: "Start",
    65: "Signal",
    66: "Drop",
    67: "Context",
    68: "Notify",
    80: "DeadLetter",
}
NUMBERS = {
    Stream.COMMANDS: range(1, 32),
    Stream.REQUESTS: range(32, 48),
    Stream.PROGRESS: range(48, 64),
    Stream.DELIVERIES: range(64, 80),
    Stream.DEAD_LETTERS: range(80, 96),
}
NAMES = [kind.__name__ for kind in streams.KINDS]


def test_no_number_is_given_to_another_message() -> None:
    numbers = [streams.number(kind) for kind in streams.KINDS]
    assert len(set(numbers)) == len(numbers)
    assert {streams.number(kind): kind.__name__ for kind in streams.KINDS} == GIVEN_OUT


@pytest.mark.parametrize("channel", streams.CHANNELS, ids=lambda channel: channel.stream)
def test_the_numbers_of_a_stream_lie_in_its_range(channel: streams.Channel) -> None:
    assert [kind for kind in channel.kinds if streams.number(kind) not in NUMBERS[channel.stream]] == []


def test_every_message_of_the_module_stands_on_one_stream() -> None:
    listed = (
        *messages.COMMANDS,
        *messages.REQUESTS,
        *messages.PROGRESS,
        *messages.DELIVERIES,
        *messages.DEAD_LETTERS,
    )
    assert sorted(kind.__name__ for kind in listed) == sorted(NAMES)
    defined = {
        value
        for value in vars(messages).values()
        if isinstance(value, type) and issubclass(value, messages.Message) and value.__struct_config__.tag != 0
    }
    assert defined == set(streams.KINDS)
    assert [channel.stream for channel in streams.CHANNELS] == list(Stream)


@pytest.mark.parametrize("kind", streams.KINDS, ids=NAMES)
def test_a_message_has_a_schema_golden_bytes_writers_and_a_row_in_the_reference(kind: Kind) -> None:
    name = kind.__name__
    assert (SCHEMAS / "json" / f"{name}.json").is_file()
    assert {f"{name}-minimal", f"{name}-full"} <= set(CASES)
    assert streams.writers(kind)
    reference = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    assert f"| {streams.number(kind)} | [{name}](#{name.lower()}) |" in reference
    assert f"\n### {name}\n" in reference


def test_a_message_is_written_only_where_it_is_listed() -> None:
    of = {channel.stream: channel.kinds for channel in streams.CHANNELS}
    for operation in streams.OPERATIONS:
        assert set(operation.kinds) <= set(of[operation.stream]), operation.name
