"""What is wrong with a log on Kafka stops whom it concerns, loudly, and what the one sentence says to do works.

Nothing is skipped and nothing of another log is applied: each test looks at the stores behind the processes' backs.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coordinator.logs.kafka import KafkaLog
from coordinator.logs.port import Entry, Stream
from tests.http.surface import assert_problem
from tests.kafka import admin
from tests.system.kafka import Process, System
from tests.system.server import eventually

PATIENCE_S = 120
BEGIN_ANEW = "or begin anew: delete all topics of the coordinator, make them with coordinator topics create, and start"
INVOCATIONS = "SELECT id, status, outcome, modified_at FROM invocation ORDER BY id"
ALL_ROLES = "partitions,requests,http"


@pytest.fixture
def of(kafka: str, tmp_path: Path) -> Iterator[System]:
    with System(tmp_path / "system", kafka, partitions=2) as made:
        yield made


def whole(of: System, process: Process) -> Process:
    """One process with all roles, started and ready."""
    of.front(process.start())
    eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
    return process


def works(of: System, service: str) -> None:
    """Commands, a batch and lists."""
    ids = {of.send(f"{service}/run") for _ in range(4)}
    done = of.do("kill", {"service": service})
    assert (done["state"], done["matched"], done["ended"]) == ("completed", 4, 4)
    assert {one["id"] for one in of.list(f"service={service}")} == ids


def stored(process: Process) -> list[tuple[Any, ...]]:
    """The invocations in its stores."""
    found: list[tuple[Any, ...]] = []
    for path in sorted(process.data.glob("partition-*.sqlite")):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            found += connection.execute(INVOCATIONS)
    return found


def unready(of: System) -> str:
    """What /ready says; nothing while it is ready."""
    response = of.http.get("/ready")
    return "" if response.status_code == 200 else str(response.json()["detail"])


def all_stand_still(process: Process) -> bool:
    """Whether both partitions of the process do, as it says itself."""
    text = process.http.get("/ready").text
    return all(f"partition {number} stands still" in text for number in range(2))


def fails_to_start(of: System, process: Process) -> str:
    """The one sentence with which it ends."""
    process.start()
    assert process.process is not None
    assert process.process.wait(PATIENCE_S) == 1, process.said()
    process.process = None
    *_, sentence = process.said().splitlines()
    assert sentence.startswith("Error: ")
    assert "Traceback" not in sentence
    return sentence


def test_topics_that_are_made_anew_stop_everything_and_to_begin_anew_works(of: System, tmp_path: Path) -> None:
    worker, front = of.process_with("partitions"), of.process_with("requests,http")
    worker.start()
    whole(of, front)
    works(of, "Old")
    before = stored(worker)
    admin.make_anew(of.settings, 2, of.settings.topic(Stream.COMMANDS))
    with closing(KafkaLog(of.settings)) as other:
        other.append([Entry(Stream.COMMANDS, 0, b"of another log")] * 3)

        # Under running processes.
        eventually(lambda: "coordinator stands still" in unready(of), within_s=PATIENCE_S, says=of.said)
        eventually(lambda: all(f"partition {number} stands still" in unready(of) for number in range(2)), says=of.said)
        assert "commands" in unready(of)
        assert BEGIN_ANEW in unready(of)
        assert BEGIN_ANEW in worker.http.get("/ready").json()["detail"]
        for process, event in ((worker, "nothing was skipped"), (front, "requests_stopped")):
            assert event in process.said()
            assert BEGIN_ANEW in process.said()
        assert_problem(of("POST", "/services/New/run/send"), 503, says=BEGIN_ANEW)
        assert_problem(of("POST", "/batches", json={"action": "kill", "filter": {"service": "Old"}}), 503)
        shown = of.cli("partitions")
        assert shown.returncode != 0 or BEGIN_ANEW in shown.stdout
        assert BEGIN_ANEW in shown.stdout + shown.stderr

        # And while they are down.
        assert [process.stop() for process in (worker, front)] == [0, 0]
        worker.start()
        eventually(lambda: answers(worker) and all_stand_still(worker), within_s=PATIENCE_S, says=of.said)
        detail = worker.http.get("/ready").json()["detail"]
        assert "partition 0 stands still: the store belongs to partition 0 of 2 of log" in detail
        assert "or an empty one" in detail
        assert BEGIN_ANEW in fails_to_start(of, front)
        assert worker.stop() == 0
        assert stored(worker) == before, "nothing was applied"
        assert other.bounds(Stream.COMMANDS, 0).end == 3, "nothing was appended"

    # As the sentence says.
    admin.make_anew(of.settings, 2)
    for process in (worker, front):
        shutil.rmtree(process.data)
    worker.start()
    whole(of, front)
    assert of.list() == []
    works(of, "New")
    assert worker.stop() == 0
    assert of.check_of(worker).returncode == 0


def answers(process: Process) -> bool:
    """Whether it listens."""
    return "serving" in process.events() and process.listens()


def test_more_partitions_stop_everything(of: System) -> None:
    process = whole(of, of.process_with(ALL_ROLES))
    works(of, "Some")
    before = stored(process)
    admin.enlarge(of.settings, of.settings.topic(Stream.COMMANDS), 3)
    eventually(lambda: "partition 1 stands still" in unready(of), within_s=PATIENCE_S, says=of.said)
    assert "another number of partitions" in unready(of)
    assert BEGIN_ANEW in unready(of)
    assert_problem(of("POST", "/services/Some/run/send"), 503, says="another number of partitions")
    assert process.stop() == 0
    sentence = fails_to_start(of, process)
    assert f"has 2 partitions, and {of.settings.topic(Stream.COMMANDS)} has 3" in sentence
    assert BEGIN_ANEW in sentence
    # Whoever enlarges the others too has another log: ids would lead to other partitions.
    admin.enlarge(of.settings, of.settings.topic(Stream.DELIVERIES), 3)
    assert "was made from log" in fails_to_start(of, process)
    assert stored(process) == before


def test_a_log_that_was_trimmed_too_far_stops_its_partition_and_a_newer_snapshot_helps(
    of: System, tmp_path: Path
) -> None:
    process = whole(of, of.process_with(ALL_ROLES))
    works(of, "Early")
    assert process.stop() == 0
    shutil.copytree(process.data, tmp_path / "old")
    whole(of, process)
    works(of, "Late")
    listed = of.list()
    archive = ["--snapshots", str(tmp_path / "snapshots")]
    made = of.cli("snapshot", "create", "--data", str(process.data), *archive)
    assert made.returncode == 0, made.stderr
    assert process.stop() == 0
    with closing(KafkaLog(of.settings)) as log:
        for partition in range(2):
            end = log.bounds(Stream.COMMANDS, partition).end
            log.trim(Stream.COMMANDS, partition, end - 1)

    def with_the_old_stores() -> None:
        shutil.rmtree(process.data)
        shutil.copytree(tmp_path / "old", process.data)

    with_the_old_stores()
    before = stored(process)
    of.front(process.start())
    eventually(lambda: answers(process) and all_stand_still(process), within_s=PATIENCE_S, says=of.said)
    eventually(lambda: all(one["failure"] for one in of.http.get("/partitions").json()), says=of.said)
    says = "records are missing; start again with --snapshots"
    for number in range(2):
        assert f"partition {number} stands still: partition {number} is applied up to position" in unready(of)
    assert says in unready(of)
    assert says in process.said()
    shown = of.cli("partitions")
    assert shown.returncode == 0
    assert shown.stdout.count(says) == 2
    assert_problem(of("POST", "/services/Early/run/send"), 503, says=says)
    assert process.stop() == 0
    assert stored(process) == before

    # "move the store away and put one there with coordinator snapshot restore"
    for path in process.data.glob("partition-*.sqlite*"):
        path.unlink()
    source = ["--log", f"kafka://{of.bootstrap}", "--data", str(process.data), *archive]
    restored = of.cli("snapshot", "restore", *source, **process.env)
    assert restored.returncode == 0, restored.stderr
    whole(of, process)
    assert of.list() == listed
    assert process.stop() == 0

    # "start again with --snapshots"
    with_the_old_stores()
    process.env |= {"COORDINATOR_SNAPSHOTS": str(tmp_path / "snapshots")}
    whole(of, process)
    assert of.list() == listed
    works(of, "Again")
    assert process.stop() == 0
    assert of.check_of(process, *archive).returncode == 0
