"""Cancels with a grace on a real server with a real participant, and what is done about what they have killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import Server, eventually

HANDLERS = ("give_in", "compensate_for_ever", "call_one_that_hangs", "never_wait")


@pytest.fixture
def jobs(alone: Server, tmp_path: Path) -> Iterator[dict[str, str]]:
    """One invocation of each handler, waiting as it does: handler → id."""
    alone.start()
    with (
        (tmp_path / "participant.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.system.compensating"],
            stdout=log, stderr=log, cwd=Path(__file__).parents[2], env=alone.cli.env,
        ) as participant,
    ):  # fmt: skip
        try:
            ids = {handler: alone.send(f"Job/{handler}") for handler in HANDLERS}
            come_to_rest(alone, suspended=4, running=1)
            yield ids
        finally:
            participant.kill()


def come_to_rest(server: Server, **wanted: int) -> None:
    """Wait until so many of the jobs are in each of these statuses, and none in another that is not the end."""

    def alive() -> dict[str, int]:
        statuses = [one["status"] for one in server.list("service=Job")]
        return {status: statuses.count(status) for status in statuses if status != "completed"}

    eventually(lambda: alive() == wanted, says=lambda: str(alive()))


def settled(server: Server, id: str) -> dict[str, Any]:
    """The batch once its grace is over too; its events end before, when nothing happens for a second."""
    eventually(lambda: server.batch(id)["settled"], says=lambda: str(server.batch(id)))
    return server.batch(id)


def outcomes(server: Server, ids: dict[str, str]) -> dict[str, Any]:
    return {handler: server.get(id)["outcome"] for handler, id in ids.items()}


def test_what_hangs_is_killed_when_the_grace_is_over_and_started_again_by_who_killed_it(
    alone: Server, jobs: dict[str, str]
) -> None:
    by_hand = alone.send("Job/give_in")
    alone("PATCH", f"/invocations/{by_hand}/kill")
    roots = [jobs[handler] for handler in HANDLERS]
    asked = alone.bulk("cancel", *roots, "--grace", "5s", "--request-id", "c")
    assert (asked["state"], asked["matched"], asked["grace_s"]) == ("completed", 4, 5.0)
    assert (asked["awaits_grace"], asked["settled"]) == (True, False)
    last = settled(alone, "c")
    assert (last["ended"], last["propagated"], last["settled"]) == (4, 1, True)
    assert outcomes(alone, jobs) == dict.fromkeys(HANDLERS, "killed") | {"give_in": "cancelled"}

    again = alone.bulk("restart-as-new", "--killed-by", "c")
    assert (again["matched"], again["applied"]) == (3, 3)
    come_to_rest(alone, suspended=3, running=1)  # the called one as well: its caller has called it again
    new = {handler: alone.get(jobs[handler])["restarted_as"] for handler in HANDLERS}
    assert new.pop("give_in") is None
    assert {alone.get(id)["restarted_from"] for id in new.values()} == {jobs[handler] for handler in new}
    assert alone.get(by_hand)["restarted_as"] is None


def test_an_abort_leaves_what_hangs_to_itself(alone: Server, jobs: dict[str, str]) -> None:
    alone.bulk("cancel", "Job", "--grace", "1h", "--request-id", "c")
    come_to_rest(alone, suspended=3, running=1)
    done = alone.cli("batches", "abort", "c")
    assert (done.returncode, done.stderr) == (0, "")
    last = settled(alone, "c")
    assert (last["state"], last["awaits_grace"], last["settled"]) == ("completed", False, True)
    assert outcomes(alone, jobs) == dict.fromkeys(HANDLERS) | {"give_in": "cancelled"}


def test_a_grace_goes_on_when_the_server_is_killed(alone: Server, jobs: dict[str, str]) -> None:
    alone.bulk("cancel", "Job", "--grace", "15s", "--request-id", "c")
    come_to_rest(alone, suspended=3, running=1)
    assert outcomes(alone, jobs) == dict.fromkeys(HANDLERS) | {"give_in": "cancelled"}
    alone.kill_all()
    alone.start()
    assert settled(alone, "c")["ended"] == 5
    assert outcomes(alone, jobs) == dict.fromkeys(HANDLERS, "killed") | {"give_in": "cancelled"}
    assert alone.stop() == 0
    check = alone.check()
    assert check.returncode == 0, check.stdout + check.stderr
