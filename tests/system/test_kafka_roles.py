"""Several processes on a real broker are one server, and go on when some of them do not."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from coordinator.logs.kafka import KafkaLog
from coordinator.logs.port import Stream
from tests.http.surface import assert_problem
from tests.kafka.broker import Broker
from tests.system.kafka import SESSION_S, Process, System, system
from tests.system.participant import participant
from tests.system.server import eventually
from tests.system.test_participants import output

PATIENCE_S = 120


@pytest.fixture(scope="module")
def parts(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, list[Process]]]:
    with system(tmp_path_factory.mktemp("kafka"), kafka) as found:
        yield found


@pytest.fixture
def whole(parts: tuple[System, list[Process]]) -> System:
    """The system, ready."""
    of, _ = parts
    eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
    return of


@pytest.fixture
def workers(parts: tuple[System, list[Process]], whole: System) -> list[Process]:
    """Its workers, each with partitions."""
    _, workers = parts
    eventually(
        lambda: all(whole.owned_by(worker) for worker in workers) and whole.is_ready(),
        within_s=PATIENCE_S,
        says=whole.said,
    )
    return workers


def test_invocations_are_started_listed_described_and_killed_whoever_owns_them(whole: System) -> None:
    ids = [whole.send("Walk/step") for _ in range(30)]
    listed = whole.list("service=Walk")
    assert {one["id"] for one in listed} == set(ids)
    by_id = sorted(listed, key=lambda one: str(one["id"]))
    assert listed == sorted(by_id, key=lambda one: str(one["created_at"]), reverse=True)
    assert {whole.get(id)["status"] for id in ids} == {"ready"}
    first = whole("GET", "/invocations?service=Walk&limit=7")
    paged = list(first.json())
    while "next" in first.links:
        first = whole.http.get(first.links["next"]["url"])
        paged += first.json()
    assert paged == listed
    assert whole("PATCH", f"/invocations/{ids[0]}/kill").status_code == 200
    assert whole.get(ids[0])["outcome"] == "killed"


def test_a_batch_reaches_all_partitions_and_its_end(whole: System) -> None:
    ids = [whole.send("Mass/end") for _ in range(200)]
    done = whole.do("kill", {"service": "Mass"}, reason="on Kafka")
    assert (done["state"], done["matched"], done["ended"]) == ("completed", 200, 200)
    assert {one["outcome"] for one in whole.list("service=Mass")} == {"killed"}
    assert len(ids) == len(whole.list("service=Mass"))


def test_a_participant_runs_handlers(whole: System, tmp_path: Path) -> None:
    with participant(whole.url, tmp_path / "log", service="Runs"):
        ids = [whole.send("Runs/echo", content=str(number).encode()) for number in range(20)]
        assert [output(whole, id)["input"] for id in ids] == [str(number) for number in range(20)]


def test_a_worker_that_is_killed_is_replaced_by_replay_and_meanwhile_nobody_is_told_half(
    whole: System, workers: list[Process]
) -> None:
    ids = [whole.send("Moves/on") for _ in range(40)]
    dead, alive = workers
    lost = whole.owned_by(dead)
    dead.kill()
    try:
        _is_replaced(whole, ids, lost, alive)
    finally:
        dead.start()


def _is_replaced(whole: System, ids: list[str], lost: list[int], alive: Process) -> None:
    response = httpx.Response(200)
    while response.status_code == 200 and not all(whole.owners()[number] == alive.address for number in lost):
        response = whole("GET", "/invocations?service=Moves")
        if response.status_code == 200:
            assert len(response.json()) == len(ids)
    if response.status_code != 200:
        assert_problem(response, 503, says="partition")
        assert any(f"partition {number} " in response.json()["detail"] for number in lost)
    eventually(lambda: set(whole.owned_by(alive)) == {0, 1, 2, 3}, within_s=PATIENCE_S, says=whole.said)
    eventually(whole.is_ready, within_s=PATIENCE_S, says=whole.said)
    assert {one["id"] for one in whole.list("service=Moves")} == set(ids)
    assert alive.metric("coordinator_worker_takeovers_total") >= 4
    assert "rebalanced" in alive.events()


def test_a_zombie_notices_and_harms_nobody(whole: System, workers: list[Process]) -> None:
    zombie, other = workers
    noticed = zombie.metric("coordinator_worker_zombies_total")
    ids = [whole.send("Undead/walk") for _ in range(40)]
    slow = whole.submit("kill", {"service": "Undead"}, rate=5, reason="under way all the time")
    zombie.signal(signal.SIGSTOP)
    eventually(lambda: set(whole.owned_by(other)) == {0, 1, 2, 3}, within_s=PATIENCE_S, says=whole.said)
    eventually(whole.is_ready, within_s=PATIENCE_S, says=whole.said)  # the new owner is heard, too
    whole.send("Undead/late")
    time.sleep(SESSION_S)  # it must have been away for longer than its session lasts
    zombie.signal(signal.SIGCONT)
    eventually(lambda: zombie.metric("coordinator_worker_zombies_total") > noticed, within_s=60, says=whole.said)
    assert "zombie_noticed" in zombie.events()
    done = whole.finished(slow)
    assert (done["matched"], done["ended"]) == (40, 40)
    assert sorted(one["status"] for one in whole.list("service=Undead")) == ["completed"] * 40 + ["ready"]
    assert len(ids) == 40
    eventually(lambda: all(whole.owned_by(worker) for worker in workers), within_s=PATIENCE_S, says=whole.said)


def test_a_static_member_keeps_its_partitions_over_a_restart(kafka: str, tmp_path: Path) -> None:
    with System(tmp_path, kafka, partitions=2) as of:
        members = [{"group_instance_id": f"worker-{number}", "session_timeout_ms": "60000"} for number in range(2)]
        workers = [of.process_with("partitions", **member).start() for member in members]
        of.front(of.process_with("requests,http").start())
        eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
        eventually(lambda: all(of.owned_by(worker) for worker in workers), within_s=PATIENCE_S, says=of.said)
        before, seen = of.owners(), workers[1].metric("coordinator_worker_rebalances_total")
        workers[0].kill()
        workers[0].start()
        eventually(workers[0].is_ready, within_s=PATIENCE_S, says=of.said)
        eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
        assert of.owners() == before
        assert workers[1].metric("coordinator_worker_rebalances_total") == seen
        assert [worker.stop() for worker in workers] == [0, 0]


def test_another_process_becomes_the_coordinator_and_participants_follow_it(kafka: str, tmp_path: Path) -> None:
    with System(tmp_path, kafka, partitions=2) as of:
        of.process_with("partitions").start()
        coordinators = [of.process_with("requests").start() for _ in range(2)]
        of.front(of.process_with("http").start())
        eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
        with participant(of.url, tmp_path / "log", service="Stays"):
            assert output(of, of.send("Stays/echo", content=b"1"))["input"] == "1"
            [active] = [one for one in coordinators if "sessions_taken_over" in one.events()]
            before = of.do("count", {"service": "Stays"})
            active.kill()
            during = of.send("Stays/echo", content=b"2")
            assert output(of, during, timeout="2m")["input"] == "2"
            assert of.batch(before["id"]) == before
            assert of.do("kill", {"service": "Stays"}, reason="nothing is left")["state"] == "completed"


def test_a_partition_moves_to_a_machine_without_its_store_by_a_snapshot(kafka: str, tmp_path: Path) -> None:
    with System(tmp_path / "system", kafka, partitions=1) as of:
        old, new = of.process_with("partitions"), of.process_with("partitions")
        for worker in (old, new):
            worker.env |= {"COORDINATOR_SNAPSHOTS": str(tmp_path / "snapshots"), "COORDINATOR_SNAPSHOT_INTERVAL": "1ms"}
        old.start()
        of.front(of.process_with("requests,http").start())
        eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
        with closing(KafkaLog(of.settings)) as log:
            ids = []

            def trimmed() -> bool:
                ids.append(of.send("Travels/light"))
                return log.bounds(Stream.COMMANDS, 0).first > 0

            eventually(trimmed, within_s=PATIENCE_S, says=of.said)
            before = of.list("service=Travels")
            old.kill()
            new.start()
            eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
            assert "store restored from a snapshot" in new.said()
            assert of.list("service=Travels") == before
            assert len(before) == len(ids)
            assert new.stop() == 0
            places = ["--log", f"kafka://{kafka}", "--data", str(new.data), "--snapshots", str(tmp_path / "snapshots")]
            found = of.cli("check", *places, **new.env)
            assert (found.returncode, json.loads(found.stdout)["differences"]) == (0, [])


def test_brokers_that_are_gone_are_said_to_be_and_waited_for(own_brokers: None, tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        with System(tmp_path / "system", broker.bootstrap, partitions=2) as of:
            worker = of.process_with("partitions").start()
            front = of.process_with("requests,http", **{"delivery_timeout_ms": "3000"}).start()
            of.front(front)
            eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
            ids = {of.send("Waits/on") for _ in range(20)}
            broker.kill()
            eventually(lambda: worker.metric("coordinator_kafka_up") == 0, within_s=60, says=of.said)
            assert_problem(of("POST", "/services/Waits/on/send"), 503)
            assert {one["id"] for one in of.list("service=Waits")} == ids, "what is applied is still shown"
            broker.start()
            eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
            eventually(lambda: worker.metric("coordinator_kafka_up") == 1, within_s=60, says=of.said)
            assert worker.metric("coordinator_kafka_outages_total") >= 1
            assert [event for event in worker.events() if event.startswith("broker_")][:2] == [
                "broker_gone",
                "broker_back",
            ]
            done = of.do("kill", {"service": "Waits"})
            assert done["state"] == "completed"
            assert done["matched"] in (20, 21), "the one that failed may have been appended all the same"
            assert ids <= {one["id"] for one in of.list("service=Waits&status=completed")}
    finally:
        broker.stop()


def test_every_process_ends_in_time_while_the_brokers_hang(own_brokers: None, tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        with System(tmp_path / "system", broker.bootstrap, partitions=2) as of:
            # Appends would be waited for far beyond the end of this test.
            patient = {"delivery_timeout_ms": "600000", "request_timeout_ms": "300000"}
            worker = of.process_with("partitions", **patient).start()
            front = of.process_with("requests,http", **patient).start()
            of.front(front)
            eventually(of.is_ready, within_s=PATIENCE_S, says=of.said)
            of.send("Waits/on")
            broker.pause()
            with pytest.raises(httpx.TimeoutException):
                of("POST", "/services/Waits/on/send", timeout=1)
            assert [process.stop() for process in (worker, front)] == [0, 0], of.said()
            assert "stopped_before_all_was_ended" in front.events()
            broker.resume()
    finally:
        broker.stop()
