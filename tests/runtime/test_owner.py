"""What the loop of a partition does about a store that fails under it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, Log, Stream
from coordinator.model import limits, messages
from coordinator.runtime.owner import PartitionOwner
from coordinator.stores import schema
from coordinator.stores.sqlite import SqliteStore


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
