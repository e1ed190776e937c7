"""The coordinator as a Faust application, on a real broker: what happens to processes, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from faust.tables.recovery import Recovery
from structlog.testing import capture_logs

from coordinator.logs.kafka import log as adapter
from coordinator.logs.kafka.log import KafkaLog
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Entry, Record, Stream
from coordinator.model.errors import CorruptionError
from coordinator.model.filters import Filter
from coordinator.model.messages import Guard, Progress, RequestControl, Tally, encode
from coordinator.requests.state import Request
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.requests import application, changelog
from coordinator.runtime.requests.faust_role import FaustRole
from coordinator.runtime.requests.table import Table
from tests.kafka import admin
from tests.kafka.broker import Broker
from tests.requests.world import TIMES, submit
from tests.runtime.requests_scene import PARTITIONS, KafkaScene, folded, shown, topics_of_its_own

ROOT = Path(__file__).parents[2]
REQUESTS = 8


class Coordinator:
    """The role in a process of its own."""

    def __init__(self, scene: KafkaScene) -> None:
        arguments = [scene.settings.bootstrap, scene.settings.prefix, scene.path / "faust"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.test_faust_role", *arguments], cwd=ROOT, stdout=subprocess.PIPE
        )
        self._active = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line == b"active\n":
                self._active.set()

    def until_active(self, timeout_s: float = 120) -> None:
        assert self._active.wait(timeout_s), "the role did not take over"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop_s(self) -> float:
        """How long an orderly stop takes, seconds."""
        began = time.monotonic()
        self.send(signal.SIGTERM)
        assert self.process.wait(60) == 0
        return time.monotonic() - began

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Watched:
    """What a replica shows, which must never go backwards."""

    def __init__(self, scene: KafkaScene) -> None:
        self._scene = scene
        self._seen: dict[str, Request] = {}
        self.error: str | None = None
        scene.role.subscribe(self._changed)

    def _changed(self, id: str) -> None:
        before, now = self._seen.get(id), self._scene.role.get(id)
        if now is None:
            self.error = f"{id} has vanished"
        elif before is not None and (now.told < before.told or now.revision < before.revision):
            self.error = f"{id} went back from {before} to {now}"
        else:
            self._seen[id] = now


@pytest.fixture
def scene(kafka: str, tmp_path: Path) -> Iterator[KafkaScene]:
    made = KafkaScene(kafka, tmp_path, role_here=False)
    yield made
    made.close()


@contextlib.contextmanager
def ended_with(*coordinators: Coordinator) -> Iterator[None]:
    try:
        yield
    finally:
        for coordinator in coordinators:
            coordinator.kill()


def meddle(scene: KafkaScene, seed: int, acknowledged: list[str]) -> None:
    """Submissions and controls of operators who do not wait for one another."""
    rng = random.Random(seed)
    for number in range(REQUESTS):
        guard = rng.choice([None, None, Guard(max=rng.randint(0, 8))])
        changes: list[dict[str, Any]] = rng.choices([{"paused": True}, {"rate": 5}, {"aborted": True}], k=4)
        controls = [RequestControl(request=f"r{rng.randrange(REQUESTS)}", **change) for change in changes]
        # In one append, so that they are one run, which changes several rows.
        scene.append(submit(f"r{number}", guard=guard, filter=Filter(service=f"S{number}")), *controls)
        acknowledged.append(f"r{number}")
        time.sleep(rng.random() / 2)
    scene.append(*(RequestControl(request=f"r{number}", paused=False) for number in range(REQUESTS)))


def until_the_log_agrees(scene: KafkaScene, watched: Watched) -> None:
    """Until all has ended, and what is shown is what the log gives."""
    scene.until(lambda: len(scene.role.list()) == REQUESTS and scene.role.active_count == 0, 240)
    scene.until_read()
    mine = {request.id: shown(request) for request in scene.role.list()}
    assert mine == {id: shown(request) for id, request in folded(scene.log, PARTITIONS).items()}
    assert watched.error is None


@pytest.mark.parametrize("seed", range(TIMES))
def test_being_killed_at_any_point_loses_nothing_and_ends_nothing_twice(scene: KafkaScene, seed: int) -> None:
    rng, acknowledged, watched = random.Random(seed), list[str](), Watched(scene)
    coordinator = Coordinator(scene)
    meddling = threading.Thread(target=meddle, args=(scene, seed, acknowledged))
    meddling.start()
    for _ in range(2 * TIMES):
        with ended_with(coordinator):
            coordinator.until_active()
            time.sleep(rng.random() * 2)
        coordinator = Coordinator(scene)
    with ended_with(coordinator):
        meddling.join()
        until_the_log_agrees(scene, watched)
        assert {request.id for request in scene.role.list()} == set(acknowledged)


def test_one_that_was_stopped_and_replaced_does_no_harm(scene: KafkaScene) -> None:
    acknowledged, watched = list[str](), Watched(scene)
    zombie = Coordinator(scene)
    with ended_with(zombie):
        zombie.until_active()
        meddling = threading.Thread(target=meddle, args=(scene, 1, acknowledged))
        meddling.start()
        scene.until(scene.role.list)
        zombie.send(signal.SIGSTOP)
        successor = Coordinator(scene)
        with ended_with(successor):
            successor.until_active()
            zombie.send(signal.SIGCONT)
            meddling.join()
            until_the_log_agrees(scene, watched)
    assert {request.id for request in scene.role.list()} == set(acknowledged)
    seen = {request.id: shown(request) for request in scene.role.list()}
    scene.role.close()
    scene.start()
    scene.until_active()
    scene.role = scene.replica()
    assert {request.id: shown(request) for request in scene.role.list()} == seen


def test_a_row_of_a_replaced_owner_is_not_shown_and_is_written_again(scene: KafkaScene) -> None:
    scene.restart()
    scene.until_active()
    assert scene.role.wait_applied(scene.append(submit("r1")), 60)
    asyncio.run(append_row(scene.settings, b"request:r1", b"from a zombie"))
    asyncio.run(append_row(scene.settings, b"request:r1", None))
    scene.until(lambda: newest_row(scene.settings, b"request:r1")[1] not in (b"from a zombie", None))
    headers, value = newest_row(scene.settings, b"request:r1")
    assert value is not None
    assert isinstance(changelog.decode(b"request:r1", value).what, Request)
    assert dict(headers)[changelog.OWNER_HEADER] == b"0"
    assert scene.role.get("r1") is not None


def test_what_a_recovery_has_left_out_is_read_all_the_same(scene: KafkaScene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.live.gone.update(range(PARTITIONS))  # so that nothing ends
    scene.restart()
    scene.until_active()
    assert scene.role.wait_applied(scene.append(*(submit(f"r{number}") for number in range(REQUESTS))), 60)
    # As Faust does it where a rebalance comes in between: the recovery is over, and nothing was read.
    monkeypatch.setattr(Recovery, "need_recovery", lambda recovery: False)
    with capture_logs() as said:
        scene.restart()
        scene.until_active()
    assert "requests_application_failed" not in {one["event"] for one in said}, "leaving the group makes it no better"
    assert scene.role.wait_applied(scene.append(RequestControl(request="r1", rate=7)), 60)
    assert {request.id for request in scene.role.list()} == {f"r{number}" for number in range(REQUESTS)}
    changed = scene.role.get("r1")
    assert changed is not None
    assert (changed.rate, changed.submission) == (7, submit("r1"))


def test_what_is_written_between_the_recovery_and_the_claim_counts(
    scene: KafkaScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.live.gone.update(range(PARTITIONS))  # so that nothing ends
    scene.restart()
    scene.until_active()
    assert scene.role.wait_applied(scene.append(submit("r1")), 60)
    before = scene.role.get("r1")
    assert before is not None
    positions = {**scene.role.positions, Stream.REQUESTS: scene.end(Stream.REQUESTS)}
    row = msgspec.structs.replace(before, rate=9, revision=before.revision + 1)
    late = changelog.encode(changelog.Change(positions, row))
    claim = Table.claim

    async def claim_late(table: Table, log: str, tenure: int) -> int:
        await append_row(scene.settings, b"request:r1", late, owner=0)
        return await claim(table, log, tenure)

    monkeypatch.setattr(Table, "claim", claim_late)
    scene.restart()
    scene.until_active()
    assert scene.role.wait_applied(scene.append(RequestControl(request="r1", paused=True)), 60)
    after = scene.role.get("r1")
    assert after is not None
    assert (after.rate, after.paused) == (9, True)


def test_what_has_arrived_is_folded_as_one_run_with_a_row_for_each_request(scene: KafkaScene) -> None:
    scene.live.gone.update(range(PARTITIONS))
    requests = [f"r{number}" for number in range(3)]
    changes = [RequestControl(request=request, rate=rate) for rate in range(1, 101) for request in requests]
    last = scene.append(*map(submit, requests), *changes)
    scene.restart()
    assert scene.role.wait_applied(last, 60)
    assert [request.revision for request in scene.role.list()] == [100] * 3
    rows = asyncio.run(end_of(scene.settings, scene.settings.changelog))
    assert rows < len(changes) / 3  # how many records are there together is Kafka's to say, but never one by one
    seen = {request.id: shown(request) for request in scene.role.list()}
    assert seen == {id: shown(request) for id, request in folded(scene.log, PARTITIONS).items()}


async def end_of(settings: KafkaSettings, topic: str) -> int:
    consumer = AIOKafkaConsumer(**settings.client(), enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        return int((await consumer.end_offsets([partition]))[partition])
    finally:
        await consumer.stop()


def test_offsets_are_committed_beyond_what_faust_has_thrown_away(
    scene: KafkaScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.restart()
    scene.until_active()
    assert scene.role.wait_applied(scene.append(submit("r0")), 60)
    fold, thrown_away = FaustRole.fold, set[int]()

    async def fold_but_two(role: FaustRole, stream: Stream, run: Sequence[Record]) -> bool:
        if stream is Stream.REQUESTS and len(thrown_away) < 2:
            thrown_away.update(record.position for record in run)
            return False
        return await fold(role, stream, run)

    scene.until(lambda: committed(scene)[Stream.REQUESTS] == scene.end(Stream.REQUESTS))
    monkeypatch.setattr(FaustRole, "fold", fold_but_two)
    scene.append(submit("r1"), submit("r2"))
    scene.until(lambda: len(thrown_away) == 2)
    assert scene.role.wait_applied(scene.append(submit("r3")), 60)
    scene.until(lambda: committed(scene)[Stream.REQUESTS] == scene.end(Stream.REQUESTS))


def committed(scene: KafkaScene) -> dict[Stream, int]:
    """Where a successor would begin to read."""

    async def ask() -> dict[Stream, int]:
        client = AIOKafkaAdminClient(**scene.settings.client())
        await client.start()
        try:
            found = await client.list_consumer_group_offsets(application.group(scene.settings))
        finally:
            await client.close()
        by_topic = {partition.topic: offset.offset for partition, offset in found.items()}
        return {stream: by_topic.get(scene.settings.topic(stream), 0) for stream in Stream}

    return asyncio.run(ask())


async def append_row(settings: KafkaSettings, key: bytes, value: bytes | None, *, owner: int = -1) -> None:
    producer = AIOKafkaProducer(**settings.client())
    await producer.start()
    headers = [(changelog.OWNER_HEADER, b"%d" % owner)] if owner >= 0 else []
    await producer.send_and_wait(settings.changelog, value, key, partition=0, headers=headers)
    await producer.stop()


def newest_row(settings: KafkaSettings, key: bytes) -> tuple[Any, bytes | None]:
    async def read() -> tuple[Any, bytes | None]:
        partition = TopicPartition(settings.changelog, 0)
        consumer = AIOKafkaConsumer(**settings.client(), enable_auto_commit=False, auto_offset_reset="none")
        await consumer.start()
        try:
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, 0)
            newest: tuple[Any, bytes | None] = (), None
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(timeout_ms=1_000)).get(partition, ()):
                    if record.key == key:
                        newest = record.headers, record.value
            return newest
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_progress_that_contradicts_itself_stops_it_loudly_and_changes_nothing(scene: KafkaScene) -> None:
    scene.live.gone.update(range(PARTITIONS))
    scene.restart()
    role = scene.faust
    assert role is not None
    assert scene.role.wait_applied(scene.append(submit("r1")), 60)
    told = Progress(
        request="r1", partition=0, number=1, state="running", position=0, revision=0, at=0, tally=Tally(matched=2)
    )
    scene.log.append([Entry(Stream.PROGRESS, 0, encode(told))])
    scene.until(lambda: role.failure is not None)
    assert isinstance(role.failure, CorruptionError)
    assert "do not add up" in str(role.failure)
    assert scene.role.get("r1") is not None
    assert not scene.role.wait_applied(scene.append(submit("r2")), 0.5)


def test_what_a_transaction_has_taken_back_is_not_folded_and_what_it_leaves_is_passed_over(scene: KafkaScene) -> None:
    scene.restart()
    scene.until_active()
    asyncio.run(submit_in_transactions(scene.settings))
    assert scene.role.wait_applied(scene.append(submit("after")), 60)
    assert {request.id for request in scene.role.list()} == {"committed", "after"}


def test_what_a_transaction_leaves_at_the_end_does_not_hold_up_who_takes_over(scene: KafkaScene) -> None:
    asyncio.run(submit_in_transactions(scene.settings))
    scene.restart()
    scene.until_active()
    scene.until(lambda: scene.role.positions[Stream.REQUESTS] == scene.end(Stream.REQUESTS))
    assert {request.id for request in scene.role.list()} == {"committed"}


async def submit_in_transactions(settings: KafkaSettings) -> None:
    producer = AIOKafkaProducer(**settings.client(), transactional_id=f"{settings.prefix}test")
    await producer.start()
    for request in ("committed", "aborted"):
        await producer.begin_transaction()
        await producer.send_and_wait(settings.topic(Stream.REQUESTS), encode(submit(request)), partition=0)
        await (producer.commit_transaction() if request == "committed" else producer.abort_transaction())
    await producer.stop()


def test_a_log_that_was_trimmed_too_far_stops_it_loudly(scene: KafkaScene) -> None:
    scene.restart()
    scene.until_active()
    assert scene.role.wait_applied(scene.append(submit("r1")), 60)
    assert scene.faust is not None
    scene.faust.close()
    scene.append(submit("r2"))
    scene.log.trim(Stream.REQUESTS, 0, scene.append(submit("r3")))
    role = scene.start()
    scene.until(lambda: role.failure is not None)
    assert "was trimmed" in str(role.failure)


def test_topics_that_are_made_anew_under_it_stop_it_loudly(scene: KafkaScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that Faust does not read, and while there is nothing to append to them."""
    monkeypatch.setattr(adapter, "LOOK_EVERY_S", 0.1)
    scene.live.close()
    scene.log.close()
    scene.log = KafkaLog(scene.settings)
    role = scene.start()
    scene.until_active()
    admin.make_anew(scene.settings, PARTITIONS, scene.settings.topic(Stream.COMMANDS))
    until_failed(role)
    assert "commands at" in str(role.failure)
    assert "was made anew" in str(role.failure)
    assert role.tenure is None


def until_failed(role: FaustRole) -> None:
    ends = time.monotonic() + 60
    while role.failure is None:
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_each_tenure_has_a_higher_number_also_on_a_changelog_that_was_made_anew(scene: KafkaScene) -> None:
    numbers: list[int] = []
    for made_anew in (False, False, True):
        if scene.faust is not None:
            scene.faust.close()
        if made_anew:
            admin.make_anew(scene.settings, PARTITIONS, scene.settings.changelog)
        role = scene.start()
        scene.until_active()
        assert role.tenure is not None
        numbers.append(role.tenure)
    assert numbers == sorted(set(numbers))


def test_a_changelog_of_another_log_is_refused(scene: KafkaScene) -> None:
    scene.role.close()
    asyncio.run(append_row(scene.settings, changelog.OWNER, b"another log"))
    role = scene.start()
    until_failed(role)
    assert "was made from log another log" in str(role.failure)
    with pytest.raises(CorruptionError, match="was made from log another log"):
        scene.replica()


def test_a_changelog_that_was_made_anew_under_its_writer_is_refused_and_made_again_from_the_log(
    scene: KafkaScene,
) -> None:
    position = scene.append(submit("r1"))
    scene.role.close()
    asyncio.run(append_row(scene.settings, b"request:r0", b"the coordinator knew more when it wrote this"))
    role = scene.start()
    until_failed(role)
    assert "was made anew while a coordinator went on writing to it; stop every process" in str(role.failure)
    role.close()
    admin.make_anew(scene.settings, PARTITIONS, scene.settings.changelog)
    scene.start()
    scene.until_active()
    scene.role = scene.replica()
    assert scene.role.wait_applied(position, 60)
    assert [request.id for request in scene.role.list()] == ["r1"]


def test_a_changelog_with_more_than_one_partition_is_refused(kafka: str, tmp_path: Path) -> None:
    settings = topics_of_its_own(kafka)
    admin.enlarge(settings, settings.changelog, 2)
    log = KafkaLog(settings)
    role = FaustRole(settings, log, tmp_path, wall_clock_us)
    try:
        until_failed(role)
        assert "has 2 partitions" in str(role.failure)
        assert role.tenure is None
    finally:
        role.close()
        log.close()


def test_it_stops_within_ten_seconds(scene: KafkaScene) -> None:
    coordinator = Coordinator(scene)
    with ended_with(coordinator):
        coordinator.until_active()
        assert scene.role.wait_applied(scene.append(submit("r1")), 60)
        assert coordinator.stop_s() < 10


def test_it_stops_within_ten_seconds_where_the_broker_hangs(own_brokers: None, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    try:
        scene = KafkaScene(broker.bootstrap, tmp_path, role_here=False)
        coordinator = Coordinator(scene)
        with ended_with(coordinator):
            coordinator.until_active()
            assert scene.role.wait_applied(scene.append(submit("r1")), 60)
            scene.live.close()
            broker.pause()
            took_s = coordinator.stop_s()
        broker.resume()
        scene.close()
        assert took_s < 10
    finally:
        broker.resume()
        broker.stop()


def run_until_killed(bootstrap: str, prefix: str, directory: str) -> None:
    """The role in a process of its own."""
    settings = KafkaSettings(bootstrap, {"topic.prefix": prefix})
    role = FaustRole(settings, KafkaLog(settings), Path(directory), wall_clock_us)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    while role.failure is None and not over.wait(0.05):
        if role.tenure is not None:
            print("active", flush=True)
    role.close()


if __name__ == "__main__":
    run_until_killed(*sys.argv[1:])
