"""A worker process: owns some partitions, one thread each, and lives no longer than the server.

Started by `workers` as `python -m coordinator.runtime.worker DATA LOG_FD CONTROL_FD SNAPSHOTS PARTITION…`, with a
`SnapshotPolicy` in JSON, or null. The sockets are its life line: when the server process ends, however it ends, they
close, and the worker exits at once; nothing is lost by that, because whatever it has applied can be applied again.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from coordinator.logs import frames
from coordinator.logs.remote import RemoteLog
from coordinator.partition.outputs import Answer
from coordinator.runtime.channel import Applied, Standing
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.logging import configure_logging
from coordinator.runtime.owner import PartitionOwner
from coordinator.runtime.snapshots.owned_stores import OwnedStores
from coordinator.runtime.snapshots.policy import SnapshotPolicy

_STANDING_INTERVAL_S: Final = 1.0
_decode_policy: Final = msgspec.json.Decoder(SnapshotPolicy | None).decode


class Worker:
    """The owners of this process and the channel on which they tell."""

    def __init__(
        self,
        data: DataDirectory,
        log: RemoteLog,
        control: socket.socket,
        snapshots: SnapshotPolicy | None,
        partitions: Sequence[int],
    ) -> None:
        self._control = control
        self._sending = threading.Lock()
        self._stores = OwnedStores(data, log, snapshots)
        self._owners = [self._owner(log, number) for number in partitions]

    def _owner(self, log: RemoteLog, partition: int) -> PartitionOwner:
        owner = PartitionOwner(
            log,
            self._stores.own(partition),
            partition,
            on_applied=self._applied,
            on_taken_over=lambda: self._tell_standing(owner),
        )
        return owner

    def run(self) -> None:
        """Own the partitions until the process ends."""
        for owner in self._owners:
            threading.Thread(target=self._own, args=(owner,), name=f"partition-{owner.partition}", daemon=True).start()
        self._stores.start()
        never = threading.Event()
        while not never.wait(_STANDING_INTERVAL_S):
            for owner in self._owners:
                self._tell_standing(owner)

    def _own(self, owner: PartitionOwner) -> None:
        owner.run()
        self._tell_standing(owner)

    def _applied(self, partition: int, position: int, answers: Sequence[Answer]) -> None:
        self._tell(Applied(partition, position, list(answers)))

    def _tell_standing(self, owner: PartitionOwner) -> None:
        kept = self._stores.kept(owner.partition)
        self._tell(
            Standing(
                owner.partition,
                owner.took_over,
                owner.failure,
                owner.records,
                owner.ticks,
                owner.longest_step_us,
                *kept,
                unpublished=owner.unpublished,
            )
        )

    def _tell(self, message: frames.Message) -> None:
        with self._sending:
            try:
                self._control.sendall(frames.frame(message))
            except OSError:
                end_process()


def end_process() -> None:
    """The server is gone: end here and now. What is not committed is applied again by the next owner."""
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    path, log_fd, control_fd, snapshots, *partitions = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the server ends its workers
    configure_logging()
    data = DataDirectory(Path(path))
    log = RemoteLog(data.log, socket.socket(fileno=int(log_fd)), on_gone=end_process)
    policy = _decode_policy(snapshots)
    Worker(data, log, socket.socket(fileno=int(control_fd)), policy, [int(number) for number in partitions]).run()


if __name__ == "__main__":
    main(sys.argv[1:])
