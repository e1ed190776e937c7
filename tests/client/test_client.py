"""Calls, their errors, and what is tried again."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from coordinator import Client, Filter, kill
from coordinator.client import (
    Acted,
    ConflictError,
    CoordinatorError,
    EndedError,
    ImportFault,
    NotFoundError,
    RejectedError,
    ServerError,
    UnauthorizedError,
    UnfinishedError,
    UnreachableError,
)
from coordinator.model.errors import CallerError
from tests.client.fake_server import FakeServer, Say, batch

T = TypeVar("T")


def call(fake: FakeServer, body: Callable[[Client], Awaitable[T]], patience_s: float = 5.0) -> T:
    async def whole() -> T:
        async with Client(fake.url, patience_s=patience_s) as client:
            return await body(client)

    return asyncio.run(whole())


# -- batches -------------------------------------------------------------------------------------------------


def test_a_batch_is_submitted_with_an_id_of_the_clients_choice(fake: FakeServer) -> None:
    fake.on("POST", "/batches", Say(202, batch("accepted")))
    submitted = call(fake, lambda client: client.submit(kill(Filter(service="Greeter"), reason="bad deploy")))
    [asked] = fake.asked
    body = asked.json
    assert body.pop("request_id").startswith("kill-")
    assert body == {"action": "kill", "filter": {"service": "Greeter"}, "reason": "bad deploy"}
    assert (submitted.id, submitted.latest.state) == ("b1", "accepted")


def test_a_submission_whose_answer_is_lost_is_repeated_under_the_same_id(fake: FakeServer) -> None:
    fake.on("POST", "/batches", Say(cut=True), Say(200, batch("running")))
    submitted = call(fake, lambda client: client.submit(kill(Filter(all=True))))
    first, second = fake.asked
    assert first.json == second.json
    assert submitted.latest.state == "running"


def test_controls_go_to_their_routes(fake: FakeServer) -> None:
    fake.on("GET", "/batches/b%2F1", Say(200, batch(id="b/1")))
    fake.on("POST", "/batches/b%2F1/pause", Say(200, batch("paused", id="b/1")))
    fake.on("POST", "/batches/b%2F1/resume", Say(200, batch("running", id="b/1")))
    fake.on("PATCH", "/batches/b%2F1", Say(200, batch("running", id="b/1", rate=7)))
    fake.on("POST", "/batches/b%2F1/abort", Say(200, batch("aborted", id="b/1")))

    async def body(client: Client) -> list[Any]:
        one = await client.batch("b/1")
        paused, resumed = await one.pause(), await one.resume()
        slowed, aborted = await one.set_rate(7), await one.abort()
        return [paused.state, resumed.state, slowed.rate, aborted.over]

    assert call(fake, body) == ["paused", "running", 7, True]
    assert fake.asked_for("PATCH", "/batches/b%2F1")[0].json == {"rate": 7}


def test_a_retry_is_a_batch_of_its_own(fake: FakeServer) -> None:
    fake.on("GET", "/batches/b1", Say(200, batch("completed-with-failures")))
    fake.on("POST", "/batches/b1/retry", Say(202, batch(id="b1.retry-1")))

    async def body(client: Client) -> tuple[str, str]:
        one = await client.batch("b1")
        return (await one.retry()).id, one.id

    assert call(fake, body) == ("b1.retry-1", "b1")


def test_the_batches_of_a_server_are_listed(fake: FakeServer) -> None:
    fake.on("GET", "/batches", Say(200, [batch(), batch("completed", unknown_field=1)]))
    assert [one.state for one in call(fake, lambda client: client.batches())] == ["running", "completed"]


# -- invocations ---------------------------------------------------------------------------------------------


def test_an_output_is_waited_for_until_it_is_there(fake: FakeServer) -> None:
    fake.on("GET", "/invocations/inv_1/output", Say(202, {"id": "inv_1", "status": "running"}), Say(503), Say(200, [1]))
    assert call(fake, lambda client: client.output("inv_1")) == [1]
    assert [asked.query for asked in fake.asked] == [[("timeout", "30000ms")]] * 3


def test_an_output_that_does_not_come_in_time_is_not_waited_for(fake: FakeServer) -> None:
    fake.on("GET", "/invocations/inv_1/output", Say(202, {"id": "inv_1", "status": "running"}))
    with pytest.raises(UnfinishedError, match=r"0\.01 s and is running; ask again"):
        call(fake, lambda client: client.output("inv_1", timeout_s=0.01))


def test_another_end_than_success_is_an_error_that_says_which(fake: FakeServer) -> None:
    said = {"detail": "inv_1 has ended with killed", "outcome": "killed"}
    fake.on("GET", "/invocations/inv_1/output", Say(424, said))
    with pytest.raises(EndedError, match="ended with killed") as raised:
        call(fake, lambda client: client.output("inv_1"))
    assert (raised.value.outcome, raised.value.failure) == ("killed", None)


def test_a_listing_follows_the_pages_as_far_as_is_asked(fake: FakeServer) -> None:
    pages = [
        Say(200, [{"id": "a"}, {"id": "b"}], {"Link": '<http://elsewhere/invocations?limit=2&cursor=C1>; rel="next"'}),
        Say(200, [{"id": "c"}], {"Link": '</invocations?cursor=C2>; rel="next"'}),
    ]
    fake.on("GET", "/invocations", *pages)

    async def body(client: Client) -> list[str]:
        return [one.id async for one in client.invocations(Filter(status={"running"}), limit=3)]

    assert call(fake, body) == ["a", "b", "c"]
    assert [asked.query for asked in fake.asked] == [
        [("status", "running"), ("limit", "3")],
        [("status", "running"), ("limit", "1"), ("cursor", "C1")],
    ]


def test_a_listing_ends_where_there_is_no_next_page(fake: FakeServer) -> None:
    fake.on("GET", "/invocations", Say(200, []))

    async def body(client: Client) -> list[str]:
        return [one.id async for one in client.invocations()]

    assert call(fake, body) == []
    assert len(fake.asked) == 1


def test_an_action_says_whether_it_was_done_or_asked_for(fake: FakeServer) -> None:
    fake.on("PATCH", "/invocations/inv_1/kill", Say(200, {"id": "inv_1", "status": "completed"}))
    fake.on("PATCH", "/invocations/inv_1/cancel", Say(202, {"id": "inv_1", "status": "running"}))
    fake.on("PATCH", "/invocations/inv_1/resume", Say(200, {"id": "inv_1", "status": "ready"}))
    assert call(fake, lambda client: client.act("inv_1", "kill")) == Acted(id="inv_1", status="completed", done=True)
    assert call(fake, lambda client: client.act("inv_1", "cancel")) == Acted(id="inv_1", status="running", done=False)
    call(fake, lambda client: client.act("inv_1", "resume", deployment="dp_2"))
    assert fake.asked[-1].query == [("deployment", "dp_2")]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("Greeter/greet", "/services/Greeter/greet/send"),
        ("CartObject/cart55/add", "/services/CartObject/cart55/add/send"),
        ("CartObject/a/b c/add", "/services/CartObject/a%2Fb%20c/add/send"),
    ],
)
def test_a_start_goes_to_its_target(fake: FakeServer, target: str, path: str) -> None:
    fake.on("POST", path, Say(202, {"id": "inv_1", "status": "ready"}))
    started = call(fake, lambda client: client.start(target, {"n": 1}, delay="1h", idempotency_key="k"))
    [asked] = fake.asked
    assert (asked.json, asked.query, asked.headers["idempotency-key"]) == ({"n": 1}, [("delay", "1h")], "k")
    assert started.id == "inv_1"


def test_a_start_without_input_has_no_body(fake: FakeServer) -> None:
    fake.on("POST", "/services/Greeter/greet/send", Say(202, {"id": "inv_1", "status": "ready"}))
    call(fake, lambda client: client.start("Greeter/greet"))
    assert fake.asked[0].body == b""


def test_a_start_needs_a_handler(fake: FakeServer) -> None:
    with pytest.raises(CallerError, match="names no handler"):
        call(fake, lambda client: client.start("Greeter"))


def test_an_import_is_streamed_and_reports_its_bad_lines(fake: FakeServer) -> None:
    fake.on("POST", "/import", Say(200, {"imported": 1, "failed": 1, "errors": [{"line": 2, "reason": "not JSON"}]}))
    report = call(fake, lambda client: client.import_rows(iter([b"one\n", b"two\n"])))
    assert fake.asked[0].body == b"one\ntwo\n"
    assert (report.imported, report.failed, report.errors) == (1, 1, [ImportFault(2, "not JSON")])


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedError),
        (401, UnauthorizedError),
        (403, UnauthorizedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, RejectedError),
        (500, ServerError),
        (503, UnreachableError),
    ],
)
def test_an_answer_that_is_none_has_a_type_and_the_servers_sentence(
    fake: FakeServer, status: int, kind: type[CoordinatorError]
) -> None:
    fake.on("PATCH", "/invocations/inv_1/kill", Say(status, {"title": "T", "detail": "this is why", "field": "id"}))
    with pytest.raises(kind, match="this is why"):
        call(fake, lambda client: client.act("inv_1", "kill"))
    assert len(fake.asked) == 1


def test_the_offending_field_is_named(fake: FakeServer) -> None:
    fake.on("POST", "/batches", Say(400, {"detail": "no such status", "field": "filter.status"}))
    with pytest.raises(RejectedError) as raised:
        call(fake, lambda client: client.submit(kill(Filter(status="sleeping"))))
    assert raised.value.field == "filter.status"


def test_what_is_not_a_coordinator_is_told_as_such(fake: FakeServer) -> None:
    fake.on("GET", "/batches", Say(200, {"deployments": []}))
    with pytest.raises(ServerError, match="does not understand"):
        call(fake, lambda client: client.batches())
    fake.on("GET", "/batches", Say(502))
    with pytest.raises(ServerError, match="answered 502"):
        call(fake, lambda client: client.batches())


def test_a_server_that_is_not_there_is_reported_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(UnreachableError, match=f"no server answers at {url}; start one"):
            asyncio.run(Client(url).batches())
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["127.0.0.1:9070", "kafka", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(CallerError, match="URL"):
        Client(url)


def test_busy_servers_are_asked_again(fake: FakeServer) -> None:
    busy = Say(429, {"detail": "64 batches are under way"}, {"Retry-After": "0"})
    away = Say(503, {"detail": "partition 0 has no owner yet"})
    fake.on("POST", "/batches", busy, away, Say(202, batch()))
    call(fake, lambda client: client.submit(kill(Filter(all=True))))
    assert len(fake.asked) == 3


def test_patience_ends(fake: FakeServer) -> None:
    fake.on("GET", "/batches", Say(503, {"detail": "partition 0 has no owner yet"}))
    with pytest.raises(UnreachableError, match="has no owner"):
        call(fake, lambda client: client.batches(), patience_s=0)
    assert len(fake.asked) == 1


def test_what_must_not_happen_twice_is_not_repeated(fake: FakeServer) -> None:
    fake.on("POST", "/services/Greeter/greet/send", Say(cut=True))
    with pytest.raises(UnreachableError, match="broke before the answer came"):
        call(fake, lambda client: client.start("Greeter/greet"))
    assert len(fake.asked) == 1
    with pytest.raises(UnreachableError):
        call(fake, lambda client: client.start("Greeter/greet", idempotency_key="k"), patience_s=0.01)
    assert len(fake.asked) > 2


# -- the token -----------------------------------------------------------------------------------------------


def test_the_token_is_sent_as_a_bearer(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.on("GET", "/batches", Say(200, []))
    monkeypatch.setenv("COORDINATOR_URL", fake.url)
    monkeypatch.setenv("COORDINATOR_TOKEN", "s3cret")
    asyncio.run(Client().batches())
    asyncio.run(Client(token="other").batches())
    monkeypatch.delenv("COORDINATOR_TOKEN")
    asyncio.run(Client().batches())
    assert [asked.headers.get("authorization") for asked in fake.asked] == ["Bearer s3cret", "Bearer other", None]


def test_a_token_that_no_header_can_hold_is_refused() -> None:
    with pytest.raises(CallerError, match="COORDINATOR_TOKEN"):
        Client(token="two\nlines")
