"""What only shows on a socket: clients that hang up, bodies that arrive late or are too long, streams that break."""

import time
from collections.abc import Callable, Iterator

import httpx
import msgspec
import pytest

from coordinator.model import limits
from tests.http.served import connect, read_head, served, standing
from tests.http.stub import StubGateway, an_invocation

KILL = {"request_id": "r1", "action": "kill", "filter": {"all": True}, "reason": "test"}


@pytest.fixture
def gateway() -> StubGateway:
    return StubGateway(*(an_invocation(number) for number in range(1, 7)))


@pytest.fixture
def url(gateway: StubGateway) -> Iterator[str]:
    with served(standing(gateway)) as url:
        yield url
        assert httpx.get(f"{url}/health").status_code == 200  # whatever a client did, the server is there


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_watcher_that_hangs_up_is_watched_for_no_longer(gateway: StubGateway, url: str) -> None:
    batch = httpx.post(f"{url}/batches", json=KILL).json()
    gateway.batches.pause_s = 60
    gateway.batches.states = [msgspec.structs.replace(gateway.batches.get(batch["id"]), state="running")]
    with httpx.stream("GET", f"{url}/batches/r1/events") as response:
        lines = response.iter_lines()  # kept: the stream would be closed with it
        assert next(lines).startswith("id: ")
        assert ("stopped watching", "r1") not in gateway.asked
    eventually(lambda: ("stopped watching", "r1") in gateway.asked)


def test_a_watcher_that_has_seen_the_end_gets_an_empty_answer(gateway: StubGateway, url: str) -> None:
    httpx.post(f"{url}/batches", json=KILL)
    gateway.batches.change("r1", state="aborted", settled=True)
    id = httpx.get(f"{url}/batches/r1/events").text.split("\n")[0].removeprefix("id: ")
    with httpx.Client() as client:
        again = client.get(f"{url}/batches/r1/events", headers={"Last-Event-ID": id})
        assert (again.status_code, again.content) == (204, b"")
        assert client.get(f"{url}/batches/r1").status_code == 200  # on the same connection


def test_an_import_that_hangs_up_in_the_middle_does_no_harm(gateway: StubGateway, url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"POST /import HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}\n{}\n")
        time.sleep(0.05)
    time.sleep(0.05)
    assert gateway.asked == []


def test_a_send_that_hangs_up_in_the_middle_starts_nothing(gateway: StubGateway, url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"POST /services/S/h/send HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf of it")
        time.sleep(0.05)
    time.sleep(0.05)
    assert gateway.asked == []


def test_an_import_is_read_while_it_is_sent(gateway: StubGateway, url: str) -> None:
    lines = 0

    async def import_rows(rows):  # type: ignore[no-untyped-def]
        nonlocal lines
        async for _ in rows:
            lines += 1
        return {"imported": lines, "existing": 0, "failed": 0, "errors": []}

    gateway.import_rows = import_rows  # type: ignore[method-assign]
    with connect(url) as connection:
        connection.sendall(b"POST /import HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{}\n{}\n\r\n")
        eventually(lambda: lines == 2)
        connection.sendall(b"2\r\n{}\r\n0\r\n\r\n")
        assert b"200 OK" in read_head(connection)
    assert lines == 3


@pytest.mark.parametrize("size", [limits.RECORD_BYTES_MAX + 1, 30 * 1024 * 1024])
def test_who_sends_too_much_hears_why(url: str, size: int) -> None:
    response = httpx.post(f"{url}/services/S/h/send", content=b"x" * size)
    assert response.status_code == 413


def test_who_asks_before_sending_too_much_is_told_not_to(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(
            b"POST /batches HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        )
        assert read_head(connection).startswith(b"HTTP/1.1 413")


def test_a_body_without_end_is_answered_before_its_end(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"POST /batches HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(2):
            connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 413")


def test_a_listing_that_breaks_is_broken_for_its_reader(gateway: StubGateway, url: str) -> None:
    gateway.breaks_after = 2
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{url}/invocations")


def test_a_key_with_a_slash_comes_through_a_real_server(gateway: StubGateway, url: str) -> None:
    assert httpx.post(f"{url}/services/Object/a%2Fb/add/send").status_code == 202
    assert gateway.asked[0][1:4] == ("Object", "a/b", "add")


def test_a_host_that_is_none_is_refused_as_a_problem(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET /invocations HTTP/1.1\r\nHost: a b\r\n\r\n")
        head = read_head(connection)
    assert head.startswith(b"HTTP/1.1 400")
