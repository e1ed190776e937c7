"""A process that appends is killed; whatever it was told is in the log is there when it is opened again."""

import os
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.port import Entry, Stream
from coordinator.logs.writer import TRIM_SLICE_ROWS_MAX
from tests.logs.processes import PARTITIONS, append_for_ever, fill, said, started

ROUNDS = 5


def values(log: EmbeddedLog, partition: int) -> list[str]:
    found: list[str] = []
    while run := log.read(Stream.COMMANDS, partition, len(found), records_max=1_000, bytes_max=1 << 30):
        assert [record.position for record in run] == list(range(len(found), len(found) + len(run)))
        found += [record.value.decode().rstrip() for record in run]
    return found


def test_what_was_acknowledged_survives_sigkill_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    acknowledged: list[tuple[str, list[int]]] = []
    for number in range(ROUNDS):
        name = f"round-{number}"
        with started(append_for_ever.__name__, path, name) as process:
            # Let each round get further than the last, the later ones past several checkpoints.
            for _ in range(50 * 4**number):
                acknowledged.append(said(process))
            process.kill()
            while (more := said(process)) is not None:
                acknowledged.append(more)
        log = EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
        assert os.path.getsize(f"{path}-wal") == 0, "something readable may not be durable"
        found = values(log, 0)
        assert found == values(log, 1), "an append was torn apart"
        for value, positions in acknowledged:
            assert [found[position] for position in positions] == [value, value]
        mine = [value for value in found if value.startswith(f"{name} ")]
        assert mine == [f"{name} {each}" for each in range(len(mine))], "out of order, or one is missing"
        log.close()
    assert len(acknowledged) >= 50 * 4 ** (ROUNDS - 1)


def rows(path: Path) -> list[int]:
    """How many there are in the file for each partition, also below the first that may be read."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return [connection.execute(f'SELECT count(*) FROM "commands/{number}"').get for number in range(2)]


def test_what_was_trimmed_leaves_the_file_also_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with closing(EmbeddedLog.create_or_open(path, partitions=PARTITIONS)) as log:
        for _ in range(2):
            log.append([Entry(Stream.COMMANDS, partition, b"") for partition in range(2)] * 20_000)
        log.trim(Stream.COMMANDS, 0, 39_999)
        log.trim(Stream.COMMANDS, 1, 39_998)
    left = rows(path)  # closing did not wait for all of them to go
    with closing(EmbeddedLog.create_or_open(path, partitions=PARTITIONS)) as log:
        # Each commit takes a slice with it.
        for _ in range(sum(left) // TRIM_SLICE_ROWS_MAX + 2):
            log.append([Entry(Stream.REQUESTS, 0, b"")])
        assert rows(path) == [1, 2]
        assert [log.bounds(Stream.COMMANDS, number) for number in range(2)] == [(39_999, 40_000), (39_998, 40_000)]


def test_the_room_of_what_was_trimmed_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    size = 0
    with closing(EmbeddedLog.create_or_open(path, partitions=PARTITIONS)) as log:
        for turn in range(4):
            end = log.append([Entry(Stream.COMMANDS, 0, b"x" * 5_000)] * 2_000)[-1] + 1
            log.trim(Stream.COMMANDS, 0, end)
            size = size or path.stat().st_size
            for _ in range(4):
                log.append([Entry(Stream.REQUESTS, 0, b"")])
            assert path.stat().st_size < 2 * size, f"it had grown in turn {turn}"


@pytest.mark.parametrize("bytes_max", [300_000, 3_000_000, 6_000_000])
def test_a_full_disk_ends_appending_and_nothing_else(tmp_path: Path, bytes_max: int) -> None:
    """The smaller sizes are reached by the WAL, the largest one by the database, in a checkpoint."""
    path = tmp_path / "log"
    with started(fill.__name__, path, bytes_max) as process:
        told = said(process)
        assert said(process) == "closed"
    assert told["acknowledged"] == told["readable"] > 5
    first, second = told["refusals"]
    assert first == second
    assert first.startswith("the log cannot be written: ")
    assert "make room" in first
    log = EmbeddedLog.create_or_open(path, partitions=PARTITIONS)
    # One more may be there: nobody can say of a failed append that it did not happen.
    assert log.bounds(Stream.COMMANDS, 0).end in (told["acknowledged"], told["acknowledged"] + 1)
    log.append([Entry(Stream.COMMANDS, 0, b"goes on")])
    log.close()
