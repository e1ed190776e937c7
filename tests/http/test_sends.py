"""Starting invocations: where a path leads, what is kept of the request, and the sizes that are refused."""

from typing import Any

import pytest

from coordinator.model import limits
from coordinator.model.errors import CallerError
from tests.http.surface import Surface, assert_problem

JSON = {"content-type": "application/json"}


def started(path: str, **request: Any) -> tuple[Any, ...]:
    """What the gateway is asked to start: service, key, handler, input, headers, delay, idempotency key."""
    at = Surface()
    response = at("POST", path, **request)
    assert response.status_code == 202, response.text
    [(_, *asked)] = at.gateway.asked
    return tuple(asked)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/services/Greeter/greet/send", ("Greeter", None, "greet")),
        ("/services/CartObject/cart55/add/send", ("CartObject", "cart55", "add")),
        ("/services/Greeter/greet/send/", ("Greeter", None, "greet")),
        ("/services/Object/a%2Fb/add/send", ("Object", "a/b", "add")),
        ("/services/Object/a%252Fb/add/send", ("Object", "a%2Fb", "add")),
        ("/services/Object/100%25/add/send", ("Object", "100%", "add")),
        ("/services/Object/%C3%BC%20%E2%82%AC/add/send", ("Object", "ü €", "add")),
        ("/services/Object/k/send/send", ("Object", "k", "send")),
        ("/services/send/send/send", ("send", None, "send")),
        ("/services/%53ervice/h/%73end", ("Service", None, "h")),
    ],
)
def test_a_path_leads_to_its_target(path: str, target: tuple[str, str | None, str]) -> None:
    assert started(path)[:3] == target


@pytest.mark.parametrize(
    "path",
    ["/services/Greeter/send", "/services/A/b/c/d/send", "/services/Greeter/greet", "/services/Greeter/greet/call"],
)
def test_a_path_that_is_no_target_is_not_found(path: str) -> None:
    at = Surface()
    assert_problem(at("POST", path), 404, says=path)
    assert at.gateway.asked == []


@pytest.mark.parametrize(
    "path", ["/services/Object//add/send", "/services//greet/send", "/services/Object/%FF/add/send"]
)
def test_a_segment_that_cannot_be_meant_so_is_refused(path: str) -> None:
    at = Surface()
    assert_problem(at("POST", path), 400)
    assert at.gateway.asked == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"/services/{'s' * 257}/h/send", "service"),
        (f"/services/s/{'h' * 257}/send", "handler"),
        (f"/services/s/{'k' * 1025}/h/send", "key"),
        ("/services/s/a%00b/h/send", "key"),
    ],
)
def test_a_name_beyond_its_limit_is_refused_before_it_is_on_the_log(path: str, field: str) -> None:
    assert_problem(Surface()("POST", path), 400, field=field)


@pytest.mark.parametrize("input", [b'{"name":"x"}', b"\x00\xff", b"null"])
def test_the_body_is_the_input_as_it_is(input: bytes) -> None:
    assert started("/services/Greeter/greet/send", content=input)[3] == input


def test_no_body_is_no_input() -> None:
    assert started("/services/Greeter/greet/send")[3] is None


def test_headers_are_kept_but_for_those_of_the_connection() -> None:
    sent = JSON | {"X-Tenant": "t1", "traceparent": "00-1", "Authorization": "Bearer secret", "Cookie": "a=b"}
    kept = started("/services/Greeter/greet/send", content=b"{}", headers=sent)[4]
    assert kept == {"content-type": "application/json", "x-tenant": "t1", "traceparent": "00-1"}


def test_a_repeated_header_is_kept_whole() -> None:
    assert started("/services/Greeter/greet/send", headers=[("x-a", "1"), ("x-a", "2")])[4] == {"x-a": "1, 2"}


@pytest.mark.parametrize(
    ("delay", "us"),
    [("1h", 3_600_000_000), ("10s", 10_000_000), ("500ms", 500_000), ("PT1H", 3_600_000_000), ("0s", 0)],
)
def test_a_delay_is_understood(delay: str, us: int) -> None:
    assert started(f"/services/Greeter/greet/send?delay={delay}")[5] == us


@pytest.mark.parametrize("query", ["delay=soon", "delay=", "delay=-1h", "delay=9999999d", "delay=1h&delay=2h"])
def test_a_delay_that_is_none_is_refused(query: str) -> None:
    assert_problem(Surface()("POST", f"/services/Greeter/greet/send?{query}"), 400, field="delay")


def test_a_misspelt_delay_starts_nothing() -> None:
    at = Surface()
    assert_problem(at("POST", "/services/Greeter/greet/send?dely=1h"), 400, field="dely")
    assert at.gateway.asked == []


def test_a_new_one_is_accepted_and_a_repeated_one_is_found() -> None:
    at = Surface()
    headers = {"Idempotency-Key": "k1"}
    first, again = (at("POST", "/services/Greeter/greet/send", headers=headers) for _ in range(2))
    assert (first.status_code, first.json()["status"]) == (202, "ready")
    assert (again.status_code, again.json()) == (200, {"id": first.json()["id"], "status": "running"})
    assert at.gateway.asked[0][-1] == "k1"


def test_an_idempotency_key_has_a_limit() -> None:
    for key in ("", "k" * 1025):
        response = Surface()("POST", "/services/Greeter/greet/send", headers={"idempotency-key": key})
        assert_problem(response, 400, field="idempotency-key")


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_an_input_that_does_not_fit_into_a_record_is_too_large(chunked: bool) -> None:
    async def chunks() -> Any:
        for _ in range(9):
            yield b"x" * (64 * 1024)

    at = Surface()
    content = chunks() if chunked else b"x" * (limits.RECORD_BYTES_MAX + 1)
    assert_problem(at("POST", "/services/Greeter/greet/send", content=content), 413, says=str(limits.RECORD_BYTES_MAX))
    assert at.gateway.asked == []


def test_input_and_headers_must_fit_into_a_record_together() -> None:
    at = Surface()
    input = b"x" * (limits.RECORD_BYTES_MAX - 3_000)
    assert at("POST", "/services/Greeter/greet/send", content=input).status_code == 202
    response = at("POST", "/services/Greeter/greet/send", content=input, headers={"x-long": "h" * 3_000})
    assert_problem(response, 413)
    assert len(at.gateway.asked) == 1


def test_what_the_partition_refuses_is_the_callers_mistake() -> None:
    at = Surface()
    at.gateway.fails = CallerError("a workflow needs a key")
    assert_problem(at("POST", "/services/Greeter/greet/send"), 400, says="a workflow needs a key")
