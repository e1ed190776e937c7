"""What retries of plain producers may do to the log: records come twice, late, and in another order than was sent.

The same on both logs. What is appended are real records of the system that is tested, all of them again in an order
that is drawn, and what a producer could have made of a few requests.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from coordinator.logs.kafka import KafkaLog
from coordinator.logs.port import Entry, Stream
from coordinator.model import messages
from coordinator.runtime.layout import DataDirectory
from tests.http.surface import assert_problem
from tests.simulation.settings import SEED
from tests.system.evidence import Evidence, of_embedded
from tests.system.kafka import System
from tests.system.rows import Row, id_on, lines, row
from tests.system.server import Server, eventually

PARTITIONS = 2
PATIENCE_S = 120


class Place(Protocol):
    """A running system whose log anybody may append to."""

    server: Server

    def append(self, entries: Sequence[Entry]) -> None:
        """As a producer with nothing but a client would; returns when the system runs and has it."""

    def records(self, stream: Stream, partition: int = 0) -> list[bytes]:
        """All there is."""

    def check(self) -> int:
        """The exit code of `coordinator check`."""


class OnEmbedded:
    """The log is a file, which is the test's while the server is down."""

    def __init__(self, directory: Path) -> None:
        self.server = Server(directory, partitions=PARTITIONS).start()

    def append(self, entries: Sequence[Entry]) -> None:
        self.server.stop()
        with closing(DataDirectory(self.server.data).open_log(None)) as log:
            log.append(entries)
        self.server.start(until_ready=False)
        eventually(lambda: answers(self.server), within_s=PATIENCE_S, says=self.server.said)

    def records(self, stream: Stream, partition: int = 0) -> list[bytes]:
        with of_embedded(self.server.data) as found:
            return [record.value for record in found.records(stream, partition)]

    def check(self) -> int:
        return self.server.check().returncode

    def close(self) -> None:
        self.server.__exit__()


class OnKafka:
    """One process with all roles; it goes on while others produce."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self.server = self._of = System(directory, bootstrap, partitions=PARTITIONS)
        self._process = self._of.process_with("partitions,requests,http").start()
        self._of.front(self._process)
        eventually(self._of.is_ready, within_s=PATIENCE_S, says=self._of.said)

    def append(self, entries: Sequence[Entry]) -> None:
        asyncio.run(self._produce(entries))

    async def _produce(self, entries: Sequence[Entry]) -> None:
        producer = AIOKafkaProducer(**self._of.settings.client(), acks="all")
        await producer.start()
        for entry in entries:
            await producer.send(self._of.settings.topic(entry.stream), entry.value, partition=entry.partition)
        await producer.stop()

    def records(self, stream: Stream, partition: int = 0) -> list[bytes]:
        with closing(KafkaLog(self._of.settings)) as log:
            return [record.value for record in Evidence(log, []).records(stream, partition)]

    def check(self) -> int:
        return self._of.check_of(self._process).returncode

    def close(self) -> None:
        self._of.__exit__()


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp(request.param)
    made: OnEmbedded | OnKafka
    if request.param == "embedded":
        made = OnEmbedded(directory)
    else:
        made = OnKafka(directory / "system", request.getfixturevalue("kafka"))
    yield made
    made.close()


def answers(server: Server) -> bool:
    """Whether it takes commands for some partitions at least."""
    with contextlib.suppress(httpx.TransportError):
        return "no owner" not in server.http.get("/ready").text
    return False


def at_rest(place: Place) -> bool:
    """Whether all that is on the log is applied, and nothing is left to be done."""
    views = place.server("GET", "/partitions").json()
    return all(one["lag"] == 0 and one["works"] == 0 and not one["pending"] for one in views)


def rest(place: Place) -> None:
    eventually(lambda: at_rest(place), within_s=PATIENCE_S, says=place.server.said)


def submit(request: str, service: str, **options: Any) -> bytes:
    filter = messages.Filter(service=service)
    return messages.encode(messages.Submit(request=request, action="kill", filter=filter, **options))


def control(request: str, **change: Any) -> bytes:
    return messages.encode(messages.RequestControl(request=request, **change))


def ask(place: Place, *values: bytes) -> None:
    """Append these to `requests`."""
    place.append([Entry(Stream.REQUESTS, 0, value) for value in values])


def finished(place: Place, request: str) -> dict[str, Any]:
    """A batch that is on the log, in the end."""
    is_known = lambda: place.server.http.get(f"/batches/{request}").status_code == 200  # noqa: E731
    eventually(is_known, within_s=PATIENCE_S, says=place.server.said)
    return place.server.finished(request)


def batches(place: Place) -> dict[str, dict[str, Any]]:
    """All of them, but for when something was heard last."""
    found = {one["id"]: one for one in place.server("GET", "/batches").json()}
    for one in found.values():
        for partition in one["partitions"]:
            del partition["last_heard_at"]
    return found


def folded(place: Place) -> None:
    """All that is on the streams of the coordinator is read: what is asked now is told behind it."""
    place.server.do("count", {"service": "Nobody"})


# -- requests ------------------------------------------------------------------------------------------------


def test_a_submission_that_comes_again_is_the_same_and_another_under_its_id_is_a_conflict(place: Place) -> None:
    server = place.server
    server.import_lines(lines([*(row("Twice/run") for _ in range(4)), *(row("Other/run") for _ in range(3))]))
    again, other = submit("twice", "Twice"), submit("twice", "Other")
    ask(place, again, again, other)
    last = finished(place, "twice")
    assert (last["state"], last["matched"], last["ended"]) == ("completed", 4, 4)
    server.import_lines(lines(row("Twice/run") for _ in range(2)))
    ask(place, other, again)
    folded(place)
    assert server.batch("twice") == last
    body = {"request_id": "twice", "action": "kill", "filter": {"service": "Twice"}}
    assert server("POST", "/batches", json=body).json()["id"] == "twice"
    body["filter"] = {"service": "Other"}
    assert_problem(server("POST", "/batches", json=body), 409, says="submitted with another body")
    assert sorted(one["status"] for one in server.list("service=Twice")) == ["completed"] * 4 + ["suspended"] * 2
    assert {one["status"] for one in server.list("service=Other")} == {"suspended"}


def test_an_abort_counts_from_where_it_stands(place: Place) -> None:
    """One that was swapped with its submission is about nothing; one behind it holds, whatever comes late."""
    server = place.server
    server.import_lines(lines([*(row("Early/run") for _ in range(4)), *(row("Held/run") for _ in range(40))]))
    early, held = submit("early", "Early"), submit("held", "Held", rate=1)
    ask(place, control("early", aborted=True), early)
    last = finished(place, "early")
    assert (last["state"], last["matched"], last["ended"]) == ("completed", 4, 4)
    abort = control("held", aborted=True)
    ask(place, held, abort, held, abort, control("held", paused=False), held)
    last = finished(place, "held")
    assert last["state"] == "aborted"
    assert last["matched"] == last["ended"] < 40
    killed = [one for one in server.list("service=Held") if one["outcome"] == "killed"]
    assert len(killed) == last["ended"], "what it has not ended by then it never does"


# -- commands and progress -----------------------------------------------------------------------------------


def family() -> list[Row]:
    """Parents with children on the other partition, and a queue for a key."""
    parents = [row("Again/root", partition=number % 4) for number in range(8)]
    children = [
        row("AgainChild/run", partition=(number + 2) % 4, invoked_by_id=parent["id"])
        for number, parent in enumerate(parents)
    ]
    queue = [row("AgainObject/k/add"), *(row("AgainObject/k/add", "pending") for _ in range(5))]
    return [*parents, *children, *queue]


def test_every_record_again_and_in_any_order_changes_nothing(place: Place) -> None:
    server, rng = place.server, random.Random(SEED)
    server.import_lines(lines(family()))
    sent = [server.send("AgainSent/run") for _ in range(6)]
    assert server("PATCH", f"/invocations/{sent[0]}/kill").status_code == 200
    done = [server.do("kill", {"service": service}) for service in ("Again", "AgainObject", "AgainSent")]
    assert [one["ended"] for one in done] == [8, 6, 5]
    rest(place)
    before = server.list()
    known = batches(place)
    entries = [Entry(Stream.PROGRESS, 0, value) for value in place.records(Stream.PROGRESS)]
    for service in ("Again", "AgainChild", "AgainObject", "AgainSent"):
        assert {one["status"] for one in server.list(f"service={service}")} == {"completed"}
    for partition in range(PARTITIONS):
        values = place.records(Stream.COMMANDS, partition)
        commands = [messages.decode_command(value) for value in values]
        assert any(command.source == 1 - partition for command in commands), "the other one has told it something"
        ticks = [command.tick for command in commands if isinstance(command, messages.Tick)]
        ahead = [messages.encode(messages.Tick(tick=max(ticks) + number)) for number in (900, 700, 800)]
        entries += [Entry(Stream.COMMANDS, partition, value) for value in (*values, *ahead)]
    entries *= 2
    rng.shuffle(entries)
    place.append(entries)
    folded(place)
    rest(place)
    assert server.list() == before, f"seed {SEED}"
    assert {id: one for id, one in batches(place).items() if id in known} == known, f"seed {SEED}"
    assert server("GET", "/ready").status_code == 200
    assert place.records(Stream.DEAD_LETTERS) == []
    assert place.check() == 0, f"seed {SEED}"


# -- the last one: a partition stands still from here on -----------------------------------------------------


def test_a_message_that_is_missing_between_partitions_stops_the_receiver_loudly(place: Place) -> None:
    server = place.server
    live = {partition: id_on(2 * partition) for partition in range(PARTITIONS)}
    server.import_lines(lines({**row("Gap/run"), "id": id} for id in live.values()))
    commands = map(messages.decode_command, place.records(Stream.COMMANDS, 0))
    last = max((command.number for command in commands if command.source == 1), default=0)
    adopt = messages.Adopt(parent=live[0], child=live[1], source=1, number=last + 2)
    place.append([Entry(Stream.COMMANDS, 0, messages.encode(adopt))])
    sentence = f"partition 1 sent number {last + 2} after {last} to partition 0; messages between them are missing"
    eventually(lambda: sentence in server.http.get("/ready").text, within_s=PATIENCE_S, says=server.said)
    failures = [one["failure"] for one in server("GET", "/partitions").json()]
    assert sentence in failures[0]
    assert failures[1] is None
    assert sentence in server.said()
    assert_problem(server("PATCH", f"/invocations/{live[0]}/kill"), 503, says=sentence)
    assert server("PATCH", f"/invocations/{live[1]}/kill").status_code == 200
    assert server.get(live[0])["status"] == "suspended", "it can still be looked at"
    assert place.check() == 0
