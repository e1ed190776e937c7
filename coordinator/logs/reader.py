"""Reading a log's SQLite file: the same for the process that owns the log and for every other one.

Each thread has its own read-only connection, since a connection serves one thread at a time. A read is one
statement in its own snapshot, so it holds up neither the writer nor, for longer than it takes, a checkpoint.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from coordinator.logs import schema
from coordinator.logs.port import Bounds, LogError, Record, Stream, TrimmedError, check_partition

# A reader waits only for the recovery of a file whose owner was killed.
BUSY_MS = 5_000
# Two statements for each partition, of which there may be 256 in two streams.
STATEMENTS_CACHED = 2_048


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except apsw.Error as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: apsw.Error) -> LogError:
    return LogError(f"the log {path} cannot be read: {error}; check the disk, or restore the log from a backup")


class _ThreadConnection:
    """One thread's connection. `with` keeps it from being closed, which another thread does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with errors_of(path):
            self._connection: apsw.Connection | None = apsw.Connection(
                str(path), flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=STATEMENTS_CACHED
            )
            self._connection.set_busy_timeout(BUSY_MS)

    def __enter__(self) -> apsw.Connection:
        self._lock.acquire()
        if self._connection is None:
            self._lock.release()
            raise LogError("the log is closed")
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._lock.release()
        if isinstance(error, apsw.Error):
            raise _unreadable(self._path, error) from error

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class LogReader:
    """The records, bounds and identity in a log's file. Raises LogError when the file is not a log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        # Weak, because the connection of a thread that ended goes with the thread.
        self._connections: weakref.WeakSet[_ThreadConnection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        # Kept besides the threads' connections: while one is open SQLite recovers nothing from the WAL; see
        # `remote` for why that matters.
        if not path.exists():
            raise LogError(f"there is no log at {path}; check the path")
        self._keeper = _ThreadConnection(path)
        with self._keeper as connection:
            self.identity = schema.identity(connection)
            self.counts = schema.partition_counts(connection)
        self._statements = {
            (stream, partition): schema.Statements.of(stream, partition)
            for stream, count in self.counts.items()
            for partition in range(count)
        }

    def partitions(self, stream: Stream) -> int:
        return self.counts[stream]

    def read(self, stream: Stream, partition: int, start: int, *, records_max: int, bytes_max: int) -> list[Record]:
        check_partition(self.counts, stream, partition)
        if start < 0 or records_max < 1:
            raise ValueError(f"a read from {start} of at most {records_max} records")
        statement = self._statements[stream, partition].read
        records: list[Record] = []
        left = bytes_max
        with self._mine() as connection:
            cursor = connection.execute(statement, (start, records_max))
            # Row by row, so that what is over `bytes_max` is never in memory.
            for row in cursor:
                left -= len(row[2])
                if left < 0 and records:
                    break
                records.append(Record._make(row))
            cursor.close()
        if not records:
            first = self.bounds(stream, partition).first
            if start < first:
                raise TrimmedError(stream, partition, start, first)
        return records

    def bounds(self, stream: Stream, partition: int) -> Bounds:
        check_partition(self.counts, stream, partition)
        with self._mine() as connection:
            return Bounds._make(connection.execute(self._statements[stream, partition].bounds).get)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        for connection in connections:
            connection.close()
        self._keeper.close()

    def _mine(self) -> _ThreadConnection:
        mine: _ThreadConnection | None = getattr(self._local, "mine", None)
        if mine is None:
            with self._lock:
                if self._closed:
                    raise LogError("the log is closed")
                mine = _ThreadConnection(self._path)
                self._connections.add(mine)
            self._local.mine = mine
        return mine
