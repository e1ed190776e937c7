"""One partition as the server runs it: the log in this process, the owner in a worker process.

A measurement appends here and hears here, as the server's HTTP side does; the owner has an interpreter of its
own. In one process owner, log writer and load generator would share an interpreter lock, and what is
measured would be how they get in each other's way.
"""

import os
import re
import signal
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import apsw
import msgspec

from bench import workloads
from coordinator.logs.port import Entry, Log, Stream
from coordinator.model import limits, messages
from coordinator.partition.outputs import Answer
from coordinator.partition.state import State
from coordinator.runtime.channel import Applied, Standing, Told
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.policy import SnapshotPolicy
from coordinator.runtime.workers import WorkerPool

PATIENCE_S: Final = 300.0
"""Nothing that is measured takes this long; what does is broken."""
_APPEND_ENTRIES: Final = 1_000
_APPENDS_UNDER_WAY: Final = 16
_MIB: Final = 1024  # KiB

OnApplied = Callable[[float, Sequence[Answer]], None]
"""Called on a thread of the pool after each commit of the owner: when it was heard of, and the answers."""


class System:
    """A data directory with one partition and, from `start` on, its owner."""

    def __init__(self, folder: Path, snapshots: SnapshotPolicy | None = None) -> None:
        self._data = DataDirectory(folder)
        self.log: Final = self._data.open_log(1)
        self.store_path: Final = self._data.store(0)
        self.log_path: Final = self._data.log
        self.on_applied: OnApplied | None = None
        self._pool = WorkerPool(self._data, self.log, 1, self._told, snapshots)
        self._changed = threading.Condition()
        self._positions: list[int] = []
        self._times: list[float] = []
        self._standing: Standing | None = None
        self._standings = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.close()
        self.log.close()

    # -- appending -------------------------------------------------------------------------------------------

    def submit(self, *values: bytes) -> Future[list[int]]:
        """Append commands without waiting for the disk."""
        return self.log.submit([workloads.entry(value) for value in values])

    def append(self, value: bytes) -> int:
        """Append one command; its position, once it is durable."""
        return self.submit(value).result()[0]

    def append_all(self, values: Sequence[bytes]) -> int:
        """Append commands, many at a time; the position of the last, once all are durable."""
        return append_all(self.log, [workloads.entry(value) for value in values])[-1]

    # -- the owner -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the worker process, and wait until it has applied something."""
        self.append(messages.encode(messages.Tick(tick=0)))  # a no-op, so that there is something to apply
        with _stderr_to(self.store_path.with_name("worker.log")):
            self._pool.start()
            self._await(lambda: bool(self._positions), "take the partition over")

    def _told(self, told: Told) -> None:
        now = time.perf_counter()
        if isinstance(told, Applied):
            with self._changed:
                self._positions.append(told.position)
                self._times.append(now)
                self._changed.notify_all()
            if self.on_applied is not None:
                self.on_applied(now, told.answers)
        else:
            with self._changed:
                self._standing = told
                self._standings += 1
                self._changed.notify_all()

    def _await(self, reached: Callable[[], bool], what: str) -> None:
        with self._changed:
            reached_or_failed = self._changed.wait_for(lambda: reached() or self._failure() is not None, PATIENCE_S)
            if self._failure() is not None:
                raise RuntimeError(f"the owner stands still: {self._failure()}")
            if not reached_or_failed:
                raise TimeoutError(f"the owner did not {what} in {PATIENCE_S:.0f} s")

    def _failure(self) -> str | None:
        return None if self._standing is None else self._standing.failure

    def await_applied(self, position: int) -> float:
        """Wait until the record at this position is committed; when that was heard of."""
        self._await(lambda: bool(self._positions) and self._positions[-1] >= position, f"reach position {position}")
        return self.applied_at(position)

    def applied_at(self, position: int) -> float:
        """When it was heard that this position is committed."""
        return self._times[bisect_left(self._positions, position)]

    def runs(self) -> list[tuple[int, float]]:
        """Each commit so far: the position that it reached and when it was heard of."""
        return list(zip(self._positions, self._times, strict=False))

    def standing(self) -> Standing:
        """How the owner is doing, told after this call."""
        seen = self._standings
        self._await(lambda: self._standings > seen, "tell how it is doing")
        assert self._standing is not None
        return self._standing

    def longest_step_ms(self) -> float:
        """The owner's longest step since it was started."""
        return self.standing().longest_step_us / 1e3

    def pid(self) -> int:
        """The worker process."""
        self._await(lambda: self._standing is not None, "tell how it is doing")
        found = re.search(r"pid (\d+)", self._pool.owner(0) or "")
        assert found is not None, "the partition has an owner"
        return int(found[1])

    def memory_mb(self) -> tuple[float, float, float]:
        """VmRSS, RssAnon and the peak of VmRSS of the worker process, in MiB."""
        status = Path(f"/proc/{self.pid()}/status").read_text()
        rss, anon, peak = (
            int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) / _MIB  # type: ignore[index]
            for name in ("VmRSS", "RssAnon", "VmHWM")
        )
        return rss, anon, peak

    def state(self) -> State:
        """The partition's scalars as they are committed."""
        return stored_state(self.store_path)

    # -- progress --------------------------------------------------------------------------------------------

    def progress(self, start: int) -> Iterator[messages.Progress]:
        """What partitions tell, from this position of the stream on, as soon as it can be read."""
        deadline = time.perf_counter() + PATIENCE_S
        while time.perf_counter() < deadline:
            if not self.log.wait(Stream.PROGRESS, 0, start, 1.0):
                continue
            for record in self.log.read(Stream.PROGRESS, 0, start, records_max=1_000, bytes_max=limits.RUN_BYTES_MAX):
                start = record.position + 1
                message = messages.decode_progress(record.value)
                if isinstance(message, messages.Progress):
                    yield message
        raise TimeoutError(f"no progress in {PATIENCE_S:.0f} s")

    def progress_end(self) -> int:
        """Where the next progress will stand."""
        return self.log.bounds(Stream.PROGRESS, 0).end

    def completed(self, request: str, start: int) -> messages.Progress:
        """Wait for the progress that says that the batch is over."""
        return next(told for told in self.progress(start) if told.request == request and told.state == "completed")

    def commands(self, start: int) -> Iterator[messages.Command]:
        """What stands on the partition's log from this position on."""
        while records := self.log.read(
            Stream.COMMANDS, 0, start, records_max=limits.RUN_RECORDS_MAX, bytes_max=limits.RUN_BYTES_MAX
        ):
            for record in records:
                yield messages.decode_command(record.value)
            start = records[-1].position + 1


def append_all(log: Log, entries: Sequence[Entry]) -> list[int]:
    """Append a lot, many at a time; the positions, once all are durable."""
    under_way: deque[Future[list[int]]] = deque()
    positions: list[int] = []
    for start in range(0, len(entries), _APPEND_ENTRIES):
        if len(under_way) == _APPENDS_UNDER_WAY:
            positions += under_way.popleft().result()
        under_way.append(log.submit(entries[start : start + _APPEND_ENTRIES]))
    for future in under_way:
        positions += future.result()
    return positions


@contextmanager
def held_still(*pids: int) -> Iterator[None]:
    """Processes that wait while something is made ready for them, and all begin when the block ends."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def cpu_s(*pids: int) -> float:
    """CPU seconds that processes have used so far."""
    used = 0
    for pid in pids:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        used += int(user) + int(system)
    return used / os.sysconf("SC_CLK_TCK")


def stored_state(store: Path) -> State:
    """The scalars in a store's file."""
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return msgspec.msgpack.decode(
            connection.execute("SELECT value FROM scalar WHERE name = 'state'").get, type=State
        )
    finally:
        connection.close()


@contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Processes started in here write their log lines to a file and not between ours."""
    kept = os.dup(2)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
