"""What the embedded log promises beyond the port: appends are atomic over partitions, and its clock never goes back."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, Record, Stream

ANY = 1 << 30


class Opened:
    """A log with a clock that the test sets."""

    def __init__(self, path: Path) -> None:
        self.now_us = 1_000_000
        self._path = path
        self.log = self._open()

    def reopen(self) -> None:
        self.log.close()
        self.log = self._open()

    def _open(self) -> EmbeddedLog:
        return EmbeddedLog.create_or_open(self._path, partitions={Stream.COMMANDS: 2}, now_us=lambda: self.now_us)

    def append(self, value: bytes = b"", *, partition: int = 0) -> None:
        self.log.append([Entry(Stream.COMMANDS, partition, value)])

    def records(self, *, partition: int = 0) -> list[Record]:
        start = self.log.bounds(Stream.COMMANDS, partition).first
        return self.log.read(Stream.COMMANDS, partition, start, records_max=10_000, bytes_max=ANY)

    def times(self, *, partition: int = 0) -> list[int]:
        return [record.appended_at for record in self.records(partition=partition)]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    it = Opened(tmp_path / "log")
    yield it
    it.log.close()


class TestAtomicity:
    def test_concurrent_appends_are_each_in_one_piece_and_in_one_order(self, opened: Opened) -> None:
        def append(thread: int) -> None:
            for number in range(50):
                value = b"%d %d" % (thread, number)
                opened.log.append([Entry(Stream.COMMANDS, partition, value) for partition in (0, 0, 1)])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(append, range(4)))
        found = [record.value for record in opened.records()]
        assert found[::2] == found[1::2], "a pair was torn apart"
        assert found[::2] == [record.value for record in opened.records(partition=1)], "the partitions disagree"

    def test_readers_see_whole_appends_while_they_are_made(self, opened: Opened) -> None:
        pair = [Entry(Stream.COMMANDS, 0, b"x"), Entry(Stream.COMMANDS, 0, b"y")]
        with ThreadPoolExecutor(1) as pool:
            appended = pool.submit(lambda: [opened.log.append(pair) for _ in range(200)])
            end = 0
            while end < 400:
                count = len(opened.records())
                assert count % 2 == 0
                assert count >= end, "what was once read is gone"
                end = count
            appended.result()


class TestAppendTime:
    def test_it_is_the_clock_s(self, opened: Opened) -> None:
        opened.now_us = 1_700_000_000_123_456
        opened.append()
        assert opened.times() == [1_700_000_000_123_456]

    def test_it_stands_still_while_the_clock_is_behind(self, opened: Opened) -> None:
        for opened.now_us in (5_000_000, 3_000_000, 4_000_000, 5_000_001):
            opened.append()
        assert opened.times() == [5_000_000] * 3 + [5_000_001]

    def test_each_partition_has_its_own(self, opened: Opened) -> None:
        opened.now_us = 5_000_000
        opened.append(partition=0)
        opened.now_us = 3_000_000
        opened.append(partition=1)
        assert opened.times(partition=1) == [3_000_000]

    @pytest.mark.parametrize("trimmed", [False, True])
    def test_it_never_decreases_over_a_restart(self, opened: Opened, trimmed: bool) -> None:
        opened.now_us = 5_000_000
        opened.append()
        if trimmed:
            opened.log.trim(Stream.COMMANDS, 0, 1)
        opened.now_us = 3_000_000
        opened.reopen()
        opened.append()
        assert opened.times()[-1] == 5_000_000
