"""What the log and the stores hold on a command: read once, judged in `audit` and counted in `cost`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.demo.ledger import Ledger
from coordinator.logs.port import ReadableLog, Record, Stream
from coordinator.model import messages
from coordinator.model.errors import CorruptionError
from coordinator.model.filters import EMPTY
from coordinator.partition.state import decode_state
from coordinator.stores.reader import StoreReader

_CHUNK_RECORDS: Final = 5_000
_CHUNK_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class Order:
    """The command as it was given, with times of this machine's clock in microseconds."""

    request: str
    service: str
    statuses: tuple[str, ...]
    age_us: int
    submitted_at: int
    """Before the HTTP request left."""
    answered_at: int
    """After its answer was there."""


@dataclass(frozen=True)
class Before:
    """One partition's store just before the command."""

    position: int
    ledger: Ledger


def look_before(stores: Sequence[Path], service: str) -> list[Before]:
    """Scan the stores of the partitions, each at one moment."""
    found = []
    for path in stores:
        reader = StoreReader(path)
        try:
            with reader.snapshot():
                stored = reader.state()
                assert stored is not None, "the import is applied"
                state = decode_state(stored)
                rows = reader.rows(EMPTY, after=None, limit=None)
                found.append(Before(state.position, Ledger.of_store(service, rows, state.tick)))
        finally:
            reader.close()
    return found


class Part:
    """The log of one partition, taken apart at the command."""

    def __init__(self, log: ReadableLog, number: int, order: Order, before: Before) -> None:
        """`before` is carried on to the command, too. Raises CorruptionError when the command is not there."""
        self.ledger = Ledger(order.service)
        # What the log says of sleeps before the scan is needed for those that are suspended after it.
        before.ledger.sleeps = self.ledger.sleeps
        self.behind: list[tuple[int, messages.Command]] = []
        """Append times and commands behind the batch's record."""
        command: messages.Batch | None = None
        for record in records(log, Stream.COMMANDS, number):
            if command is not None:
                self.behind.append((record.appended_at, messages.decode_command(record.value)))
                continue
            read = self.ledger.apply(record)
            if isinstance(read, messages.Batch) and read.request == order.request:
                command, self.position, self.appended_at = read, record.position, record.appended_at
            elif record.position > before.position:
                before.ledger.apply(record)
        if command is None or command.filter.created_before is None:
            raise CorruptionError(f"the log of partition {number} does not have batch {order.request} as it was given")
        self.command = command
        self.cutoff = command.filter.created_before
        self.scope = self.ledger.matching(order.statuses, self.cutoff)
        """In scope, worked out from the beginning of the log."""
        self.scope_by_scan = before.ledger.matching(order.statuses, self.cutoff)
        """The same from the scan of the store and the records since."""
        until = self.behind[-1][0] if self.behind else self.appended_at
        due = (self.ledger.due_at.get(id, until + 1) for id in self.scope)
        self.came_due = [at for at in due if at <= until]
        """When those in scope would have gone on that would have by the end of the log."""


def records(log: ReadableLog, stream: Stream, partition: int) -> Iterator[Record]:
    """A whole stream."""
    position = log.bounds(stream, partition).first
    while found := log.read(stream, partition, position, records_max=_CHUNK_RECORDS, bytes_max=_CHUNK_BYTES):
        yield from found
        position = found[-1].position + 1
