"""Batches that are slowed, held, let go and aborted while they run, over HTTP and from the command line."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.http.surface import assert_problem
from tests.system import evidence
from tests.system.rows import lines, row
from tests.system.server import Server

MANY = 50_000
SLOW = 20_000


def completed(server: Server, service: str) -> dict[str, int]:
    """Id → position of the batch that ended it, by a scan of the stores."""
    sql = "SELECT id, batch FROM invocation WHERE service = ? AND status = 7"
    return dict(evidence.stored(server.data, sql, service))


def ticks(server: Server) -> list[int]:
    return [partition["tick"] for partition in server("GET", "/partitions").json()]


@pytest.fixture(scope="module")
def crowded(server: Server) -> Iterator[Server]:
    report = server.import_lines(lines(row("Many/run") for _ in range(MANY)))
    assert report["imported"] == MANY
    yield server
    found = server.check()
    assert found.returncode == 0, found.stdout + found.stderr


def test_once_an_abort_is_acknowledged_nothing_more_is_ended(crowded: Server) -> None:
    id = crowded.submit("kill", {"service": "Many"}, rate=8_000, reason="bad deploy")
    crowded.until(id, lambda batch: batch["ended"] > 2_000)
    answer = crowded("POST", f"/batches/{id}/abort")
    acknowledged = completed(crowded, "Many")
    aborted = answer.json()
    assert (answer.status_code, aborted["state"]) == (200, "aborted")
    assert aborted["matched"] == aborted["ended"] == len(acknowledged)
    assert 2_000 < len(acknowledged) < MANY

    # Let every partition go on ticking over the same rows.
    before = ticks(crowded)
    assert crowded.do("count", {"service": "Many"})["matched"] == MANY
    assert crowded.do("kill", {"service": "Many"}, dry_run=True, rate=200_000)["applied"] == MANY - len(acknowledged)
    assert all(later > earlier for earlier, later in zip(before, ticks(crowded), strict=True))
    assert completed(crowded, "Many") == acknowledged
    crowded.restart()
    assert completed(crowded, "Many") == acknowledged

    _each_names_its_batch(crowded, id, acknowledged.keys())
    assert crowded.batch(id) | {"rate_per_s": 0} == aborted | {"rate_per_s": 0, "settled": True}
    assert crowded("POST", f"/batches/{id}/abort").json()["state"] == "aborted"
    for control in ("pause", "resume"):
        assert_problem(crowded("POST", f"/batches/{id}/{control}"), 409, says="aborted")
    # All others never had it.
    assert crowded.do("kill", {"service": "Many"})["ended"] == MANY - len(acknowledged)


def _each_names_its_batch(server: Server, id: str, ended: Any) -> None:
    """And through it the reason and who it was."""
    rows = {one["id"]: one for one in server.list("service=Many")}
    assert {one["batch"] for one in rows.values() if one["id"] in ended} == {id}
    assert {(one["status"], one["batch"]) for one in rows.values() if one["id"] not in ended} == {("suspended", None)}
    shown = json.loads(server.cli("batches", "get", id).stdout)
    assert (shown["reason"], shown["principal"]) == ("bad deploy", "anonymous")


def test_a_batch_keeps_its_rate_stands_still_while_paused_and_ends_exactly(crowded: Server) -> None:
    crowded.import_lines(lines(row("Slow/run") for _ in range(SLOW)))
    rate = 1_000
    began = time.monotonic()
    id = crowded.submit("kill", {"service": "Slow"}, rate=rate)

    # A batch may never be faster than its rate; how much slower it is shows how busy the machine is.
    shown = crowded.until(id, lambda batch: batch["matched"] >= 2 * rate)
    elapsed = time.monotonic() - began
    assert shown["matched"] <= rate * elapsed + rate / 10
    assert elapsed < 20

    paused = crowded("POST", f"/batches/{id}/pause")
    assert paused.status_code == 200
    held = crowded.until(id, lambda batch: batch["state"] == "paused")
    assert crowded.do("count", {"service": "Many"})["matched"] == MANY, "ticks go on, over other rows"
    assert len(completed(crowded, "Slow")) == crowded.batch(id)["ended"] == held["ended"]
    assert crowded.cli("batches", "pause", id).returncode == 0, "it is already"

    # What was not done meanwhile is not made up for.
    began = time.monotonic()
    done = crowded.cli("batches", "resume", id)
    assert done.returncode == 0, done.stderr
    shown = crowded.until(id, lambda batch: batch["matched"] >= held["matched"] + rate)
    assert shown["matched"] - held["matched"] <= rate * (time.monotonic() - began) + rate / 10

    done = crowded.cli("batches", "rate", id, "2000")
    assert (done.returncode, json.loads(done.stdout)["rate"]) == (0, 2_000)
    done = crowded.cli("batches", "pause", id)
    assert (done.returncode, json.loads(done.stdout)["id"]) == (0, id)
    assert crowded("PATCH", f"/batches/{id}", json={"rate": 0}).json()["rate"] is None
    assert crowded("POST", f"/batches/{id}/resume").status_code == 200
    done = crowded.cli("batches", "watch", id)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["state"], last["matched"], last["ended"]) == (0, "completed", SLOW, SLOW)
    assert len(completed(crowded, "Slow")) == SLOW


def test_an_abort_from_the_command_line_ends_the_command_that_waits(crowded: Server) -> None:
    crowded.import_lines(lines(row("Waited/run") for _ in range(200)))
    id = crowded.submit("kill", {"service": "Waited"}, rate=10)
    crowded.until(id, lambda batch: batch["ended"] > 0)
    done = crowded.cli("batches", "abort", id)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "aborted")
    watched = crowded.cli("batches", "watch", id)
    assert watched.returncode == 1
    assert "aborted" in watched.stderr
    assert len(completed(crowded, "Waited")) == json.loads(done.stdout)["ended"] < 200
    listed = json.loads(crowded.cli("batches", "list").stdout)
    assert next(batch for batch in listed if batch["id"] == id)["state"] == "aborted"
    assert crowded.cli("batches", "pause", id).returncode == 6


def test_batches_go_on_side_by_side(crowded: Server) -> None:
    """One that is held holds up nobody: it is in force all the same, and what both match the first has ended."""
    crowded.import_lines(lines(row("Both/run") for _ in range(2_000)))
    held = crowded.submit("kill", {"service": "Both"}, request_id="held", rate=20)
    crowded("POST", f"/batches/{held}/pause")
    assert crowded.until(held, lambda batch: batch["state"] == "paused")["ended"] < 2_000
    assert crowded.list("service=Both&status=suspended") == []
    later = crowded.do("kill", {"service": "Both"}, request_id="later")
    assert (later["matched"], crowded.batch(held)["state"]) == (0, "paused")
    crowded("PATCH", f"/batches/{held}", json={"rate": 0})
    crowded("POST", f"/batches/{held}/resume")
    last = crowded.finished(held)
    assert (last["matched"], last["ended"]) == (2_000, 2_000)
    assert {one["batch"] for one in crowded.list("service=Both")} == {"held"}
