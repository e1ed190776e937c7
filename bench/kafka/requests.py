"""The coordinator as a Faust application: what it folds a second, how long it takes to start and to stop.

Folding: the same records of progress through the Faust role (in runs of what has arrived, a row on the changelog for
each request), through the role over the embedded log, and through a loop of `getmany` that folds and keeps nothing.
Recovery: from a changelog with many requests, until the role may fold, and until a replica may answer. Beside these
stands how long the role takes with an empty one: that is Faust's start, and Kafka's group.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.kafka.session import KafkaSession
from bench.session import Numbers, Turns
from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.port import Entry, Log, Record, Stream
from coordinator.model.filters import Filter
from coordinator.model.messages import Progress, Submit, Tally, encode
from coordinator.requests import machine
from coordinator.requests.deployments import Registry
from coordinator.requests.state import Request
from coordinator.runtime.clock import wall_clock_us
from coordinator.runtime.requests import changelog
from coordinator.runtime.requests.changelog import Change
from coordinator.runtime.requests.faust_role import FaustRole
from coordinator.runtime.requests.known import KnownRequests
from coordinator.runtime.requests.replica import RequestsReplica
from coordinator.runtime.requests.role import RequestsRole
from coordinator.runtime.requests.run import fold

PARTITIONS: Final = 4
REQUESTS: Final = 20


def measure(session: KafkaSession) -> Numbers:
    """Three ways to fold, and three starts, in turns."""
    turns, scale = Turns(), session.scale
    for turn in range(scale.turns):
        session.say(f"requests: turn {turn + 1} of {scale.turns}")
        with session.topics(PARTITIONS) as settings, session.folder() as folder:
            per_s, started_s, stopped_s = faust(settings, folder, scale.folded)
            bare_per_s = asyncio.run(bare(settings))
        with session.folder() as folder:
            embedded_per_s = embedded(folder, scale.folded)
        with session.topics(PARTITIONS) as settings, session.folder() as folder:
            recovered_s, replica_s = recovered(settings, folder, scale.recovered)
        turns.took(
            folded_per_s=per_s,
            folded_embedded_per_s=embedded_per_s,
            folded_bare_per_s=bare_per_s,
            folded_ratio=per_s / embedded_per_s,
            requests_start_s=started_s,
            requests_stop_s=stopped_s,
            requests_recovered_s=recovered_s,
            requests_replica_s=replica_s,
        )
    return turns.numbers()


def submissions() -> list[Entry]:
    """One for each request."""
    submits = (Submit(request=f"r{number}", action="kill", filter=Filter(service="S")) for number in range(REQUESTS))
    return [Entry(Stream.REQUESTS, 0, encode(submit)) for submit in submits]


def progress(count: int) -> Iterator[Entry]:
    """What all partitions tell of all requests, in turns."""
    for number in range(count):
        turn, request = divmod(number, REQUESTS)
        told = Progress(
            request=f"r{request}",
            partition=turn % PARTITIONS,
            number=turn // PARTITIONS + 1,
            state="running",
            position=request,
            revision=0,
            at=wall_clock_us(),
            tally=Tally(matched=number, ended=number),
            cursor_ppm=1,
        )
        yield Entry(Stream.PROGRESS, 0, encode(told))


def until(holds: Callable[[], bool]) -> float:
    """How long it takes until something holds, seconds."""
    began = time.perf_counter()
    while not holds():
        time.sleep(0.001)
    return time.perf_counter() - began


def folded_per_s(log: Log, role: KnownRequests, count: int) -> float:
    """How many records of progress a role folds a second, that are there at once."""
    position = log.append(submissions())[-1]
    until(lambda: role.positions[Stream.REQUESTS] > position)
    until(lambda: role.positions[Stream.PROGRESS] == log.bounds(Stream.PROGRESS, 0).end)
    last = log.append(list(progress(count)))[-1]
    return count / until(lambda: role.positions[Stream.PROGRESS] > last)


def faust(settings: KafkaSettings, folder: Path, count: int) -> tuple[float, float, float]:
    """Records a second; seconds to start and to stop."""
    with closing(KafkaLog(settings)) as log:
        role = FaustRole(settings, log, folder, wall_clock_us)
        started = until(lambda: role.tenure is not None)
        with closing(RequestsReplica(settings.changelog, settings.client(), log=log.identity)) as replica:
            per_s = folded_per_s(log, replica, count)
        began = time.perf_counter()
        role.close()
        return per_s, started, time.perf_counter() - began


def embedded(folder: Path, count: int) -> float:
    """Records a second."""
    log = EmbeddedLog.create_or_open(folder / "log.sqlite", partitions={Stream.COMMANDS: PARTITIONS})
    with closing(log), closing(RequestsRole(log, folder / "requests.sqlite", wall_clock_us)) as role:
        return folded_per_s(log, role, count)


async def bare(settings: KafkaSettings) -> float:
    """Records a second, of those that are on the topics."""
    partitions = {TopicPartition(settings.topic(stream), 0): stream for stream in (Stream.REQUESTS, Stream.PROGRESS)}
    requests: dict[str, Request] = {}
    consumer = AIOKafkaConsumer(**settings.client(), enable_auto_commit=False, auto_offset_reset="none")
    await consumer.start()
    count = 0
    began = time.perf_counter()
    for partition, stream in partitions.items():
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, 0)
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                run = [Record(one.offset, one.timestamp * 1_000, one.value) for one in records]
                requests.update(fold(stream, run, requests, Registry(), PARTITIONS).changed)
                count += len(run)
    took = time.perf_counter() - began
    await consumer.stop()
    return count / took


async def fill(settings: KafkaSettings, identity: str, count: int) -> None:
    """A changelog as a role leaves it that has folded so many requests."""
    producer = AIOKafkaProducer(**settings.client())
    await producer.start()
    claim = await producer.send_and_wait(settings.changelog, identity.encode(), changelog.OWNER, partition=0)
    headers = [(changelog.OWNER_HEADER, b"%d" % claim.offset)]
    sent = []
    for number in range(count):
        submit = Submit(request=f"r{number}", action="kill", filter=Filter(service="S"))
        request, _ = machine.step(None, submit, wall_clock_us(), PARTITIONS)
        change = Change({Stream.REQUESTS: 0, Stream.PROGRESS: 0}, request)
        value = changelog.encode(change)
        sent.append(
            await producer.send(settings.changelog, value, changelog.key_of(request), partition=0, headers=headers)
        )
    await asyncio.gather(*sent)
    await producer.stop()


def recovered(settings: KafkaSettings, folder: Path, count: int) -> tuple[float, float]:
    """Seconds until a role may fold, and until a replica may answer."""
    with closing(KafkaLog(settings)) as log:
        asyncio.run(fill(settings, log.identity, count))
        began = time.perf_counter()
        RequestsReplica(settings.changelog, settings.client(), log=log.identity).close()
        replica_s = time.perf_counter() - began
        with closing(FaustRole(settings, log, folder, wall_clock_us)) as role:
            return until(lambda: role.tenure is not None), replica_s
