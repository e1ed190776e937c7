"""The rows of a real Restate server, taken over, and operators' commands on them: each reaches just what it names."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import Server

BY_TIMER = {("backing-off", "ready")}
"""Changes of status that come by themselves while a test runs: a retry is due."""


class Imported:
    """The server with the file, and what has changed there since the last look."""

    def __init__(self, server: Server, file: list[dict[str, Any]]) -> None:
        self.server = server
        self.file = {row["id"]: row for row in file}
        self.first = self.seen = self.look()

    def look(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.server.list()}

    def changes(self) -> dict[str, tuple[str, str | None]]:
        """Id → status before and after, of all whose status is another now; None where one is gone."""
        before, self.seen = self.seen, self.look()
        assert self.seen.keys() <= before.keys()
        statuses = {
            id: (row["status"], self.seen[id]["status"] if id in self.seen else None) for id, row in before.items()
        }
        return {id: pair for id, pair in statuses.items() if pair[0] != pair[1] and pair not in BY_TIMER}

    def of(self, **columns: Any) -> set[str]:
        """Those that were seen with these values."""
        return {id for id, row in self.seen.items() if all(row[name] == value for name, value in columns.items())}


@pytest.fixture(scope="module")
def imported(server: Server, real_file: Path) -> Iterator[Imported]:
    with gzip.open(real_file) as lines:
        file = [json.loads(line) for line in lines]
    done = server.cli("import", "--rebase-times", str(real_file))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"imported": len(file), "existing": 0, "failed": 0, "errors": []}
    yield Imported(server, file)
    found = server.check()
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_row_is_there_as_the_file_has_it(imported: Imported) -> None:
    assert imported.first.keys() == imported.file.keys()
    for id, row in imported.file.items():
        shown = imported.first[id]
        assert shown["target"] == row["target"]
        pair = row["status"], shown["status"]
        assert pair[0] == pair[1] or pair in BY_TIMER, shown
        assert shown["outcome"] == row.get("completion_result")
        assert shown["invoked_by"] == row.get("invoked_by_id")
        assert shown["idempotency_key"] == row.get("idempotency_key")
        assert shown["retry"] == row.get("retry_count", 0)
        assert shown["deployment"] == row.get("pinned_deployment_id", row.get("last_attempt_deployment_id"))


def test_every_status_has_as_many_as_the_file(imported: Imported) -> None:
    counts = Counter(row["status"] for row in imported.file.values())
    for status in ("scheduled", "pending", "suspended", "paused", "completed"):
        assert sum(row["status"] == status for row in imported.first.values()) == counts[status]
    waiting = sum(row["status"] in ("backing-off", "ready") for row in imported.first.values())
    assert waiting == counts["backing-off"]


def test_all_times_have_moved_by_one_offset_to_now(imported: Imported) -> None:
    def at(row: dict[str, Any], column: str) -> datetime:
        return datetime.fromisoformat(row[column])

    as_imported = {id: row for id, row in imported.first.items() if row["status"] != "ready"}
    newest = max(at(row, "modified_at") for row in as_imported.values())
    assert timedelta(0) < datetime.now(UTC) - newest < timedelta(minutes=5)
    offset = newest - max(at(row, "modified_at") for row in imported.file.values())
    for id, row in as_imported.items():
        for column in ("created_at", "modified_at", "completed_at"):
            if row[column] is not None:
                assert at(row, column) == at(imported.file[id], column) + offset, (column, row)


def test_the_command_line_lists_what_http_lists(imported: Imported) -> None:
    done = imported.server.cli("invocations", "list", "--service", "CartObject")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert {row["id"] for row in listed} == {id for id, row in imported.file.items() if "CartObject/" in row["target"]}
    assert listed == imported.server.list("service=CartObject")
    by_id = sorted(listed, key=lambda row: row["id"])
    assert listed == sorted(by_id, key=lambda row: row["created_at"], reverse=True)


def test_to_import_again_leaves_all_as_it_is(imported: Imported, real_file: Path) -> None:
    imported.changes()
    done = imported.server.cli("import", "--rebase-times", str(real_file))
    assert (done.returncode, json.loads(done.stdout)["existing"]) == (0, len(imported.file))
    assert imported.changes() == {}


def test_a_handler_of_a_keyed_service_is_a_key_and_ends_nothing(imported: Imported) -> None:
    imported.changes()
    assert imported.server.bulk("kill", "CartObject/add")["matched"] == 0
    assert imported.changes() == {}


@pytest.mark.parametrize(("query", "key"), [("CartObject/cart55", "cart55"), ("CartObject/cart56/add", "cart56")])
def test_a_key_means_this_key_its_holder_and_its_queue(imported: Imported, query: str, key: str) -> None:
    imported.changes()
    wanted = imported.of(service="CartObject", key=key)
    assert len(wanted) > 5
    batch = imported.server.bulk("kill", query)
    assert (batch["matched"], batch["ended"]) == (len(wanted), len(wanted))
    changes = imported.changes()
    assert changes.keys() == wanted
    assert {status for _, status in changes.values()} == {"completed"}


def test_a_handler_that_the_key_does_not_have_ends_nothing(imported: Imported) -> None:
    imported.changes()
    assert imported.server.bulk("kill", "CartObject/cart57/remove")["matched"] == 0
    assert imported.changes() == {}


def test_cancelled_before_they_start_all_scheduled_ones_end_at_once(imported: Imported) -> None:
    imported.changes()
    wanted = imported.of(target="Greeter/greet", status="scheduled")
    batch = imported.server.bulk("cancel", "Greeter/greet", "--status", "scheduled")
    assert (batch["matched"], batch["ended"], batch["signalled"]) == (4_000, 4_000, 0)
    assert imported.changes().keys() == wanted
    assert {imported.seen[id]["outcome"] for id in wanted} == {"cancelled"}


def test_roots_of_trees_take_their_children_along_wherever_they_live(imported: Imported) -> None:
    imported.changes()
    roots = imported.of(service="Tree")
    live = {id for id, row in imported.seen.items() if row["invoked_by"] in roots and row["status"] != "completed"}
    assert (len(roots), len(live)) == (500, 1_000)
    batch = imported.server.bulk("kill", "Tree")
    assert (batch["matched"], batch["ended"], batch["propagated"]) == (500, 500, 1_000)
    assert imported.changes().keys() == roots | live
    assert {imported.seen[id]["outcome"] for id in roots | live} == {"killed"}
    assert {imported.seen[id]["batch"] for id in roots | live} == {batch["id"]}


def test_the_end_of_its_child_makes_a_suspended_workflow_ready(imported: Imported) -> None:
    imported.changes()
    child, parent = next(
        (id, row["invoked_by"])
        for id, row in imported.seen.items()
        if row["status"] == "suspended" and imported.seen.get(row["invoked_by"], row)["service"] == "OrderWorkflow"
    )
    assert imported.server.cli("invocations", "kill", child).returncode == 0
    assert imported.changes() == {child: ("suspended", "completed"), parent: ("suspended", "ready")}


def test_what_was_paused_goes_on_and_what_waits_for_a_retry_retries_now(imported: Imported) -> None:
    imported.changes()
    paused = imported.of(service="PaymentService", status="paused")
    batch = imported.server.bulk("resume", "PaymentService")
    assert 200 <= batch["applied"] == batch["matched"] <= 600
    assert imported.changes().keys() == paused
    assert not imported.of(service="PaymentService", status="backing-off")


def test_a_purge_removes_what_is_completed_and_that_only(imported: Imported) -> None:
    imported.changes()
    wanted = imported.of(service="PaymentService", status="completed")
    batch = imported.server.bulk("purge", "PaymentService")
    assert (batch["matched"], batch["applied"]) == (400, 400)
    changes = imported.changes()
    assert changes.keys() == wanted
    assert {status for _, status in changes.values()} == {None}


def test_the_rest_of_a_service_ends_with_one_command(imported: Imported) -> None:
    """Whatever the others have left of it."""
    imported.changes()
    wanted = imported.of(service="Greeter") - imported.of(status="completed")
    batch = imported.server.bulk("kill", "Greeter")
    assert (batch["matched"], batch["ended"]) == (len(wanted), len(wanted))
    changes = imported.changes()
    ended = {id for id, pair in changes.items() if pair[1] == "completed"}
    assert ended == wanted
    woken = {imported.seen[id]["invoked_by"] for id in wanted} - {None}
    assert changes.keys() - ended <= woken
    assert all(changes[id] == ("suspended", "ready") for id in changes.keys() - ended)
