"""How many commands a second one worker applies from Kafka, beside one that applies the same from the embedded log.

The mixed workload. The worker owns its partition and is held still until the records are on the log; its rate is from
when it may go on until it was heard that the last is committed. What it sends to participants goes to the same log.

A bare loop of `getmany` over the same topic, which only reads, is what aiokafka leaves of one core.
"""

import asyncio
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench import bare, workloads
from bench.kafka.session import KafkaSession
from bench.kafka.system import pids, system
from bench.session import Numbers, Turns
from bench.system import System, cpu_s, held_still
from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.port import Stream
from coordinator.model import limits

RUN = limits.RUN_RECORDS_MAX


def measure(session: KafkaSession) -> Numbers:
    """Kafka, the embedded log, and the bare loops in turns."""
    turns = Turns()
    for turn in range(session.scale.turns):
        session.say(f"commands: turn {turn + 1} of {session.scale.turns}")
        records = workloads.mixed(session.scale.mixed, turn)
        on_kafka, cpu_us, read = _from_kafka(session, records)
        embedded, embedded_cpu_us = _from_embedded(session, records)
        with session.folder() as folder:
            bared = bare.apply_mixed(folder / "bare.sqlite", records).per_s
        turns.took(
            commands_per_s=on_kafka,
            commands_embedded_per_s=embedded,
            commands_ratio=on_kafka / embedded,
            commands_getmany_per_s=read,
            commands_bare_per_s=bared,
            commands_cpu_us=cpu_us,
            commands_embedded_cpu_us=embedded_cpu_us,
        )
    return turns.numbers()


def _from_kafka(session: KafkaSession, records: Sequence[bytes]) -> tuple[float, float, float]:
    """Records a second, CPU of the worker for each in microseconds, and records a second of a loop that only reads."""
    with system(session, 1) as of:
        workers = of.start_workers(1)
        with held_still(*pids(workers)):
            last = of.append({0: records})
            used_s, began = cpu_s(*pids(workers)), time.time()
        took_s = of.heard.await_applied(last) - began
        used_s = cpu_s(*pids(workers)) - used_s
        count = len(records)
        return count / took_s, used_s / count * 1e6, count / asyncio.run(read_bare(of.settings, count))


def _from_embedded(session: KafkaSession, records: Sequence[bytes]) -> tuple[float, float]:
    """Records a second, and CPU of the worker for each in microseconds."""
    with session.folder() as folder, System(folder) as of:
        of.start()
        with held_still(of.pid()):
            last = of.append_all(records)
            used_s, began = cpu_s(of.pid()), time.perf_counter()
        took_s = of.await_applied(last) - began
        used_s = cpu_s(of.pid()) - used_s
        return len(records) / took_s, used_s / len(records) * 1e6


async def read_bare(settings: KafkaSettings, count: int) -> float:
    """Read the first so many commands, by the plainest consumer; in how many seconds."""
    partition = TopicPartition(settings.topic(Stream.COMMANDS), 0)
    consumer = AIOKafkaConsumer(**settings.client(), enable_auto_commit=False)
    await consumer.start()
    consumer.assign([partition])
    consumer.seek(partition, 0)
    began = time.perf_counter()
    while count > 0:
        fetched = await consumer.getmany(timeout_ms=1_000, max_records=RUN)
        count -= sum(len(records) for records in fetched.values())
    took = time.perf_counter() - began
    await consumer.stop()
    return took
