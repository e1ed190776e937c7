"""Handlers written with the library, on a real server: what outlives processes, what ends, and what never starts."""

import json
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.model import limits
from tests.http.surface import assert_problem
from tests.system import evidence
from tests.system.handlers import gate, handlers
from tests.system.server import Server, eventually


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """What handlers have done outside, a line each."""
    path = tmp_path / "record"
    path.touch()
    return path


class Shop:
    """A server with a participant, for tests that keep out of each other's way."""

    def __init__(self, server: Server, record: Path) -> None:
        self.server = server
        self.record = record

    def output(self, target: str, input: object = None) -> Any:
        """Start it and wait for what it returns."""
        return output(self.server, self.send(target, input))

    def send(self, target: str, input: object = None, query: str = "", **headers: str) -> str:
        return self.server.send(target, query, content=body(input), headers=headers)


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    record = tmp_path_factory.mktemp("shop") / "record"
    record.touch()
    with handlers(server.url, record):
        eventually(lambda: participants(server) == 1)
        yield Shop(server, record)
    check = server.check()
    assert check.returncode == 0, check.stdout + check.stderr


def participants(server: Server) -> int:
    """How many are connected. Before the first, nobody knows what is a workflow."""
    text = server.http.get("/metrics").text
    return int(float(next(line for line in text.splitlines() if line.startswith("coordinator_sessions ")).split()[1]))


def body(input: object) -> bytes:
    return b"" if input is None else json.dumps(input).encode()


def lines(record: Path) -> list[str]:
    return record.read_text(encoding="utf-8").splitlines()


def output(server: Server, id: str) -> Any:
    response = server("GET", f"/invocations/{id}/output?timeout=60s")
    assert response.status_code == 200, response.text
    return response.json()


def ended(server: Server, id: str) -> dict[str, Any]:
    """The invocation once it has ended, which it must otherwise than well."""
    assert_problem(server("GET", f"/invocations/{id}/output?timeout=60s"), 424)
    return server.get(id)


def at(shown: str) -> datetime:
    return datetime.fromisoformat(shown)


# -- what outlives processes ---------------------------------------------------------------------------------


def test_what_a_killed_and_a_frozen_participant_had_goes_on_elsewhere_and_no_step_is_repeated(
    alone: Server, record: Path
) -> None:
    count = 6
    alone.start()
    with handlers(alone.url, record) as killed, handlers(alone.url, record) as frozen:
        eventually(lambda: participants(alone) == 2)
        ids = [alone.send("Shop/buy", content=b"%d" % number) for number in range(count)]
        eventually(lambda: lines(record).count("failed 0") == count)
        killed.kill()
        frozen.send_signal(signal.SIGSTOP)
        with handlers(alone.url, record):
            assert [output(alone, id) for id in ids] == [[number, number] for number in range(count)]
            ended = [alone.get(id) for id in ids]
            assert {one["last_failure"] for one in ended} == {"its participant vanished"}
            # Its reports are of attempts that are over: nothing comes of them, and it is one of two participants again.
            gate(record).touch()
            frozen.send_signal(signal.SIGCONT)
            eventually(lambda: "late" in lines(record))
            eventually(lambda: participants(alone) == 2)
            assert [alone.get(id) for id in ids] == ended
            assert [output(alone, id) for id in ids] == [[number, number] for number in range(count)]
    # How often each was tried depends on whose lease ended first: the other one may have been given it before it, too.
    done = [line for line in lines(record) if line.startswith(("paid", "packed"))]
    assert sorted(done) == sorted(f"{what} {number}" for what in ("paid", "packed") for number in range(count))


def test_state_results_and_sleeps_outlive_every_process(alone: Server, record: Path) -> None:
    alone.start()
    with handlers(alone.url, record):
        eventually(lambda: participants(alone) == 1)
        counts = [output(alone, id) for id in [alone.send("Cart/c1/add") for _ in range(20)]]
        delivered = alone.send("Parcel/p1/deliver", content=b'"0s"')
        output(alone, delivered)
        sleeping = alone.send("Parcel/p2/deliver", content=b'"4s"')
        eventually(lambda: alone.get(sleeping)["status"] == "suspended")
    assert counts == list(range(1, 21))
    alone.kill_all()
    alone.start()
    assert output(alone, delivered) == "signed by p1"
    with handlers(alone.url, record):
        assert output(alone, alone.send("Cart/c1/add")) == 21
        assert output(alone, alone.send("Cart/c1/count")) == 21
        assert output(alone, alone.send("Cart/c2/count")) == 0
        assert output(alone, alone.send("Parcel/p1/place")) == "delivered"
        assert output(alone, sleeping) == "signed by p2"
        assert output(alone, alone.send("Parcel/p2/place")) == "delivered"
        again = alone("POST", "/services/Parcel/p1/deliver/send")
        assert (again.status_code, again.json()["id"]) == (200, delivered)
    assert lines(record) == ["rang at p1", "rang at p2"]
    assert at(alone.get(sleeping)["completed_at"]) - at(alone.get(sleeping)["created_at"]) >= timedelta(seconds=4)


def test_every_leaf_is_undone_before_its_parent_and_the_state_shows_it(alone: Server, record: Path) -> None:
    leaves = 8
    alone.start()
    with handlers(alone.url, record):
        eventually(lambda: participants(alone) == 1)
        root = alone.send("Trip/t/book", content=b"3")
        eventually(lambda: len(alone.list("service=Trip&status=suspended")) == 2 * leaves - 1)
        alone.restart()
        alone("PATCH", f"/invocations/{root}/cancel")
        assert ended(alone, root)["outcome"] == "cancelled"
        assert {row["outcome"] for row in alone.list("service=Trip&handler=book")} == {"cancelled"}
        assert output(alone, alone.send("Trip/t/state")) == "undone"
    undone = [line.removeprefix("undone ") for line in lines(record)]
    assert len(undone) == len(set(undone)) == 2 * leaves - 1
    for place, key in enumerate(undone):
        assert not [child for child in undone[place:] if child.startswith(f"{key}.")], "a child was undone after it"


# -- attempts and deployments --------------------------------------------------------------------------------


def test_what_fails_backs_off_is_paused_after_its_attempts_and_resumed(shop: Shop) -> None:
    server = shop.server

    def described(status: str) -> dict[str, Any]:
        eventually(lambda: server.get(id)["status"] == status)
        return dict(json.loads(server.cli("invocations", "describe", id).stdout))

    id = shop.send("Bank/charge")
    shown = described("backing-off")
    assert (shown["attempt"], shown["retry"], shown["last_failure"]) == (1, 1, "OSError: away at attempt 1")
    pause = at(shown["next_retry_at"]) - at(shown["modified_at"])
    assert timedelta(minutes=59) < pause < timedelta(minutes=61)

    assert server("PATCH", f"/invocations/{id}/resume").status_code == 200
    shown = described("paused")
    assert (shown["attempt"], shown["retry"], shown["last_failure"]) == (2, 2, "OSError: away at attempt 2")
    assert shown["next_retry_at"] is None

    assert server("PATCH", f"/invocations/{id}/resume").status_code == 200
    assert output(server, id) == 3


def test_an_invocation_stays_with_its_deployment_and_goes_on_where_it_is_put(alone: Server, record: Path) -> None:
    alone.start()
    with handlers(alone.url, record), handlers(alone.url, record, "dp_other"):
        eventually(lambda: len(alone("GET", "/deployments").json()) == 2)
        new = alone("GET", "/deployments").json()[0]["id"]
        old = "dp_1" if new == "dp_other" else "dp_other"
        id = alone.send("Shop/changes")
        eventually(lambda: alone.get(id)["status"] == "suspended")
        assert alone.get(id)["deployment"] == new
        assert alone("PATCH", f"/invocations/{id}/pause").status_code == 200
        alone("PATCH", f"/invocations/{id}/resume?deployment={old}")
        eventually(lambda: alone.get(id)["status"] == "paused")
        failure = alone.get(id)["last_failure"]
        assert failure.startswith("step 0 was ")
        assert "a call of Shop/pay" in failure
        assert "the run 'other'" in failure
        alone("PATCH", f"/invocations/{id}/resume?deployment={new}")
        assert output(alone, id) == new


# -- calls, sends, cancellation ------------------------------------------------------------------------------


def test_a_repeated_idempotency_key_gets_the_result_of_the_first(shop: Shop) -> None:
    first, second = (shop.send("Shop/pay", number, **{"Idempotency-Key": "once"}) for number in (700, 701))
    assert first == second
    assert output(shop.server, second) == 700
    third = shop.send("Shop/pay", 702, **{"Idempotency-Key": "once"})
    assert output(shop.server, third) == 700
    assert [line for line in lines(shop.record) if line.startswith("paid 70")] == ["paid 700"]


def test_a_call_that_loses_against_a_sleep_is_cancelled(shop: Shop) -> None:
    call, said = shop.output("Shop/patient")
    assert said == "too slow"
    shown = ended(shop.server, call)
    assert (shown["target"], shown["outcome"]) == ("Shop/slow", "cancelled")


def test_a_handler_cancels_another(shop: Shop) -> None:
    id = shop.send("Shop/slow")
    shop.server("GET", f"/invocations/{shop.send('Shop/stop', id)}/output")
    assert ended(shop.server, id)["outcome"] == "cancelled"


def test_what_a_handler_sends_outlives_it_and_is_on_time(shop: Shop) -> None:
    at_once, later = shop.output("Shop/order", 800)
    assert shop.server.get(later)["status"] == "scheduled"
    assert [output(shop.server, id) for id in (at_once, later)] == [800, 801]
    shown = shop.server.get(later)
    assert at(shown["completed_at"]) - at(shown["created_at"]) >= timedelta(seconds=1)
    assert shown["detached"]


def test_who_swallows_a_cancel_and_succeeds_is_counted_as_ended_otherwise(shop: Shop) -> None:
    ids = [shop.send(f"Shop/{handler}") for handler in ("slow", "stubborn") for _ in range(5)]
    eventually(lambda: {shop.server.get(id)["status"] for id in ids} == {"suspended"})
    batch = shop.server.submit("cancel", {"ids": ids})
    eventually(lambda: shop.server.batch(batch)["ended_by_other"] + shop.server.batch(batch)["ended"] == 10)
    shown = shop.server.batch(batch)
    assert {name: shown[name] for name in ("matched", "ended", "ended_by_other", "signalled")} == {
        "matched": 10,
        "ended": 5,
        "ended_by_other": 5,
        "signalled": 0,
    }
    assert [shop.server.get(id)["outcome"] for id in ids] == ["cancelled"] * 5 + ["success"] * 5
    assert output(shop.server, ids[-1]) == "all the same"


# -- keys, and what never starts -----------------------------------------------------------------------------


def test_a_key_has_one_at_a_time_in_order_of_arrival_on_two_participants(shop: Shop) -> None:
    keys, times = ("a", "b", "c"), 100
    with handlers(shop.server.url, shop.record):
        eventually(lambda: participants(shop.server) == 2)
        ids = [shop.send(f"Desk/{key}/serve", number) for number in range(times) for key in keys]
        processes = {output(shop.server, id) for id in ids[-2 * times :]}
    assert len(processes) == 2
    for key in keys:
        said = [line for line in lines(shop.record) if line.startswith(f"{key} ")]
        assert said == [f"{key} {what} {number}" for number in range(times) for what in ("begins", "ends")]


def test_to_kill_the_head_of_a_long_queue_in_scope_starts_none_of_it(shop: Shop) -> None:
    server, count = shop.server, 10_000
    shop.send("Hall/fill", {"target": "Desk/long/occupy", "count": count})
    eventually(lambda: server.do("count", {"target": "Desk/long"})["matched"] == count, within_s=60)
    eventually(lambda: "occupied 0" in lines(shop.record))
    batch = server.bulk("kill", "Desk/long")
    assert (batch["matched"], batch["ended"]) == (count, count)
    after = shop.send("Desk/long/serve", 1)
    server("GET", f"/invocations/{after}/output")
    assert [line for line in lines(shop.record) if line.startswith("occupied")] == ["occupied 0"]
    ids = {row["id"] for row in server.list("service=Desk&handler=occupy")}
    assert len(evidence.started(server.data) & ids) == 1


def test_of_a_flood_a_participant_gets_what_it_takes_and_of_what_is_killed_nothing_more(
    alone: Server, record: Path
) -> None:
    capacity, count = 10, 5_000
    alone.start()
    with handlers(alone.url, record, capacity=capacity):
        eventually(lambda: participants(alone) == 1)
        alone.send("Hall/fill", content=body({"target": "Hall/enter", "count": count}))
        eventually(lambda: alone.do("count", {"target": "Hall/enter"})["matched"] == count, within_s=60)
        assert {one["held"] for one in alone("GET", "/partitions").json()} == {limits.DELIVERIES_MAX}
        eventually(lambda: len(lines(record)) == capacity)
        assert alone.do("kill", {"service": "Hall"})["ended"] == count
        assert output(alone, alone.send("Shop/pay", content=b"1")) == 1
    assert lines(record).count("paid 1") == 1
    assert len(lines(record)) - 1 == capacity
