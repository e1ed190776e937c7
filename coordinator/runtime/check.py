"""`coordinator check`: replay each partition's log into a fresh store and compare.

The live store is read beside its owner, in one snapshot, at the position that it has applied; the replay goes
up to just there. Both are compared as canonical dumps, row by row, and by the outbox: the number and the
chained digest of every destination stand in the dumped state, and entries that are still kept are compared
byte by byte.

A log that was trimmed is replayed from the oldest snapshot that it goes on from, so that as much of it as there is
is checked, and that snapshot with it; without one, that is said and not passed over. A store that was left behind,
as a worker on Kafka keeps one of a partition that it has lost, and beyond which the log was trimmed since, has nothing
that it could be compared with.
"""

import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

from coordinator.logs.port import ReadableLog, Stream, TrimmedError
from coordinator.model import limits
from coordinator.model.errors import CorruptionError
from coordinator.partition.machine import Machine
from coordinator.partition.state import State, decode_state
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.recovery import usable
from coordinator.stores.archive import SnapshotArchive
from coordinator.stores.port import Store
from coordinator.stores.reader import StoreReader
from coordinator.stores.sqlite import SqliteStore, errors_of

_SHOWN: Final = 10


class PartitionCheck(NamedTuple):
    """What a partition's replay showed."""

    partition: int
    position: int
    """The store's applied position, up to which was replayed; -1 for none here, one without a position, or damaged."""
    rows: int
    """Stored facts that were compared."""
    differences: list[str]
    """The first few; empty when store and log are equal."""
    since: int = -1
    """Position of the snapshot that was replayed from; -1 for the log's beginning."""
    log_begins: int = -1
    """Where the log begins, for a store that was left behind: nothing could be compared; -1 for all others."""


def check(data: DataDirectory, log: ReadableLog, archive: SnapshotArchive | None = None) -> Iterator[PartitionCheck]:
    """Check all stores of a data directory, one after another. Works beside a live server.

    Raises TransientError when snapshots are needed and cannot be reached.
    """
    for partition in range(log.partitions(Stream.COMMANDS)):
        try:
            yield _check_partition(data, log, partition, archive)
        except (CorruptionError, TrimmedError) as error:
            yield PartitionCheck(partition, -1, 0, [str(error)])


def _check_partition(
    data: DataDirectory, log: ReadableLog, partition: int, archive: SnapshotArchive | None
) -> PartitionCheck:
    path = data.store(partition)
    if not path.exists():
        return PartitionCheck(partition, -1, 0, [])
    reader = StoreReader(path)
    try:
        with reader.snapshot():
            stored = reader.state()
            if stored is None:
                return PartitionCheck(partition, -1, 0, [])
            with errors_of(path):
                state = decode_state(stored)
            first = log.bounds(Stream.COMMANDS, partition).first
            if first > state.position + 1 and (state.log, state.partition) == (log.identity, partition):
                return PartitionCheck(partition, state.position, 0, [], log_begins=first)
            with tempfile.TemporaryDirectory(prefix="coordinator-check-") as folder:
                fresh = _fresh(log, state, archive, Path(folder))
                try:
                    since, differences = replay(log, fresh, state)
                    if differences:
                        return PartitionCheck(partition, state.position, 0, differences)
                    return _compare(reader, fresh, state)._replace(since=since)
                finally:
                    fresh.close()
    finally:
        reader.close()


def _fresh(log: ReadableLog, state: State, archive: SnapshotArchive | None, folder: Path) -> SqliteStore:
    """An empty store, or that of a snapshot where the log does not go back to its beginning."""
    path = folder / "replayed.sqlite"
    if archive is not None and log.bounds(Stream.COMMANDS, state.partition).first > 0:
        for name, copy in usable(log, state.partition, archive, folder, oldest=True):
            if name.position <= state.position:
                copy.rename(path)
                break
    return SqliteStore(path)


def replay(log: ReadableLog, store: Store, state: State) -> tuple[int, list[str]]:
    """Apply the log to the store, from where that stands up to the state's position.

    Where it stood, and what keeps that from being possible.
    """
    store.begin()
    machine = Machine(store, partition=state.partition, partitions=state.partitions, log=state.log)
    store.commit()
    since = machine.state.position
    first = log.bounds(Stream.COMMANDS, state.partition).first
    if first > since + 1:
        return since, [
            f"the log begins at position {first} and cannot be replayed from its beginning; name with --snapshots "
            f"where the snapshots are, one of which must be of position {first - 1} or later"
        ]
    while machine.state.position < state.position:
        start = machine.state.position + 1
        wanted = min(limits.RUN_RECORDS_MAX, state.position - start + 1)
        records = log.read(Stream.COMMANDS, state.partition, start, records_max=wanted, bytes_max=limits.RUN_BYTES_MAX)
        if not records:
            return since, [f"the log ends at position {start - 1}, the store has applied {state.position}"]
        store.begin()
        for record in records:
            machine.apply(record)
        machine.finish_run(records[-1])
        store.commit()
        machine.take_outgoing()
    return since, []


def _compare(reader: StoreReader, fresh: SqliteStore, state: State) -> PartitionCheck:
    differences: list[str] = []
    rows = 0
    for stored, replayed in zip_longest(reader.dump(), fresh.dump()):
        rows += 1
        if stored != replayed:
            differences.append(f"stored {_short(stored)}, replayed {_short(replayed)}")
            if len(differences) == _SHOWN:
                break
    for destination, number, value in reader.outbox():
        entries = fresh.outbox_list(destination, number - 1, 1)
        if entries != [(number, value)]:
            differences.append(f"outbox entry {number} for destination {destination} differs from the replayed one")
    return PartitionCheck(state.partition, state.position, rows, differences[:_SHOWN])


def _short(fact: tuple[str, tuple[Any, ...]] | None) -> str:
    if fact is None:
        return "nothing"
    text = f"{fact[0]} {fact[1]!r}"
    return text if len(text) <= 300 else text[:300] + "…"
