"""The log on Kafka beside the plainest aiokafka that does the same.

    python -m tests.kafka.broker python -m bench.kafka_log

Appends: `KafkaLog.submit` in runs of 500 records, beside `AIOKafkaProducer.send` of the same records. Reads:
`KafkaLog.read` in runs of 500, beside a loop of `getmany`. In turns, on one partition of one broker, the
median of each. And how long one append takes when nothing else goes on.
"""

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.kafka.topics import create_or_verify
from coordinator.logs.port import Entry, Stream

VALUE: Final = b"x" * 300
RECORDS: Final = 50_000
RUN: Final = 500
TURNS: Final = 3
ALONE: Final = 100


def append(settings: KafkaSettings) -> float:
    """All records, through the log; in how many seconds, as of all of these."""
    with closing(KafkaLog(settings)) as log:
        log.append([Entry(Stream.PROGRESS, 0, b"")])  # so that the producer has what it asks for once
        began = time.perf_counter()
        run = [Entry(Stream.COMMANDS, 0, VALUE)] * RUN
        for future in [log.submit(run) for _ in range(RECORDS // RUN)]:
            future.result()
        return time.perf_counter() - began


def append_bare(settings: KafkaSettings) -> float:
    """All records, by a producer with the same promise."""

    async def whole() -> float:
        producer = AIOKafkaProducer(**settings.client(), enable_idempotence=True, max_batch_size=1 << 20)
        await producer.start()
        began = time.perf_counter()
        sent = [await producer.send(settings.topic(Stream.COMMANDS), VALUE, partition=0) for _ in range(RECORDS)]
        await asyncio.gather(*sent)
        took = time.perf_counter() - began
        await producer.stop()
        return took

    return asyncio.run(whole())


def read(settings: KafkaSettings) -> float:
    """As many records from the beginning on, through the log."""
    with closing(KafkaLog(settings)) as log:
        log.bounds(Stream.COMMANDS, 0)
        began = time.perf_counter()
        start = 0
        while start < RECORDS:
            start += len(log.read(Stream.COMMANDS, 0, start, records_max=RUN, bytes_max=1 << 22))
        return time.perf_counter() - began


def read_bare(settings: KafkaSettings) -> float:
    """As many records from the beginning on, by a consumer."""

    async def whole() -> float:
        partition = TopicPartition(settings.topic(Stream.COMMANDS), 0)
        consumer = AIOKafkaConsumer(**settings.client(), enable_auto_commit=False)
        await consumer.start()
        consumer.assign([partition])
        consumer.seek(partition, 0)
        began = time.perf_counter()
        count = 0
        while count < RECORDS:
            fetched = await consumer.getmany(timeout_ms=1_000, max_records=RUN)
            count += sum(len(records) for records in fetched.values())
        took = time.perf_counter() - began
        await consumer.stop()
        return took

    return asyncio.run(whole())


def alone_ms(settings: KafkaSettings) -> list[float]:
    """Milliseconds of single appends, one after another."""
    found = []
    with closing(KafkaLog(settings)) as log:
        for _ in range(ALONE + 1):
            began = time.perf_counter()
            log.append([Entry(Stream.PROGRESS, 0, VALUE)])
            found.append((time.perf_counter() - began) * 1_000)
    return sorted(found[1:])


def main() -> None:
    """Print the figures."""
    prefix = f"bench-{secrets.token_hex(4)}."
    settings = KafkaSettings(os.environ["KAFKA_BOOTSTRAP"], {"topic.prefix": prefix})
    create_or_verify(settings, 1)
    ways: dict[str, Callable[[KafkaSettings], float]] = {
        "append, log": append,
        "append, aiokafka": append_bare,
        "read, log": read,
        "read, aiokafka": read_bare,
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            took[name].append(way(settings))
    for name, seconds in took.items():
        print(f"{name:18}{RECORDS / statistics.median(seconds):10,.0f} records/s")
    alone = alone_ms(settings)
    print(f"one append        {alone[ALONE // 2]:10.1f} ms p50, {alone[ALONE * 99 // 100]:.1f} ms p99")


if __name__ == "__main__":
    main()
