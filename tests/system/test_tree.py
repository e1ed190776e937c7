"""A tree of 19,531 invocations over four partitions, run by a participant.

One that its root has sent is killed with all that it has called, and then the root is cancelled.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coordinator.model.statuses import NAMES, Status
from tests.system import evidence
from tests.system.server import Server
from tests.system.tree import DEPTH, FAN_OUT, participant

ALL = sum(FAN_OUT**level for level in range(DEPTH + 1))
CANCELLED = sum((FAN_OUT - 1) ** level for level in range(DEPTH + 1))
"""The root, and what hangs on it by calls."""
KILLED = sum((FAN_OUT - 1) ** level for level in range(DEPTH))
"""The same of one that the root has sent."""
PATIENCE_S = 250
"""A deadline and no expectation: machines that run tests are busy."""


@pytest.mark.timeout(1_000)
def test_a_tree_ends_as_far_as_calls_reach_and_what_is_detached_goes_on(alone: Server, tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.touch()
    alone.start()
    with participant(alone.url, record):
        gate = alone.send("Gate/wait", headers={"Idempotency-Key": "the only one"})
        root = alone.send("Tree/grow", json=(DEPTH, False))
        come_to_rest(alone, suspended=ALL)

        [detached] = [row["id"] for row in alone.list("service=Tree") if row["detached"] and row["invoked_by"] == root]
        assert alone("PATCH", f"/invocations/{detached}/kill").status_code == 200
        come_to_rest(alone, suspended=ALL - KILLED, completed=KILLED)
        assert alone("PATCH", f"/invocations/{root}/cancel").status_code == 202
        come_to_rest(alone, suspended=ALL - KILLED - CANCELLED, completed=KILLED + CANCELLED)
        assert alone.get(gate)["status"] == "running"
        alone.send("Gate/open")
        come_to_rest(alone, completed=ALL)
        rows = {row["id"]: row for row in alone.list("service=Tree")}

    killed, cancelled = called_from(detached, rows), called_from(root, rows)
    assert (len(killed), len(cancelled)) == (KILLED, CANCELLED)
    assert {rows[id]["outcome"] for id in killed} == {"killed"}
    assert {rows[id]["outcome"] for id in cancelled} == {"cancelled"}
    assert {rows[id]["outcome"] for id in rows.keys() - killed - cancelled} == {"success"}

    undone = record.read_text().split()
    assert sorted(undone) == sorted(cancelled), "each that was cancelled compensates once, and nobody else"
    when = {id: number for number, id in enumerate(undone)}
    for id in cancelled - {root}:
        assert when[id] < when[rows[id]["invoked_by"]], f"the caller of {id} compensated before it"

    assert alone.stop() == 0
    check = alone.check()
    assert check.returncode == 0, check.stdout + check.stderr


def called_from(top: str, rows: dict[str, dict[str, Any]]) -> set[str]:
    """It, and all that hang on it by calls."""
    called: dict[str, list[str]] = {}
    for id, row in rows.items():
        if row["invoked_by"] is not None and not row["detached"]:
            called.setdefault(row["invoked_by"], []).append(id)
    found, left = {top}, [top]
    while left:
        children = called.get(left.pop(), [])
        found.update(children)
        left += children
    return found


def come_to_rest(server: Server, **wanted: int) -> None:
    """Wait until so many of the tree are in each status."""
    end = time.monotonic() + PATIENCE_S
    while (found := statuses(server)) != wanted:
        assert time.monotonic() < end, f"{found}, and not {wanted}; {server.said()}"
        time.sleep(0.2)  # to look costs the server's cores time too


def statuses(server: Server) -> dict[str, int]:
    """How many of the tree are in each status, from the stores."""
    found: Counter[str] = Counter()
    sql = "SELECT status, count(*) FROM invocation WHERE service = 'Tree' GROUP BY status"
    for status, count in evidence.stored(server.data, sql):
        found[NAMES[Status(status)]] += count
    return dict(found)
