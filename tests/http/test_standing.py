"""The routes about the system itself, the document, the metrics, and what every route has in common."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from litestar.routes import HTTPRoute
from prometheus_client.parser import text_string_to_metric_families

from coordinator.http.app import create_app
from coordinator.http.metrics import METRICS, UNMATCHED
from coordinator.model.errors import CorruptionError
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.gateway import Gateway
from coordinator.runtime.group.watch import Watch
from coordinator.runtime.group.worker import Worker, WorkerView
from tests.http.stub import StubGateway
from tests.http.surface import Surface, assert_problem

ROUTES = {
    "GET /invocations",
    "GET /invocations/{id}",
    "PATCH /invocations/{id}/cancel",
    "PATCH /invocations/{id}/kill",
    "PATCH /invocations/{id}/pause",
    "PATCH /invocations/{id}/resume",
    "PATCH /invocations/{id}/purge",
    "PATCH /invocations/{id}/restart-as-new",
    "DELETE /invocations/{id}",
    "DELETE /invocations/{id}/purge",
    "POST /services/{service}/{handler}/send",
    "POST /services/{service}/{key}/{handler}/send",
    "POST /batches",
    "GET /batches",
    "GET /batches/{id}",
    "GET /batches/{id}/events",
    "POST /batches/{id}/pause",
    "POST /batches/{id}/resume",
    "POST /batches/{id}/abort",
    "POST /batches/{id}/retry",
    "PATCH /batches/{id}",
    "POST /import",
    "GET /invocations/{id}/output",
    "POST /deployments",
    "GET /deployments",
    "POST /sessions",
    "GET /sessions/{id}/deliveries",
    "POST /sessions/{id}/reports",
    "DELETE /sessions/{id}",
    "GET /partitions",
    "GET /health",
    "GET /ready",
    "GET /metrics",
    "GET /openapi.json",
}


# -- the document --------------------------------------------------------------------------------------------


def test_the_document_has_the_routes_of_the_contract_and_no_others() -> None:
    paths = Surface()("GET", "/openapi.json").json()["paths"]
    assert {f"{method.upper()} {path}" for path in paths for method in paths[path]} == ROUTES


def test_every_route_of_the_application_is_in_the_document() -> None:
    at = Surface()
    for route in at.app.routes:
        assert isinstance(route, HTTPRoute)
        for handler in route.route_handlers:
            operations = handler.opt.get("operations")
            assert operations or handler.http_methods == {"OPTIONS"}, f"{route.path} promises nothing"


def test_all_that_the_document_refers_to_is_in_it() -> None:
    document = Surface().document
    references = re.findall(r"#/components/schemas/([\w.]+)", str(document))
    assert set(references) == set(document["components"]["schemas"])
    assert all(name.isalpha() and not name.endswith(("View", "Body")) for name in references)


def test_each_operation_has_a_name_of_its_own_and_an_answer() -> None:
    operations = [operation for path in Surface().document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert any(status.startswith("2") for status in operation["responses"]), operation
        assert operation["summary"]


def test_the_document_says_what_a_batch_may_hold() -> None:
    schemas = Surface().document["components"]["schemas"]
    assert set(schemas["BatchRequest"]["properties"]) == {
        *("action", "filter", "reason", "request_id", "guard", "rate", "deployment", "grace", "dry_run")
    }
    assert schemas["Filter"]["additionalProperties"] is False


# -- standing ------------------------------------------------------------------------------------------------


def test_the_partitions_are_listed() -> None:
    [first, second] = Surface()("GET", "/partitions").json()
    assert (first["partition"], second["partition"]) == (0, 1)
    assert first["pending"][0]["cursor_fraction"] == 0.5


def test_a_process_that_answers_is_healthy_and_ready_once_nothing_is_in_the_way() -> None:
    at = Surface()
    assert at("GET", "/health").json() == {"status": "ok"}
    assert at("GET", "/ready").json() == {"status": "ready"}
    at.gateway.reasons = ["partition 1 has no owner yet", "partition 2 stands still: its log was trimmed"]
    response = at("GET", "/ready")
    assert_problem(response, 503, says="partition 1 has no owner yet; partition 2 stands still")
    assert "retry-after" in response.headers
    assert at("GET", "/health").status_code == 200


def test_a_process_without_the_http_role_has_its_own_routes_and_says_what_it_lacks() -> None:
    worker = cast(Worker, SimpleNamespace(view=lambda: WorkerView(1, 1, 1, 0, 0), unready=lambda: ["not yet"]))
    app = create_app(None, worker, public=False)
    assert {route.path for route in app.routes} == {
        *("/health", "/ready", "/metrics", "/internal/told", "/internal/partitions/{partition:int}")
    }

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
            return await client.get(path)

    assert asyncio.run(ask("/health")).status_code == 200
    assert_problem(asyncio.run(ask("/ready")), 503, says="not yet")
    assert "coordinator_worker_takeovers_total 1.0" in asyncio.run(ask("/metrics")).text


def test_while_no_broker_answers_a_process_is_not_ready_and_shows_its_metrics_without_asking_any() -> None:
    gateway = StubGateway()
    gateway.fails = UnavailableError("the log cannot be asked")
    app = create_app(cast(Gateway, gateway), None, cast(Watch, SimpleNamespace(up=False, outages=1)))

    async def ask(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.get(path)

    assert_problem(asyncio.run(ask("/ready")), 503, says="no broker answers")
    assert "coordinator_kafka_up 0.0" in asyncio.run(ask("/metrics")).text


# -- metrics -------------------------------------------------------------------------------------------------


def samples(at: Surface) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = at("GET", "/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_table_names_every_metric_and_its_type() -> None:
    at = Surface()
    at("GET", "/health")
    worker = cast(Worker, SimpleNamespace(view=lambda: WorkerView(2, 3, 4, 5, 6), unready=list))
    at.app.state["worker"], at.app.state["kafka"] = worker, cast(Watch, SimpleNamespace(up=True, outages=7))
    families = list(text_string_to_metric_families(at("GET", "/metrics").text))
    values = {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}
    assert [values[name] for name in values if name.startswith("coordinator_worker")] == [2, 3, 4, 5, 6]
    assert (values["coordinator_kafka_up"], values["coordinator_kafka_outages_total"]) == (1, 7)
    shown = {(family.name, family.type) for family in families}
    assert shown == {(metric.name.removesuffix("_total"), metric.type) for metric in METRICS}
    assert {family.documentation for family in families} >= {metric.help for metric in METRICS}


def test_partitions_are_measured() -> None:
    found = samples(Surface())
    one = (("partition", "1"),)
    assert found["coordinator_partition_applied_position", one] == 41
    assert found["coordinator_partition_end_position", one] == 44
    assert found["coordinator_partition_lag_records", one] == 2
    assert found["coordinator_partition_pending_batches", one] == 1
    assert found["coordinator_partition_held", one] == 3
    assert found["coordinator_partition_backlog", one] == 4
    assert found["coordinator_partition_ticks_total", one] == 12
    assert found["coordinator_partition_records_total", one] == 40
    assert found["coordinator_partition_longest_step_seconds", one] == 0.0025
    assert found["coordinator_partition_unpublished", one] == 5
    assert found["coordinator_partition_up", one] == 1


def test_batches_are_counted_by_state_and_none_is_zero() -> None:
    at = Surface()
    for id in ("a", "b", "c"):
        at("POST", "/batches", json={"request_id": id, "action": "kill", "filter": {"all": True}, "reason": "r"})
    at.gateway.batches.change("c", state="completed")
    found = samples(at)
    counts = {labels[0][1]: value for (name, labels), value in found.items() if name == "coordinator_requests"}
    assert (counts["accepted"], counts["completed"], counts["aborted"]) == (2, 1, 0)
    assert len(counts) == 8


def test_requests_are_counted_by_their_route_and_never_by_what_a_client_made_up() -> None:
    at = Surface()
    at("POST", "/services/Greeter/greet/send")
    at("POST", "/services/Object/k/add/send")
    at("POST", "/services/nonsense")
    at("GET", "/batches/none")
    at("GET", "/made/up")
    at("BREW", "/batches")
    at("GET", "/a//b")
    counted = {
        (dict(labels)["route"], dict(labels)["method"], dict(labels)["code"]): value
        for (name, labels), value in samples(at).items()
        if name == "coordinator_http_requests_total"
    }
    assert counted["/services/{service}/{handler}/send", "POST", "202"] == 1
    assert counted["/services/{service}/{key}/{handler}/send", "POST", "202"] == 1
    assert counted["/batches/{id}", "GET", "404"] == 1
    assert counted[UNMATCHED, UNMATCHED, "404"] == 1
    assert counted[UNMATCHED, UNMATCHED, "405"] == 1
    assert counted[UNMATCHED, UNMATCHED, "400"] == 1
    assert not any("made" in route or "nonsense" in route for route, _, _ in counted)


# -- what all routes share -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/batches", {"GET", "POST"}), ("GET", "/import", {"POST"}), ("POST", "/invocations", {"GET"})],
)
def test_a_method_that_a_path_does_not_know_is_405_and_says_which_it_does(
    method: str, path: str, allowed: set[str]
) -> None:
    response = Surface()(method, path)
    assert_problem(response, 405, says=f"{path} does not know {method}")
    assert allowed <= set(re.split(r", *", response.headers["allow"]))


@pytest.mark.parametrize("path", ["/nothing", "/invocations/a/b/c", "/batches/a/b", "/services"])
def test_a_path_that_is_not_there_is_a_problem_too(path: str) -> None:
    assert_problem(Surface()("GET", path), 404, says=path)


@pytest.mark.parametrize("error", [RuntimeError("secret"), CorruptionError("secret"), KeyError("secret")], ids=repr)
def test_a_failure_of_ours_is_500_and_keeps_its_words_for_the_log(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    at = Surface()
    at.gateway.fails = error
    response = at("GET", "/partitions")
    assert_problem(response, 500)
    assert "secret" not in response.text
    assert "secret" in "".join(capsys.readouterr())


def test_a_large_body_where_none_is_expected_is_too_large() -> None:
    async def chunks() -> Any:
        for _ in range(9):
            yield b"x" * (64 * 1024)

    at = Surface()
    for content in (b"x" * (512 * 1024 + 1), chunks()):
        assert_problem(at("PATCH", "/invocations/inv_1/kill", content=content), 413)
    assert at.gateway.asked == []
