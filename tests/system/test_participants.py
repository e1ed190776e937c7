"""Real participants of a real server: deliveries, reports, outputs, and what happens when one of them is killed."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.model import limits
from tests.http.surface import assert_problem
from tests.system.participant import participant
from tests.system.server import Server, eventually


@pytest.fixture(scope="module")
def served(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one participant, which has `Echo`."""
    with participant(server.url, tmp_path_factory.mktemp("participant") / "log"):
        eventually(lambda: connected(server) == 1)
        yield server


def connected(server: Server) -> int:
    """How many participants the server says are connected."""
    text = server.http.get("/metrics").text
    return int(float(next(line for line in text.splitlines() if line.startswith("coordinator_sessions ")).split()[1]))


def output(server: Server, id: str, timeout: str = "60s") -> dict[str, Any]:
    response = server("GET", f"/invocations/{id}/output?timeout={timeout}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return dict(response.json())


def test_what_is_sent_is_run_and_its_output_is_there(served: Server) -> None:
    ids = [served.send("Echo/echo", content=str(number).encode()) for number in range(200)]
    assert [output(served, id)["input"] for id in ids] == [str(number) for number in range(200)]
    [shown] = {served.get(id)["deployment"] for id in ids}
    assert shown == "dp_1"


def test_a_call_of_another_comes_back(served: Server) -> None:
    id = served.send("Echo/call", content=b"Echo/echo")
    assert output(served, id)["input"] == '"called"'


def test_an_output_is_asked_for_before_during_and_after_and_of_what_fails(served: Server) -> None:
    held = served.send("Echo/hold")
    response = served("GET", f"/invocations/{held}/output?timeout=50ms")
    assert (response.status_code, response.json()["id"]) == (202, held)
    served("PATCH", f"/invocations/{held}/kill")
    problem = served("GET", f"/invocations/{held}/output")
    assert_problem(problem, 424)
    assert problem.json()["outcome"] == "killed"
    failed = served("GET", f"/invocations/{served.send('Echo/fail')}/output")
    assert_problem(failed, 424, says="it always does")
    assert (failed.json()["outcome"], failed.json()["failure"]) == ("failure", "it always does")
    served("DELETE", f"/invocations/{held}/purge")
    assert_problem(served("GET", f"/invocations/{held}/output"), 404)
    assert_problem(served("GET", f"/invocations/{held}/output?timeout=6m"), 400, field="timeout")


def test_a_target_is_held_against_what_is_registered(served: Server) -> None:
    assert_problem(served("POST", "/services/Echo/bogus/send"), 404, says="echo, hold, fail, call")
    assert_problem(served("POST", "/services/Echo/key/echo/send"), 400, field="key", says="Echo/echo")
    assert served("POST", "/services/Nobody/knows/send").status_code == 202


def test_two_participants_share_the_load_and_neither_has_more_than_it_takes(alone: Server, tmp_path: Path) -> None:
    alone.start()
    with (
        participant(alone.url, tmp_path / "1", capacity=3),
        participant(alone.url, tmp_path / "2", capacity=3),
    ):
        eventually(lambda: connected(alone) == 2)
        outputs = [output(alone, id) for id in [alone.send("Echo/echo") for _ in range(100)]]
        by_process = {pid: [one for one in outputs if one["pid"] == pid] for pid in {one["pid"] for one in outputs}}
        assert len(by_process) == 2
        assert all(len(done) > 10 for done in by_process.values())
        assert max(one["most"] for one in outputs) <= 3
        for _ in range(10):
            alone.send("Echo/hold")
        text = alone.http.get("/metrics").text
        eventually(lambda: "coordinator_sessions_waiting 4.0" in alone.http.get("/metrics").text, says=lambda: text)
        assert "coordinator_sessions_held 6.0" in alone.http.get("/metrics").text


def test_what_a_killed_participant_had_is_run_by_another(alone: Server, tmp_path: Path) -> None:
    alone.start()
    with participant(alone.url, tmp_path / "1") as first:
        eventually(lambda: connected(alone) == 1)
        id = alone.send("Echo/hold")
        eventually(lambda: alone.get(id)["status"] == "running")
        with participant(alone.url, tmp_path / "2", service="Echo"):
            eventually(lambda: connected(alone) == 2)
            first.kill()
            first.wait()
            eventually(lambda: alone.get(id)["retry"] == 1)
            eventually(lambda: alone.get(id)["status"] == "running")
            shown = alone.get(id)
            assert shown["last_failure"] == "its participant vanished"
            assert connected(alone) == 1
            assert output(alone, alone.send("Echo/echo"))["pid"] != first.pid


def test_a_server_that_was_stopped_for_longer_than_a_lease_takes_nothing_back(alone: Server, tmp_path: Path) -> None:
    alone.start()
    with participant(alone.url, tmp_path / "1"):
        eventually(lambda: connected(alone) == 1)
        id = alone.send("Echo/hold")
        eventually(lambda: alone.get(id)["status"] == "running")
        assert alone.process is not None
        alone.process.send_signal(signal.SIGSTOP)
        time.sleep(limits.LEASE_US / 1e6 + 1)  # the time itself is what this is about
        alone.process.send_signal(signal.SIGCONT)
        assert output(alone, alone.send("Echo/echo"))["attempt"] == 1
        assert (alone.get(id)["status"], alone.get(id)["retry"]) == ("running", 0)


def test_nothing_runs_that_nobody_serves_and_all_of_it_once_somebody_does(alone: Server, tmp_path: Path) -> None:
    alone.start()
    ids = [alone.send("Echo/echo") for _ in range(20)]
    assert {alone.get(id)["status"] for id in ids} == {"ready"}
    with participant(alone.url, tmp_path / "1"):
        assert {output(alone, id)["attempt"] for id in ids} == {1}


@pytest.mark.parametrize("whole", [True, False], ids=["all of it", "the server alone"])
def test_a_server_that_is_killed_goes_on_with_what_was_held(alone: Server, tmp_path: Path, *, whole: bool) -> None:
    alone.start()
    with participant(alone.url, tmp_path / "1"):
        eventually(lambda: connected(alone) == 1)
        held = [alone.send("Echo/hold") for _ in range(5)]
        eventually(lambda: {alone.get(id)["status"] for id in held} == {"running"})
        if whole:
            alone.kill_all()
        else:
            alone.kill_server_only()
        alone.start()
        eventually(lambda: connected(alone) == 1)
        eventually(lambda: {alone.get(id)["status"] for id in held} == {"running"})
        assert output(alone, alone.send("Echo/echo"))["attempt"] == 1
        assert alone.do("kill", {"service": "Echo"})["ended"] == 5
    assert alone.stop() == 0
    check = alone.check()
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_server_with_open_streams_ends_at_once(alone: Server, tmp_path: Path) -> None:
    alone.start()
    with participant(alone.url, tmp_path / "1") as process:
        eventually(lambda: connected(alone) == 1)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            assert alone.stop() == 0
        finally:
            os.kill(process.pid, signal.SIGCONT)
    assert "Cancel" not in alone.said()
