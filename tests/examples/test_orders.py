"""The example does what it says: its table is what the server has, and each order is undone or delivered as a whole."""

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.system.server import Server

FOLDER = Path(__file__).parents[2] / "examples" / "orders"
ORDERS, GRACE_S = 100, 10
"""Of the morning's 50, two are declined; of the others, ten have paid by the bank that is closed."""
ITEMS = ("chair", "lamp", "shelf", "table")


class Day(NamedTuple):
    """A server after the script was run on it."""

    server: Server
    said: str
    orders: list[dict[str, Any]]
    calls: dict[str, dict[str, dict[str, Any]]]
    """What each order has called, by handler."""


def run(orders: int, grace_s: int, url: str | None = None) -> str:
    """What the script says; it must find that all is well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COORDINATOR_")}
    if url is not None:
        environment["COORDINATOR_URL"] = url
    command = [sys.executable, FOLDER / "run.py", str(orders), str(grace_s)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with Server(tmp_path_factory.mktemp("orders")) as server:
        server.start()
        said = run(ORDERS, GRACE_S, server.url)
        calls: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for one in server.list():
            if one["invoked_by"] is not None:
                calls[one["invoked_by"]][one["handler"]] = one
        yield Day(server, said, server.list("service=Order"), calls)


def state(invocation: dict[str, Any]) -> str:
    return str(invocation["outcome"] or invocation["status"])


def states(called: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {handler: state(one) for handler, one in called.items()}


def test_every_order_has_come_to_where_it_belongs(day: Day) -> None:
    assert Counter(map(state, day.orders)) == {"suspended": 57, "cancelled": 38, "failure": 5, "killed": 10}
    told = re.findall(r"\d+(?= of the morning| have done so| were killed| of these are restarted)", day.said)
    assert list(map(int, told)) == [48, 38, 10, 10]


def test_the_table_says_what_the_server_has(day: Day) -> None:
    header, *lines = day.said.partition("\n\n")[2].splitlines()
    shown = {}
    for target, *numbers in map(str.split, lines):
        columns = zip(header.split(), numbers, strict=True)
        shown |= {(target, name): int(number) for name, number in columns if number != "–"}
    there = Counter((f"{one['service']}/{one['handler']}", state(one)) for one in day.server.list())
    assert there.pop(("Stock/reserved", "success")) == len(ITEMS)  # what the script has asked for its own verdict
    assert shown == there


def test_a_cancelled_order_has_undone_in_reverse_what_it_had_done(day: Day) -> None:
    for order in (one for one in day.orders if state(one) == "cancelled"):
        called = day.calls[order["id"]]
        undone = {"charge": "success", "reserve": "success", "deliver": "cancelled"}
        assert states(called) == undone | {"release": "success", "refund": "success"}
        assert called["deliver"]["completed_at"] <= called["release"]["created_at"]
        assert called["release"]["completed_at"] <= called["refund"]["created_at"]
        assert called["refund"]["completed_at"] <= order["completed_at"]


def test_a_declined_order_has_undone_its_payment_alone(day: Day) -> None:
    for order in (one for one in day.orders if state(one) == "failure"):
        assert order["last_failure"].startswith("Payments/charge failed: the card is declined")
        assert states(day.calls[order["id"]]) == {"charge": "failure", "refund": "success"}


def test_what_was_killed_took_its_call_with_it_and_is_under_way_again(day: Day) -> None:
    for order in (one for one in day.orders if state(one) == "killed"):
        assert states(day.calls[order["id"]])["refund"] == "killed"
        again = day.server.get(day.server.get(order["id"])["restarted_as"])
        assert (again["restarted_from"], again["status"]) == (order["id"], "suspended")


def test_the_stock_is_held_by_the_orders_that_are_being_delivered(day: Day) -> None:
    number = {one["id"]: one["idempotency_key"] for one in day.orders}
    delivered = [day.server.get(one["id"]) for one in day.orders if one["status"] == "suspended"]
    with (day.server.data.parent / "shop.log").open("wb") as log:
        shop = subprocess.Popen(
            [sys.executable, FOLDER / "services.py"],
            env=os.environ | {"COORDINATOR_URL": day.server.url},
            stdout=log,
            stderr=log,
        )
    try:
        asked = [day.server.send(f"Stock/{item}/reserved") for item in ITEMS]
        outputs = [day.server("GET", f"/invocations/{id}/output?timeout=60s") for id in asked]
    finally:
        shop.terminate()
        shop.wait(30)
    assert {one.status_code for one in outputs} == {httpx.codes.OK}
    holders = [holder for one in outputs for holder in one.json()]
    assert sorted(holders) == sorted(number[one["restarted_from"] or one["id"]] for one in delivered)


def test_it_brings_a_server_of_its_own() -> None:
    assert run(20, 5).splitlines()[0] == "20 orders are placed, 1 declined; the others are being delivered"
