"""The command line against the system itself, on the rows of a real Restate server."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator.examples import restate_rows
from coordinator.model.ids import derived_id
from tests.cli.conftest import COMMAND, Cli

READY_S = 60.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "data"


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Cli]:
    """A server that has taken over the example, and a command line that knows where it is."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    cli = Cli(data.parent, f"http://{address}")
    command = [COMMAND, "serve", "--data", str(data), "--partitions", "2", "--listen", address]
    with (data.parent / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=data.parent, env=cli.env, stdout=log, stderr=log)
    try:
        _await_ready(f"http://{address}")
        with restate_rows().open("rb") as file:
            done = cli("import", "--rebase-times", "-", stdin=file.read())
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {"imported": 17_000, "existing": 0, "failed": 0, "errors": []}
        yield cli
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(READY_S)


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError("the server was not ready in time")


def listed(server: Cli, *args: str) -> list[dict[str, Any]]:
    done = server("invocations", "list", *args)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    progress: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return progress


def test_a_file_may_be_imported_again(server: Cli) -> None:
    with restate_rows().open("rb") as file:
        done = server("import", "-", stdin=file.read())
    assert json.loads(done.stdout) == {"imported": 0, "existing": 17_000, "failed": 0, "errors": []}


def test_bad_lines_are_told_and_the_rest_goes_on(server: Cli) -> None:
    done = server("import", "-", stdin=b'bad\n\n{"id": "inv_1"}\n')
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (1, 2)
    first, second = done.stderr.splitlines()
    assert first.startswith("line 1: not JSON")
    assert second.startswith("line 3: not a row of sys_invocation: Object missing required field")


def test_a_listing_has_everything_newest_first(server: Cli) -> None:
    found = listed(server)
    assert len(found) == 17_000
    by_id = sorted(found, key=lambda one: one["id"])
    assert found == sorted(by_id, key=lambda one: one["created_at"], reverse=True)
    assert Counter(one["service"] for one in found)["OrderWorkflow"] == 500


@pytest.mark.parametrize(
    ("args", "number"),
    [
        (["--service", "OrderWorkflow"], 500),
        (["PaymentService/refund", "--status", "completed"], 400),
        (["CartObject/add"], 0),
        (["--status", "scheduled", "--limit", "1500"], 1500),
        (["--created-before", "1h"], 0),
        (["--created-after", "1h", "--service", "Tree"], 500),
    ],
)
def test_a_listing_is_filtered(server: Cli, args: list[str], number: int) -> None:
    assert len(listed(server, *args)) == number


def test_the_scripts_of_restates_users_run(server: Cli) -> None:
    ids = f"{sys.executable} -c 'import json, sys; [print(one[\"id\"]) for one in json.load(sys.stdin)[:3]]'"
    done = server.script(
        f"""
        SERVICE_NAME="OrderWorkflow"
        coordinator invocations list --service $SERVICE_NAME --status suspended | {ids} > ids
        xargs -I {{}} coordinator invocations cancel {{}} < ids
        CUTOFF=$(date -u +%Y-%m-%dT%H:%M:%SZ)
        coordinator invocations list --service Greeter --status completed --limit 3 | {ids} | \
          xargs -I {{}} coordinator invocations purge {{}}
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers[:3]] == (server.directory / "ids").read_text().split()
    assert ["status" in answer for answer in answers] == [True] * 3 + [False] * 3
    gone = answers[3]["id"]
    assert server("invocations", "describe", gone).returncode == 5


def test_single_actions_have_their_exit_codes(server: Cli) -> None:
    started = json.loads(server("invocations", "start", "Greeter/greet", "--delay", "1h", "--input", '"Ada"').stdout)
    id = started["id"]
    assert json.loads(server("invocations", "describe", id).stdout)["status"] == "scheduled"
    assert server("invocations", "purge", id).returncode == 6
    assert server("invocations", "kill", id).returncode == 0
    assert server("invocations", "kill", id).returncode == 6
    assert json.loads(server("invocations", "describe", id).stdout)["outcome"] == "killed"
    assert server("invocations", "kill", derived_id("nobody", 0, None)).returncode == 5
    assert server("invocations", "kill", "inv_what").returncode == 2


def test_a_dry_run_counts_and_touches_nothing(server: Cli) -> None:
    before = listed(server, "Tree")
    done = server("invocations", "kill", "Tree", "--dry-run")
    last = last_line(done)
    assert (done.returncode, last["state"]) == (0, "completed")
    assert (last["matched"], last["applied"], last["ended"]) == (len(before), len(before), 0)
    assert [one["status"] for one in listed(server, "Tree")] == [one["status"] for one in before]


def test_a_guard_that_does_not_hold_refuses_and_touches_nothing(server: Cli) -> None:
    paused = listed(server, "PaymentService", "--status", "paused")
    done = server("invocations", "kill", "PaymentService", "--status", "paused", "--yes", "--expect", "7")
    assert (done.returncode, last_line(done)["state"]) == (3, "refused")
    assert f"7 matches were expected and {len(paused)} were found" in done.stderr
    assert listed(server, "PaymentService", "--status", "paused") == paused


def test_a_batch_is_what_its_request_id_says(server: Cli) -> None:
    args = ["invocations", "purge", "PaymentService", "--yes", "--reason", "tidy", "--request-id", "tidy-1"]
    first, again = server(*args), server(*args)
    assert (first.returncode, last_line(first)["applied"]) == (0, 400)
    assert last_line(again)["finished_at"] == last_line(first)["finished_at"]
    assert server(*args, "--rate", "5").returncode == 6
    assert json.loads(server("batches", "get", "tidy-1").stdout)["reason"] == "tidy"
    assert "tidy-1" in [one["id"] for one in json.loads(server("batches", "list").stdout)]
    assert server("batches", "watch", "tidy-1").returncode == 0
    assert server("batches", "abort", "tidy-1").returncode == 6


def test_no_match_is_no_failure(server: Cli) -> None:
    done = server("invocations", "kill", "Nobody", "--yes")
    assert (done.returncode, last_line(done)["matched"]) == (0, 0)


def test_a_person_sees_the_number_and_says_yes(server: Cli) -> None:
    wanted = len(listed(server, "Greeter/greet", "--status", "scheduled"))
    terminal = server.on_a_terminal("invocations", "kill", "Greeter/greet", "--status", "scheduled")
    terminal.read_until(f"Kill {wanted:,} invocations: target Greeter/greet, status scheduled? [y/N] ")
    terminal.type("yes\n")
    assert terminal.close() == 0
    assert f"completed: {wanted:,} matched, {wanted:,} ended" in terminal.shown
    assert listed(server, "Greeter/greet", "--status", "scheduled") == []


def test_a_cancel_ends_who_waits_and_asks_who_runs(server: Cli) -> None:
    done = server("invocations", "cancel", "CartObject", "--yes")
    last = last_line(done)
    assert (done.returncode, last["matched"], last["ended"], last["signalled"]) == (0, 3500, 2700, 800)
    assert Counter(one["outcome"] for one in listed(server, "CartObject")) == {"cancelled": 2700, None: 800}


def test_partitions_and_their_data_stand_well(server: Cli, data: Path) -> None:
    standing = json.loads(server("partitions").stdout)
    assert [(one["partition"], one["failure"]) for one in standing] == [(0, None), (1, None)]
    done = server("check", "--data", str(data))
    assert (done.returncode, done.stderr) == (0, "")
    checked = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["partition"], one["differences"]) for one in checked] == [(0, []), (1, [])]


def test_data_that_is_served_is_not_served_twice(server: Cli, data: Path) -> None:
    done = server("serve", "--data", str(data), "--listen", "127.0.0.1:0")
    assert done.returncode == 6
    assert "is held by process" in done.stderr
