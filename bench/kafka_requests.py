"""The coordinator as a Faust application: what it folds a second, how long it takes to start and to stop.

    python -m tests.kafka.broker python -m bench.kafka_requests

Folding: the same records of progress through the Faust role (a row on the changelog for each, acknowledged before the
next), through the role over the embedded log, and through a loop of `getmany` that folds and keeps nothing.
Recovery: from a changelog with 10,000 requests, until the role may fold, and until a replica may answer. Beside these
stands how long the role takes with an empty one: that is Faust's start, and Kafka's group.
"""

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from coordinator.logs.embedded import EmbeddedLog
from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.kafka.topics import create_or_verify
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
RECORDS: Final = 4_000
TURNS: Final = 3
RECOVERED: Final = 10_000


def submissions() -> list[Entry]:
    """One for each request."""
    submits = (Submit(request=f"r{number}", action="kill", filter=Filter(service="S")) for number in range(REQUESTS))
    return [Entry(Stream.REQUESTS, 0, encode(submit)) for submit in submits]


def progress() -> Iterator[Entry]:
    """What all partitions tell of all requests, in turns."""
    for number in range(RECORDS):
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


def topics(bootstrap: str) -> KafkaSettings:
    """New ones."""
    settings = KafkaSettings(bootstrap, {"topic.prefix": f"bench-{secrets.token_hex(4)}."})
    create_or_verify(settings, PARTITIONS)
    return settings


def until(holds: Callable[[], bool]) -> float:
    """How long it takes until something holds, seconds."""
    began = time.perf_counter()
    while not holds():
        time.sleep(0.001)
    return time.perf_counter() - began


def folded_per_s(log: Log, role: KnownRequests) -> float:
    """How many records of progress a role folds a second, that are there at once."""
    position = log.append(submissions())[-1]
    until(lambda: role.positions[Stream.REQUESTS] > position)
    until(lambda: role.positions[Stream.PROGRESS] == log.bounds(Stream.PROGRESS, 0).end)
    last = log.append(list(progress()))[-1]
    return RECORDS / until(lambda: role.positions[Stream.PROGRESS] > last)


def faust(settings: KafkaSettings) -> tuple[float, float, float]:
    """Records a second; seconds to start and to stop."""
    with closing(KafkaLog(settings)) as log, TemporaryDirectory() as directory:
        role = FaustRole(settings, log, Path(directory), wall_clock_us)
        started = until(lambda: role.active)
        with closing(RequestsReplica(settings.changelog, settings.client())) as replica:
            per_s = folded_per_s(log, replica)
        began = time.perf_counter()
        role.close()
        return per_s, started, time.perf_counter() - began


def embedded() -> float:
    """Records a second."""
    with TemporaryDirectory() as directory:
        log = EmbeddedLog.create_or_open(Path(directory) / "log.sqlite", partitions={Stream.COMMANDS: PARTITIONS})
        with closing(log), closing(RequestsRole(log, Path(directory) / "requests.sqlite", wall_clock_us)) as role:
            return folded_per_s(log, role)


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


async def fill(settings: KafkaSettings, identity: str) -> None:
    """A changelog as a role leaves it that has folded so many requests."""
    producer = AIOKafkaProducer(**settings.client())
    await producer.start()
    claim = await producer.send_and_wait(settings.changelog, identity.encode(), changelog.OWNER, partition=0)
    headers = [(changelog.OWNER_HEADER, b"%d" % claim.offset)]
    sent = []
    for number in range(RECOVERED):
        submit = Submit(request=f"r{number}", action="kill", filter=Filter(service="S"))
        request, _ = machine.step(None, submit, wall_clock_us(), PARTITIONS)
        change = Change({Stream.REQUESTS: 0, Stream.PROGRESS: 0}, request)
        value = changelog.encode(change)
        sent.append(
            await producer.send(settings.changelog, value, changelog.key_of(request), partition=0, headers=headers)
        )
    await asyncio.gather(*sent)
    await producer.stop()


def recovered(settings: KafkaSettings) -> tuple[float, float]:
    """Seconds until a role may fold, and until a replica may answer."""
    with closing(KafkaLog(settings)) as log, TemporaryDirectory() as directory:
        asyncio.run(fill(settings, log.identity))
        began = time.perf_counter()
        RequestsReplica(settings.changelog, settings.client()).close()
        replica_s = time.perf_counter() - began
        with closing(FaustRole(settings, log, Path(directory), wall_clock_us)) as role:
            return until(lambda: role.active), replica_s


def main() -> None:
    bootstrap = os.environ["KAFKA_BOOTSTRAP"]
    runs: list[tuple[float, ...]] = []
    for _ in range(TURNS):
        settings = topics(bootstrap)
        per_s, started_s, stopped_s = faust(settings)
        bare_per_s = asyncio.run(bare(settings))
        runs.append((per_s, embedded(), bare_per_s, started_s, stopped_s, *recovered(topics(bootstrap))))
    names = (
        ("folded through Faust", "/s"),
        ("folded over the embedded log", "/s"),
        ("folded in a bare loop", "/s"),
        ("start with an empty table", " s"),
        ("stop", " s"),
        (f"start with {RECOVERED:,} requests", " s"),
        (f"replica of {RECOVERED:,} requests", " s"),
    )
    for (name, unit), values in zip(names, zip(*runs, strict=True), strict=True):
        print(f"{name:34} {statistics.median(values):10,.1f}{unit}   {min(values):,.1f}-{max(values):,.1f}")


if __name__ == "__main__":
    main()
