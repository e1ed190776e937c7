"""`coordinator check` where there is nothing to compare."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.logs.port import Stream
from tests.cli.conftest import Cli
from tests.snapshots import Partition


@pytest.fixture
def partition(tmp_path: Path) -> Iterator[Partition]:
    opened = Partition(tmp_path / "coordinator-data", None)
    yield opened
    opened.close()


def test_a_directory_without_a_store_is_bad_usage(cli: Cli, partition: Partition) -> None:
    done = cli("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: there is no store in coordinator-data; give --data a worker's directory\n"


def test_a_partition_without_a_store_is_not_said_to_be_equal(cli: Cli, partition: Partition) -> None:
    partition.data.store(1).touch()
    terminal = cli.on_a_terminal("check")
    assert (terminal.close(), terminal.shown) == (0, "partition 0: no store here\n")
    done = cli("check")
    found = json.loads(done.stdout)
    assert (done.returncode, found["position"], found["rows"], found["differences"]) == (0, -1, 0, [])


def test_a_store_that_was_left_behind_is_said_to_be_and_no_difference(cli: Cli, partition: Partition) -> None:
    partition.grow(5)
    partition.append(5)
    partition.log.trim(Stream.COMMANDS, 0, 6)
    terminal = cli.on_a_terminal("check")
    says = "partition 0 was left behind at 4 and the log begins at 6: nothing to compare it with\n"
    assert (terminal.close(), terminal.shown) == (0, says)
    done = cli("check")
    found = json.loads(done.stdout)
    assert (done.returncode, found["position"], found["differences"], found["log_begins"]) == (0, 4, [], 6)
