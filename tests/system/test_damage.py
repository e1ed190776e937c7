"""Files that are not what they were: found, said in one sentence that names the place, and never worked on."""

import json
import shutil
import sqlite3
from pathlib import Path

import httpx
import pytest

from coordinator.logs.port import Stream
from coordinator.runtime.layout import DataDirectory
from tests.system import evidence
from tests.system.rows import lines, row
from tests.system.server import Server, eventually

HURT = 1
"""The partition that something is done to."""


@pytest.fixture
def data(alone: Server) -> Path:
    """Data of a server that has stopped: rows on every partition, families, a queue, payloads, a batch."""
    alone.start()
    parents = [row("Damage/root", partition=n) for n in range(4)]
    children = [row("DamageChild/run", partition=n, invoked_by_id=parents[n]["id"]) for n in range(4)]
    queue = [row("DamageObject/k/add"), *(row("DamageObject/k/add", "pending") for _ in range(3))]
    alone.import_lines(lines([*parents, *children, *queue, *(row("Ended/run") for _ in range(20))]))
    for _ in range(8):
        alone.send("Damage/run", "delay=1h", content=b"some input")
    alone.do("kill", {"service": "Ended"})
    assert alone.stop() == 0
    for path in alone.data.glob("*.sqlite"):
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()  # the last one, so that all is in the one file
    assert not [*alone.data.glob("*-wal")]
    return alone.data


def change(path: Path, sql: str) -> None:
    """Change something behind everyone's back."""
    connection = sqlite3.connect(path)
    with connection:
        changed = connection.execute(sql).rowcount
    connection.close()
    assert changed > 0


def store(data: Path) -> Path:
    return DataDirectory(data).store(HURT)


# -- check ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("UPDATE invocation SET retry = retry + 1 WHERE id = '{id}'", "{id}"),
        ("UPDATE invocation SET status = 7 WHERE id = '{id}'", "{id}"),
        ("UPDATE invocation SET caught_up_to = caught_up_to - 1 WHERE id = '{id}'", "{id}"),
        ("DELETE FROM invocation WHERE id = '{id}'", "{id}"),
        ("DELETE FROM edge", "edge"),
        ("DELETE FROM timer", "timer"),
        ("UPDATE payload SET input = 'others'", "payload"),
        ("UPDATE batch SET value = zeroblob(10)", "batch"),
    ],
    ids=["a column", "a status", "a stamp", "a row", "edges", "timers", "payloads", "batches"],
)
def test_check_finds_what_was_changed_in_a_store(data: Path, alone: Server, sql: str, names: str) -> None:
    [(id,), *_] = evidence.stored(data, "SELECT id FROM invocation WHERE service = 'Damage' AND status <> 7")
    home = next(path for path in sorted(data.glob("partition-*.sqlite")) if _has(path, id, sql))
    change(home, sql.format(id=id))
    found = alone.check()
    assert found.returncode == 1
    hurt = int(home.stem.partition("-")[2])
    reports = {report["partition"]: report for report in map(json.loads, found.stdout.splitlines())}
    assert {number for number, report in reports.items() if report["differences"]} == {hurt}
    assert names.format(id=id) in str(reports[hurt]["differences"])
    assert f"partition {hurt} at position" in found.stderr


def _has(path: Path, id: str, sql: str) -> bool:
    """Whether the statement concerns this store."""
    connection = sqlite3.connect(path)
    try:
        if "{id}" in sql:
            return bool(connection.execute("SELECT 1 FROM invocation WHERE id = ?", (id,)).fetchall())
        table = sql.split()[2] if sql.startswith("DELETE") else sql.split()[1]
        return bool(connection.execute(f"SELECT 1 FROM {table}").fetchall())
    finally:
        connection.close()


def test_check_finds_a_record_that_was_changed_long_ago(data: Path, alone: Server) -> None:
    record = next(one for one in evidence.records(data, Stream.COMMANDS, HURT) if b"Damage" in one.value)
    forged, position = record.value.replace(b"Damage", b"Forged"), record.position
    change(
        data / "log.sqlite", f"""UPDATE "commands/{HURT}" SET value = x'{forged.hex()}' WHERE position = {position}"""
    )
    found = alone.check()
    assert found.returncode == 1
    assert "Forged" in found.stdout
    # To start it is enough that the end is the one that was applied.
    alone.start()
    assert alone.check().returncode == 1, "beside a live server too"


# -- a partition that does not belong to its log -------------------------------------------------------------


def stands_still(server: Server, *says: str) -> str:
    """Start the server; one partition must refuse, loudly, and all others go on."""
    server.start(until_ready=False)
    eventually(lambda: _failures(server) is not None, says=server.said)
    failures = _failures(server)
    assert failures is not None
    assert failures.keys() == {HURT}, failures
    for part in says:
        assert part in failures[HURT]
    unready = server("GET", "/ready")
    assert unready.status_code == 503
    assert f"partition {HURT} stands still: {failures[HURT]}" in unready.json()["detail"]
    assert failures[HURT] in server.said().replace('\\"', '"')
    codes = {server.http.post(f"/services/Damage/key{n}/run/send").status_code for n in range(40)}
    assert codes == {202, 503}
    return failures[HURT]


def _failures(server: Server) -> dict[int, str] | None:
    """The partitions that stand still and why, once every one of them has said how it is doing."""
    try:
        if "no owner" in server.http.get("/ready").text:
            return None
        response = server.http.get("/partitions")
    except httpx.TransportError:
        return None
    assert response.status_code == 200, response.text
    return {one["partition"]: one["failure"] for one in response.json() if one["failure"] is not None}


def test_a_log_whose_last_applied_record_is_another_is_refused(data: Path, alone: Server) -> None:
    last = max(record.position for record in evidence.records(data, Stream.COMMANDS, HURT))
    change(data / "log.sqlite", f"""UPDATE "commands/{HURT}" SET value = x'00' WHERE position = {last}""")
    stands_still(alone, f"the record at position {last} of partition {HURT} is not the one that was applied", "restore")


def test_a_log_that_has_lost_its_end_is_refused(data: Path, alone: Server) -> None:
    change(data / "log.sqlite", f"""DELETE FROM "commands/{HURT}" WHERE position >= 3""")
    found = alone.check()
    assert found.returncode == 1
    assert "the log ends at position 2" in found.stdout
    stands_still(alone, f"partition {HURT} is applied up to position", "its log ends at", "restore")


def test_a_log_that_has_lost_its_beginning_is_refused_where_that_was_not_applied(data: Path, alone: Server) -> None:
    end = 1 + max(record.position for record in evidence.records(data, Stream.COMMANDS, HURT))
    change(data / "log.sqlite", f"UPDATE partitions SET first = {end + 1} WHERE name = 'commands/{HURT}'")
    stands_still(alone, "its log begins at", "restore")


def test_a_store_of_another_partition_is_refused(data: Path, alone: Server) -> None:
    shutil.copy(DataDirectory(data).store(HURT + 1), store(data))
    stands_still(alone, f"the store belongs to partition {HURT + 1}")


@pytest.mark.parametrize("kept", [0, 100, 5_000])
def test_a_store_that_is_garbage_is_refused(data: Path, alone: Server, kept: int) -> None:
    whole = store(data).read_bytes()
    store(data).write_bytes(whole[:kept] + b"\xa5" * (len(whole) - kept))
    assert str(store(data)) in stands_still(alone)
    found = alone.check()
    assert found.returncode == 1
    assert "Traceback" not in found.stderr


def test_what_needs_a_store_that_is_garbage_says_so_and_all_else_is_shown(data: Path, alone: Server) -> None:
    ids = [id for (id,) in evidence.stored(data, "SELECT id FROM invocation WHERE service = 'DamageChild'")]
    store(data).write_bytes(b"\xa5" * 100_000)
    says = f"the store {store(data)} is damaged"
    stands_still(alone, says)
    assert says in alone.cli("partitions").stdout
    for query in ("", "limit=3", "service=Damage", "status=suspended"):
        listed = alone("GET", f"/invocations?{query}")
        assert listed.status_code == 503
        assert says in listed.json()["detail"]
    found = [alone("GET", f"/invocations/{id}") for id in ids]
    assert sorted(one.status_code for one in found) == [200, 200, 200, 503]
    assert all(says in one.json()["detail"] for one in found if one.status_code == 503)
    assert [one["matched"] for one in alone("GET", "/batches").json()] == [20]
    assert f'coordinator_partition_up{{partition="{HURT}"}} 0.0' in alone("GET", "/metrics").text
    reports = [json.loads(line) for line in alone.check().stdout.splitlines()]
    assert [says in str(report["differences"]) for report in reports] == [number == HURT for number in range(4)]


def test_a_store_that_is_gone_is_made_again_from_the_log(data: Path, alone: Server) -> None:
    columns = "SELECT id, status, outcome, batch, created_at, ties FROM invocation"
    before = evidence.stored(data, columns)
    for path in data.glob("partition-*.sqlite*"):
        path.unlink()
    alone.start()
    eventually(lambda: all(one["lag"] == 0 for one in alone("GET", "/partitions").json()))
    assert sorted(evidence.stored(data, columns)) == sorted(before)
    assert alone.check().returncode == 0


# -- a server that cannot start ------------------------------------------------------------------------------


def refuses_to_start(server: Server) -> str:
    """The one sentence that it says for itself."""
    done = server.cli("serve", "--data", str(server.data), "--listen", f"127.0.0.1:{server.port}")
    assert done.returncode == 1, done.stderr
    *_, sentence = done.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert "Traceback" not in done.stderr
    return sentence


def test_a_coordinator_that_has_read_more_than_the_log_has_does_not_start(data: Path, alone: Server) -> None:
    change(data / "log.sqlite", 'DELETE FROM "progress/0"')
    assert "restore the log that belongs to this data" in refuses_to_start(alone)


def test_a_coordinator_of_another_log_does_not_start(data: Path, alone: Server) -> None:
    for path in [*data.glob("log.sqlite*"), *data.glob("partition-*")]:
        path.unlink()
    assert "this is log" in refuses_to_start(alone)


def test_a_log_that_is_garbage_is_said(data: Path, alone: Server) -> None:
    (data / "log.sqlite").write_bytes(b"\xa5" * 100_000)
    assert "log.sqlite" in refuses_to_start(alone)


def test_coordinator_states_that_are_garbage_are_said(data: Path, alone: Server) -> None:
    (data / "requests.sqlite").write_bytes(b"\xa5" * 100_000)
    assert "requests.sqlite" in refuses_to_start(alone)


def test_stores_without_their_log_are_not_given_a_new_one(data: Path, alone: Server) -> None:
    for path in [*data.glob("log.sqlite*"), *data.glob("requests.sqlite*")]:
        path.unlink()
    done = alone.cli("serve", "--data", str(data), "--listen", f"127.0.0.1:{alone.port}")
    assert done.returncode == 2, done.stderr
    assert "give --log kafka://… as before, or another --data" in done.stderr.splitlines()[-1]
    assert not (data / "log.sqlite").exists()
