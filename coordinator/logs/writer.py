"""The one thread that writes an embedded log: queue, group, commit, tell. The theory stands in `embedded`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import apsw
import structlog

from coordinator.logs.checkpoints import Checkpoints
from coordinator.logs.port import Bounds, LogError, Stream
from coordinator.logs.schema import Statements

GROUP_ENTRIES_MAX = 4_096
GROUP_BYTES_MAX = 8 << 20
# What may wait for the writer; an append that finds more waiting waits itself.
QUEUED_BYTES_MAX = 64 << 20
# What an entry or a submit weighs in these bounds besides its values: about what it takes in memory.
ENTRY_OVERHEAD_BYTES = 100
TRIM_SLICE_ROWS_MAX = 4_096
TRIM_SLICE_BYTES_MAX = 8 << 20

logger = structlog.get_logger(__name__)


class Partition:
    """What the writer knows of one partition. The writer alone changes it."""

    def __init__(self, stream: Stream, number: int, statements: Statements, bounds: Bounds, appended_at: int) -> None:
        self.stream = stream
        self.number = number
        self.statements = statements
        self.first, self.end = bounds
        self.appended_at = appended_at
        self.moved = threading.Condition()  # notified when `end` has moved, and when the log is closed


@dataclass(frozen=True, slots=True)
class Append:
    partitions: list[Partition]  # one for each value
    values: list[bytes]
    weight: int  # bytes
    done: Future[list[int]]


@dataclass(frozen=True, slots=True)
class Trim:
    partition: Partition
    below: int
    done: Future[None]
    weight: int = ENTRY_OVERHEAD_BYTES


@dataclass(slots=True)
class _Group:
    """What one transaction changes: worked out before it begins, taken over in memory after its commit."""

    values: dict[Partition, list[bytes]] = field(default_factory=dict)
    firsts: dict[Partition, int] = field(default_factory=dict)
    appended: list[tuple[Future[list[int]], list[int]]] = field(default_factory=list)
    trimmed: list[Future[None]] = field(default_factory=list)

    @classmethod
    def of(cls, operations: Iterable[Append | Trim]) -> _Group:
        group = cls()
        for operation in operations:
            if isinstance(operation, Append):
                positions = []
                for partition, value in zip(operation.partitions, operation.values, strict=True):
                    values = group.values.get(partition)
                    if values is None:
                        values = group.values[partition] = []
                    positions.append(partition.end + len(values))
                    values.append(value)
                group.appended.append((operation.done, positions))
            else:
                partition = operation.partition
                end = partition.end + len(group.values.get(partition, ()))
                first = max(partition.first, group.firsts.get(partition, 0), min(operation.below, end))
                group.firsts[partition] = first
                group.trimmed.append(operation.done)
        return group


class Writer:
    """Takes operations from any thread and resolves their futures, in the order they came.

    `told` is called with the partitions whose end has moved, by the writing thread, and must not block.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        checkpoints: Checkpoints,
        partitions: Iterable[Partition],
        now_us: Callable[[], int],
        told: Callable[[Iterable[Partition]], None],
    ) -> None:
        self._connection = connection
        self._checkpoints = checkpoints
        self._now_us = now_us
        self._told = told
        # Those that may still have rows below their first position.
        self._trimming = {partition for partition in partitions if partition.first > 0}
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._queue: deque[Append | Trim] = deque()
        self._queued_bytes = 0
        self._refusal: str | None = None  # why nothing more is taken
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, operation: Append | Trim) -> None:
        # From here on `cancel` has no effect: nobody can take back what may already be in the log.
        operation.done.set_running_or_notify_cancel()
        with self._lock:
            # The writing thread itself, in a future's callback, must not wait for room that it has to make.
            while self._queued_bytes > QUEUED_BYTES_MAX and threading.current_thread() is not self._thread:
                if self._refusal is not None:
                    break
                self._room.wait()
            if self._refusal is not None:
                raise LogError(self._refusal)
            self._queue.append(operation)
            self._queued_bytes += operation.weight
            self._work.notify()

    def close(self) -> None:
        """Write what is queued, then stop."""
        self._refuse("the log is closed")
        self._thread.join()

    def _refuse(self, why: str) -> None:
        with self._lock:
            self._refusal = self._refusal or why
            self._work.notify_all()
            self._room.notify_all()

    def _run(self) -> None:
        operations: list[Append | Trim] = []
        try:
            while True:
                operations = self._take()
                if not operations and self._refusal is not None:
                    return
                group = _Group.of(operations)
                self._commit(group)
                self._take_over(group)
                operations = []
                self._checkpoints.after_commit()
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait in vain for this thread
            self._fail(operations, error)

    def _fail(self, operations: list[Append | Trim], error: Exception) -> None:
        logger.error("log_writer_failed", exc_info=error)
        why = f"the log cannot be written: {error}; make room or repair the disk, then start its owner again"
        self._refuse(why)
        with self._lock:
            operations = [*operations, *self._queue]
            self._queue.clear()
        for operation in operations:
            operation.done.set_exception(LogError(why))

    def _take(self) -> list[Append | Trim]:
        """The next group's operations: none if there is only trimming to do, or if it is time to stop."""
        taken: list[Append | Trim] = []
        entries = size = 0
        with self._lock:
            while not self._queue and not self._trimming and self._refusal is None:
                self._work.wait()
            while self._queue and entries < GROUP_ENTRIES_MAX and size < GROUP_BYTES_MAX:
                operation = self._queue.popleft()
                taken.append(operation)
                entries += len(operation.values) if isinstance(operation, Append) else 1
                size += operation.weight
            self._queued_bytes -= size
            self._room.notify_all()
        return taken

    def _commit(self, group: _Group) -> None:
        execute = self._connection.execute
        now = self._now_us()
        execute("BEGIN IMMEDIATE")
        try:
            for partition, values in group.values.items():
                # Also taken over when the commit fails: all that is asked of it is that it never decreases.
                partition.appended_at = max(partition.appended_at, now)
                bindings = (partition.end, partition.appended_at, apsw.carray(tuple(values)))
                execute(partition.statements.insert, bindings)
            for partition, first in group.firsts.items():
                execute(partition.statements.trim, (first, partition.appended_at))
            self._delete_slice()
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _delete_slice(self) -> None:
        while self._trimming:
            partition = next(iter(self._trimming))
            bindings = (partition.first, TRIM_SLICE_ROWS_MAX, TRIM_SLICE_BYTES_MAX)
            last = self._connection.execute(partition.statements.slice, bindings).get
            if last is not None:
                self._connection.execute(partition.statements.delete, (last,))
                return
            self._trimming.discard(partition)

    def _take_over(self, group: _Group) -> None:
        for partition, first in group.firsts.items():
            partition.first = first
            self._trimming.add(partition)
        for partition, values in group.values.items():
            with partition.moved:
                partition.end += len(values)
                partition.moved.notify_all()
        if group.values:
            self._told(group.values)
        for appended, positions in group.appended:
            appended.set_result(positions)
        for trimmed in group.trimmed:
            trimmed.set_result(None)
