"""What stands on disk, read with as little of the system as can be: SQL, and the log's own reader."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from coordinator.logs.port import ReadableLog, Record, Stream
from coordinator.logs.reader import LogReader
from coordinator.model import messages
from coordinator.partition.state import BatchState


class Evidence:
    """A log, and the store of each partition."""

    def __init__(self, log: ReadableLog, stores: Sequence[Path]) -> None:
        self.log = log
        self.stores = stores

    def stored(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that a query finds in the stores of all partitions."""
        return [row for partition in range(len(self.stores)) for row in self.stored_on(partition, sql, *values)]

    def stored_on(self, partition: int, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that a query finds in the store of one partition."""
        connection = sqlite3.connect(f"file:{self.stores[partition]}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def records(self, stream: Stream, partition: int = 0) -> Iterator[Record]:
        """All records of one partition of a stream."""
        position = self.log.bounds(stream, partition).first
        while found := self.log.read(stream, partition, position, records_max=1_000, bytes_max=1 << 24):
            yield from found
            position = found[-1].position + 1

    def commands(self) -> Iterator[tuple[int, int, messages.Command]]:
        """Partition, position and message of each command that can be read."""
        for partition in range(self.log.partitions(Stream.COMMANDS)):
            for record in self.records(Stream.COMMANDS, partition):
                with contextlib.suppress(*messages.UNREADABLE):
                    yield partition, record.position, messages.decode_command(record.value)

    def started(self) -> set[str]:
        """The invocations that were ever delivered to be run."""
        partitions = range(self.log.partitions(Stream.DELIVERIES))
        records = (record for partition in partitions for record in self.records(Stream.DELIVERIES, partition))
        deliveries = (messages.decode_delivery(record.value) for record in records)
        return {delivery.id for delivery in deliveries if isinstance(delivery, messages.Start)}

    def dead_letters(self) -> list[messages.DeadLetter]:
        """What could not be read or taken."""
        return [messages.decode_dead_letter(record.value) for record in self.records(Stream.DEAD_LETTERS)]

    def batches(self, partition: int) -> list[BatchState]:
        """What a partition keeps of the batches that it knows."""
        found = self.stored_on(partition, "SELECT value FROM batch")
        return [msgspec.msgpack.decode(value, type=BatchState) for (value,) in found]


@contextlib.contextmanager
def of_embedded(data: Path) -> Iterator[Evidence]:
    """That of a data directory with the embedded log, beside its server or without one."""
    log = LogReader(data / "log.sqlite")
    try:
        yield Evidence(log, sorted(data.glob("partition-*.sqlite")))
    finally:
        log.close()


def stored(data: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """`Evidence.stored` of a data directory."""
    with of_embedded(data) as found:
        return found.stored(sql, *values)


def records(data: Path, stream: Stream, partition: int = 0) -> Iterator[Record]:
    """`Evidence.records` of a data directory."""
    with of_embedded(data) as found:
        yield from found.records(stream, partition)


def started(data: Path) -> set[str]:
    """`Evidence.started` of a data directory."""
    with of_embedded(data) as found:
        return found.started()


def dead_letters(data: Path) -> list[messages.DeadLetter]:
    """`Evidence.dead_letters` of a data directory."""
    with of_embedded(data) as found:
        return found.dead_letters()
