"""Reading one partition: a consumer that is assigned by hand, and what it has brought.

A consumer for each partition that is read, because a broker answers the requests of one connection one after
another: a fetch that waits for records in one partition would hold up the others. A partition is fetched only when it
is known that there is something, or when somebody waits; so no fetch is under way that a read elsewhere in the
partition would have to wait for. While more is known to be there, the next fetch runs beside the use of the last.

`end` is the lowest that the partition's end can be: what was fetched or asked for. It never
decreases; a broker that says less has lost records, or the topic was made anew.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from coordinator.logs.kafka import cluster
from coordinator.logs.kafka.errors import BEGIN_ANEW, errors_of
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Bounds, LogError, LogReplacedError, Record, Stream, TrimmedError

FETCH_BYTES: Final = 1 << 20
_SLICE_S: Final = 0.1
"""How long a fetch is waited for at a time. A wait keeps the partition's consumer from others that want to read, and
where nothing but a transaction's marker is to be read aiokafka goes on and returns nothing."""
_BEYOND_S: Final = 0.02
"""How often is looked for the end by those who wait for what is beyond the next record."""


class _Run(NamedTuple):
    """Records that were fetched, without gaps."""

    start: int
    records: list[Record]

    def at(self, start: int, records_max: int, bytes_max: int) -> list[Record]:
        """As many as were asked for, none if it does not hold the first of them."""
        offset = start - self.start
        if not 0 <= offset < len(self.records):
            return []
        found = self.records[offset : offset + records_max]
        size = 0
        for count, record in enumerate(found):
            size += len(record.value)
            if size > bytes_max and count:
                return found[:count]
        return found


class Offsets:
    """Where partitions begin and end, as their leaders say. For this, too, a connection that no fetch holds up."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumer = consumer(settings)

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def first(self, partition: TopicPartition) -> int:
        """The first position that is retained."""
        with errors_of(self._settings, f"looking for the beginning of {partition.topic}/{partition.partition}"):
            return int((await self._consumer.beginning_offsets([partition]))[partition])

    async def end(self, partition: TopicPartition) -> int:
        """The position after the last that is committed."""
        with errors_of(self._settings, f"looking for the end of {partition.topic}/{partition.partition}"):
            return int((await self._consumer.end_offsets([partition]))[partition])


class Tail:
    """One partition, read in the event loop; `ready` may be called from any thread."""

    def __init__(self, settings: KafkaSettings, offsets: Offsets, stream: Stream, partition: TopicPartition) -> None:
        self.end = 0
        self.first = 0
        self._settings = settings
        self._offsets = offsets
        self._stream = stream
        self.partition: Final = partition
        self.name: Final = f"{partition.topic}/{partition.partition}"
        self._consumer: AIOKafkaConsumer | None = None
        self._position = 0  # of the consumer
        self._run = _Run(0, [])
        self._lock = asyncio.Lock()
        self._closed = False
        self._timeout_s = settings.ms("request.timeout.ms") / 1_000

    def ready(self, start: int, records_max: int, bytes_max: int) -> Sequence[Record]:
        """What was fetched before; none if that is not what is asked for."""
        return [] if start < self.first else self._run.at(start, records_max, bytes_max)

    async def read(self, start: int, records_max: int, bytes_max: int) -> Sequence[Record]:
        """The port's read."""
        if start < self.first:
            raise TrimmedError(self._stream, self.partition.partition, start, self.first)
        if start >= self.end and start >= await self.refresh_end():
            return []
        async with self._lock:
            found = self.ready(start, records_max, bytes_max)
            with errors_of(self._settings, f"reading {self.name}"):
                async with asyncio.timeout(self._timeout_s):
                    while not found:
                        await self._fetch(start, _SLICE_S)
                        found = self.ready(start, records_max, bytes_max)
            return found

    async def wait(self, position: int, timeout_s: float) -> bool:
        """The port's wait."""
        deadline = time.monotonic() + timeout_s
        if position >= self.end and (timeout_s <= 0 or position > self.end):
            await self.refresh_end()
        while position >= self.end:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            if position > self.end:
                await asyncio.sleep(min(left_s, _BEYOND_S))
                await self.refresh_end()
                continue
            async with self._lock:
                if position == self.end:
                    with errors_of(self._settings, f"reading {self.name}"):
                        await self._fetch(position, min(left_s, _SLICE_S))
        return True

    async def bounds(self) -> Bounds:
        """Where the partition begins and ends now."""
        first, _ = await asyncio.gather(self._offsets.first(self.partition), self.refresh_end())
        self.first = max(self.first, first)
        return Bounds(self.first, max(self.first, self.end))

    async def refresh_end(self) -> int:
        """Ask for the end. Raises LogReplacedError when it was beyond that before."""
        known = self.end
        end = await self._offsets.end(self.partition)
        if end < known:
            raise self._lost(known, end)
        self.end = max(self.end, end)
        return self.end

    async def close(self) -> None:
        """Disconnect, for good."""
        self._closed = True
        if self._consumer is not None:
            await self._consumer.stop()

    def _lost(self, position: int, end: int) -> LogReplacedError:
        return LogReplacedError(
            f"{self.name} had records up to position {position - 1} and now ends at {end}: the topic was made anew or "
            f"has lost records; {BEGIN_ANEW}"
        )

    async def _fetch(self, start: int, timeout_s: float) -> None:
        """Fetch from `start` on, for so long at most; what came is in the run."""
        consumer = self._consumer or await self._open()
        if self._position != start:
            consumer.seek(self.partition, start)
            self._position = start
        consumer.resume(self.partition)
        try:
            fetched = await consumer.getmany(self.partition, timeout_ms=max(1, int(timeout_s * 1_000)))
            self._position = await consumer.position(self.partition)
        except OffsetOutOfRangeError:
            consumer.pause(self.partition)
            await self._out_of_range(start)
            return
        if self._position > start:
            self._run = _Run(start, _dense(start, fetched.get(self.partition, ()), self._position))
            self.end = max(self.end, self._position)
        self.end = max(self.end, consumer.last_stable_offset(self.partition) or 0)
        if self._position >= self.end:
            consumer.pause(self.partition)

    async def _open(self) -> AIOKafkaConsumer:
        if self._closed:  # whoever waited for the lock meanwhile
            raise LogError(f"{self.name} is no longer read")
        opened = await cluster.started(consumer(self._settings))
        opened.assign([self.partition])
        opened.seek(self.partition, self._position)
        self._consumer = opened
        return opened

    async def _out_of_range(self, start: int) -> None:
        bounds = await self.bounds()
        if start < bounds.first:
            raise TrimmedError(self._stream, self.partition.partition, start, bounds.first)
        if start > bounds.end:
            raise self._lost(start, bounds.end)


def consumer(settings: KafkaSettings, *, wait_ms: int = 500) -> AIOKafkaConsumer:
    """One without a group, which goes nowhere by itself. `wait_ms`: how long a fetch may wait for records to come."""
    return AIOKafkaConsumer(
        **settings.client(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=wait_ms,
    )


def _dense(start: int, fetched: Sequence[Any], end: int) -> list[Record]:
    """What was fetched, from `start` up to `end`.

    A transaction of another producer leaves positions at which nothing is to be read: its marker, and what it took
    back. There are records without a value there, which are dead letters to whoever reads them: positions stay dense.
    """
    records = [Record(each.offset, each.timestamp * 1_000, each.value or b"") for each in fetched]
    if len(records) == end - start:
        return records
    dense: list[Record] = []
    appended_at = 0
    for record in [*records, Record(end, 0, b"")]:
        dense += (Record(position, appended_at, b"") for position in range(start + len(dense), record.position))
        if record.position < end:
            dense.append(record)
            appended_at = record.appended_at
    return dense
