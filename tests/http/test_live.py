"""The surface over the real system: what is promised of an answer holds for what is read afterwards."""

import gzip
import time
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from coordinator.examples import restate_rows
from coordinator.runtime.layout import DataDirectory
from coordinator.runtime.serve import running
from tests.http.served import served
from tests.http.surface import Surface, assert_problem
from tests.system.rows import lines, row

LATER = {"delay": "1h"}


class Live:
    """A client of the running server that holds every answer against the document."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=60)
        self._surface = Surface()

    def __call__(self, method: str, path: str, **request: object) -> httpx.Response:
        response = self._http.request(method, path, **request)  # type: ignore[arg-type]
        self._surface.check(method, path, response)
        return response


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    data = DataDirectory(tmp_path_factory.mktemp("live"))
    with served(lambda: running(data, 2)) as url:
        end = time.monotonic() + 30
        while httpx.get(f"{url}/ready").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield Live(url)


def start(at: Live, target: str, **request: object) -> str:
    response = at("POST", f"/services/{target}/send", **request)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def finished(at: Live, id: str) -> dict[str, object]:
    """The last state of a batch that its events tell."""
    text = at("GET", f"/batches/{id}/events").text
    data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return dict(msgspec.json.decode(data[-1]))


def settled(at: Live, id: str) -> dict[str, object]:
    """A batch once its grace is over too; its events end before, when nothing happens for a second."""
    end = time.monotonic() + 30
    while not (batch := at("GET", f"/batches/{id}").json())["settled"]:
        assert time.monotonic() < end, batch
        time.sleep(0.01)
    return dict(batch)


def created(at: Live, id: str) -> dict[str, object]:
    """One that is created by a message, once that has arrived."""
    end = time.monotonic() + 30
    while (response := at("GET", f"/invocations/{id}")).status_code == 404:
        assert time.monotonic() < end
        time.sleep(0.01)
    return dict(response.json())


def test_what_was_started_is_there_once_it_is_answered(at: Live) -> None:
    id = start(at, "Greeter/greet", content=b'{"name":"x"}')
    assert at("GET", f"/invocations/{id}").json()["target"] == "Greeter/greet"
    keyed = start(at, "CartObject/a%2Fb/add")
    assert at("GET", f"/invocations/{keyed}").json()["key"] == "a/b"
    assert [row["id"] for row in at("GET", "/invocations?target=CartObject/a%252Fb").json()] == []
    assert [row["id"] for row in at("GET", "/invocations?target=CartObject/a%2Fb/add").json()] == [keyed]


def test_a_kill_is_done_when_it_is_answered(at: Live) -> None:
    id = start(at, "Killed/run", params=LATER)
    assert at("GET", f"/invocations/{id}").json()["status"] == "scheduled"
    assert at("PATCH", f"/invocations/{id}/kill").status_code == 200
    shown = at("GET", f"/invocations/{id}").json()
    assert (shown["status"], shown["outcome"]) == ("completed", "killed")
    assert_problem(at("DELETE", f"/invocations/{id}"), 409, says="completed")
    assert at("DELETE", f"/invocations/{id}/purge").json() == {"id": id}
    assert_problem(at("GET", f"/invocations/{id}"), 404)


def test_an_idempotency_key_starts_one(at: Live) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = start(at, "Pay/charge", headers=headers)
    again = at("POST", "/services/Pay/charge/send", headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first)


def test_pages_over_all_partitions_are_the_listing_in_its_order(at: Live) -> None:
    ids = {start(at, "Paged/run", params=LATER) for _ in range(23)}
    whole = at("GET", "/invocations?service=Paged").json()
    assert {row["id"] for row in whole} == ids
    by_id = sorted(whole, key=lambda row: row["id"])
    assert whole == sorted(by_id, key=lambda row: row["created_at"], reverse=True)
    paged, path = [], "/invocations?service=Paged&limit=5"
    while path:
        response = at("GET", path)
        paged += response.json()
        path = response.links.get("next", {}).get("url", "")
    assert paged == whole
    assert_problem(at("GET", "/invocations?cursor=mine"), 400, field="cursor")


def test_a_batch_is_told_to_its_end(at: Live) -> None:
    ids = {start(at, "Batched/run", params=LATER) for _ in range(17)}
    body = {"request_id": "a/b", "action": "cancel", "filter": {"service": "Batched"}, "reason": "test"}
    response = at("POST", "/batches", json=body)
    assert response.status_code == 202
    last = finished(at, "a%2Fb")
    assert (last["state"], last["settled"], last["matched"], last["ended"]) == ("completed", True, 17, 17)
    assert {row["id"] for row in at("GET", "/invocations?service=Batched&status=completed").json()} == ids
    assert at("GET", "/invocations?service=Batched").json()[0]["batch"] == "a/b"
    assert at("POST", "/batches", json=body).status_code == 200
    assert_problem(at("POST", "/batches", json=body | {"reason": "another"}), 409)
    assert_problem(at("POST", "/batches/a%2Fb/pause"), 409, says="completed")
    assert at("GET", "/batches").json()[0]["id"] == "a/b"


def test_pages_of_batches_are_the_list_in_its_order(at: Live) -> None:
    for number in range(5):
        asked = {"action": "count", "filter": {"service": f"Paged{number}"}, "request_id": f"page-{number}"}
        assert at("POST", "/batches", json=asked).status_code == 202
    whole = [one["id"] for one in at("GET", "/batches").json()]
    assert whole[:5] == [f"page-{number}" for number in (4, 3, 2, 1, 0)]
    seen, path = [], "/batches?limit=2"
    while path:
        page = at("GET", path)
        assert len(page.json()) <= 2
        seen += [one["id"] for one in page.json()]
        path = page.links.get("next", {}).get("url", "").removeprefix(at.url)
    assert seen == whole
    assert_problem(at("GET", "/batches?cursor=nonsense"), 400, field="cursor")


def test_a_guard_refuses_and_touches_nothing(at: Live) -> None:
    start(at, "Guarded/run", params=LATER)
    start(at, "Guarded/run", params=LATER)
    body = {"action": "kill", "filter": {"service": "Guarded"}, "reason": "test", "guard": {"max": 1}}
    id = at("POST", "/batches", json=body).json()["id"]
    last = finished(at, id)
    assert (last["state"], last["ended"]) == ("refused", 0)
    assert {row["status"] for row in at("GET", "/invocations?service=Guarded").json()} == {"scheduled"}


def test_what_a_grace_has_killed_is_restarted(at: Live) -> None:
    stuck = start(at, "Stuck/run")  # ready, and nobody is there to be told
    body = {"request_id": "c", "action": "cancel", "filter": {"service": "Stuck"}, "grace": "200ms"}
    assert at("POST", "/batches", json=body).json()["grace_s"] == 0.2
    last = settled(at, "c")
    assert (last["ended"], last["awaits_grace"]) == (1, False)
    shown = at("GET", f"/invocations/{stuck}").json()
    assert (shown["outcome"], shown["batch"]) == ("killed", "c")
    at("POST", "/batches", json={"request_id": "r", "action": "restart-as-new", "filter": {"killed_by": "c"}})
    assert finished(at, "r")["applied"] == 1
    new = at("GET", f"/invocations/{stuck}").json()["restarted_as"]
    shown = created(at, new)
    assert (shown["status"], shown["restarted_from"]) == ("ready", stuck)


def test_the_grace_of_a_batch_that_is_over_is_called_off_by_an_abort(at: Live) -> None:
    start(at, "Spared/run")
    body = {"request_id": "spare", "action": "cancel", "filter": {"service": "Spared"}, "grace": "1h"}
    at("POST", "/batches", json=body)
    last = finished(at, "spare")
    assert (last["state"], last["awaits_grace"], last["settled"]) == ("completed", True, False)
    called_off = at("POST", "/batches/spare/abort").json()
    assert (called_off["state"], called_off["awaits_grace"]) == ("completed", False)
    assert_problem(at("POST", "/batches/spare/abort"), 409, says="nothing of it is left")


def test_the_failed_of_a_batch_are_tried_again_and_only_those(at: Live) -> None:
    rows = [row("Taken/run", "completed") for _ in range(3)]  # taken over without their input
    assert at("POST", "/import", content=lines(rows)).status_code == 200
    kept = start(at, "Taken/run")
    assert at("PATCH", f"/invocations/{kept}/kill").status_code == 200
    at("POST", "/batches", json={"request_id": "t", "action": "restart-as-new", "filter": {"service": "Taken"}})
    first = finished(at, "t")
    assert (first["state"], first["applied"], first["failed"]) == ("completed-with-failures", 1, 3)
    assert at("POST", "/batches/t/retry").status_code == 202
    again = finished(at, "t.retry-1")
    assert (again["retry_of"], again["matched"], again["failed"]) == ("t", 3, 3)
    assert again["filter"] == first["filter"] == {"service": "Taken"}
    assert at("POST", "/batches/t/retry").status_code == 200
    assert_problem(at("POST", "/batches/none/retry"), 404)


def test_what_names_something_that_is_not_there_is_refused(at: Live) -> None:
    restart = {"action": "restart-as-new", "filter": {"killed_by": "nobodys"}}
    assert_problem(
        at("POST", "/batches", json=restart), 400, field="filter.killed_by", says="there is no batch nobodys"
    )
    resume = {"action": "resume", "filter": {"service": "Lost"}, "deployment": "dp_0"}
    assert_problem(at("POST", "/batches", json=resume), 400, field="deployment", says="dp_0 is not registered")
    lost = start(at, "Lost/run")
    assert at("PATCH", f"/invocations/{lost}/pause").status_code == 200
    path = f"/invocations/{lost}/resume?deployment=dp_0"
    assert_problem(at("PATCH", path), 400, field="deployment", says="dp_0 is not registered")
    assert at("GET", f"/invocations/{lost}").json()["status"] == "paused"


def test_a_deployment_that_is_registered_may_be_gone_on_with(at: Live) -> None:
    registered = {"id": "dp_1", "services": [{"name": "New", "type": "service", "handlers": [{"name": "run"}]}]}
    assert at("POST", "/deployments", json=registered).status_code == 201
    body = {"request_id": "go-on", "action": "resume", "filter": {"service": "New"}, "deployment": "dp_1"}
    assert at("POST", "/batches", json=body).status_code == 202
    assert at("POST", "/batches", json=body).status_code == 200


def test_an_import_is_there_once_it_is_answered_and_a_slow_batch_over_it_can_be_ended(at: Live) -> None:
    packed = restate_rows().read_bytes()
    report = at("POST", "/import", content=packed, headers={"Content-Encoding": "gzip"}).json()
    assert report == {"imported": 17_000, "existing": 0, "failed": 0, "errors": []}
    assert at("POST", "/import", content=packed).json()["existing"] == 17_000
    body = {"request_id": "slow", "action": "kill", "filter": {"service": "Greeter"}, "reason": "test", "rate": 1}
    at("POST", "/batches", json=body)
    assert at("PATCH", "/batches/slow", json={"rate": 2}).json()["rate"] == 2
    ended = at("POST", "/batches/slow/abort").json()
    assert ended["state"] == "aborted"
    left = at("GET", "/invocations?service=Greeter&status=suspended").json()
    assert len(left) > 100


def test_the_system_shows_how_it_stands(at: Live) -> None:
    assert [one["partition"] for one in at("GET", "/partitions").json()] == [0, 1]
    assert 'coordinator_partition_up{partition="1"} 1.0' in at("GET", "/metrics").text


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/batches"), ("PATCH", "/invocations/inv_1/kill"), ("POST", "/deployments")]
)
def test_a_page_of_another_site_changes_nothing(at: Live, method: str, path: str) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    response = at(method, path, headers=headers, json={"action": "kill", "filter": {"all": True}})
    assert_problem(response, 403, says="a page of another site may not change anything here")
    assert response.json()["type"].endswith(":cross-site")
    assert httpx.get(f"{at.url}/batches", headers=headers).status_code == 200


def test_a_stored_workflow_service_makes_later_keyed_sends_workflow_runs(at: Live) -> None:
    with gzip.open(restate_rows().open("rb")) as rows:
        row = next(row for row in rows if b'"workflow"' in row)
    assert at("POST", "/import", content=row + b"\n").status_code == 200
    first = at("POST", "/services/OrderWorkflow/new-order/run/send", params=LATER).json()
    again = at("POST", "/services/OrderWorkflow/new-order/run/send", params=LATER)
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
