"""The processes of a system on Kafka, as tests start them, and this process beside them: it appends and it hears.

What owners tell is heard as a process with a gateway hears it. Times are those of the machine's clock, which is the
broker's as well, so that they can be compared with append times.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.kafka.session import KafkaSession, delete_topics
from bench.system import append_all
from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.kafka.loop import Loop
from coordinator.logs.port import Entry, Stream
from coordinator.runtime.channel import Standing, Told
from coordinator.runtime.group.directory import Directory
from coordinator.runtime.group.membership import group
from coordinator.runtime.group.remote_owners import RemoteOwners
from tests.system.kafka import Process, System

PATIENCE_S: Final = 900.0
"""Nothing takes this long, not even a million records on a machine with a lot else to do; what does is broken."""
_SESSION_MS: Final = 60_000
"""Longer than workers are held still."""
_LOOK_S: Final = 0.005


class Heard:
    """What owners have told of their partitions since this was made."""

    def __init__(self, settings: KafkaSettings, partitions: int) -> None:
        self._changed = threading.Condition()
        self._positions: list[list[int]] = [[-1] for _ in range(partitions)]
        self._times: list[list[float]] = [[time.time()] for _ in range(partitions)]
        self._failure: str | None = None
        self._loop = Loop("heard")
        self._loop.call(self._start(settings, partitions))

    async def _start(self, settings: KafkaSettings, partitions: int) -> None:
        self._owners = RemoteOwners(Directory(settings, group(settings), Stream.COMMANDS), partitions)
        self._owners.start(self._told)

    def close(self) -> None:
        """Hear no more."""
        self._loop.call(self._owners.close())
        self._loop.close()

    def _told(self, told: Told) -> None:
        now = time.time()
        with self._changed:
            if isinstance(told, Standing):
                self._failure = self._failure or told.failure
            elif told.position > self._positions[told.partition][-1]:
                self._positions[told.partition].append(told.position)
                self._times[told.partition].append(now)
            self._changed.notify_all()

    def position(self, partition: int) -> int:
        """Up to where it is known to be applied."""
        return self._positions[partition][-1]

    def owners(self, partitions: int) -> list[str | None]:
        """Where the owner of each partition answers; None where there is none that has caught up."""
        found = [self._owners.standing(number) for number in range(partitions)]
        return [
            self._owners.owner(number) if standing is not None and standing.took_over else None
            for number, standing in enumerate(found)
        ]

    def await_applied(self, last: Mapping[int, int]) -> float:
        """Wait until each partition is applied up to this position; when the last of them was heard to be."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: self._failure is not None or all(self.position(one) >= last[one] for one in last),
                PATIENCE_S,
            )
        if self._failure is not None:
            raise RuntimeError(f"an owner stands still: {self._failure}")
        if not there:
            raise TimeoutError(f"the owners did not reach {last} in {PATIENCE_S:.0f} s")
        return max(self.applied_at(partition, position) for partition, position in last.items())

    def applied_at(self, partition: int, position: int) -> float:
        """When it was heard that this position is committed."""
        return self._times[partition][bisect_left(self._positions[partition], position)]


class KafkaSystem(System):
    """Processes on topics of their own; `log` and `heard` are this process's ends of it."""

    def __init__(self, directory: Path, bootstrap: str, partitions: int) -> None:
        super().__init__(directory, bootstrap, partitions=partitions)
        self.log: Final = KafkaLog(self.settings)
        self.heard: Final = Heard(self.settings, partitions)

    def end(self) -> None:
        """End all of it."""
        self.heard.close()
        super().end()
        self.log.close()
        delete_topics(self.settings)

    def start_workers(self, count: int) -> list[Process]:
        """So many of them, once all partitions are owned and each worker owns as many."""
        workers = [self.process_with("partitions", session_timeout_ms=str(_SESSION_MS)) for _ in range(count)]
        for worker in workers:
            worker.start()
        shares = {worker.address: self.partitions // count for worker in workers}
        self.await_that(lambda: _counts(self.heard.owners(self.partitions)) == shares, "share the partitions out")
        return workers

    def start_front(self) -> None:
        """The coordinator, which also answers users, once it does."""
        self.front(self.process_with("requests,http").start())
        self.await_that(self.is_ready, "be ready")

    def await_that(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"the processes did not {what} in {PATIENCE_S:.0f} s:\n{self.said()}")
            time.sleep(_LOOK_S)

    def append(self, values: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Append commands to their partitions, in turns; the position of the last in each, once all are durable."""
        entries = [Entry(Stream.COMMANDS, partition, value) for partition, of in values.items() for value in of]
        last: dict[int, int] = {}
        for entry, position in zip(entries, append_all(self.log, entries), strict=True):
            last[entry.partition] = position
        return last


@contextmanager
def system(session: KafkaSession, partitions: int) -> Iterator[KafkaSystem]:
    """Topics, and no process yet."""
    with session.folder() as folder, KafkaSystem(folder, session.bootstrap, partitions) as of:
        yield of


def pids(processes: Sequence[Process]) -> list[int]:
    """Of processes that run."""
    return [process.process.pid for process in processes if process.process is not None]


def _counts(owners: Sequence[str | None]) -> dict[str | None, int]:
    return {owner: list(owners).count(owner) for owner in owners}
