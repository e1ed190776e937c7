"""Reading the deliveries of all partitions as they come, in one thread.

The log tells which partitions have grown; those are read up to their ends, run by run.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from coordinator.logs.embedded import EmbeddedLog, Ends
from coordinator.logs.port import LogError, Stream
from coordinator.model import limits

OnRun = Callable[[int, Sequence[bytes]], None]
"""Called on the feed's thread: the partition, and deliveries of it in their order."""


class Feed:
    """Follows `deliveries` from given positions on, from `start` until `close`."""

    def __init__(self, log: EmbeddedLog, positions: Mapping[int, int], on_run: OnRun) -> None:
        """`positions` has the next position to read of each partition."""
        self.failure: str | None = None
        """Why nothing is read any more, once that is so."""
        self._log: Final = log
        self._next = dict(positions)
        self._on_run: Final = on_run
        self._moved = set(positions)
        self._condition = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)
        self._unfollow = log.follow(self._ends_moved)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the run at hand."""
        self._unfollow()
        with self._condition:
            self._over = True
            self._condition.notify()
        self._thread.join()

    def _ends_moved(self, ends: Ends) -> None:
        """On the log's writing thread."""
        moved = [partition for stream, partition, _ in ends if stream is Stream.DELIVERIES]
        if moved:
            with self._condition:
                self._moved.update(moved)
                self._condition.notify()

    def _run(self) -> None:
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(lambda: self._moved or self._over)
                    if self._over:
                        return
                    moved, self._moved = self._moved, set()
                for partition in moved:
                    self._read(partition)
        except LogError as error:
            self.failure = f"deliveries cannot be read: {error}"
            if not self._over:
                structlog.get_logger().error("deliveries_stopped", error=str(error))

    def _read(self, partition: int) -> None:
        while not self._over:
            run = self._log.read(
                Stream.DELIVERIES,
                partition,
                self._next[partition],
                records_max=limits.RUN_RECORDS_MAX,
                bytes_max=limits.RUN_BYTES_MAX,
            )
            if not run:
                return
            self._next[partition] = run[-1].position + 1
            self._on_run(partition, [record.value for record in run])
