"""The log on Kafka beside the plainest aiokafka that does the same.

Appends: `KafkaLog.submit` in runs of 500 records, beside `AIOKafkaProducer.send` of the same records. Reads:
`KafkaLog.read` in runs of 500, beside a loop of `getmany`. In turns, on one partition. And how long one append takes
when nothing else goes on.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from aiokafka import AIOKafkaProducer

from bench.kafka.commands import RUN, read_bare
from bench.kafka.session import KafkaSession
from bench.session import Numbers, Turns, quantile
from coordinator.logs.kafka import KafkaLog, KafkaSettings
from coordinator.logs.port import Entry, Stream

VALUE: Final = b"x" * 300
ALONE: Final = 100


def measure(session: KafkaSession) -> Numbers:
    """All ways in turns, then single appends."""
    turns, count = Turns(), session.scale.logged
    with session.topics(1) as settings:
        for turn in range(session.scale.turns):
            session.say(f"log: turn {turn + 1} of {session.scale.turns}")
            append_s, append_bare_s = append(settings, count), asyncio.run(append_bare(settings, count))
            read_s, read_bare_s = read(settings, count), asyncio.run(read_bare(settings, count))
            turns.took(
                append_per_s=count / append_s,
                append_bare_per_s=count / append_bare_s,
                append_ratio=append_bare_s / append_s,
                read_per_s=count / read_s,
                read_bare_per_s=count / read_bare_s,
                read_ratio=read_bare_s / read_s,
            )
        alone = alone_ms(settings)
    return turns.numbers() | {"append_p50_ms": quantile(alone, 0.5), "append_p99_ms": quantile(alone, 0.99)}


def append(settings: KafkaSettings, count: int) -> float:
    """So many records, through the log; in how many seconds, as of all of these."""
    with closing(KafkaLog(settings)) as log:
        log.append([Entry(Stream.PROGRESS, 0, b"")])  # so that the producer has what it asks for once
        began = time.perf_counter()
        run = [Entry(Stream.COMMANDS, 0, VALUE)] * RUN
        for future in [log.submit(run) for _ in range(count // RUN)]:
            future.result()
        return time.perf_counter() - began


async def append_bare(settings: KafkaSettings, count: int) -> float:
    """So many records, by a producer with the same promise."""
    producer = AIOKafkaProducer(**settings.client(), enable_idempotence=True, max_batch_size=1 << 20)
    await producer.start()
    began = time.perf_counter()
    sent = [await producer.send(settings.topic(Stream.COMMANDS), VALUE, partition=0) for _ in range(count)]
    await asyncio.gather(*sent)
    took = time.perf_counter() - began
    await producer.stop()
    return took


def read(settings: KafkaSettings, count: int) -> float:
    """As many records from the beginning on, through the log."""
    with closing(KafkaLog(settings)) as log:
        log.bounds(Stream.COMMANDS, 0)
        began = time.perf_counter()
        start = 0
        while start < count:
            start += len(log.read(Stream.COMMANDS, 0, start, records_max=RUN, bytes_max=1 << 22))
        return time.perf_counter() - began


def alone_ms(settings: KafkaSettings) -> Sequence[float]:
    """Milliseconds of single appends, one after another."""
    found = []
    with closing(KafkaLog(settings)) as log:
        for _ in range(ALONE + 1):
            began = time.perf_counter()
            log.append([Entry(Stream.PROGRESS, 0, VALUE)])
            found.append((time.perf_counter() - began) * 1_000)
    return found[1:]  # the first has asked for what is asked for once
