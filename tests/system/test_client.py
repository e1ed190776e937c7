"""The Python client by each of its ways to one running system: over HTTP, and over Kafka without a server to ask.

What holds of a batch is the same by both, and each of them meets what the other has done.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from coordinator import Client, Filter, count, kill, pause, restart_as_new, resume
from coordinator.client import (
    Batch,
    ConflictError,
    NotFoundError,
    Progress,
    RejectedError,
    ServerError,
    UnreachableError,
)
from coordinator.client.kafka.connection import Connection
from coordinator.client.kafka.reader import Found, Reader
from coordinator.logs.kafka.settings import variable
from coordinator.logs.port import LogUnreachableError
from coordinator.model.errors import CallerError
from coordinator.model.messages import RequestControl, Submit
from tests.system.kafka import System
from tests.system.rows import lines, row
from tests.system.server import eventually

T = TypeVar("T")


@pytest.fixture(scope="module")
def whole(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One process with all the roles, on two partitions."""
    with System(tmp_path_factory.mktemp("client"), kafka, partitions=2) as of:
        of.front(of.process_with("partitions,requests,http").start())
        eventually(of.is_ready, within_s=120, says=of.said)
        yield of


class Way:
    """How a client gets to the system."""

    def __init__(self, whole: System, over: str, patience_s: float = 60) -> None:
        self.whole = whole
        self.over = over
        self.patience_s = patience_s

    def client(self) -> Client:
        if self.over == "http":
            return Client(self.whole.url)
        kafka = {"topic.prefix": self.whole.prefix}
        return Client(f"kafka://{self.whole.bootstrap}", kafka=kafka, patience_s=self.patience_s)

    def other(self) -> "Way":
        return Way(self.whole, "kafka" if self.over == "http" else "http")

    def __call__(self, body: Callable[[Client], Awaitable[T]]) -> T:
        async def run() -> T:
            async with asyncio.timeout(60), self.client() as client:
                return await body(client)

        return asyncio.run(run())

    def sent(self, n: int) -> str:
        """A service of its own, with so many invocations that are ready."""
        service = f"S{secrets.token_hex(4)}"
        for _ in range(n):
            self.whole.send(f"{service}/run")
        return service


@pytest.fixture(params=["http", "kafka"])
def way(request: pytest.FixtureRequest, whole: System) -> Way:
    return Way(whole, request.param)


def test_a_batch_is_submitted_and_followed_to_its_end(way: Way) -> None:
    service = way.sent(30)

    async def body(client: Client) -> list[Progress]:
        batch = await client.submit(kill(Filter(service=service, status={"ready"}), reason="bad deploy"))
        return [progress async for progress in batch.progress()]

    told = way(body)
    assert [one.over for one in told] == [False] * (len(told) - 1) + [True]
    last = told[-1]
    assert (last.state, last.matched, last.ended, last.settled) == ("completed", 30, 30, True)
    assert (last.action, last.filter, last.reason) == ("kill", {"service": service, "status": ["ready"]}, "bad deploy")
    assert sum(one.ended for one in last.partitions) == 30
    assert [one.partition for one in last.partitions] == [0, 1]
    matched = [one.matched for one in told]
    assert matched == sorted(matched)


def test_both_ways_show_the_same(way: Way) -> None:
    service = way.sent(5)

    async def submitted(client: Client) -> Progress:
        asked = kill(Filter(service=service, created_after="1h"), reason="r", request_id=f"{service}-1", rate=1_000)
        return await (await client.submit(asked)).wait()

    async def found(client: Client) -> Progress:
        return await (await client.batch(f"{service}-1")).refresh()

    way(submitted)
    assert way(found) == way.other()(found)


def test_the_same_request_is_the_same_batch_by_whichever_way_and_another_one_conflicts(way: Way) -> None:
    service = way.sent(3)
    asked = kill(Filter(service=service), reason="r", request_id=f"{service}-1")

    async def submitted(client: Client) -> Progress:
        return await (await client.submit(asked)).wait()

    assert way(submitted).ended == 3
    late = way.sent(0)
    for again in (way, way.other()):
        assert again(submitted).ended == 3

    async def another(client: Client) -> Batch:
        return await client.submit(kill(Filter(service=late), request_id=f"{service}-1"))

    for again in (way, way.other()):
        with pytest.raises(ConflictError, match="was submitted with another body; use another request id"):
            again(another)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (kill(Filter(service="S", status="sleeping")), "filter.status"),
        (kill(Filter()), "filter"),
        (kill(Filter(service="S", created_before="yesterday")), "filter.created_before"),
        (resume(Filter(service="S"), deployment="dp_none"), "deployment"),
        (kill(Filter(service="S", killed_by="nobody")), "filter.killed_by"),
        (kill(Filter(service="S"), rate=-1), "rate"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_name_of_the_field(way: Way, asked: Any, field: str) -> None:
    with pytest.raises(RejectedError) as refused:
        way(lambda client: client.submit(asked))
    with pytest.raises(RejectedError) as other:
        way.other()(lambda client: client.submit(asked))
    assert refused.value.field == field
    assert str(refused.value) == str(other.value)


def test_a_guard_refuses_before_anything_is_touched(way: Way) -> None:
    service = way.sent(4)

    async def guarded(client: Client) -> Progress:
        return await (await client.submit(kill(Filter(service=service), max=3))).wait()

    refused = way(guarded)
    assert (refused.state, refused.matched) == ("refused", 0)
    assert refused.refusal == "at most 3 matches were allowed and 4 were found"


def test_what_would_be_done_is_counted(way: Way) -> None:
    service = way.sent(4)

    async def counted(client: Client) -> list[int]:
        dry = await (await client.submit(kill(Filter(service=service), dry_run=True))).wait()
        return [dry.applied, (await (await client.submit(count(Filter(service=service)))).wait()).matched]

    assert way(counted) == [4, 4]


def test_a_batch_is_held_slowed_let_go_on_and_ended(way: Way) -> None:
    service = way.sent(40)

    async def body(client: Client) -> None:
        batch = await client.submit(pause(Filter(service=service), rate=4))
        assert (await batch.pause()).state == "paused"
        assert (await batch.set_rate(2)).rate == 2
        await batch.resume()
        async for progress in batch.progress():
            if progress.state == "running":
                break
        aborted = await batch.abort()
        assert (aborted.state, aborted.over) == ("aborted", True)
        assert aborted.matched < 40
        assert (await batch.abort()).matched == aborted.matched
        with pytest.raises(ConflictError, match="is aborted; nothing of it is left to change"):
            await batch.pause()
        with pytest.raises(ConflictError, match=f"nothing of batch {batch.id} has failed"):
            await batch.retry()

    way(body)


def test_what_has_failed_is_done_again_as_another_batch(way: Way) -> None:
    service = f"S{secrets.token_hex(4)}"
    rows = [row(f"{service}/run", "completed") for _ in range(3)]  # taken over without their input

    async def body(client: Client) -> list[Progress]:
        first = await client.submit(restart_as_new(Filter(service=service)))
        told = [await first.wait()]
        again = await first.retry()
        assert (await first.retry()).id == again.id
        return [*told, await again.wait()]

    way.whole("POST", "/import", content=lines(rows))
    first, again = way(body)
    assert (first.state, first.failed) == ("completed-with-failures", 3)
    assert (again.id, again.retry_of, again.matched, again.failed) == (f"{first.id}.retry-1", first.id, 3, 3)


def test_a_batch_that_nobody_has_submitted_is_not_there(way: Way) -> None:
    with pytest.raises(NotFoundError, match="there is no batch nobody, or no longer"):
        way(lambda client: client.batch("nobody"))


def test_one_batch_is_followed_by_several_and_changed_meanwhile(way: Way) -> None:
    service = way.sent(20)

    async def body(client: Client) -> list[Progress]:
        batch = await client.submit(pause(Filter(service=service), rate=2))
        followers = [asyncio.ensure_future(batch.wait()) for _ in range(3)]
        await batch.set_rate(0)
        return await asyncio.gather(*followers)

    assert [(one.state, one.applied) for one in way(body)] == [("completed", 20)] * 3


# -- over Kafka only -----------------------------------------------------------------------------------------


def test_what_only_a_server_can_answer_is_refused_with_a_sentence(whole: System) -> None:
    over_kafka = Way(whole, "kafka")
    asked: list[Callable[[Client], Awaitable[Any]]] = [
        lambda client: client.batches(),
        lambda client: client.invocation("inv_1"),
        lambda client: client.invocations().__anext__(),
        lambda client: client.act("inv_1", "kill"),
        lambda client: client.start("Greeter/greet"),
        lambda client: client.output("inv_1"),
        lambda client: client.partitions(),
        lambda client: client.import_rows([]),
    ]
    for ask in asked:
        with pytest.raises(CallerError, match="for everything else give it the http:// URL of a server"):
            over_kafka(ask)


def test_a_batch_of_a_while_ago_is_found_by_one_who_was_not_there(whole: System) -> None:
    over_kafka = Way(whole, "kafka")
    service = over_kafka.sent(3)

    async def old(client: Client) -> str:
        return (await (await client.submit(kill(Filter(service=service)))).wait()).id

    async def told(client: Client) -> list[tuple[str, int]]:
        return [(one.state, one.ended) async for one in (await client.batch(id)).progress()]

    id = over_kafka.other()(old)
    for _ in range(3):
        over_kafka.other()(lambda client: client.submit(count(Filter(service=service))))
    assert over_kafka(told) == [("completed", 3)]


def test_an_acknowledgement_that_is_lost_is_no_reason_to_have_it_twice(
    whole: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_kafka, append, appended = Way(whole, "kafka"), Connection.append, list[int]()

    async def losing(kafka: Connection, message: Submit | RequestControl) -> int:
        appended.append(await append(kafka, message))
        if len(appended) % 2:
            raise LogUnreachableError("the connection broke")
        return appended[-1]

    monkeypatch.setattr(Connection, "append", losing)
    service = over_kafka.sent(3)

    async def killed(client: Client) -> list[tuple[str, int]]:
        batch = await client.submit(kill(Filter(service=service), rate=1))
        await batch.set_rate(0)
        first = await batch.wait()
        again = await client.submit(kill(Filter(service=service)))
        return [(first.state, first.ended), ((await again.wait()).state, again.latest.matched)]

    assert over_kafka(killed) == [("completed", 3), ("completed", 0)]
    assert len(appended) == 6


def test_a_connection_that_breaks_is_no_reason_to_miss_anything(whole: System, monkeypatch: pytest.MonkeyPatch) -> None:
    over_kafka, run = Way(whole, "kafka"), Reader.run
    breaks = iter([False, True, True] * 20)

    async def breaking(reader: Reader, timeout_s: float) -> Sequence[Found]:
        if next(breaks, False):
            raise LogUnreachableError("the connection broke")
        return await run(reader, timeout_s)

    service = over_kafka.sent(10)

    async def followed(client: Client) -> list[Progress]:
        batch = await client.submit(kill(Filter(service=service), rate=10))
        monkeypatch.setattr(Reader, "run", breaking)
        return [progress async for progress in batch.progress()]

    told = over_kafka(followed)
    assert (told[-1].state, told[-1].ended) == ("completed", 10)
    assert len({(one.state, one.ended, one.rate_per_s) for one in told}) == len(told)


def test_brokers_that_stay_away_end_the_patience(whole: System, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(reader: Reader, timeout_s: float) -> Sequence[Found]:
        raise LogUnreachableError("the connection broke")

    service = Way(whole, "kafka").sent(20)

    async def followed(client: Client) -> Progress:
        batch = await client.submit(pause(Filter(service=service), rate=1))
        monkeypatch.setattr(Reader, "run", broken)
        return await batch.wait()

    with pytest.raises(UnreachableError, match="the connection broke"):
        Way(whole, "kafka", patience_s=1)(followed)


def test_the_command_line_takes_the_address_of_kafka_too(whole: System) -> None:
    over_kafka = Way(whole, "kafka")
    service = over_kafka.sent(3)
    prefix = {variable("topic.prefix"): whole.prefix}
    done = whole.cli("inv", "kill", service, "--yes", "--url", f"kafka://{whole.bootstrap}", **prefix)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["state"], last["ended"]) == ("completed", 3)


def test_what_the_environment_says_of_kafka_holds_unless_something_else_is_given(
    whole: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Way(whole, "kafka").sent(1)
    monkeypatch.setenv(variable("topic.prefix"), whole.prefix)
    monkeypatch.setenv("COORDINATOR_URL", f"kafka://{whole.bootstrap}")

    async def killed(**given: Any) -> int:
        async with Client(**given) as client:
            return (await (await client.submit(kill(Filter(service=service)))).wait()).ended

    assert asyncio.run(killed()) == 1
    with pytest.raises(ServerError, match=r"has no nobodys\.requests, .*; make the topics"):
        asyncio.run(killed(kafka={"topic.prefix": "nobodys."}))
