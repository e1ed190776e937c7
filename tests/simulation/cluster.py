"""Partitions of one cluster in one process: their logs, their machines, and the links between them.

A record is applied as it is appended, each in a transaction of its own. What the machine sends to a partition
travels on a link: in order for each pair, delayed, and sometimes appended once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from coordinator.model import limits, messages
from coordinator.partition.machine import Machine
from coordinator.partition.outputs import Answer, Outgoing
from coordinator.stores.memory import MemoryStore
from coordinator.stores.port import Store

LOG = "simulated"


class Record(NamedTuple):
    """An entry of a simulated log."""

    position: int
    appended_at: int
    value: bytes


class Bounds(NamedTuple):
    """Limits that are set low in some runs, so that small logs meet them."""

    rows_per_record: int = limits.ROWS_PER_RECORD_MAX
    deliveries: int = limits.DELIVERIES_MAX
    pending: int = limits.PENDING_BATCHES_MAX


@contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """The limits of a run, in force for as long as it lasts."""
    low = {
        "ROWS_PER_RECORD_MAX": bounds.rows_per_record,
        "CHILDREN_PER_RECORD_MAX": bounds.rows_per_record,
        "DELIVERIES_MAX": bounds.deliveries,
        "PENDING_BATCHES_MAX": bounds.pending,
    }
    before = {name: getattr(limits, name) for name in low}
    try:
        for name, value in low.items():
            setattr(limits, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(limits, name, value)


class Partition:
    """A log and the machine that applies it."""

    def __init__(self, number: int, partitions: int, store: Store | None = None) -> None:
        self.number = number
        self.partitions = partitions
        self.store: Store = MemoryStore() if store is None else store
        self.machine = self.open()
        self.log: list[Record] = []
        self.sent: list[Outgoing] = []
        """The whole outbox, in order."""

    def open(self) -> Machine:
        return Machine(self.store, partition=self.number, partitions=self.partitions, log=LOG)

    def restart(self) -> None:
        """What a new process would go on with."""
        self.machine = self.open()

    def append(self, value: bytes, at: int) -> tuple[Answer | None, list[Outgoing]]:
        record = Record(len(self.log), at, value)
        self.log.append(record)
        answer, outgoing = self.apply(record)
        self.sent += outgoing
        return answer, outgoing

    def apply(self, record: Record) -> tuple[Answer | None, list[Outgoing]]:
        self.store.begin()
        answer = self.machine.apply(record)
        self.machine.finish_run(record)
        self.store.commit()
        return answer, self.machine.take_outgoing()


class Links:
    """What is under way between partitions."""

    def __init__(self) -> None:
        self.under_way: dict[tuple[int, int], deque[bytes]] = {}
        self.arrived: dict[tuple[int, int], list[bytes]] = {}

    def send(self, source: int, outgoing: list[Outgoing]) -> None:
        for entry in outgoing:
            if entry.destination >= 0:
                self.under_way.setdefault((source, entry.destination), deque()).append(entry.value)

    def waiting(self) -> list[tuple[int, int]]:
        return [pair for pair, entries in self.under_way.items() if entries]

    def next_of(self, pair: tuple[int, int]) -> bytes:
        value = self.under_way[pair].popleft()
        self.arrived.setdefault(pair, []).append(value)
        return value


def decode(value: bytes) -> messages.Command | None:
    """The command, None where the bytes are none."""
    import msgspec

    try:
        command: messages.Command = messages.decode_command(value)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None
    return command
