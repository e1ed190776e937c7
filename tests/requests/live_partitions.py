"""Fake partitions on a real log: what they apply comes from `commands`, what they tell goes to `progress`."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from coordinator.logs.port import Entry, Log, LogError, Stream
from coordinator.model.messages import Batch, Commit, Control, decode_command, encode
from tests.requests.fake_partition import FakePartition

SPEED = 200
"""Seconds on the tests' clock for one of the wall's: what is sent again after 5 s comes in 25 ms."""


def fast_clock(since_s: float) -> Callable[[], int]:
    """A clock that several processes can share."""
    return lambda: int((since_s + (time.time() - since_s) * SPEED) * 1_000_000)


class LivePartitions:
    """Fake partitions in a thread of their own, until `close`."""

    def __init__(self, log: Log, clock: Callable[[], int], seed: int) -> None:
        count = log.partitions(Stream.COMMANDS)
        rng = random.Random(seed)
        self._log = log
        self._clock = clock
        self.partitions = [FakePartition(number, count, rng) for number in range(count)]
        self.gone: set[int] = set()
        self._next = [0] * count
        self._told = [0] * count
        self._over = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        assert self.error is None, self.error

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                moved = [self._turn(one) for one in self.partitions if one.number not in self.gone]
                if not any(moved):
                    self._over.wait(0.002)
        except (AssertionError, KeyError, LogError) as error:
            self.error = error

    def _turn(self, one: FakePartition) -> bool:
        run = self._log.read(Stream.COMMANDS, one.number, self._next[one.number], records_max=3, bytes_max=1 << 20)
        for record in run:
            command = decode_command(record.value)
            assert isinstance(command, Batch | Control | Commit)
            one.apply(command, record.appended_at)
            self._next[one.number] = record.position + 1
        worked = one.work(self._clock())
        while one.mail and one.mail[0][1] not in self.gone:
            source, to, request = one.mail.pop(0)
            self.partitions[to].receive(source, request, self._clock())
        return self._tell() or bool(run) or worked

    def _tell(self) -> bool:
        entries = []
        for one in self.partitions:
            entries += [Entry(Stream.PROGRESS, 0, encode(told)) for told in one.told[self._told[one.number] :]]
            self._told[one.number] = len(one.told)
        if entries:
            self._log.append(entries)
        return bool(entries)
