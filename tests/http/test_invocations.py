"""Listing, looking at and acting on single invocations."""

import asyncio
import re

import httpx
import pytest

from coordinator.model.errors import CoordinatorError
from coordinator.model.filters import Filter
from coordinator.partition.outputs import Answer
from coordinator.runtime.errors import UnavailableError
from coordinator.runtime.views import InvocationView
from tests.http.stub import StubGateway, an_invocation
from tests.http.surface import Surface, assert_problem

ID = an_invocation(1).id
FIELDS = [
    *("id", "target", "service", "key", "handler", "status", "outcome", "created_at", "modified_at", "scheduled_at"),
    *("completed_at", "deployment", "retry", "last_failure", "invoked_by", "detached", "batch", "idempotency_key"),
]


def surface(count: int = 0) -> Surface:
    return Surface(StubGateway(*(an_invocation(number) for number in range(1, count + 1))))


def listed(filter_query: str) -> Filter:
    """The filter that a query string becomes."""
    at = surface()
    response = at("GET", f"/invocations?{filter_query}")
    assert response.status_code == 200, response.text
    [(_, filter, _, _)] = at.gateway.asked
    return filter


# -- listing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_a_listing_without_a_limit_has_everything_as_one_array(count: int) -> None:
    at = surface(count)
    response = at("GET", "/invocations")
    assert [row["id"] for row in response.json()] == [row.id for row in at.gateway.rows]
    assert "link" not in response.headers


def test_a_listing_without_a_limit_is_sent_while_it_is_read() -> None:
    at = surface(10)

    async def scenario() -> list[int]:
        given = []
        scope = {"type": "http", "method": "GET", "path": "/invocations", "raw_path": b"/invocations"}
        scope |= {"query_string": b"", "headers": [], "scheme": "http", "http_version": "1.1", "extensions": {}}
        hung_up = asyncio.Event()

        async def receive() -> dict[str, str]:
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            if message.get("body"):
                given.append(at.gateway.chunks_given)
                if len(given) == 2:
                    hung_up.set()
                    await asyncio.sleep(0.01)

        await at.app(scope, receive, send)  # type: ignore[arg-type]
        return given

    assert asyncio.run(scenario()) == [1, 2]  # and nothing more was read once the client was gone


def test_an_invocation_has_the_fields_of_the_contract() -> None:
    at = surface(1)
    alone = ["attempt", "next_retry_at", "restarted_from", "restarted_as"]
    assert list(at("GET", f"/invocations/{ID}").json()) == [*FIELDS, *alone]
    assert list(at("GET", "/invocations").json()[0]) == FIELDS


def test_pages_follow_each_other_by_their_links() -> None:
    at = surface(5)
    seen, path = [], "/invocations?limit=2&service=Greeter"
    while path:
        response = at("GET", path)
        seen.append([row["id"] for row in response.json()])
        path = response.links.get("next", {}).get("url", "")
        assert not path or path.startswith("http://coordinator/invocations?")
    assert seen == [[row.id for row in at.gateway.rows[start : start + 2]] for start in (0, 2, 4)]
    assert {asked[1] for asked in at.gateway.asked} == {Filter(service="Greeter")}


def test_a_page_that_ends_where_the_rows_end_has_no_link() -> None:
    response = surface(2)("GET", "/invocations?limit=2")
    assert len(response.json()) == 2
    assert "link" not in response.headers


def test_all_filters_arrive() -> None:
    query = (
        "target=CartObject/c&service=S&handler=h&key=k&deployment=dp&status=running&status=backing-off"
        "&created_before=2026-11-21T09:30:00Z&created_after=2026-11-21T10:30:00%2B01:00"
        "&modified_before=1970-01-01T00:00:01Z&modified_after=1970-01-01T00:00:00Z&ids=a&ids=b&all=true"
    )
    assert listed(query) == Filter(
        target="CartObject/c",
        service="S",
        handler="h",
        key="k",
        deployment="dp",
        status=("running", "backing-off"),
        ids=("a", "b"),
        created_before=1_795_253_400_000_000,
        created_after=1_795_253_400_000_000,
        modified_before=1_000_000,
        modified_after=0,
        all=True,
    )


def test_an_offset_whose_plus_became_a_space_is_still_an_offset() -> None:
    assert listed("created_before=2026-11-21T10:30:00+01:00").created_before == 1_795_253_400_000_000


def test_an_age_is_counted_back_from_now() -> None:
    week, hour = listed("modified_before=7d").modified_before, listed("modified_before=1h").modified_before
    assert week is not None
    assert hour is not None
    assert abs(hour - week - (7 * 24 - 1) * 3_600_000_000) < 60_000_000


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=sleeping", "status"),
        ("created_before=yesterday", "created_before"),
        ("service=", "service"),
        ("target=A/", "target"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=10001", "limit"),
        ("limit=%C2%B2", "limit"),
        ("service=a&service=b", "service"),
        ("sevice=a", "sevice"),
        ("all=yes", "all"),
        ("cursor=mine", "cursor"),
        ("limit=3&cursor=mine", "cursor"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(query: str, field: str) -> None:
    response = surface()("GET", f"/invocations?{query}")
    assert_problem(response, 400, field=field)
    assert "filter." not in response.json()["detail"]


def test_a_query_that_is_not_utf_8_is_refused() -> None:
    assert_problem(surface()("GET", "/invocations?service=%ff"), 400, says="UTF-8")


def test_a_listing_that_fails_at_once_has_a_status_of_its_own() -> None:
    at = surface(3)
    at.gateway.fails = UnavailableError("partition 0 has no owner")
    response = at("GET", "/invocations")
    assert_problem(response, 503, says="partition 0 has no owner")
    assert response.headers["retry-after"] == "1"


# -- one -----------------------------------------------------------------------------------------------------


def test_an_invocation_that_is_not_there_is_not_found() -> None:
    assert_problem(surface()("GET", f"/invocations/{ID}"), 404, says=ID)


def test_an_id_that_is_none_is_a_mistake() -> None:
    assert_problem(surface()("GET", "/invocations/inv_1short"), 400, field="id")


# -- actions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        *(("PATCH", f"/invocations/{ID}/{verb}", verb) for verb in ("cancel", "kill", "pause", "resume", "purge")),
        ("DELETE", f"/invocations/{ID}", "kill"),
        ("DELETE", f"/invocations/{ID}/purge", "purge"),
    ],
)
def test_an_action_reaches_its_invocation(method: str, path: str, action: str) -> None:
    at = surface()
    response = at(method, path)
    assert response.status_code == 200
    assert response.json() == {"id": ID, "status": "completed"}
    assert at.gateway.asked == [("act", action, ID, None)]


def test_what_was_only_asked_for_is_202() -> None:
    at = surface()
    at.gateway.answer = lambda id: Answer(7, 202, id, "running")
    assert at("PATCH", f"/invocations/{ID}/cancel").status_code == 202


def test_a_restart_is_accepted_with_the_id_of_the_new_one() -> None:
    at = surface()
    at.gateway.answer = lambda id: Answer(7, 202, ID[:-1] + "z")
    response = at("PATCH", f"/invocations/{ID}/restart-as-new")
    assert (response.status_code, response.json()) == (202, {"id": ID[:-1] + "z"})


def test_a_look_at_one_says_what_was_made_from_it() -> None:
    at = surface(1)
    at.gateway.restarted_as = "inv_new"
    assert at("GET", f"/invocations/{ID}").json()["restarted_as"] == "inv_new"


def test_the_document_promises_only_what_an_action_can_answer() -> None:
    successes = {
        operation["operationId"]: [status for status in operation["responses"] if status < "300"]
        for path, item in surface().document["paths"].items()
        if path.startswith("/invocations/")
        for method, operation in item.items()
        if method != "get"
    }
    assert successes.pop("cancelInvocation") == ["200", "202"]
    assert successes.pop("restartInvocationAsNew") == ["202"]
    assert set(successes) == {
        f"{verb}Invocation" for verb in ("kill", "pause", "resume", "purge", "delete", "deletePurge")
    }
    assert {status for statuses in successes.values() for status in statuses} == {"200"}


def test_what_is_purged_has_no_status() -> None:
    at = surface()
    at.gateway.answer = lambda id: Answer(7, 200, id, None)
    assert at("PATCH", f"/invocations/{ID}/purge").json() == {"id": ID}


@pytest.mark.parametrize(("code", "says"), [(404, "is not there"), (409, "pause does not apply"), (400, "none of")])
def test_a_partitions_refusal_is_a_problem(code: int, says: str) -> None:
    at = surface()
    at.gateway.answer = lambda id: Answer(7, code, id, None, says)
    assert_problem(at("PATCH", f"/invocations/{ID}/pause"), code, says=says)


def test_a_resume_may_name_a_deployment() -> None:
    at = surface()
    at("PATCH", f"/invocations/{ID}/resume?deployment=dp_2")
    assert at.gateway.asked == [("act", "resume", ID, "dp_2")]


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("PATCH", f"/invocations/{ID}/resume?deploymnt=dp_2", "deploymnt"),
        ("PATCH", f"/invocations/{ID}/resume?deployment=", "deployment"),
        ("PATCH", f"/invocations/{ID}/kill?deployment=dp_2", "deployment"),
        ("DELETE", f"/invocations/{ID}?mode=cancel", "mode"),  # older Restate; here it would kill
    ],
)
def test_a_parameter_that_an_action_has_not_is_refused_and_nothing_is_done(method: str, path: str, field: str) -> None:
    at = surface()
    assert_problem(at(method, path), 400, field=field)
    assert at.gateway.asked == []


@pytest.mark.parametrize("error", [UnavailableError("partition 1 did not answer in 30 s")], ids=["no owner"])
def test_an_action_whose_partition_is_away_is_503(error: CoordinatorError) -> None:
    at = surface()
    at.gateway.fails = error
    response = at("PATCH", f"/invocations/{ID}/kill")
    assert_problem(response, 503, says=str(error))
    assert "retry-after" in response.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", f"/invocations/{ID}/restart"), ("GET", "/")],
)
def test_what_this_server_does_not_have_is_not_found_by_its_path(method: str, path: str) -> None:
    assert_problem(surface()(method, path), 404, says=path)


def test_a_listing_that_breaks_off_is_never_a_whole_array() -> None:
    at = surface(6)
    at.gateway.breaks_after = 2

    async def scenario() -> bytes:
        body = b""
        async with at.client() as client:
            try:
                async with client.stream("GET", "/invocations") as response:
                    async for chunk in response.aiter_bytes():
                        body += chunk
            except httpx.TransportError:
                pass
        return body

    body = asyncio.run(scenario())
    assert re.search(rb"\]$", body) is None


def test_the_view_is_the_one_that_the_contract_names() -> None:
    assert InvocationView.__struct_fields__ == tuple(FIELDS)
