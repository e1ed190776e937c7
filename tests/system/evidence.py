"""What stands on disk, read with as little of the system as can be: SQL, and the log's own reader."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from coordinator.logs.port import Record, Stream
from coordinator.logs.reader import LogReader
from coordinator.model import messages
from coordinator.partition.state import BatchState


def stored(data: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows that a query finds in the stores of all partitions."""
    found: list[tuple[Any, ...]] = []
    for path in sorted(data.glob("partition-*.sqlite")):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            found += connection.execute(sql, values).fetchall()
        finally:
            connection.close()
    return found


def records(data: Path, stream: Stream, partition: int = 0) -> Iterator[Record]:
    """All records of one partition of a stream."""
    reader = LogReader(data / "log.sqlite")
    try:
        position = reader.bounds(stream, partition).first
        while found := reader.read(stream, partition, position, records_max=1_000, bytes_max=1 << 24):
            yield from found
            position = found[-1].position + 1
    finally:
        reader.close()


def commands(data: Path, partitions: int = 4) -> Iterator[messages.Command]:
    """The readable commands on all partitions."""
    for partition in range(partitions):
        for record in records(data, Stream.COMMANDS, partition):
            try:
                yield messages.decode_command(record.value)
            except messages.UNREADABLE:
                continue


def started(data: Path, partitions: int = 4) -> set[str]:
    """The invocations that were ever delivered to be run."""
    found: set[str] = set()
    for partition in range(partitions):
        for record in records(data, Stream.DELIVERIES, partition):
            delivery = messages.decode_delivery(record.value)
            if isinstance(delivery, messages.Start):
                found.add(delivery.id)
    return found


def dead_letters(data: Path) -> list[messages.DeadLetter]:
    """What could not be read or taken."""
    return [messages.decode_dead_letter(record.value) for record in records(data, Stream.DEAD_LETTERS)]


def batches(data: Path) -> list[BatchState]:
    """What the partitions keep of the batches they know."""
    return [msgspec.msgpack.decode(value, type=BatchState) for (value,) in stored(data, "SELECT value FROM batch")]
