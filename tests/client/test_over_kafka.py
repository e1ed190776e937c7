"""A client of Kafka without a broker: addresses, settings, what it makes of records, in which order it reads them."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from coordinator import Client, Filter, kill
from coordinator.client import RejectedError, ServerError, UnreachableError
from coordinator.client.kafka.following import Following, Seen
from coordinator.client.kafka.reader import Found, Reader
from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.port import LogUnreachableError, Stream
from coordinator.model import limits
from coordinator.model.errors import CallerError
from coordinator.model.filters import Filter as LogFilter
from coordinator.model.messages import Lapse, Message, Progress, RequestState, Submit, Tally, encode

START = 1_795_253_400_000_000
FORGOTTEN = START + limits.NOT_AFTER_US + limits.REMEMBERED_US
NOWHERE = {Stream.REQUESTS: 0, Stream.PROGRESS: 0}


# -- addresses and settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "kafka://"}, "write kafka://HOST:PORT"),
        ({"url": "kafka://somewhere"}, "write kafka://HOST:PORT"),
        ({"url": "kafka://a:1", "kafka": {"acks": "1"}}, "there is no Kafka setting acks"),
        ({"url": "kafka://a:1", "token": "t"}, "a token is for an http:// URL"),
        ({"url": "http://a:1", "kafka": {}}, "need a kafka:// URL"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(CallerError, match=says):
        Client(**given)


def test_a_token_in_the_environment_is_for_whoever_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDINATOR_TOKEN", "t")
    Client("kafka://127.0.0.1:9092")


def test_brokers_that_are_not_there_are_reported_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Client(f"kafka://127.0.0.1:{unused.getsockname()[1]}", patience_s=3_600)
        with pytest.raises(UnreachableError, match=r"no broker answers at 127\.0\.0\.1"):
            asyncio.run(asyncio.wait_for(client.submit(kill(Filter(service="S"))), 60))


def test_what_cannot_be_meant_is_refused_before_anybody_is_asked() -> None:
    client = Client("kafka://127.0.0.1:1")
    with pytest.raises(RejectedError) as refused:
        asyncio.run(client.submit(kill(Filter(service="x" * limits.REQUEST_BYTES_MAX))))
    assert str(refused.value) == "the body may have 65536 bytes here"


def test_kafka_is_imported_only_by_who_uses_it() -> None:
    script = "import sys, coordinator.client as c; c.Client('http://127.0.0.1:1'); print('aiokafka' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# -- what it makes of records --------------------------------------------------------------------------------


class Tape:
    """A reader of what was recorded."""

    def __init__(self, *said: tuple[Message, int]) -> None:
        self._said = said
        self.positions = dict(NOWHERE)

    async def so_far(self) -> AsyncIterator[Sequence[Found]]:
        for message, at_us in self._said:
            stream = Stream.PROGRESS if isinstance(message, Progress | RequestState) else Stream.REQUESTS
            self.positions[stream] += 1
            yield [Found(stream, self.positions[stream] - 1, at_us, encode(message))]


def seen(*said: tuple[Message, int]) -> Seen:
    """What is known of r1 on two partitions."""
    following = Following("r1", Seen(dict(NOWHERE)), cast("Reader", Tape(*said)), 2)
    return asyncio.run(following.catch_up())


def submit(id: str = "r1", service: str = "S") -> Submit:
    return Submit(request=id, action="kill", filter=LogFilter(service=service))


def ended(partition: int, number: int = 1, matched: int = 3, id: str = "r1") -> Progress:
    tally = Tally(matched=matched, ended=matched)
    return Progress(
        request=id, partition=partition, number=number, state="completed", position=7, revision=0, at=START, tally=tally
    )


ANSWER = RequestState(request="r1", number=1, state="accepted", at=START, tally=Tally())
LIFE = ((submit(), START), (ANSWER, START), (ended(0), START), (ended(1), START))


def test_a_request_is_folded_from_what_is_told_of_it_and_of_no_other() -> None:
    now = seen((submit("r10"), START), *LIFE, (ended(0, 2, 9, id="r10"), START))
    assert now.request is not None
    assert [one.newest.tally.ended for one in now.request.partitions if one.newest is not None] == [3, 3]
    assert now.answered


def test_it_is_answered_once_the_coordinator_has_told_of_it() -> None:
    assert not seen((submit(), START)).answered
    early = seen((ANSWER, START), (submit(), START))
    assert early.answered
    assert early.submitted


def test_a_lapse_lets_it_be_forgotten_when_its_time_is_over() -> None:
    assert seen(*LIFE, (Lapse(request="r1"), FORGOTTEN - 1)).submitted
    assert not seen(*LIFE, (Lapse(request="r1"), FORGOTTEN)).submitted
    running = LIFE[:3]
    assert seen(*running, (Lapse(request="r1"), FORGOTTEN)).submitted


def test_an_id_that_was_forgotten_is_another_batch() -> None:
    again = seen(*LIFE, (Lapse(request="r1"), FORGOTTEN), (submit(service="Other"), FORGOTTEN + 1))
    assert again.request is not None
    assert again.request.submission == submit(service="Other")
    assert [one.newest for one in again.request.partitions] == [None, None]
    assert not again.answered


def test_what_the_coordinator_cannot_read_is_passed_over() -> None:
    unreadable = Lapse(request="r1", v=limits.SCHEMA_LEVEL + 1)
    assert not seen(*LIFE, (Lapse(request="r1"), FORGOTTEN)).submitted
    assert seen(*LIFE, (unreadable, FORGOTTEN)).submitted


def test_progress_that_contradicts_itself_is_said_to_be_the_servers_fault() -> None:
    with pytest.raises(ServerError, match="a count of what was matched never falls"):
        seen(*LIFE, (ended(0, 2, matched=2), START))


# -- in which order it reads ---------------------------------------------------------------------------------

PARTITIONS = {Stream.REQUESTS: TopicPartition("r", 0), Stream.PROGRESS: TopicPartition("p", 0)}


class Consumer:
    """One that gives a record of one stream at a time, `progress` first; `marks` are offsets without a record."""

    def __init__(self, requests: Sequence[int], progress: Sequence[int], marks: int = 0) -> None:
        self._times = {PARTITIONS[Stream.REQUESTS]: requests, PARTITIONS[Stream.PROGRESS]: progress}
        self._given = dict.fromkeys(self._times, 0)
        self.marks = marks
        self.asked = 0

    def ends(self) -> dict[Stream, int]:
        return {stream: len(self._times[partition]) + self.marks for stream, partition in PARTITIONS.items()}

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.asked += 1
        for partition in reversed(partitions):
            given = self._given[partition]
            if given < len(self._times[partition]):
                self._given[partition] += 1
                time_ms = self._times[partition][given]
                return {partition: [SimpleNamespace(offset=given, timestamp=time_ms, value=b"%d" % time_ms)]}
        return {}

    async def position(self, partition: TopicPartition) -> int:
        given = self._given[partition]
        return given + self.marks if given == len(self._times[partition]) else given

    def last_stable_offset(self, partition: TopicPartition) -> int:
        return len(self._times[partition]) + self.marks


def reader(consumer: Consumer, ends: dict[Stream, int] | None = None) -> Reader:
    return Reader(KafkaSettings("a:1"), consumer, PARTITIONS, NOWHERE, ends or consumer.ends())


def read(made: Reader) -> list[int]:
    async def whole() -> list[int]:
        return [int(record.value) async for run in made.so_far() for record in run]

    return asyncio.run(whole())


def test_two_streams_are_read_in_the_order_of_time() -> None:
    made = reader(Consumer([1, 4, 5, 9], [2, 3, 6, 7, 8]))
    assert read(made) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert made.positions == {Stream.REQUESTS: 4, Stream.PROGRESS: 5}


def test_what_is_no_record_is_passed_over() -> None:
    made = reader(Consumer([2], [1], marks=2))
    assert read(made) == [1, 2]
    assert made.positions == {Stream.REQUESTS: 3, Stream.PROGRESS: 3}


def test_records_that_do_not_come_are_not_waited_for_for_ever() -> None:
    began = time.monotonic()
    with pytest.raises(LogUnreachableError, match="has given nothing for 10 s"):
        read(reader(Consumer([1], [2]), {Stream.REQUESTS: 2, Stream.PROGRESS: 1}))
    assert time.monotonic() - began < 10
