"""What the loop of a partition does about a store that fails under it, and when it appends ticks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import apsw
import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Bounds, Entry, Log, LogError, Stream
from coordinator.model import limits, messages
from coordinator.model.filters import Filter
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.owner import PartitionOwner
from coordinator.stores import schema
from coordinator.stores.sqlite import SqliteStore

FAR_US: Final = 4_102_444_800 * limits.SECOND_US


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog.create_or_open(tmp_path / "log.sqlite", partitions={})
    yield opened
    opened.close()


def invoke(number: int) -> Entry:
    id = f"inv_1{number:033}"
    return Entry(Stream.COMMANDS, 0, messages.encode(messages.Invoke(id=id, service="S", handler="h")))


def run(log: Log, path: Path) -> PartitionOwner:
    """Own the partition until its log is applied, or it stands still."""
    owner = PartitionOwner(log, partial(SqliteStore, path), 0, on_applied=lambda *_: owner.stop())
    owner.run()
    return owner


def test_damage_that_is_found_while_it_runs_names_the_file_and_what_to_do(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "partition-0.sqlite"
    log.append([invoke(1)])
    assert run(log, path).failure is None
    connection = apsw.Connection(str(path))
    page = int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'invocation_created'").get)
    size = int(connection.pragma("page_size"))
    connection.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = b"\xa5" * size
    path.write_bytes(content)
    monkeypatch.setattr(schema, "CHECKED_PAGES", 0)  # as if the file were too large to be checked whole
    log.append([invoke(2)])
    failure = run(log, path).failure
    assert failure is not None
    assert failure.startswith(f"the store {path} is damaged (")
    assert failure.endswith("move it and the files beside it away, and it is made again from the log")


def test_a_disk_that_is_full_for_a_while_is_waited_for(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter(range(3))
    insert = SqliteStore.insert

    def failing(*arguments: object) -> None:
        if next(failures, None) is not None:
            raise apsw.FullError("database or disk is full")
        insert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteStore, "insert", failing)
    log.append([invoke(1)])
    owner = run(log, tmp_path / "partition-0.sqlite")
    assert (owner.failure, owner.records) == (None, 1)


def test_a_log_that_is_trimmed_before_it_was_applied_stops_it_with_what_to_do(log: EmbeddedLog, tmp_path: Path) -> None:
    log.append([invoke(number) for number in range(limits.RUN_RECORDS_MAX + 9)])
    first = limits.RUN_RECORDS_MAX + 5

    def trim(*_: object) -> None:
        log.trim(Stream.COMMANDS, 0, first)

    owner = PartitionOwner(log, partial(SqliteStore, tmp_path / "partition-0.sqlite"), 0, on_applied=trim)
    owner.run()
    applied = limits.RUN_RECORDS_MAX - 1
    assert (owner.position, owner.records) == (applied, limits.RUN_RECORDS_MAX), "nothing was skipped"
    assert owner.failure is not None
    assert owner.failure.startswith(f"partition 0 is applied up to position {applied} but its log begins at {first}: ")
    assert (
        f"start again with --snapshots, which names where there is one of position {first - 1} or later"
        in owner.failure
    )


class Watched:
    """A log that counts what it is asked, and loses the first so many commands."""

    def __init__(self, log: EmbeddedLog, *, loses: int = 0) -> None:
        self._log = log
        self._loses = loses
        self.asked_for_bounds = 0
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def bounds(self, stream: Stream, partition: int) -> Bounds:
        self.asked_for_bounds += 1
        return self._log.bounds(stream, partition)

    def submit(self, entries: Sequence[Entry]) -> "Future[list[int]]":
        if entries[0].stream is Stream.COMMANDS and self.lost < self._loses:
            self.lost += 1
            return Future()
        return self._log.submit(entries)


def scheduled(number: int) -> Entry:
    id = f"inv_1{number:033}"
    return Entry(Stream.COMMANDS, 0, messages.encode(messages.Invoke(id=id, service="S", handler="h", due_at=FAR_US)))


def kill() -> Entry:
    batch = messages.Batch(request="b", action="kill", filter=Filter(service="S"), not_after=FAR_US)
    return Entry(Stream.COMMANDS, 0, messages.encode(batch))


def test_under_lag_ticks_go_on_and_nobody_asks_where_the_log_ends(log: EmbeddedLog, tmp_path: Path) -> None:
    watched = Watched(log)
    log.append([scheduled(1), kill()])
    lag = [invoke(number) for number in range(2, 4_000)]

    def applied(_partition: int, position: int, _answers: object) -> None:
        if position == 1:
            log.append(lag)  # the tick that the kill wants comes behind all of these
        if owner.ticks > 1:
            owner.stop()

    owner = PartitionOwner(cast(Log, watched), partial(SqliteStore, tmp_path / "store"), 0, on_applied=applied)
    owner.run()
    assert owner.failure is None
    assert watched.asked_for_bounds == 1, "only when it took over"


def test_a_tick_that_never_came_is_appended_again(log: EmbeddedLog, tmp_path: Path) -> None:
    watched = Watched(log, loses=1)
    log.append([scheduled(1), kill()])

    def applied(_partition: int, position: int, _answers: object) -> None:
        if position > 1:
            owner.stop()

    def now_us() -> int:
        return wall_clock_us() + watched.lost * 6 * limits.SECOND_US

    owner = PartitionOwner(
        cast(Log, watched), partial(SqliteStore, tmp_path / "store"), 0, on_applied=applied, now_us=now_us
    )
    owner.run()
    assert (owner.failure, watched.lost, owner.ticks) == (None, 1, 1)


class Refusing:
    """A log that fails the first append of deliveries."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def submit(self, entries: Sequence[Entry]) -> "Future[list[int]]":
        if entries[0].stream is not Stream.DELIVERIES or self._refused:
            return self._log.submit(entries)
        self._refused = True
        failed: Future[list[int]] = Future()
        failed.set_exception(LogError("nobody takes it"))
        return failed


def test_what_was_applied_is_answered_though_the_outbox_is_full_and_cannot_be_published(
    log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OUTBOX_UNPUBLISHED_MAX", 0)
    log.append([invoke(1)])
    answered: list[int] = []
    positions: list[int] = []

    def taken_over() -> None:
        positions.append(owner.position)
        if len(positions) == 2:
            owner.stop()

    owner = PartitionOwner(
        cast(Log, Refusing(log)),
        partial(SqliteStore, tmp_path / "partition-0.sqlite"),
        0,
        on_applied=lambda _partition, _position, answers: answered.extend(answer.code for answer in answers),
        on_taken_over=taken_over,
    )
    owner.run()
    assert (positions, answered) == ([-1, 0], [200])
    assert log.bounds(Stream.DELIVERIES, 0).end == 1, "published at the next take-over"
    assert (owner.failure, owner.unpublished) == (None, 0)
