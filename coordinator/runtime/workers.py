"""The server's side of its worker processes: starting them, hearing them, starting them again.

Threads of one process would share the interpreter lock with the HTTP loop; measured on two cores, processes
kill twice as fast (docs/architecture.md has the figures).
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from coordinator.logs import frames
from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.remote import LogServer
from coordinator.runtime.channel import TOLD, Standing, Told
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.policy import SnapshotPolicy

_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class WorkerPool:
    """Keeps every partition owned by one worker process."""

    def __init__(
        self,
        data: DataDirectory,
        log: EmbeddedLog,
        partitions: int,
        on_told: Callable[[Told], None],
        snapshots: SnapshotPolicy | None = None,
    ) -> None:
        """`on_told` is called on threads of the pool, for each message of a worker."""
        self._data = data
        self._snapshots = snapshots
        self._server = LogServer(log)
        self._on_told = on_told
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.standings: dict[int, Standing] = {}
        """The newest word of each owned partition; none of those whose worker is gone."""
        count = min(partitions, max(1, os.cpu_count() or 1))
        self._shares = [tuple(range(first, partitions, count)) for first in range(count)]
        self._processes: dict[tuple[int, ...], subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the worker processes, and go on starting them until `close`."""
        for share in self._shares:
            thread = threading.Thread(target=self._keep, args=(share,), name=f"worker-{share[0]}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def owner(self, partition: int) -> str | None:
        """Which process owns the partition, None while none does."""
        if partition not in self.standings:
            return None
        for share, process in self._processes.items():
            if partition in share:
                return f"worker-{share[0]} (pid {process.pid})"
        return None

    def close(self) -> None:
        """End the workers. What they have not applied stays on the log."""
        self._stopping.set()
        with self._lock:
            for process in self._processes.values():
                process.terminate()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _keep(self, share: tuple[int, ...]) -> None:
        logger = structlog.get_logger().bind(partitions=share)
        starts = 0
        while not self._stopping.is_set():
            code = self._run_once(share)
            for partition in share:
                self.standings.pop(partition, None)
            if self._stopping.is_set():
                return
            pause = _BACKOFF_S[min(starts, len(_BACKOFF_S) - 1)]
            starts += 1
            logger.error("worker ended, starting another", code=code, after_s=pause)
            self._stopping.wait(pause)

    def _run_once(self, share: Sequence[int]) -> int:
        """One life of a worker process; its exit code."""
        log_here, log_there = socket.socketpair()
        control_here, control_there = socket.socketpair()
        with log_there, control_there:
            fds = (log_there.fileno(), control_there.fileno())
            command = [sys.executable, "-m", "coordinator.runtime.worker", str(self._data.path)]
            command += [str(fd) for fd in fds] + [msgspec.json.encode(self._snapshots).decode()]
            command += [str(number) for number in share]
            with self._lock:
                if self._stopping.is_set():
                    return 0
                process = subprocess.Popen(command, pass_fds=fds)  # noqa: S603 - our own module
                self._processes[tuple(share)] = process
        self._server.attach(log_here)
        with control_here:
            for told in frames.receive(control_here, TOLD):
                if isinstance(told, Standing):
                    self.standings[told.partition] = told
                self._on_told(told)
        return process.wait()
