"""The routes for participants and for outputs: bodies, statuses, what is refused."""

from typing import Any

import msgspec
import pytest

from coordinator.model import limits
from coordinator.model.messages import Handler, Register, ServiceSpec
from coordinator.runtime.dispatch.dispatcher import Reported
from coordinator.runtime.views import Ending
from tests.http.stub import an_invocation
from tests.http.surface import Surface, assert_problem

DEPLOYMENT: dict[str, Any] = {
    "id": "dp_1",
    "services": [
        {"name": "Greeter", "type": "service", "handlers": [{"name": "greet"}], "retention": "1h"},
        {
            "name": "Order",
            "type": "workflow",
            "handlers": [{"name": "run"}, {"name": "look", "shared": True}],
            "workflow_retention": "7d",
            "idempotency_retention": "1500ms",
        },
    ],
}


# -- deployments ---------------------------------------------------------------------------------------------


def test_a_deployment_is_registered_as_it_is_meant() -> None:
    at = Surface()
    response = at("POST", "/deployments", json=DEPLOYMENT)
    assert response.status_code == 201
    greeter = ServiceSpec(name="Greeter", handlers=(Handler(name="greet"),), retention=limits.HOUR_US)
    order = ServiceSpec(
        name="Order",
        type=2,
        handlers=(Handler(name="run"), Handler(name="look", shared=True)),
        workflow_retention=7 * limits.DAY_US,
        idempotency_retention=1_500_000,
    )
    assert at.gateway.asked == [("register", Register(deployment="dp_1", services=(greeter, order)))]
    assert at("POST", "/deployments", json=DEPLOYMENT).status_code == 200
    assert_problem(at("POST", "/deployments", json={**DEPLOYMENT, "services": DEPLOYMENT["services"][:1]}), 409)


def test_deployments_are_listed_the_latest_first_and_as_they_can_be_registered() -> None:
    at = Surface()
    for id in ("dp_1", "dp_2"):
        at("POST", "/deployments", json={**DEPLOYMENT, "id": id})
    shown = at("GET", "/deployments").json()
    assert [one["id"] for one in shown] == ["dp_2", "dp_1"]
    again = {"id": shown[0]["id"], "services": shown[0]["services"]}
    assert at("POST", "/deployments", json=again).status_code == 200
    assert shown[0]["services"][1]["idempotency_retention"] == "1500000us"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"typ": "service"}, "services.typ"),
        ({"type": "actor"}, "services.type"),
        ({"retention": "long"}, "services.retention"),
        ({"handlers": "greet"}, "services.handlers"),
    ],
)
def test_a_registration_names_what_is_wrong(changed: dict[str, Any], field: str) -> None:
    at = Surface()
    service = {**DEPLOYMENT["services"][0], **changed}
    assert_problem(at("POST", "/deployments", json={"id": "dp_1", "services": [service]}), 400, field=field)
    assert at.gateway.asked == []


# -- sessions ------------------------------------------------------------------------------------------------


def opened(at: Surface) -> str:
    response = at("POST", "/sessions", json={"deployment": "dp_1", "capacity": 5})
    assert response.status_code == 201
    assert response.json()["lease_s"] == 10
    return str(response.headers["location"])


def test_a_session_is_opened_and_left() -> None:
    at = Surface()
    path = opened(at)
    assert at.gateway.asked == [("open", "dp_1", 5)]
    assert at("DELETE", path).status_code == 204
    assert_problem(at("DELETE", path), 404, says="open another")


@pytest.mark.parametrize("capacity", [0, -1, 10_001, "5", None])
def test_a_capacity_has_its_bounds(capacity: object) -> None:
    response = Surface()("POST", "/sessions", json={"deployment": "dp_1", "capacity": capacity})
    assert_problem(response, 400, field="capacity")


def test_deliveries_are_streamed_as_they_are() -> None:
    at = Surface()
    at.gateway.dispatcher.chunks = [bytes(4), b"\0\0\0\2ab"]
    assert at("GET", f"{opened(at)}/deliveries").content == b"\0\0\0\0\0\0\0\2ab"
    assert_problem(at("GET", "/sessions/session_9/deliveries"), 404)


def test_reports_are_answered_one_by_one() -> None:
    at = Surface()
    at.gateway.dispatcher.reported = [Reported(200, "completed"), Reported(409, None, "drop it")]
    path = opened(at)
    response = at("POST", f"{path}/reports", content=b"whatever")
    assert msgspec.msgpack.decode(response.content) == [[200, "completed", None], [409, None, "drop it"]]
    assert at.gateway.asked[-1] == ("report", "session_1", b"whatever")
    assert_problem(at("POST", f"{path}/reports", content=bytes(limits.REPORTS_BYTES_MAX + 1)), 413)


# -- outputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "status", "media"),
    [
        (b'{"a": 1}', 200, "application/json"),
        (b"\xff\x00", 200, "application/octet-stream"),
        (b"", 204, None),
        (None, 204, None),
    ],
)
def test_an_output_is_answered_as_it_is(output: bytes | None, status: int, media: str | None) -> None:
    at = Surface()
    shown = an_invocation(1, status="completed", outcome="success")
    at.gateway.endings[shown.id] = Ending(shown, output)
    response = at("GET", f"/invocations/{shown.id}/output")
    assert (response.status_code, response.content) == (status, output or b"")
    assert response.headers.get("content-type") == media
    assert at.gateway.asked == [("ending", shown.id, 30.0)]


def test_who_waits_in_vain_is_told_how_it_stands() -> None:
    at = Surface()
    shown = an_invocation(1)
    at.gateway.endings[shown.id] = Ending(shown, None)
    response = at("GET", f"/invocations/{shown.id}/output?timeout=2s")
    assert (response.status_code, response.json()) == (202, {"id": shown.id, "status": "running"})
    assert at.gateway.asked == [("ending", shown.id, 2.0)]


@pytest.mark.parametrize("outcome", ["failure", "cancelled", "killed"])
def test_another_end_than_success_is_a_problem_that_says_which(outcome: str) -> None:
    at = Surface()
    shown = an_invocation(1, status="completed", outcome=outcome, last_failure="no stock")
    at.gateway.endings[shown.id] = Ending(shown, None)
    response = at("GET", f"/invocations/{shown.id}/output")
    assert_problem(response, 424, says="no stock")
    assert (response.json()["outcome"], response.json()["failure"]) == (outcome, "no stock")


@pytest.mark.parametrize("timeout", ["soon", "5m1s", "1s&timeout=2s"])
def test_a_timeout_that_is_none_is_refused(timeout: str) -> None:
    response = Surface()("GET", f"/invocations/{an_invocation(1).id}/output?timeout={timeout}")
    assert_problem(response, 400, field="timeout")


def test_the_output_of_what_is_not_there_is_not_there() -> None:
    assert_problem(Surface()("GET", f"/invocations/{an_invocation(1).id}/output"), 404)
    assert_problem(Surface()("GET", "/invocations/mine/output"), 400, field="id")
