"""Publishing the outbox: at least once, in order, per destination.

What a run has sent is handed to the log after the run's commit and forgotten in the store once the log has
it. When an append fails, what follows it waits until all that is under way has come back, and publishing
starts over at the lowest number that is not acknowledged; receivers drop what they had.

While more than OUTBOX_UNPUBLISHED_MAX entries are not acknowledged the outbox is full: its partition waits, and applies
nothing. That is said once, and again only after the outbox has been half empty.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

import structlog

from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.model import limits
from coordinator.partition.outputs import Outgoing
from coordinator.partition.state import DEAD_LETTERS, DELIVERIES, PROGRESS
from coordinator.stores.port import Store

_STREAMS: Final = {DELIVERIES: Stream.DELIVERIES, PROGRESS: Stream.PROGRESS, DEAD_LETTERS: Stream.DEAD_LETTERS}
_BYTES_MAX: Final = limits.RUN_BYTES_MAX
_ENTRIES_MAX: Final = 4_096


class _UnderWay(NamedTuple):
    future: Future[list[int]]
    newest: dict[int, int]
    """Per destination the highest number in it."""
    entries: int


class Publisher:
    """Carries one partition's outbox to the log."""

    def __init__(self, log: Log, partition: int) -> None:
        self._log = log
        self._partition = partition
        self._under_way: deque[_UnderWay] = deque()
        self._to_trim: dict[int, int] = {}
        self._said_full = False
        self._logger = structlog.get_logger().bind(partition=partition)
        self.unpublished = 0
        """Entries that the log has not acknowledged."""

    def publish_stored(self, store: Store) -> None:
        """At a take-over: begin anew, with whatever the store still keeps."""
        self._under_way.clear()
        self._to_trim.clear()
        self.unpublished = 0
        for destination in store.outbox_destinations():
            above = 0
            while entries := store.outbox_list(destination, above, _ENTRIES_MAX):
                above = entries[-1][0]
                self.publish([Outgoing(destination, number, value) for number, value in entries])

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Hand entries to the log, in pieces that it takes; waits only while too much is under way."""
        start = size = 0
        for end, item in enumerate(outgoing):
            size += len(item.value)
            if size > _BYTES_MAX or end - start >= _ENTRIES_MAX:
                self._submit(outgoing[start:end])
                start, size = end, len(item.value)
        if start < len(outgoing):
            self._submit(outgoing[start:])
        while self.unpublished > limits.OUTBOX_UNPUBLISHED_MAX:
            self._say_full()
            self.settle(wait=True)

    def _submit(self, outgoing: Sequence[Outgoing]) -> None:
        entries = [self._entry(item) for item in outgoing]
        newest = {item.destination: item.number for item in outgoing}
        self._under_way.append(_UnderWay(self._log.submit(entries), newest, len(entries)))
        self.unpublished += len(entries)

    def _entry(self, item: Outgoing) -> Entry:
        if item.destination >= 0:
            return Entry(Stream.COMMANDS, item.destination, item.value)
        stream = _STREAMS[item.destination]
        return Entry(stream, self._partition if stream is Stream.DELIVERIES else 0, item.value)

    def settle(self, *, wait: bool = False) -> None:
        """Take note of what the log has acknowledged; with `wait`, of the oldest at least.

        Raises LogError when an append failed, after the others have come back: the caller takes over anew.
        """
        while self._under_way and (wait or self._under_way[0].future.done()):
            wait = False
            item = self._under_way.popleft()
            error = item.future.exception()
            if error is not None:
                for other in self._under_way:
                    other.future.exception()
                raise error if isinstance(error, LogError) else LogError(str(error))
            self._to_trim.update(item.newest)
            self.unpublished -= item.entries
        if self._said_full and self.unpublished <= limits.OUTBOX_UNPUBLISHED_MAX // 2:
            self._said_full = False
            self._logger.info("outbox has room again", unpublished=self.unpublished)

    def _say_full(self) -> None:
        if not self._said_full:
            self._said_full = True
            self._logger.warning(
                "outbox full: the partition waits until the log has acknowledged what it was sent",
                unpublished=self.unpublished,
            )

    def trim(self, store: Store) -> None:
        """Inside a transaction: forget what was acknowledged."""
        for destination, upto in self._to_trim.items():
            store.outbox_trim(destination, upto)
        self._to_trim.clear()
