"""The coordinator's changelog among owners that were replaced and do not know it, and under compaction."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest

from coordinator.logs.port import Record, Stream
from coordinator.model import limits
from coordinator.model.errors import CorruptionError
from coordinator.model.messages import (
    Handler,
    Lapse,
    Progress,
    Register,
    RequestControl,
    ServiceSpec,
    Tally,
    decode_request,
    encode,
)
from coordinator.requests.deployments import Deployment
from coordinator.requests.state import Request
from coordinator.runtime.requests import changelog
from coordinator.runtime.requests.changelog import Change, Fence
from coordinator.runtime.requests.known import READ
from coordinator.runtime.requests.run import fold
from coordinator.runtime.requests.tenure import Step, Tenure
from tests.requests.world import START, TIMES, submit

PARTITIONS = 2
REQUESTS = 3


class Row(NamedTuple):
    offset: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Topic:
    """A compacted topic with one partition."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.end = 0

    def append(self, key: bytes, value: bytes | None, claim: int | None = None) -> int:
        headers = () if claim is None else ((changelog.OWNER_HEADER, b"%d" % claim),)
        self.rows.append(Row(self.end, key, value, headers))
        self.end += 1
        return self.end - 1

    def compact(self, below: int) -> None:
        newest = {row.key: row.offset for row in self.rows if row.offset < below}
        self.rows = [row for row in self.rows if row.offset >= below or newest[row.key] == row.offset]


class Reader:
    """Whoever follows the topic: the rows that count, as of what it has read."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.fence = Fence()
        self.rows: dict[bytes, bytes] = {}

    def read(self) -> None:
        for row in self.topic.rows:
            if row.offset <= self.fence.last or not self.fence.admits(row.offset, row.key, row.value, row.headers):
                continue
            if row.value is None:
                self.rows.pop(row.key, None)
            else:
                self.rows[row.key] = row.value

    @property
    def restored(self) -> changelog.Restored:
        return changelog.restore(self.rows)


class Owner:
    """One process that has the topics, or believes that it has."""

    def __init__(self, topic: Topic, log: dict[Stream, list[Record]]) -> None:
        self.topic = topic
        self.log = log
        reader = Reader(topic)
        reader.read()
        claim, number = topic.append(changelog.OWNER, b""), reader.fence.tenure + 1
        self.tenure = Tenure(claim, number, reader.restored, PARTITIONS, dict.fromkeys(READ, 0))
        for key in reader.fence.shadowed:
            self.tenure.shadow(key)
        self.folding: tuple[Stream, Step] | None = None
        self.unwritten: list[tuple[bytes, bytes | None]] = []

    def begin(self, stream: Stream, records_max: int = 1) -> None:
        position = self.tenure.positions[stream]
        if self.folding is None and position < len(self.log[stream]):
            step = self.tenure.step(stream, self.log[stream][position : position + records_max])
            assert step is not None
            self.folding = stream, step
            rows: list[tuple[bytes, bytes | None]] = [(changelog.request_key(id), None) for id in step.forgotten]
            rows += [(changelog.key_of(one.what), changelog.encode(one)) for one in step.changes]
            # Any of them may be there when it is interrupted; the last one waits for the others.
            *others, last = rows
            random.Random(self.topic.end).shuffle(others)
            self.unwritten = [*others, last]

    def write(self) -> None:
        """One row."""
        if self.unwritten:
            key, value = self.unwritten.pop(0)
            self.topic.append(key, value, self.tenure.claim)
        if self.folding is not None and not self.unwritten:
            (stream, step), self.folding = self.folding, None
            self.tenure.take(stream, step, START)

    def end(self) -> None:
        while self.folding is not None:
            self.write()


def events(rng: random.Random) -> dict[Stream, list[Record]]:
    """What operators and partitions say of a few requests."""
    asked: list[Any] = [submit(f"r{number}") for number in range(REQUESTS)]
    for number in range(REQUESTS * 3):
        change: dict[str, Any] = rng.choice([{"paused": True}, {"rate": number + 1}, {"paused": False}])
        asked.append(RequestControl(request=f"r{rng.randrange(REQUESTS)}", **change))
    asked += [register(f"dp_{number}") for number in range(3)]
    rng.shuffle(asked)
    told = []
    for number in range(1, 4):
        for request in range(REQUESTS):
            for partition in range(PARTITIONS):
                told.append(progress(f"r{request}", partition, number))
    return {Stream.REQUESTS: records(asked), Stream.PROGRESS: records(told)}


def records(messages: list[Any]) -> list[Record]:
    return [Record(position, START + position, encode(message)) for position, message in enumerate(messages)]


def progress(request: str, partition: int, number: int) -> Progress:
    """None that ends it: a control that comes after the end counts for nothing, and what comes first is open."""
    return Progress(
        request=request,
        partition=partition,
        number=number,
        state="running",
        position=0,
        revision=0,
        at=0,
        tally=Tally(matched=number, ended=number),
    )


def register(deployment: str) -> Register:
    services = (ServiceSpec(name="Greeter", handlers=(Handler(name="greet"),)),)
    return Register(deployment=deployment, services=services)


def facts(request: Request) -> tuple[object, ...]:
    """What does not depend on when something was heard."""
    told = [(one.newest, one.ending) for one in request.partitions]
    return request.submission, request.revision, request.paused, request.rate, told


def folded_once(log: dict[Stream, list[Record]]) -> dict[str, Request]:
    requests: dict[str, Request] = {}
    registry = changelog.restore({}).registry
    for stream, run in log.items():
        folded = fold(stream, run, requests, registry, PARTITIONS)
        requests.update(folded.changed)
    return requests


@pytest.mark.parametrize("seed", range(40 * TIMES))
def test_replaced_owners_and_compaction_neither_lose_nor_repeat_anything(seed: int) -> None:
    rng = random.Random(seed)
    log, topic = events(rng), Topic()
    replica, shown = Reader(topic), changelog.restore({})
    owners = [Owner(topic, log)]
    while any(shown.positions[stream] < len(log[stream]) for stream in READ):
        acting = rng.choice(owners) if rng.random() < 0.4 else owners[-1]
        if rng.random() < 0.5:
            acting.begin(rng.choice(READ), rng.choice([1, 2, 5, 20]))
        else:
            acting.write()
        if rng.random() < 0.05:
            owners.append(Owner(topic, log))
        if rng.random() < 0.3:
            replica.read()
            for key in replica.fence.shadowed:
                owners[-1].tenure.shadow(key)
            if not replica.fence.shadowed and rng.random() < 0.3:
                topic.compact(rng.randint(0, topic.end))
            before, shown = shown, replica.restored
            assert all(shown.positions[stream] >= before.positions[stream] for stream in READ)
            for id, request in before.requests.items():
                assert shown.requests[id].told >= request.told
                assert shown.requests[id].revision >= request.revision
    last = Owner(topic, log)
    assert {id: facts(request) for id, request in shown.requests.items()} == {
        id: facts(request) for id, request in folded_once(log).items()
    }
    assert last.tenure.positions == shown.positions
    assert len(shown.registry.deployments) == 3


def test_a_run_whose_last_row_is_missing_is_folded_again_past_those_that_are_there() -> None:
    said = [submit("r1"), submit("r2"), submit("r3"), *(RequestControl(request=f"r{n}", rate=n) for n in (1, 2, 3))]
    log = {Stream.REQUESTS: records(said), Stream.PROGRESS: records([progress("r1", 0, 1)])}
    for written in range(3):
        topic = Topic()
        owner = Owner(topic, log)
        owner.begin(Stream.REQUESTS, 20)
        for _ in range(written):
            owner.write()
        successor = Owner(topic, log)
        assert successor.tenure.positions[Stream.REQUESTS] == 0
        for stream in (Stream.PROGRESS, Stream.REQUESTS):
            successor.begin(stream, 20)
            successor.end()
        last = Reader(topic)
        last.read()
        assert last.restored.positions == {Stream.REQUESTS: 6, Stream.PROGRESS: 1}
        assert last.restored.ahead == {}
        found = {id: facts(request) for id, request in last.restored.requests.items()}
        assert found == {id: facts(request) for id, request in folded_once(log).items()}


def test_a_registration_and_the_end_of_a_row_have_a_run_to_themselves() -> None:
    late = START + limits.NOT_AFTER_US + limits.REMEMBERED_US
    said = [submit("r1", action="none"), register("dp_1"), register("dp_2"), submit("r2"), submit("r3")]
    said += [Lapse(request="r2"), Lapse(request="r1"), submit("r1"), submit("r4")]
    log = [Record(position, late, encode(message)) for position, message in enumerate(said)]
    log[0] = log[0]._replace(appended_at=START)
    owner = Owner(Topic(), {Stream.REQUESTS: log, Stream.PROGRESS: []})
    ends = []
    while owner.tenure.positions[Stream.REQUESTS] < len(log):
        owner.begin(Stream.REQUESTS, 20)
        owner.end()
        ends.append(owner.tenure.positions[Stream.REQUESTS])
    assert ends == [1, 2, 3, 6, 7, 9]
    reader = Reader(owner.topic)
    reader.read()
    assert reader.restored.requests["r1"].submission == submit("r1")
    assert [one.id for one in reader.restored.registry.deployments] == ["dp_1", "dp_2"]


def test_what_comes_before_a_contradiction_is_folded() -> None:
    said = [progress("r1", 0, 1), progress("r1", 1, 1), progress("r1", PARTITIONS, 1), progress("r1", 0, 2)]
    owner = Owner(Topic(), {Stream.REQUESTS: [], Stream.PROGRESS: records(said)})
    owner.begin(Stream.PROGRESS, 20)
    owner.end()
    assert owner.tenure.positions[Stream.PROGRESS] == 2
    with pytest.raises(CorruptionError, match="which is one over 2 partitions"):
        owner.begin(Stream.PROGRESS, 20)


def test_a_row_of_a_replaced_owner_is_void_also_where_it_deletes() -> None:
    topic = Topic()
    first = topic.append(changelog.OWNER, b"")
    topic.append(b"request:r1", b"valid", first)
    second = topic.append(changelog.OWNER, b"")
    topic.append(b"request:r1", None, first)
    topic.append(b"request:r2", b"void")
    reader = Reader(topic)
    reader.read()
    assert reader.rows == {b"request:r1": b"valid"}
    assert reader.fence.shadowed == {b"request:r1", b"request:r2"}
    topic.append(b"request:r1", b"again", second)
    reader.read()
    assert reader.rows == {b"request:r1": b"again"}
    assert reader.fence.shadowed == {b"request:r2"}


def test_shadowed_rows_are_written_again_with_the_next_record() -> None:
    topic = Topic()
    log = {Stream.REQUESTS: records([submit("r1"), register("dp_1"), Lapse(request="")]), Stream.PROGRESS: []}
    replaced = Owner(topic, log)
    for _ in range(2):
        replaced.begin(Stream.REQUESTS)
        replaced.end()
    owner = Owner(topic, log)
    for key in (b"request:r1", b"deployment:1", b"request:gone"):
        topic.append(key, b"void", replaced.tenure.claim)
        owner.tenure.shadow(key)
    assert owner.tenure.take_repair()
    assert not owner.tenure.take_repair()
    owner.begin(Stream.REQUESTS)
    owner.end()
    assert not owner.tenure.take_repair()
    topic.compact(topic.end)
    reader = Reader(topic)
    reader.read()
    assert reader.fence.shadowed == set()
    assert set(reader.restored.requests) == {"r1"}
    assert [one.id for one in reader.restored.registry.deployments] == ["dp_1"]
    assert reader.restored.positions[Stream.REQUESTS] == 3


def test_what_a_row_says_is_what_was_written() -> None:
    positions = {Stream.REQUESTS: 7, Stream.PROGRESS: 9}
    whats = [
        Request(id="r ü", partitions=(), submission=submit("r ü")),
        Deployment(3, "dp_1", register("dp_1").services, START),
        None,
    ]
    for what in whats:
        for ahead in (None, {Stream.REQUESTS: 8, Stream.PROGRESS: 9}):
            change = Change(positions, what, ahead)
            assert changelog.decode(changelog.key_of(what), changelog.encode(change)) == change


@pytest.mark.parametrize(("key", "value"), [(b"position", b"\xc1"), (b"request:r1", b"\x93\x01\x01\xc4\x01\xc1")])
def test_a_row_that_cannot_be_read_is_corruption(key: bytes, value: bytes) -> None:
    with pytest.raises(CorruptionError, match="cannot be read"):
        changelog.decode(key, value)


def test_a_row_of_a_kind_that_is_not_known_is_corruption() -> None:
    with pytest.raises(CorruptionError, match="does not know"):
        changelog.decode(b"else:1", b"\x93\x01\x01\xc4\x00")


def test_a_record_that_was_folded_is_passed_over() -> None:
    log = {Stream.REQUESTS: records([submit("r1"), submit("r2")]), Stream.PROGRESS: []}
    owner = Owner(Topic(), log)
    owner.begin(Stream.REQUESTS)
    owner.end()
    assert owner.tenure.step(Stream.REQUESTS, log[Stream.REQUESTS][:1]) is None


def test_a_request_is_forgotten_by_a_lapse_that_comes_late_enough() -> None:
    ended = [submit("r1", action="no such action")]
    late = START + limits.NOT_AFTER_US + limits.REMEMBERED_US
    lapses = [Record(1, late - 1, encode(Lapse(request="r1"))), Record(2, late, encode(Lapse(request="r1")))]
    owner = Owner(Topic(), {Stream.REQUESTS: records(ended) + lapses, Stream.PROGRESS: []})
    known = []
    for _ in range(3):
        owner.begin(Stream.REQUESTS)
        owner.end()
        reader = Reader(owner.topic)
        reader.read()
        known.append(set(reader.restored.requests))
    assert known == [{"r1"}, {"r1"}, set()]
    assert isinstance(decode_request(lapses[0].value), Lapse)
