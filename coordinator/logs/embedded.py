"""The embedded log: every stream in one SQLite file, written by one thread of the one process that owns it.

Theory of operation.

**Group commit.** `submit` queues; the writer takes whatever is queued, up to a bound, into one transaction, so
that one sync serves many callers; then it moves the ends, wakes who waits for them and resolves the futures.
While one group syncs the next one gathers, so the load itself sets the size of the groups.

**Nobody reads what is not durable.** With `synchronous=FULL` a commit in WAL mode writes its frames, syncs the
WAL, and only then enters the frames in the wal-index and publishes them there (SQLite's src/wal.c, `walFrames`:
`sqlite3OsSync`, then `walIndexAppend`, then `walIndexWriteHdr`). Readers, of this process or another, take their
snapshot from the published header, so they see a commit after its sync and never before.

**Except after a crash.** A process killed between writing a commit's frames and syncing them leaves frames
that the kernel has and the disk may not. The next to open the file finds them intact in the WAL and recovers
them: readable, not durable, and gone with the next power cut although somebody has acted on them. So opening a
log checkpoints it before anything else can see it: a checkpoint syncs the WAL, copies it into the database and
syncs that (`walCheckpoint`, same file).

**The GIL.** SQLite runs without it, and a thread that computes gives it back only after the switch interval (5
ms), so every statement of the writer can cost that much. Hence one statement for each partition of a group,
which takes all its values through carray(), and not one for each record.

**Trimming** moves a mark, which is durable when the call returns; the rows go in bounded slices between
groups, and what a crash leaves of them goes after the next start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import apsw

from coordinator.logs import schema
from coordinator.logs.checkpoints import Checkpoints
from coordinator.logs.lock import FileLock
from coordinator.logs.port import (
    Bounds,
    Entry,
    LogError,
    PartitionsDifferError,
    Record,
    Stream,
    check_entries,
    check_partition,
)
from coordinator.logs.reader import BUSY_MS, STATEMENTS_CACHED, LogReader, errors_of
from coordinator.logs.schema import Statements
from coordinator.logs.writer import ENTRY_OVERHEAD_BYTES, Append, Partition, Trim, Writer
from coordinator.model.limits import PARTITIONS_MAX

# Room for the pages of a whole group, so that none is written before the commit and then once more.
WRITER_CACHE_KIB = 32 << 10
# A WAL that grew larger than this, behind a reader that stood still, is cut when it starts over.
WAL_BYTES_KEPT = 32 << 20

Ends = Sequence[tuple[Stream, int, int]]  # stream, partition, end


def wall_clock_us() -> int:
    return time.time_ns() // 1_000


class EmbeddedLog:
    """The log in the file at `path`, owned by this process until `close`.

    Beside the file lie `<path>-wal` and `<path>-shm`, which are SQLite's and belong to it, and `<path>.lock`.
    """

    @classmethod
    def create_or_open(
        cls,
        path: str | os.PathLike[str],
        *,
        partitions: Mapping[Stream, int],
        now_us: Callable[[], int] = wall_clock_us,
    ) -> EmbeddedLog:
        """Open the log; make it if there is none. A stream that is not named has one partition.

        Raises LogLockedError when another process owns it, PartitionsDifferError when it was made with other
        numbers of partitions, LogError when the file is something else.
        """
        counts = dict.fromkeys(Stream, 1) | dict(partitions)
        if not all(1 <= count <= PARTITIONS_MAX for count in counts.values()):
            raise ValueError(f"a stream has between 1 and {PARTITIONS_MAX} partitions, not {_text(counts)}")
        return cls(Path(path), counts, now_us)

    def __init__(self, path: Path, counts: Mapping[Stream, int], now_us: Callable[[], int]) -> None:
        with ExitStack() as stack:
            stack.callback(FileLock(path.with_name(path.name + ".lock")).release)
            connection = _open(path, counts)
            stack.callback(connection.close)
            self._reader = LogReader(path)
            stack.callback(self._reader.close)
            if self._reader.counts != counts:
                raise PartitionsDifferError(
                    f"{path} was made with {_text(self._reader.counts)}, not with {_text(counts)}; "
                    "start with those numbers, or with another directory for the data"
                )
            with errors_of(path):
                self._partitions = _load(connection, counts)
            self._resources = stack.pop_all()
        self.identity = self._reader.identity
        self._followers: list[Callable[[Ends], None]] = []
        self._closed = False
        checkpoints = Checkpoints(connection, busy_ms=BUSY_MS)
        self._writer = Writer(connection, checkpoints, self._partitions.values(), now_us, self._tell)

    def partitions(self, stream: Stream) -> int:
        return self._reader.counts[stream]

    def submit(self, entries: Sequence[Entry]) -> Future[list[int]]:
        weight = check_entries(self._reader.counts, entries) + ENTRY_OVERHEAD_BYTES * (len(entries) + 1)
        partitions = [self._partitions[entry[:2]] for entry in entries]
        done: Future[list[int]] = Future()
        self._writer.put(Append(partitions, [entry[2] for entry in entries], weight, done))
        return done

    def append(self, entries: Sequence[Entry]) -> list[int]:
        return self.submit(entries).result()

    def read(self, stream: Stream, partition: int, start: int, *, records_max: int, bytes_max: int) -> list[Record]:
        return self._reader.read(stream, partition, start, records_max=records_max, bytes_max=bytes_max)

    def bounds(self, stream: Stream, partition: int) -> Bounds:
        return self._reader.bounds(stream, partition)

    def trim(self, stream: Stream, partition: int, below: int) -> None:
        check_partition(self._reader.counts, stream, partition)
        done: Future[None] = Future()
        self._writer.put(Trim(self._partitions[stream, partition], below, done))
        done.result()

    def wait(self, stream: Stream, partition: int, position: int, timeout_s: float) -> bool:
        check_partition(self._reader.counts, stream, partition)
        awaited = self._partitions[stream, partition]
        with awaited.moved:
            awaited.moved.wait_for(lambda: position < awaited.end or self._closed, timeout_s)
            if self._closed:
                raise LogError("the log is closed")
            return position < awaited.end

    def follow(self, follower: Callable[[Ends], None]) -> Callable[[], None]:
        """Call `follower` with the ends that have moved, from the writing thread, which it must not hold up.

        Returns what ends that.
        """
        self._followers = [*self._followers, follower]
        return lambda: self._unfollow(follower)

    def close(self) -> None:
        self._writer.close()
        self._closed = True
        for partition in self._partitions.values():
            with partition.moved:
                partition.moved.notify_all()
        self._resources.close()

    def _unfollow(self, follower: Callable[[Ends], None]) -> None:
        self._followers = [other for other in self._followers if other != follower]

    def _tell(self, moved: Iterable[Partition]) -> None:
        ends = [(partition.stream, partition.number, partition.end) for partition in moved]
        for follower in self._followers:
            follower(ends)


def _open(path: Path, counts: Mapping[Stream, int]) -> apsw.Connection:
    """The writer's connection to a file that holds a log and nothing that is not durable."""
    with errors_of(path):
        connection = apsw.Connection(str(path), statementcachesize=STATEMENTS_CACHED)
    try:
        connection.set_busy_timeout(BUSY_MS)
        connection.pragma("page_size", schema.PAGE_BYTES)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("cache_size", -WRITER_CACHE_KIB)
        connection.pragma("journal_size_limit", WAL_BYTES_KEPT)
        connection.wal_autocheckpoint(0)
        # What a killed process had written and not yet synced is readable now; see the top of this file.
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        if schema.is_empty(connection):
            schema.create(connection, counts)
    except apsw.Error as error:
        connection.close()
        raise LogError(
            f"{path} cannot be opened as a log: {error}; check the path and the disk, or restore the log from a backup"
        ) from error
    return connection


def _load(connection: apsw.Connection, counts: Mapping[Stream, int]) -> dict[tuple[Stream, int], Partition]:
    loaded = {}
    for stream, count in counts.items():
        for number in range(count):
            statements = Statements.of(stream, number)
            bounds = Bounds._make(connection.execute(statements.bounds).get)
            appended_at = connection.execute(statements.appended_at).get
            loaded[stream, number] = Partition(stream, number, statements, bounds, appended_at)
    return loaded


def _text(counts: Mapping[Stream, int]) -> str:
    return ", ".join(f"{stream}={count}" for stream, count in sorted(counts.items()))
