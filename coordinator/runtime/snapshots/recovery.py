"""Taking a partition over where its store is not, or is too old: the newest snapshot that can be trusted, then replay.

A snapshot belongs to the log if its record is the log's record at that position, and is of use if the log goes on
right behind it. One that is damaged is passed over, with a line in the server's log, and the next older one is
tried. If none is left and the log does not begin at its beginning, that is corruption: nothing can be made up
for records that are gone.
"""

from collections.abc import Iterator
from pathlib import Path

import structlog
import xxhash

from coordinator.logs.port import ReadableLog, Stream, TrimmedError
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.partition.state import State, decode_state
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.making import fetch, scratch
from coordinator.stores.archive import Listed, SnapshotArchive, SnapshotGoneError, SnapshotName
from coordinator.stores.copies import put_in_place
from coordinator.stores.lock import StoreLock
from coordinator.stores.reader import StoreReader
from coordinator.stores.sqlite import SqliteStore, errors_of

logger = structlog.get_logger(__name__)


def open_store(data: DataDirectory, log: ReadableLog, partition: int, archive: SnapshotArchive | None) -> SqliteStore:
    """The partition's store, from a snapshot where there is none or the log no longer reaches back to it.

    Raises CorruptionError when the log can be joined neither to the store nor to any snapshot, StoreInUseError when
    another process has the store, TransientError when the archive is needed and cannot be reached.
    """
    path = data.store(partition)
    if archive is not None:
        lock = StoreLock(path)
        try:
            _bring_up(data, log, partition, archive)
        finally:
            lock.release()
    return SqliteStore(path)


def _bring_up(data: DataDirectory, log: ReadableLog, partition: int, archive: SnapshotArchive) -> None:
    path, first = data.store(partition), log.bounds(Stream.COMMANDS, partition).first
    state = stored_state(path)
    if state is not None and (state.log != log.identity or state.partition != partition):
        return  # somebody has mixed up files; whoever opens it says so
    position = -1 if state is None else state.position
    if position >= 0 and position + 1 >= first:
        return
    try:
        found = restore(data, log, partition, archive)
    except TransientError as error:
        if first > 0:
            raise
        logger.warning("snapshots cannot be reached, replaying the log", partition=partition, reason=str(error))
        return
    if found is None and first > 0:
        raise CorruptionError(
            f"the log of partition {partition} begins at {first}, its store ends at {position}, and no snapshot in "
            f"{archive.place} can be used in between; put back a snapshot of log {log.identity} from position "
            f"{first - 1} on, or a copy of the store that is as new"
        )


def stored_state(path: Path) -> State | None:
    """The scalars of a store; None where there is no file, or nothing in it yet."""
    reader = StoreReader(path)
    try:
        stored = reader.state()
        with errors_of(path):
            return None if stored is None else decode_state(stored)
    finally:
        reader.close()


def restore(data: DataDirectory, log: ReadableLog, partition: int, archive: SnapshotArchive) -> SnapshotName | None:
    """Put the newest usable snapshot in the place of the store; None, and nothing is changed, when there is none.

    The caller holds the store's lock.
    """
    with scratch(data.restored(partition)) as folder:
        for name, copy in usable(log, partition, archive, folder):
            put_in_place(copy, data.store(partition))
            logger.info("store restored from a snapshot", partition=partition, position=name.position)
            return name
    return None


def usable(
    log: ReadableLog, partition: int, archive: SnapshotArchive, folder: Path, *, oldest: bool = False
) -> Iterator[tuple[SnapshotName, Path]]:
    """Snapshots that the log goes on from, each fetched and verified when it is asked for; the newest first.

    Raises TransientError when the archive cannot be reached, and in the end when one was removed meanwhile: there are
    newer ones.
    """
    gone: SnapshotGoneError | None = None
    listed = belonging(log, partition, archive)
    for name, *_ in reversed(listed) if oldest else listed:
        try:
            copy = fetch(name, archive, folder)
        except SnapshotGoneError as error:
            gone = error
            continue
        except CorruptionError as error:
            logger.error("snapshot passed over", partition=partition, position=name.position, reason=str(error))
            continue
        yield name, copy
    if gone is not None:
        raise gone


def belonging(log: ReadableLog, partition: int, archive: SnapshotArchive) -> list[Listed]:
    """The snapshots that the log goes on from, by position, newest first. Reads none of them."""
    first, end = log.bounds(Stream.COMMANDS, partition)
    found = []
    for listed in archive.list(log.identity, partition):
        name = listed.name
        if name.position + 1 < first:
            break
        if name.position >= end or not _is_of(log, name, first):
            logger.error(
                "snapshot passed over",
                partition=partition,
                position=name.position,
                reason="the log has another record there, or none: it was set back after the snapshot was made",
            )
            continue
        found.append(listed)
    return found


def _is_of(log: ReadableLog, name: SnapshotName, first: int) -> bool:
    """Whether the snapshot's last record is the log's; one that is trimmed is believed."""
    if name.position < first:
        return True
    try:
        [record] = log.read(Stream.COMMANDS, name.partition, name.position, records_max=1, bytes_max=1)
    except TrimmedError:
        return True
    return xxhash.xxh3_64_intdigest(record.value) == name.record
