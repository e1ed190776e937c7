"""Reading the deliveries of all partitions from a log that is waited for: a thread for each partition.

A log whose brokers are away for a while is waited for too; one that has been replaced is not.
"""

import threading
from collections.abc import Mapping
from typing import Final

import structlog

from coordinator.logs.port import Log, LogError, LogReplacedError, Stream, TrimmedError
from coordinator.model import limits
from coordinator.runtime.dispatch.feed import OnRun

WAIT_S: Final = 0.5
"""How long a thread waits at most before it looks whether it is to stop."""
AGAIN_S: Final = 0.5


class FeedByWaiting:
    """Follows `deliveries` from given positions on, from `start` until `close`."""

    def __init__(self, log: Log, positions: Mapping[int, int], on_run: OnRun) -> None:
        """`positions` has the next position to read of each partition."""
        self.failure: str | None = None
        """Why nothing is read any more, once that is so."""
        self._log: Final = log
        self._positions: Final = dict(positions)
        self._on_run: Final = on_run
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to read."""
        for partition, position in self._positions.items():
            name = f"deliveries-{partition}"
            threading.Thread(target=self._follow, args=(partition, position), name=name, daemon=True).start()

    def close(self) -> None:
        """Stop. The threads hold nothing and are not waited for."""
        self._over.set()

    def _follow(self, partition: int, position: int) -> None:
        while not self._over.is_set():
            try:
                position = self._read(partition, position)
                self._log.wait(Stream.DELIVERIES, partition, position, WAIT_S)
            except (LogReplacedError, TrimmedError) as error:
                self.failure = f"deliveries cannot be read: {error}"
                structlog.get_logger().error("deliveries_stopped", error=str(error))
                return
            except LogError as error:
                if not self._over.wait(AGAIN_S):
                    structlog.get_logger().warning("deliveries_read_again", error=str(error), after_s=AGAIN_S)

    def _read(self, partition: int, position: int) -> int:
        """Hand on what there is; where to go on."""
        while not self._over.is_set():
            run = self._log.read(
                Stream.DELIVERIES,
                partition,
                position,
                records_max=limits.RUN_RECORDS_MAX,
                bytes_max=limits.RUN_BYTES_MAX,
            )
            if not run:
                break
            position = run[-1].position + 1
            self._on_run(partition, [record.value for record in run])
        return position
