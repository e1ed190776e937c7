"""What a client has of a Kafka cluster: one producer, a consumer for each time that it reads, and patience."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient

from coordinator.client.errors import ServerError, UnauthorizedError, UnreachableError
from coordinator.client.kafka.reader import Reader
from coordinator.client.transport import Backoff
from coordinator.logs.kafka import KafkaSettings, cluster, reads
from coordinator.logs.kafka.errors import errors_of, is_refusal
from coordinator.logs.port import LogError, LogUnreachableError, Stream
from coordinator.model import messages
from coordinator.model.errors import CoordinatorError
from coordinator.model.messages import RequestControl, Submit

T = TypeVar("T")

READ: Final = (Stream.REQUESTS, Stream.PROGRESS)
_NEEDED: Final = (*READ, Stream.COMMANDS)
_POLL_MS: Final = 100
"""How long a broker keeps a fetch when there is nothing; what comes of the other stream meanwhile may wait as long."""
_STOP_S: Final = 1.0


class Connection:
    """One cluster. Nothing is connected before it is needed."""

    def __init__(self, settings: KafkaSettings, patience_s: float) -> None:
        self.settings: Final = settings
        self.patience_s: Final = patience_s
        self._partitions: int | None = None
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def close(self) -> None:
        """Disconnect. Everything that was appended was acknowledged, or its caller knows otherwise."""
        await self._drop_producer()

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What comes of it, tried again while brokers that were there are away. It must bear being done twice.

        Raises UnreachableError, UnauthorizedError, ServerError.
        """
        backoff = Backoff(self.patience_s)
        while True:
            try:
                return await attempt()
            except LogError as error:
                if not (self.may_return(error) and backoff.failed()):
                    raise as_client_error(error) from error
                await backoff.pause()

    def may_return(self, error: LogError) -> bool:
        """Whether it is worth waiting: where nobody ever was, the address is wrong or nothing is started."""
        return isinstance(error, LogUnreachableError) and self._partitions is not None

    async def partitions(self) -> int:
        """How many the commands have. The first call finds the cluster. Raises LogError."""
        if self._partitions is None:
            topics = {stream: self.settings.topic(stream) for stream in _NEEDED}
            client = AIOKafkaClient(**self.settings.client())
            try:
                with self._errors("connecting"):
                    await cluster.connect(self.settings, client)
                    there = (await cluster.describe(client, topics.values())).topics
            finally:
                await client.close()
            missing = ", ".join(name for name in topics.values() if name not in there)
            if missing:
                raise LogError(
                    f"Kafka at {self.settings.bootstrap} has no {missing} for this client; make the topics with "
                    "coordinator topics create, or look at topic.prefix and at the cluster's ACLs"
                )
            self._partitions = there[topics[Stream.COMMANDS]].partitions
        return self._partitions

    async def append(self, message: Submit | RequestControl) -> int:
        """Append to `requests`; its position, once all replicas in sync have it. Raises LogError.

        After a failure it may be there all the same, so it must be one that may come twice.
        """
        await self.partitions()
        topic = self.settings.topic(Stream.REQUESTS)
        value, key = messages.encode(message), message.request.encode()
        try:
            with self._errors(f"appending to {topic}"):
                producer = await self._started()
                async with asyncio.timeout(self.settings.ms("delivery.timeout.ms") / 1_000):
                    position = int((await producer.send_and_wait(topic, value, key, partition=0)).offset)
            if position < 0:
                # It was there already, and so long ago that the broker has forgotten where.
                raise LogUnreachableError(f"appending to {topic} succeeded, nobody knows where; do it again")
            return position
        except LogError:
            # The numbers by which brokers know repetitions may no longer fit.
            await self._drop_producer()
            raise

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(**self.settings.producer(), enable_idempotence=True)
                self._producer = await cluster.started(producer)
            return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # It would wait for the brokers for as long as they are away.
            await asyncio.wait([asyncio.ensure_future(producer.stop())], timeout=_STOP_S)

    # -- reading ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def reader(self, positions: Mapping[Stream, int]) -> AsyncIterator[Reader]:
        """These streams from these positions on, or from what is retained. Raises LogError."""
        partitions = {stream: self._partition(stream) for stream in positions}
        async with self._consumer() as consumer:
            with self._errors("reading"):
                ends = await consumer.end_offsets(partitions.values())
                firsts = await consumer.beginning_offsets(partitions.values())
            consumer.assign(list(partitions.values()))
            start = {stream: max(position, firsts[partitions[stream]]) for stream, position in positions.items()}
            for stream, partition in partitions.items():
                consumer.seek(partition, start[stream])
            until = {stream: ends[partition] for stream, partition in partitions.items()}
            yield Reader(self.settings, consumer, partitions, start, until)

    async def ends(self) -> dict[Stream, int]:
        """The next positions of both streams. Raises LogError."""
        async with self._consumer() as consumer:
            with self._errors("reading"):
                ends = await consumer.end_offsets(map(self._partition, READ))
        return {stream: ends[self._partition(stream)] for stream in READ}

    async def since(self, stream: Stream, at_us: int) -> int:
        """The first position that was appended then or later, the end if there is none. Raises LogError."""
        partition = self._partition(stream)
        async with self._consumer() as consumer:
            with self._errors("reading"):
                found = (await consumer.offsets_for_times({partition: max(0, at_us // 1_000)}))[partition]
                return int((await consumer.end_offsets([partition]))[partition] if found is None else found.offset)

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        await self.partitions()
        consumer = reads.consumer(self.settings, wait_ms=_POLL_MS)
        try:
            with self._errors("connecting"):
                await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    def _errors(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return errors_of(self.settings, doing)

    def _partition(self, stream: Stream) -> TopicPartition:
        return TopicPartition(self.settings.topic(stream), 0)


def as_client_error(error: LogError) -> CoordinatorError:
    """The error of the client that this is."""
    if is_refusal(error):
        return UnauthorizedError(str(error))
    return UnreachableError(str(error)) if isinstance(error, LogUnreachableError) else ServerError(str(error))
