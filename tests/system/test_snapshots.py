"""Snapshots of a real server: made by themselves, to a directory and to S3; restored where the stores are missing."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.logs.port import Stream
from coordinator.logs.reader import LogReader
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.snapshots.making import fetch, scratch
from coordinator.stores.archive import SnapshotArchive
from coordinator.stores.reader import StoreReader
from tests.s3 import BUILD_S, S3Server
from tests.snapshots import damage
from tests.system.server import Server, eventually

pytestmark = pytest.mark.timeout(BUILD_S)
KILLS = 3


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3").running() as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def directory(alone: Server, tmp_path: Path) -> Path:
    """Where the server, which is not started yet, puts its snapshots, as often as it can."""
    place = tmp_path / "snapshots"
    set_up(alone, str(place))
    return place


def set_up(server: Server, place: str) -> None:
    server.cli.env |= {"COORDINATOR_SNAPSHOTS": place, "COORDINATOR_SNAPSHOT_INTERVAL": "1ms"}


Rows = list[tuple[str, tuple[Any, ...]]]


def dumps(server: Server) -> list[Rows]:
    """The canonical dumps of all stores."""
    found = []
    for number in range(server.partitions):
        reader = StoreReader(DataDirectory(server.data).store(number))
        found.append(list(reader.dump()))
        reader.close()
    return found


def lost(before: list[Rows], after: list[Rows]) -> list[Any]:
    """Invocations that are not there any more as they were."""
    still = {row for rows in after for row in rows}
    return [row for rows in before for row in rows if row[0] == "invocation" and row not in still]


def lose_stores(server: Server) -> None:
    """As on another machine."""
    for path in server.data.glob("partition-*.sqlite*"):
        path.unlink()


def firsts(server: Server) -> list[int]:
    """Where the log of each partition begins."""
    log = LogReader(DataDirectory(server.data).log)
    found = [log.bounds(Stream.COMMANDS, number).first for number in range(server.partitions)]
    log.close()
    return found


def grow_until_trimmed(server: Server) -> None:
    """Send until the log of every partition was trimmed."""

    def trimmed() -> bool:
        server.send("Greeter/greet", "delay=1d")
        return all(firsts(server))

    eventually(trimmed, within_s=120, says=server.said)


def move(server: Server) -> None:
    """Stop the server, lose its stores, and see that the next one has the same; the log alone would not do."""
    grow_until_trimmed(server)
    server.do("kill", {"service": "Greeter"})
    assert server.stop() == 0
    before = dumps(server)
    lose_stores(server)
    del server.cli.env["COORDINATOR_SNAPSHOT_INTERVAL"]
    server.start()
    for _ in range(20):
        server.send("Other/greet", "delay=1d")  # the new owners work
    assert server.stop() == 0
    assert lost(before, dumps(server)) == []
    found = server.check()
    assert found.returncode == 0, found.stdout + found.stderr
    since = [json.loads(line)["since"] for line in found.stdout.splitlines()]
    assert all(position >= first - 1 > 0 for position, first in zip(since, firsts(server), strict=True))


def test_partitions_move_to_a_machine_without_their_stores(alone: Server, directory: Path, real_file: Path) -> None:
    alone.start()
    assert alone.cli("import", "--rebase-times", str(real_file)).returncode == 0
    move(alone)


def test_partitions_move_by_way_of_s3(alone: Server, s3: S3Server) -> None:
    alone.cli.env |= s3.env
    set_up(alone, s3.place)
    alone.start()
    move(alone)


def test_a_kill_in_the_middle_leaves_nothing_that_is_taken_for_a_snapshot(
    alone: Server, directory: Path, real_file: Path, tmp_path: Path
) -> None:
    alone.start()
    assert alone.cli("import", "--rebase-times", str(real_file)).returncode == 0
    killed_at_it = 0
    for _ in range(KILLS):
        alone.send("Greeter/greet", "delay=1d")
        eventually(lambda: any(alone.data.glob("partition-?.snapshot")), says=alone.said)
        alone.kill_all()
        killed_at_it += any(alone.data.glob("partition-?.snapshot"))
        archive = SnapshotArchive(str(directory), make=False)
        for name, *_ in archive.list():
            with scratch(tmp_path / "fetched") as folder:
                fetch(name, archive, folder)
        alone.start()
    assert killed_at_it > 0
    grow_until_trimmed(alone)
    assert alone.stop() == 0
    found = alone.check()
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_metrics_and_the_partitions_tell_of_the_newest_snapshot(alone: Server, directory: Path) -> None:
    alone.partitions = 1
    alone.start()
    alone.send("Greeter/greet")
    eventually(lambda: alone("GET", "/partitions").json()[0]["snapshot_position"] is not None, says=alone.said)
    [partition] = alone("GET", "/partitions").json()
    metrics = httpx.get(f"{alone.url}/metrics").text
    values = dict(re.findall(r'^coordinator_partition_snapshot_(\w+)\{partition="0"\} (\S+)$', metrics, re.MULTILINE))
    assert 0 <= float(values["age_seconds"]) < 60
    assert float(values["position"]) >= partition["snapshot_position"] >= 0
    assert float(values["failures_total"]) == partition["snapshot_failures"] == 0


def test_a_server_without_snapshots_has_no_age_to_tell_and_keeps_its_log(server: Server) -> None:
    server.send("Greeter/greet")
    metrics = httpx.get(f"{server.url}/metrics").text
    assert not re.search(r"^coordinator_partition_snapshot_age_seconds\{", metrics, re.MULTILINE)
    assert firsts(server) == [0, 0, 0, 0]


# -- by hand


def test_a_place_that_cannot_be_one_keeps_the_server_from_starting(alone: Server) -> None:
    done = alone.cli("serve", "--data", str(alone.data), "--snapshots", "ftp://somewhere")
    assert (done.returncode, "no place for snapshots" in done.stderr) == (2, True)
    done = alone.cli("serve", "--data", str(alone.data), "--snapshots", "here", "--snapshot-interval", "0s")
    assert (done.returncode, "--snapshot-interval" in done.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_snapshots_by_hand(alone: Server, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "s3":
        s3: S3Server = request.getfixturevalue("s3")
        alone.cli.env |= s3.env
        place, objects = s3.place, s3.file("")
    else:
        place = str(tmp_path / "snapshots")
        objects = Path(place)
    alone.start()
    for _ in range(20):
        alone.send("Greeter/greet", "delay=1d")
    cli, data = alone.cli, ("--data", str(alone.data))

    made = cli("snapshot", "create", *data, "--to", place)  # beside the live server
    assert (made.returncode, made.stderr) == (0, "")
    positions = {one["partition"]: one["position"] for one in map(json.loads, made.stdout.splitlines())}
    assert list(positions) == [0, 1, 2, 3]
    listed = json.loads(cli("snapshot", "list", "--from", place).stdout)
    assert {one["partition"]: one["position"] for one in listed} == positions
    assert cli("snapshot", "verify", "--from", place).returncode == 0

    assert alone.stop() == 0
    before = dumps(alone)
    for path in alone.data.glob("partition-[12].sqlite*"):
        path.unlink()
    refused = cli("snapshot", "restore", *data, "--from", place, "--partition", "0")
    assert (refused.returncode, "partition 0 has a store" in refused.stderr) == (6, True)
    restored = cli("snapshot", "restore", *data, "--from", place)
    assert (restored.returncode, restored.stderr.count("store restored")) == (0, 2)
    done = {one["partition"]: one["position"] for one in map(json.loads, restored.stdout.splitlines())}
    assert done == {0: None, 1: positions[1], 2: positions[2], 3: None}
    alone.start()
    assert alone.stop() == 0
    assert lost(before, dumps(alone)) == []

    damage(objects / archive_key(place, 3))
    verified = cli("snapshot", "verify", "--from", place, "--partition", "3")
    assert (verified.returncode, "does not have the bytes" in verified.stderr) == (1, True)
    for path in alone.data.glob("partition-3.sqlite*"):
        path.unlink()
    none = cli("snapshot", "restore", *data, "--from", place, "--partition", "3")
    assert none.returncode == 5
    assert "snapshot passed over" in none.stderr
    assert f"no snapshot of partition 3 in {place} can be used" in none.stderr


def archive_key(place: str, partition: int) -> str:
    [listed] = [one for one in SnapshotArchive(place, make=False).list() if one.name.partition == partition]
    return listed.name.key


def test_commands_that_need_a_place_say_so(alone: Server) -> None:
    done = alone.cli("snapshot", "list")
    assert (done.returncode, "say where snapshots are" in done.stderr) == (2, True)
    done = alone.cli("snapshot", "list", "--snapshots", "nowhere")
    assert (done.returncode, "there is no directory nowhere" in done.stderr) == (2, True)
