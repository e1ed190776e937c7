"""What an operator does to topics behind everyone's back; each is over when the brokers have noticed."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.client import AIOKafkaClient

from coordinator.logs.kafka import KafkaSettings, cluster
from coordinator.logs.kafka.topics import create_or_verify, delete

PATIENCE_S = 60.0


def administer(settings: KafkaSettings, what: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> None:
    """Do something with an administrator's client."""

    async def whole() -> None:
        admin = AIOKafkaAdminClient(**settings.client())
        await admin.start()
        try:
            await what(admin)
        finally:
            await admin.close()

    asyncio.run(whole())


def enlarge(settings: KafkaSettings, topic: str, partitions: int) -> None:
    """Give a topic more partitions."""
    administer(settings, lambda admin: admin.create_partitions({topic: NewPartitions(partitions)}))
    _until(settings, lambda there: there[topic].partitions == partitions, [topic])


def make_anew(settings: KafkaSettings, partitions: int, *topics: str) -> None:
    """Delete topics and make them again; all of a log where none is named."""
    if topics:
        administer(settings, lambda admin: admin.delete_topics(list(topics)))
        _until(settings, lambda there: not there, topics)
    else:
        delete(settings)
    create_or_verify(settings, partitions)


def _until(settings: KafkaSettings, holds: Callable[[dict[str, cluster.Topic]], bool], topics: Sequence[str]) -> None:
    async def look() -> None:
        client = AIOKafkaClient(**settings.client())
        try:
            await cluster.connect(settings, client)
            end = time.monotonic() + PATIENCE_S
            while not holds((await cluster.describe(client, topics)).topics):
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
        finally:
            await client.close()

    asyncio.run(look())
