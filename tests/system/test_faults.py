"""What reaches the log by other ways than HTTP, what happens to the files, and workers that stand still."""

import os
import signal
import sqlite3
from pathlib import Path

import httpx
import msgpack

from coordinator.logs.port import Entry, Stream
from coordinator.model import limits, messages
from coordinator.runtime.layout import DataDirectory
from tests.system.evidence import dead_letters
from tests.system.rows import lines, row
from tests.system.server import Server, eventually


def append(data: Path, *values: bytes, partition: int = 0) -> None:
    """Append raw commands, as any producer could; the server must not run."""
    log = DataDirectory(data).open_log(None)
    log.append([Entry(Stream.COMMANDS, partition, value) for value in values])
    log.close()


def test_what_is_no_command_becomes_a_dead_letter_and_the_partition_goes_on(alone: Server) -> None:
    alone.start().stop()
    invoke = messages.encode(messages.Invoke(id="inv_1" + "0" * 33, service="S", handler="h"))
    bad = {
        b"\xc1 no msgpack": "not a message",
        b"\x81\xa4kind\x01": "not a message",
        msgpack.packb({"kind": 1, "v": 1, "id": "x", "service": "s", "handler": "h", "extra": 1}): "kind 1",
        invoke.replace(b"\xa1S", b"\xa1\xff"): "kind 1",
        msgpack.packb({"kind": 1, "v": 2, "id": "x"}): "schema version 2 is above",
        msgpack.packb({"kind": 999, "v": 1}): "kind 999",
        b"\x00" * (limits.RECORD_BYTES_MAX + 1): f"a record may have {limits.RECORD_BYTES_MAX}",
        messages.encode(messages.Act(action="explode", id="x")): "explode",
        msgpack.packb({"kind": 10, "v": 1, "id": "x", "attempt": 2**64 - 1}): "kind 10",
    }
    append(alone.data, *bad)
    alone.start()
    assert alone.send("S/h", "delay=1h")
    eventually(lambda: len(dead_letters(alone.data)) == len(bad))
    for letter, (value, reason) in zip(dead_letters(alone.data), bad.items(), strict=True):
        assert reason in letter.reason
        assert letter.value == value[: limits.RECORD_BYTES_MAX]
    assert alone.check().returncode == 0


def test_a_level_that_this_build_does_not_know_stops_its_partition_only(alone: Server) -> None:
    alone.start().stop()
    append(alone.data, messages.encode(messages.Level(level=limits.SCHEMA_LEVEL + 1)), partition=2)
    alone.start(until_ready=False)
    eventually(lambda: _answers(alone) and any(p["failure"] for p in alone.http.get("/partitions").json()))
    failures = [partition["failure"] for partition in alone.http.get("/partitions").json()]
    assert [failure is None for failure in failures] == [True, True, False, True]
    assert "start one that knows it" in failures[2]
    eventually(lambda: all(p["owner"] for p in alone.http.get("/partitions").json()))
    unready = alone.http.get("/ready")
    assert unready.status_code == 503
    assert "partition 2 stands still" in unready.text
    codes = {alone.http.post("/services/S/h/send", params={"delay": "1h"}).status_code for _ in range(60)}
    assert codes == {202, 503}


def _answers(server: Server) -> bool:
    try:
        return server.http.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_who_is_answered_after_a_start_need_not_come_again(alone: Server) -> None:
    for _ in range(3):
        alone.start(until_ready=False)
        eventually(lambda: _answers(alone))
        assert [alone.http.post(f"/services/S/key{n}/h/send").status_code for n in range(8)] == [202] * 8
        assert alone.stop() == 0


def test_a_flipped_row_is_found_by_check(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines([row("Flip/run", partition=0) for _ in range(50)]))
    alone.stop()
    assert alone.check().returncode == 0
    with sqlite3.connect(alone.data / "partition-0.sqlite") as connection:
        [(id,)] = connection.execute("SELECT id FROM invocation ORDER BY seq LIMIT 1").fetchall()
        connection.execute("UPDATE invocation SET retry = retry + 1 WHERE id = ?", (id,))
    connection.close()
    found = alone.check()
    assert found.returncode == 1
    assert id in found.stdout


def test_a_log_that_lost_its_end_stops_the_partition_loudly(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines([row("Lost/run", partition=1) for _ in range(5)]))
    alone.stop()
    with sqlite3.connect(alone.data / "log.sqlite") as connection:
        connection.execute('DELETE FROM "commands/1" WHERE position >= 2')
    connection.close()
    alone.start(until_ready=False)
    eventually(lambda: _answers(alone) and alone.http.get("/partitions").json()[1]["failure"] is not None)
    failure = alone.http.get("/partitions").json()[1]["failure"]
    assert "its log ends at" in failure
    assert "restore" in failure


def test_once_an_abort_is_acknowledged_nothing_more_is_ended(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines([row("Abort/run", partition=n % 4) for n in range(3_000)]))
    id = alone.submit("kill", {"service": "Abort"}, rate=400, reason="bad deploy")
    eventually(lambda: alone.batch(id)["ended"] > 50)
    aborted = alone("POST", f"/batches/{id}/abort").json()
    assert aborted["state"] == "aborted"
    ended = {one["id"] for one in alone.list("service=Abort&status=completed")}
    assert len(ended) == aborted["ended"] < 3_000
    other = alone.do("count", {"service": "Abort"})  # a scan over all of them on every partition, ticks included
    assert other["matched"] == 3_000
    after = alone.list("service=Abort&status=completed")
    assert {one["id"] for one in after} == ended
    assert {one["batch"] for one in after} == {id}
    assert alone.batch(id)["reason"] == "bad deploy"
    assert alone.batch(id)["principal"] == "anonymous"


def test_a_partition_that_was_away_is_shown_as_stalled_and_the_batch_ends_when_it_is_back(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines([row("Away/run", partition=n % 4) for n in range(400)]))
    worker = alone.worker_of(0)
    os.kill(worker, signal.SIGSTOP)
    try:
        id = alone.submit("kill", {"service": "Away"})
        within = limits.STALLED_US / 1e6 + 20
        eventually(lambda: 0 in alone.batch(id)["stalled"], within_s=within)
        shown = alone.batch(id)
        assert shown["state"] in ("accepted", "running")
        assert shown["partitions"][0]["state"] == "stalled"
        assert 0 < shown["ended"] < 400
    finally:
        os.kill(worker, signal.SIGCONT)
    done = alone.finished(id)
    assert (done["state"], done["matched"], done["ended"], done["stalled"]) == ("completed", 400, 400, [])


def test_a_batch_goes_on_where_it_was_when_the_server_is_started_again(alone: Server) -> None:
    alone.start()
    alone.import_lines(lines([row("Again/run", partition=n % 4) for n in range(2_000)]))
    id = alone.submit("kill", {"service": "Again"}, rate=500)
    eventually(lambda: alone.batch(id)["ended"] > 50)
    alone.restart()
    before = alone.batch(id)
    assert 0 < before["ended"] < 2_000
    assert alone("PATCH", f"/batches/{id}", json={"rate": 100_000}).status_code == 200
    done = alone.finished(id)
    assert (done["state"], done["matched"], done["ended"]) == ("completed", 2_000, 2_000)
    assert alone.check().returncode == 0
