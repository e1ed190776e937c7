"""Batches: how a body becomes a submission, what is refused by name, and the routes of one that exists."""

from typing import Any

import msgspec
import pytest

from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.filters import Filter
from coordinator.model.ids import invocation_id
from coordinator.model.messages import Guard
from coordinator.requests.body import parse_submission
from coordinator.runtime.errors import BusyError
from tests.http.surface import Surface, assert_problem

NOW = 1_795_253_400_000_000  # 2026-11-21T09:30:00Z
ID = invocation_id(1, 2)
OTHERWISE = "made-up"
HOUR = 3_600_000_000
KILL: dict[str, Any] = {"request_id": "r1", "action": "kill", "filter": {"service": "Greeter"}, "reason": "bad deploy"}


def body(**changed: Any) -> bytes:
    return msgspec.json.encode({**KILL, **changed})


# -- the body ------------------------------------------------------------------------------------------------


def test_a_body_with_everything_becomes_a_submission() -> None:
    raw = body(
        action="resume",
        filter={
            "service": "S", "handler": "h", "key": "", "deployment": "dp_1", "target": "S/h", "status": ["paused"],
            "ids": [ID], "created_before": "2h", "created_after": "2026-11-20T00:00:00Z", "modified_before": "PT1H",
            "modified_after": "7d", "all": True,
        },
        guard={"max": 10},
        rate=100,
        deployment="dp_2",
        dry_run=True,
    )  # fmt: skip
    submit = parse_submission(raw, NOW, OTHERWISE)
    assert (submit.request, submit.action, submit.reason, submit.principal) == (
        "r1",
        "resume",
        "bad deploy",
        "anonymous",
    )
    assert (submit.guard, submit.rate, submit.deployment, submit.dry_run) == (Guard(max=10), 100, "dp_2", True)
    assert submit.filter == Filter(
        service="S",
        handler="h",
        key="",
        deployment="dp_1",
        target="S/h",
        status=("paused",),
        ids=(ID,),
        created_before=NOW - 2 * HOUR,
        created_after=1_795_132_800_000_000,
        modified_before=NOW - HOUR,
        modified_after=NOW - 168 * HOUR,
        all=True,
    )


def test_a_single_status_need_not_be_an_array() -> None:
    assert parse_submission(body(filter={"status": "paused"}), NOW, OTHERWISE).filter == Filter(status=("paused",))


def test_without_an_id_it_has_the_one_that_was_made_up() -> None:
    assert parse_submission(body(request_id=None), NOW, OTHERWISE).request == OTHERWISE


def test_the_server_makes_up_another_id_each_time() -> None:
    surface, raw = Surface(), body(request_id=None)
    one, other = (surface("POST", "/batches", content=raw).json()["id"] for _ in range(2))
    assert one.startswith("batch_")
    assert one != other


def test_the_digest_is_of_what_was_sent_and_not_of_when() -> None:
    raw = body(filter={"created_before": "2h"})
    first, later = parse_submission(raw, NOW, OTHERWISE), parse_submission(raw, NOW + HOUR, OTHERWISE)
    assert first.filter != later.filter
    assert first.body_digest == later.body_digest
    respelt = b'{"reason": "bad deploy", "filter": {"created_before":"2h"}, "action":"kill", "request_id":"r1"}'
    assert parse_submission(respelt, NOW, OTHERWISE).body_digest == first.body_digest
    same_time = parse_submission(body(filter={"created_before": "120m"}), NOW, OTHERWISE)
    assert same_time.filter == first.filter
    assert same_time.body_digest != first.body_digest


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"filter": {"status": ["sleeping"]}}, "filter.status"),
        ({"filter": {"status": []}}, "filter.status"),
        ({"filter": {"status": ["paused", 3]}}, "filter.status"),
        ({"filter": {"created_before": "yesterday"}}, "filter.created_before"),
        ({"filter": {"created_before": 5}}, "filter.created_before"),
        ({"filter": {"created_after": "99999d"}}, "filter.created_after"),
        ({"filter": {"sevice": "Greeter"}}, "filter.sevice"),
        ({"filter": {"service": None}}, "filter.service"),
        ({"filter": {"service": ""}}, "filter.service"),
        ({"filter": {"target": "/"}}, "filter.target"),
        ({"filter": {"ids": ["x"] * 1_001}}, "filter.ids"),
        ({"filter": {"ids": []}}, "filter.ids"),
        ({"filter": {"ids": [ID, ID[:-1]]}}, "filter.ids"),
        ({"filter": {"all": "yes"}}, "filter.all"),
        ({"filter": {}}, "filter"),
        ({"filter": {"all": False}}, "filter"),
        ({"filter": None}, "filter"),
        ({"filter": [["deep"]]}, "filter"),
        ({"action": "restart"}, "action"),
        ({"action": 1}, "action"),
        ({"grace": "30s"}, "grace"),
        ({"action": "cancel", "grace": "soon"}, "grace"),
        ({"action": "cancel", "grace": "8d"}, "grace"),
        ({"action": "cancel", "grace": 30}, "grace"),
        ({"killed_by": "r0"}, "killed_by"),
        ({"filter": {"killed_by": ""}}, "filter.killed_by"),
        ({"filter": {"failed_of": "r0"}}, "filter.failed_of"),
        ({"guard": {}}, "guard"),
        ({"guard": {"max": 1, "expect": 1}}, "guard"),
        ({"guard": {"max": -1}}, "guard.max"),
        ({"guard": {"expect": 2**53}}, "guard.expect"),
        ({"guard": {"most": 5}}, "guard.most"),
        ({"rate": -1}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"rate": 10**30}, "rate"),
        ({"dry_run": "true"}, "dry_run"),
        ({"deployment": "dp_1"}, "deployment"),
        ({"action": "resume", "deployment": ""}, "deployment"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "r" * 257}, "request_id"),
        ({"request_id": "a\nb"}, "request_id"),
        ({"request_id": 7}, "request_id"),
        ({"reason": 7}, "reason"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_body_is_named(changed: dict[str, Any], field: str) -> None:
    at = Surface()
    assert_problem(at("POST", "/batches", content=body(**changed)), 400, field=field)
    assert at.gateway.asked == []


@pytest.mark.parametrize("missing", ["action", "filter"])
def test_what_is_missing_is_named(missing: str) -> None:
    raw = msgspec.json.encode({name: value for name, value in KILL.items() if name != missing})
    assert_problem(Surface()("POST", "/batches", content=raw), 400, field=missing, says="is required")


@pytest.mark.parametrize(
    "raw",
    [b"", b"  ", b"{", b"[]", b'"kill"', b"null", b"{'action'}", b"\xff\xfe", b'{"action":"\xff"}', b"[" * 60_000],
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    assert_problem(Surface()("POST", "/batches", content=raw), 400)


def test_any_text_is_refused_or_understood() -> None:
    with pytest.raises(CallerError):
        parse_submission(b'{"action":"kill","filter":{"service":"\\ud800"},"reason":"r"}', NOW, OTHERWISE)


# -- submitting ----------------------------------------------------------------------------------------------


def test_a_batch_is_accepted_and_found_again() -> None:
    at = Surface()
    first = at("POST", "/batches", content=body())
    assert (first.status_code, first.headers["location"]) == (202, "/batches/r1")
    again = at("POST", "/batches", content=body())
    assert (again.status_code, again.json()) == (200, first.json())
    assert "location" not in again.headers
    assert at("GET", "/batches/r1").json() == first.json()
    assert at("GET", "/batches").json() == [first.json()]


def test_pages_of_batches_follow_each_other_by_their_links() -> None:
    at = Surface()
    ids = [f"r{number}" for number in range(5)]
    for id in ids:
        at("POST", "/batches", content=body(request_id=id))
    assert [one["id"] for one in at("GET", "/batches").json()] == ids
    seen, path = [], "/batches?limit=2"
    while path:
        response = at("GET", path)
        seen.append([one["id"] for one in response.json()])
        path = response.links.get("next", {}).get("url", "")
        assert not path or path.startswith("http://coordinator/batches?")
    assert seen == [ids[:2], ids[2:4], ids[4:]]
    assert "link" not in at("GET", "/batches?limit=5").headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        (f"limit={limits.LIST_PAGE_MAX + 1}", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=no", "cursor"),
        ("state=running", "state"),
    ],
)
def test_what_is_wrong_with_a_page_of_batches_is_named(query: str, field: str) -> None:
    assert_problem(Surface()("GET", f"/batches?{query}"), 400, field=field)


def test_another_body_under_the_same_id_is_a_conflict() -> None:
    at = Surface()
    at("POST", "/batches", content=body())
    assert_problem(at("POST", "/batches", content=body(reason="another")), 409, says="r1")


def test_a_server_that_has_no_room_says_when_to_come_again() -> None:
    at = Surface()
    at.gateway.fails = BusyError("64 batches are under way; wait for one to end", retry_after_s=3)
    response = at("POST", "/batches", content=body())
    assert_problem(response, 429, says="64 batches")
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
@pytest.mark.parametrize("path", ["/batches", "/batches/r1/abort"])
def test_a_body_over_64_kib_is_too_large(path: str, chunked: bool) -> None:
    async def chunks() -> Any:
        for _ in range(9):
            yield b" " * (limits.REQUEST_BYTES_MAX // 8)

    content = chunks() if chunked else b" " * (limits.REQUEST_BYTES_MAX + 1)
    at = Surface()
    assert_problem(at("POST", path, content=content), 413, says=str(limits.REQUEST_BYTES_MAX))
    assert at.gateway.asked == []


def test_a_body_of_64_kib_is_not() -> None:
    raw = body()
    assert Surface()("POST", "/batches", content=raw.ljust(limits.REQUEST_BYTES_MAX)).status_code == 202


# -- one that exists -----------------------------------------------------------------------------------------


def test_an_id_may_hold_whatever_can_be_printed() -> None:
    at = Surface()
    first = at("POST", "/batches", content=body(request_id="deploy/2026 100%?"))
    assert first.headers["location"] == "/batches/deploy%2F2026%20100%25%3F"
    assert at("GET", first.headers["location"]).json()["id"] == "deploy/2026 100%?"


@pytest.mark.parametrize(
    ("verb", "state", "asked"),
    [("pause", "paused", (True, False)), ("resume", "running", (False, False)), ("abort", "aborted", (None, True))],
)
def test_a_batch_is_controlled(verb: str, state: str, asked: tuple[bool | None, bool]) -> None:
    at = Surface()
    at("POST", "/batches", content=body())
    response = at("POST", f"/batches/r1/{verb}")
    assert (response.status_code, response.json()["state"]) == (200, state)
    assert at.gateway.asked[-1] == ("control", "r1", *asked, None)


def test_the_rate_of_a_batch_is_changed() -> None:
    at = Surface()
    at("POST", "/batches", content=body())
    assert at("PATCH", "/batches/r1", content=b'{"rate": 50}').json()["rate"] == 50
    assert at.gateway.asked[-1] == ("control", "r1", None, False, 50)


@pytest.mark.parametrize(
    ("raw", "field"),
    [(b"{}", "rate"), (b'{"rate": null}', "rate"), (b'{"rate": -1}', "rate"), (b'{"rate": 1, "state": "x"}', "state")],
)
def test_a_change_that_is_none_is_refused(raw: bytes, field: str) -> None:
    at = Surface()
    at("POST", "/batches", content=body())
    assert_problem(at("PATCH", "/batches/r1", content=raw), 400, field=field)


def test_a_batch_that_is_over_cannot_be_changed() -> None:
    at = Surface()
    at("POST", "/batches", content=body())
    at.gateway.batches.change("r1", state="completed")
    assert_problem(at("POST", "/batches/r1/pause"), 409, says="completed")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/batches/r9"),
        ("GET", "/batches/r9/events"),
        ("POST", "/batches/r9/pause"),
        ("POST", "/batches/r9/resume"),
        ("POST", "/batches/r9/abort"),
    ],
)
def test_a_batch_that_is_not_there_is_not_found(method: str, path: str) -> None:
    assert_problem(Surface()(method, path), 404, says="r9")


@pytest.mark.parametrize(("new", "code"), [(True, 202), (False, 200)])
def test_a_retry_is_another_batch(new: bool, code: int) -> None:
    at = Surface()
    at("POST", "/batches", content=body())
    at.gateway.batches.retries_are_new = new
    response = at("POST", "/batches/r1/retry")
    assert (response.status_code, response.json()["id"]) == (code, "r1.retry-1")
    assert response.headers.get("location") == ("/batches/r1.retry-1" if new else None)
    assert_problem(at("POST", "/batches/r9/retry"), 404, says="r9")


def test_a_grace_is_a_duration_and_belongs_to_a_cancel() -> None:
    assert parse_submission(body(action="cancel", grace="30s"), NOW, OTHERWISE).grace == 30_000_000
    assert parse_submission(body(), NOW, OTHERWISE).grace is None


def test_a_filter_may_name_the_batch_that_has_killed() -> None:
    raw = body(action="restart-as-new", filter={"killed_by": "r0"})
    assert parse_submission(raw, NOW, OTHERWISE).filter == Filter(killed_by="r0")
