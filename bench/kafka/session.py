"""One run of the benchmarks on Kafka: a broker, and topics that are there for a block."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from bench.scale import Scale
from bench.session import Numbers, Session
from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.kafka.topics import create_or_verify


class KafkaSession(Session):
    """A session with a broker."""

    def __init__(self, scale: Scale, folder: Path, bootstrap: str) -> None:
        super().__init__(scale, folder)
        self.bootstrap: Final = bootstrap

    @contextmanager
    def topics(self, partitions: int) -> Iterator[KafkaSettings]:
        """New ones, deleted afterwards."""
        settings = KafkaSettings(self.bootstrap, {"topic.prefix": f"bench-{secrets.token_hex(4)}."})
        create_or_verify(settings, partitions)
        try:
            yield settings
        finally:
            delete_topics(settings)


Figure = Callable[[KafkaSession], Numbers]


def delete_topics(settings: KafkaSettings) -> None:
    """Delete them, with what Faust has made beside them."""
    asyncio.run(_delete(settings))


async def _delete(settings: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        theirs = [name for name in await admin.list_topics() if name.startswith(settings.prefix)]
        await admin.delete_topics(theirs)
    finally:
        await admin.close()
