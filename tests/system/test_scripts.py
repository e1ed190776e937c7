"""The scripts that Restate's users have: they run as they stand, with `coordinator` in place of `restate`."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from coordinator.logs.port import Stream
from coordinator.model import messages
from tests.cli.conftest import COMMAND
from tests.system import evidence, jq
from tests.system.participant import participant
from tests.system.rows import at, ids_of, lines, row
from tests.system.server import Server, eventually

BULK_CANCELLATION = """\
#!/bin/bash

# Cancel all invocations for a specific service
SERVICE_NAME="MyService"

coordinator invocations list --service $SERVICE_NAME --status running | \\
  jq -r '.[] | .id' | \\
  xargs -I {} coordinator invocations cancel {}
"""

CLEANUP = """\
#!/bin/bash

# Purge completed invocations older than 7 days
CUTOFF_DATE=$(date -d '7 days ago' -u +%Y-%m-%dT%H:%M:%SZ)

coordinator invocations list --status completed | \\
  jq -r --arg cutoff "$CUTOFF_DATE" \\
    '.[] | select(.completed_at < $cutoff) | .id' | \\
  xargs -I {} coordinator invocations purge {}
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with the command on it, and jq."""
    directory = tmp_path_factory.mktemp("bin")
    if shutil.which("jq") is None:
        jq.install(directory)
    return os.pathsep.join((str(Path(COMMAND).parent), str(directory), os.environ["PATH"]))


def run(server: Server, script: str, tools: str) -> subprocess.CompletedProcess[str]:
    """The script as a file that is executed."""
    path = server.data.parent / "script.sh"
    path.write_text(script)
    path.chmod(0o755)
    return subprocess.run(
        [path], capture_output=True, text=True, check=False, env=server.cli.env | {"PATH": tools}, cwd=path.parent
    )


def told(server: Server, kind: type[messages.Delivery]) -> set[str]:
    """The invocations of which participants were told this."""
    deliveries = (
        messages.decode_delivery(record.value)
        for partition in range(server.partitions)
        for record in evidence.records(server.data, Stream.DELIVERIES, partition)
    )
    return {delivery.id for delivery in deliveries if isinstance(delivery, kind)}


def test_bulk_cancellation(server: Server, tools: str, tmp_path: Path) -> None:
    with participant(server.url, tmp_path / "participant.log", service="MyService"):
        running = {server.send("MyService/hold") for _ in range(4)}
        others = {server.send("MyService/hold", "delay=1h"): "scheduled", server.send("Other/run"): "ready"}
        eventually(lambda: {server.get(id)["status"] for id in running} == {"running"})
        done = run(server, BULK_CANCELLATION, tools)
        assert (done.returncode, done.stderr) == (0, "")
        assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == running
        assert told(server, messages.Signal) == running
        assert {id: server.get(id)["status"] for id in others} == others


def test_bulk_cancellation_of_nothing(server: Server, tools: str) -> None:
    done = run(server, BULK_CANCELLATION.replace("MyService", "NoService"), tools)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_cleanup_of_what_is_completed_for_long(server: Server, tools: str) -> None:
    days = {age: row("Old/run", "completed", completed_at=at(age * 86_400)) for age in (1, 6, 8, 30)}
    live = row("Old/run", created_at=at(9 * 86_400))
    server.import_lines(lines([*days.values(), live]))
    done = run(server, CLEANUP, tools)
    assert (done.returncode, done.stderr) == (0, "")
    kept = {one["id"] for one in server.list("service=Old")}
    assert kept == {days[1]["id"], days[6]["id"], live["id"]}


def test_the_monitor_of_stuck_invocations(server: Server) -> None:
    """As the Go program does it: decode id, status and retry, PATCH what was tried too often, look no further."""
    stuck = [row("Stuck/run", retry_count=11 + n) for n in range(3)]
    others = [row("Stuck/run", retry_count=10), row("Stuck/run"), row("Stuck/run", "paused", retry_count=12)]
    server.import_lines(lines([*stuck, *others]))
    before = {one["id"]: one for one in server.list("service=Stuck")}
    response = httpx.get(f"{server.url}/invocations?status=suspended")
    resumed = set()
    for invocation in response.json():
        assert invocation["status"] == "suspended"
        if invocation["retry"] > 10:
            assert httpx.patch(f"{server.url}/invocations/{invocation['id']}/resume").status_code == 200
            resumed.add(invocation["id"])
    assert resumed == ids_of(stuck)
    # What waits for something cannot go on without it, so to resume it is no error and changes nothing.
    assert {one["id"]: one for one in server.list("service=Stuck")} == before


def test_the_stand_in_for_jq_prints_what_jq_does() -> None:
    text = json.dumps([{"id": "a", "completed_at": "2026-11-01"}, {"id": "b", "completed_at": None}])
    assert jq.ids(["-r", jq.IDS], text) == ["a", "b"]
    assert jq.ids(["-r", "--arg", "cutoff", "2026-11-02", jq.OLDER], text) == ["a", "b"]
    assert jq.ids(["-r", "--arg", "cutoff", "2026-10-31", jq.OLDER], text) == ["b"]
