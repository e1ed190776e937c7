"""The log port over Kafka. How it appends and how it reads is told in `appends` and `reads`.

**What is promised.** Everything in the port holds as it stands there. What Kafka adds: an append is acknowledged once
all replicas in sync have it (`acks=all`; how many must be in sync is the topic's `min.insync.replicas`), and consumers
never see a record before that. A broker does not sync each append to its disk; what protects an acknowledged record
is that it is on several machines. With one replica it survives the death of the broker's process, and not a power cut.

**Which log.** The cluster's id, the topics' and their numbers of partitions make the identity. It is looked at again
every few seconds, and when a position turns out not to be there: a topic that was made anew, or has another number of
partitions than at the start, is another log, and every call raises LogReplacedError from then on.

One thread runs all of it; every method may be called from any other.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from coordinator.logs.kafka import cluster
from coordinator.logs.kafka.appends import Appends
from coordinator.logs.kafka.errors import BEGIN_ANEW, errors_of
from coordinator.logs.kafka.loop import Loop
from coordinator.logs.kafka.reads import Offsets, Tail
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.kafka.topics import PARTITIONED
from coordinator.logs.port import (
    Bounds,
    Entry,
    LogError,
    LogReplacedError,
    Record,
    Stream,
    check_entries,
    check_partition,
)

LOOK_EVERY_S: Final = 5.0
"""How often is looked whether the topics are still the same ones."""

T = TypeVar("T")
_logger: Final = structlog.get_logger()


class KafkaLog:
    """The log in the topics that `coordinator topics create` has made, until `close`."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connect. Raises LogError when no broker answers, or a topic is not there."""
        self._settings = settings
        self._closed = False
        self._replaced: LogReplacedError | None = None
        self._tails: dict[tuple[Stream, int], Tail] = {}
        self._loop = Loop("kafka")
        try:
            self._loop.call(self._open())
        except BaseException:
            self._loop.close()
            raise

    async def _open(self) -> None:
        settings = self._settings
        self._client = AIOKafkaClient(**settings.client())
        self._admin = AIOKafkaAdminClient(**settings.client())
        self._offsets = Offsets(settings)
        self._appends = Appends(settings, self._loop)
        try:
            with errors_of(settings, "connecting to the log"):
                await cluster.connect(settings, self._client)
                found = await cluster.describe(self._client, map(settings.topic, Stream))
                missing = [topic for topic in map(settings.topic, Stream) if topic not in found.topics]
                if missing:
                    raise LogError(
                        f"Kafka at {settings.bootstrap} has no {', '.join(missing)}; look at topic.prefix, or "
                        f"make the topics with: coordinator topics create --log kafka://{settings.bootstrap}"
                    )
                self._check_counts(found)
                for part in (self._admin, self._offsets, self._appends):
                    await part.start()
        except BaseException:
            await self._disconnect()
            raise
        self._topics = found.topics
        self._counts = {stream: found.topics[settings.topic(stream)].partitions for stream in Stream}
        self._identity = cluster.identity(found)
        self._tails = {
            (stream, number): Tail(settings, self._offsets, stream, TopicPartition(settings.topic(stream), number))
            for stream, count in self._counts.items()
            for number in range(count)
        }
        self._looking = asyncio.ensure_future(self._look())

    def _check_counts(self, found: cluster.Cluster) -> None:
        """A number that does not fit is not a matter of settings: ids are routed by it, and Kafka never lowers it."""
        counts = {stream: found.topics[self._settings.topic(stream)].partitions for stream in Stream}
        for stream, count in counts.items():
            wanted = counts[Stream.COMMANDS] if stream in PARTITIONED else 1
            if count != wanted:
                commands = self._settings.topic(Stream.COMMANDS)
                beside = f", and {commands} has {wanted}" if stream in PARTITIONED else ", and needs exactly one"
                raise LogError(
                    f"{self._settings.topic(stream)} at {self._settings.bootstrap} has {count} partitions{beside}; the "
                    f"number of partitions is fixed once the topics are made: {BEGIN_ANEW}"
                )

    @property
    def identity(self) -> str:
        """Names the cluster and these topics; see the top of this file."""
        return self._identity

    def partitions(self, stream: Stream) -> int:
        """How many the topic had when the log was opened."""
        return self._counts[stream]

    def submit(self, entries: Sequence[Entry]) -> "Future[list[int]]":
        """The port's submit. A callback of the future runs on the log's thread and must not hold it up."""
        size = check_entries(self._counts, entries)
        self.check()
        return self._appends.submit(entries, size)

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """The port's append."""
        return self.submit(entries).result()

    def read(self, stream: Stream, partition: int, start: int, *, records_max: int, bytes_max: int) -> list[Record]:
        """The port's read."""
        tail = self._tail(stream, partition)
        found = tail.ready(start, records_max, bytes_max)
        return list(found) if found else list(self._call(tail.read(start, records_max, bytes_max)))

    def bounds(self, stream: Stream, partition: int) -> Bounds:
        """The port's bounds."""
        return self._call(self._tail(stream, partition).bounds())

    def trim(self, stream: Stream, partition: int, below: int) -> None:
        """The port's trim: Kafka's DeleteRecords."""
        self._call(self._trim(self._tail(stream, partition), below))

    def wait(self, stream: Stream, partition: int, position: int, timeout_s: float) -> bool:
        """The port's wait."""
        return self._call(self._tail(stream, partition).wait(position, timeout_s))

    def close(self) -> None:
        """The port's close. Takes some seconds at most, whatever the brokers do."""
        if self._closed:
            return
        self._closed = True
        self._loop.call(self._close())
        self._loop.close()

    def _tail(self, stream: Stream, partition: int) -> Tail:
        check_partition(self._counts, stream, partition)
        self.check()
        return self._tails[stream, partition]

    def check(self) -> None:
        """Raise LogReplacedError once it is known that this is another log, LogError when it is closed. Asks nobody."""
        if self._closed:
            raise LogError("the log is closed")
        if self._replaced is not None:
            raise self._replaced

    def _call(self, awaited: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.call(awaited)
        except Exception as error:
            if self._closed:  # then this is why, whatever the client makes of it
                raise LogError("the log is closed") from None
            if isinstance(error, LogReplacedError):
                self._replaced = error
            raise

    # -- in the loop -----------------------------------------------------------------------------------------

    async def _trim(self, tail: Tail, below: int) -> None:
        first, end = await tail.bounds()
        below = min(below, end)
        if below > first:
            with errors_of(self._settings, f"trimming {tail.name}"):
                await self._admin.delete_records({tail.partition: RecordsToDelete(below)})
            tail.first = below

    async def _look(self) -> None:
        """From time to time, and for good: see that the topics are the same."""
        while self._replaced is None:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                found = await cluster.describe(self._client, self._topics)
            except (KafkaError, OSError, TimeoutError):
                continue  # whoever wants something of the brokers now learns of it from them
            # One that is not there is not judged: it fails its readers and writers until it is back, as another one.
            changed = [name for name, topic in found.topics.items() if not topic.same_as(self._topics[name])]
            if changed:
                self._replaced = LogReplacedError(
                    f"{', '.join(changed)} at {self._settings.bootstrap} was made anew or has another number of "
                    f"partitions since this process began; {BEGIN_ANEW}"
                )
                _logger.critical("log_replaced", reason=str(self._replaced))

    async def _close(self) -> None:
        self._looking.cancel()
        await self._disconnect()

    async def _disconnect(self) -> None:
        await self._appends.close()
        closing = [self._client.close(), self._admin.close(), self._offsets.stop()]
        closing += [tail.close() for tail in self._tails.values()]
        await asyncio.gather(*closing, return_exceptions=True)
