"""The Faust application: agents on `requests` and `progress`, and the table `state` with its changelog.

Faust reads the two topics as a member of the group, moves them to another process when this one is gone, keeps the
table and its changelog, recovers the one from the other, and commits offsets. It decides nothing of what the records
mean: agents hand them to a `Folder`, a run at a time.

What Faust is kept from doing (0.15.3): an agent that fails is started again, and its event counts as done. So agents
here never fail: the folder deals with what is wrong, and only what is stored is acknowledged. An event that never is
would hold up the shutdown (`stream_wait_empty`), and so would a broker that hangs (`_ConsumerThread`). A topic that
does not fit shows only at the first write, or never, so `check_topics` looks before the start.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import faust
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP, EventT, StreamT
from faust.types.auth import CredentialsT
from mode.threads import ServiceThread, WorkerThread

from coordinator.logs.kafka import cluster
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Record, Stream
from coordinator.model import limits
from coordinator.model.errors import CorruptionError, TransientError
from coordinator.runtime.requests.known import READ
from coordinator.runtime.requests.table import Folder, Table

COMMIT_INTERVAL_S: Final = 1.0
"""Offsets only tell a successor where to begin to read; what it has folded before it knows by the table."""
_TABLE: Final = "state"


def application(settings: KafkaSettings, directory: Path, folder: Folder) -> faust.App:
    """An application of the current event loop, not started. What Faust wants to keep on disk goes to `directory`."""
    member, producer = settings.member(), settings.producer()
    session_s, request_s = member["session_timeout_ms"] / 1_000, producer["request_timeout_ms"] / 1_000
    app = faust.App(
        group(settings),
        broker=[f"aiokafka://{server}" for server in settings.bootstrap.split(",")],
        broker_client_id=settings.client_id,
        broker_credentials=_credentials(settings),
        broker_request_timeout=max(request_s, session_s),  # Faust takes no shorter one
        broker_session_timeout=session_s,
        broker_heartbeat_interval=member["heartbeat_interval_ms"] / 1_000,
        broker_commit_interval=COMMIT_INTERVAL_S,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=member["group_instance_id"],
        consumer_connections_max_idle_ms=producer["connections_max_idle_ms"],
        consumer_metadata_max_age_ms=producer["metadata_max_age_ms"],
        producer_compression_type=producer["compression_type"],
        producer_connections_max_idle_ms=producer["connections_max_idle_ms"],
        producer_metadata_max_age_ms=producer["metadata_max_age_ms"],
        producer_request_timeout=settings.ms("delivery.timeout.ms") / 1_000,  # a row that takes longer has failed
        datadir=directory,
        store="memory://",
        stream_recovery_delay=0,
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    topics = {stream: settings.topic(stream) for stream in READ}
    app.transport.Consumer = _consumer(folder, topics)  # type: ignore[misc]  # what Faust takes from there as it starts
    table = Table(
        app, folder=folder, topics=topics.values(), name=_TABLE, key_type=bytes, value_type=bytes, partitions=1
    )
    assert table.changelog_topic_name == settings.changelog
    app.tables.add(table)
    for stream, name in topics.items():
        topic = app.topic(name, key_serializer="raw", value_serializer="raw", allow_empty=True)
        app.agent(topic, name=stream.value, concurrency=1)(_agent(stream, folder))
    return app


def _consumer(folder: Folder, topics: Mapping[Stream, str]) -> type[Consumer]:
    """Faust's, on another thread, and with another idea of what to commit."""
    streams = {TP(topic, 0): stream for stream, topic in topics.items()}

    class Own(Consumer):
        def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
            return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

        def _new_offset(self, tp: TP) -> int | None:
            # Faust commits up to the first record that it was not acknowledged, and of what it has thrown away none
            # ever is: it would never commit again, and each successor would read everything since then.
            self._acked[tp].clear()
            self._acked_index[tp].clear()
            return folder.folded(streams[tp]) if tp in streams else None

    return Own


class _DaemonThread(WorkerThread):
    """One that does not keep the process from ending while a broker hangs."""

    def __init__(self, service: ServiceThread, **options: Any) -> None:
        super().__init__(service, **options)
        self.daemon = True


class _ConsumerThread(AIOKafkaConsumerThread):
    """Passes over what a transaction has taken back, as the log does; Faust itself would read it."""

    Worker = _DaemonThread

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> AIOKafkaConsumer:
        consumer = super()._create_consumer(loop)
        consumer._isolation_level = "read_committed"
        return consumer


def _credentials(settings: KafkaSettings) -> CredentialsT | None:
    """What the other clients are secured by, as Faust wants to be told it."""
    client = settings.client()
    context = client.get("ssl_context")
    if "sasl_mechanism" in client:
        return faust.SASLCredentials(
            mechanism=client["sasl_mechanism"],
            username=client["sasl_plain_username"],
            password=client["sasl_plain_password"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def _agent(stream: Stream, folder: Folder) -> Callable[[StreamT[Any]], Awaitable[None]]:
    async def agent(events: StreamT[Any]) -> None:
        arrived = cast(faust.Stream[Any], events).noack()
        run = _Run()
        async for event in arrived.events():
            run.add(event)
            # What has arrived while the last run was folded is the next one, so the load itself sets its size.
            if run.full or cast(Any, arrived.channel).queue.empty():
                if await folder.fold(stream, run.records):
                    run.acknowledge()
                run = _Run()

    return agent


class _Run:
    """Events that are folded together."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._events: list[EventT[Any]] = []
        self._size = 0

    def add(self, event: EventT[Any]) -> None:
        message = event.message
        record = Record(message.offset, round(message.timestamp * 1_000) * 1_000, message.value or b"")
        self.records.append(record)
        self._events.append(event)
        self._size += len(record.value)

    @property
    def full(self) -> bool:
        """Whether it is as large as a run may be."""
        return len(self.records) >= limits.RUN_RECORDS_MAX or self._size >= limits.RUN_BYTES_MAX

    def acknowledge(self) -> None:
        """All of it is done with."""
        for event in self._events:
            event.ack()


async def check_topics(settings: KafkaSettings) -> None:
    """Make sure that the topics and the table fit together, which Faust would see only at its first write.

    Raises TransientError when one is not there (yet), CorruptionError when one has another number of partitions than 1,
    KafkaError when the brokers do not answer.
    """
    names = [settings.changelog, *map(settings.topic, READ)]
    client = AIOKafkaClient(**settings.client())
    try:
        await cluster.connect(settings, client)
        there = (await cluster.describe(client, names)).topics
    finally:
        await client.close()
    missing = ", ".join(name for name in names if name not in there)
    if missing:
        raise TransientError(f"Kafka at {settings.bootstrap} has no {missing}; make it with: coordinator topics create")
    for name in names:
        count = there[name].partitions
        if count != 1:
            raise CorruptionError(f"{name} has {count} partitions and the coordinator needs exactly one; make it anew")


def group(settings: KafkaSettings) -> str:
    """The consumer group that the coordinator's processes are members of."""
    return f"{settings.prefix}requests"
