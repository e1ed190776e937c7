"""The sending process: what it sends, when, and what it notes."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from coordinator.demo import wire
from coordinator.demo.cost import Latency, between
from coordinator.demo.traffic import GREETER, Sent, read, workload
from coordinator.demo.wire import NotAnsweredError, Sender

Answers = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def with_server(answers: Answers, body: Callable[[str], Awaitable[None]]) -> None:
    async def run() -> None:
        async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
            await body(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(run())


def test_answers_come_one_after_another_over_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    connections: list[int] = []

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        for number in itertools.count():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            assert head.startswith(b"POST /x HTTP/1.1\r\n")
            assert await reader.readexactly(2) == b"{}"
            status = b"202 Accepted" if number % 2 == 0 else b"503 Away"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 1\r\n\r\n%d" % number)
        writer.close()

    async def body(url: str) -> None:
        sender = Sender(url)
        assert await sender.post("/x", b"{}") == (202, b"0")
        assert await sender.post("/x", b"{}") == (503, b"1")
        assert len(connections) == 1
        monkeypatch.setattr(wire, "_IDLE_S", 0.0)
        assert await sender.post("/x", b"{}") == (202, b"0")
        assert len(connections) == 2
        sender.close()

    with_server(answers, body)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 202 Accepted\r\n\r\n", b"HTTP/1.1 202 A\r\ncontent-length: 9\r\n\r\n1"]
)
def test_what_is_no_whole_answer_is_none(said: bytes) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async def body(url: str) -> None:
        with pytest.raises(NotAnsweredError):
            await Sender(url).post("/x", b"")

    with_server(answers, body)


def test_most_of_the_workload_is_of_the_service_that_is_swept_and_some_of_it_due_soon() -> None:
    sends = list(itertools.islice(workload(random.Random(1)), 1_000))
    assert sends == list(itertools.islice(workload(random.Random(1)), 1_000))
    services = Counter(send.target.split("/")[0] for send in sends)
    assert services["Greeter"] > 600
    assert set(services) == {"Greeter", "CartObject", "PaymentService"}
    greetings = [send for send in sends if send.target == GREETER]
    assert sum(0 < send.delay_ms < 20_000 for send in greetings) > 200
    assert sum(0 < send.pause_ms < 20_000 and send.delay_ms == 0 for send in greetings) > 200


def sent(planned_at: int, answered_at: int) -> Sent:
    return Sent(GREETER, 0, planned_at, planned_at, answered_at, "inv_1")


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    lines = [msgspec.json.encode(sent(number, number + 1)) for number in range(3)]
    path = tmp_path / "sent.jsonl"
    path.write_bytes(b"\n".join(lines)[:-4])
    assert read(path) == [sent(0, 1), sent(1, 2)]


def test_latency_counts_from_the_time_that_was_planned() -> None:
    one = Sent(GREETER, 0, 1_000, 5_000, 6_000, "inv_1")
    assert one.latency_ms == 5.0
    latency = Latency.of([sent(0, 1_000 * number) for number in range(1, 101)])
    assert (latency.p50, latency.p99, latency.number) == (51.0, 100.0, 100)


def test_what_was_under_way_in_a_stretch_counts_to_it() -> None:
    some = [sent(0, 10), sent(5, 15), sent(15, 18), sent(19, 30), sent(20, 30)]
    assert between(some, 10, 20) == some[1:4]
