"""Appending: a queue for each partition, group commit, one batch of a partition under way at a time.

While a batch is on its way, what is submitted gathers behind it, so the load itself sets the size of the batches. The
producer is idempotent and waits for all replicas in sync, and it repeats a batch until the brokers have taken it or
have refused it for good; so what one partition gets is in the order of the submits, once.

An append that has taken `delivery.timeout.ms` fails to whoever waits for it. What of it had not left is let go of;
what had left may still turn up, since the producer goes on trying, ahead of whatever is submitted later. After a
refusal the numbers by which brokers know repetitions no longer fit, so what is queued for that partition fails too,
and a new producer begins.
"""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition

from coordinator.logs.kafka import cluster
from coordinator.logs.kafka.errors import as_log_error, errors_of
from coordinator.logs.kafka.loop import Loop
from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Entry, LogError, LogUnreachableError, Stream
from coordinator.model.limits import LOG_VALUE_BYTES_MAX

RECORD_OVERHEAD_BYTES: Final = 1_024
"""More than a batch with one record takes besides the value."""
BATCH_BYTES_MAX: Final = LOG_VALUE_BYTES_MAX + RECORD_OVERHEAD_BYTES
BATCH_RECORDS_MAX: Final = 4_096
QUEUED_BYTES_MAX: Final = 64 << 20
"""What may be under way; an append that finds more waits."""
ENTRY_OVERHEAD_BYTES: Final = 100

_CLOSE_S: Final = 3.0
_STOP_S: Final = 1.0

_logger: Final = structlog.get_logger()


class _Append:
    """One submit: where its entries have come to stand."""

    def __init__(self, count: int) -> None:
        self.done: Future[list[int]] = Future()
        self.done.set_running_or_notify_cancel()  # an append cannot be taken back
        self.expiry: asyncio.TimerHandle | None = None
        self._positions = [0] * count
        self._left = count

    def appended(self, place: int, position: int) -> None:
        self._positions[place] = position
        self._left -= 1
        if not self._left and not self.done.done():
            self._over()
            self.done.set_result(self._positions)

    def failed(self, error: LogError) -> None:
        if not self.done.done():
            self._over()
            self.done.set_exception(error)

    def _over(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()


class _Queued(NamedTuple):
    value: bytes
    append: _Append
    place: int
    """Of the entry in its append."""


class Room:
    """How much may be under way, over all threads but the loop's own, which must not wait for itself."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._used = 0
        self._condition = threading.Condition()

    def take(self, weight: int) -> None:
        """Wait until there is room, then take it. Raises LogError where there is none and an event loop would wait."""
        with self._condition:
            if not self._loop.is_current and not self._fits(weight):
                if _in_event_loop():
                    raise LogError("the brokers have too much to take already; try again in a moment")
                self._condition.wait_for(lambda: self._fits(weight))
            self._used += weight

    def _fits(self, weight: int) -> bool:
        return self._used == 0 or self._used + weight <= QUEUED_BYTES_MAX

    def give_back(self, weight: int) -> None:
        """Room that was taken is free."""
        with self._condition:
            self._used -= weight
            self._condition.notify_all()


def _in_event_loop() -> bool:
    """Whether the caller is in some event loop, which must not be held up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Appends:
    """All of a log's appends. Everything but `submit` happens in the event loop."""

    def __init__(self, settings: KafkaSettings, loop: Loop) -> None:
        self._settings = settings
        self._loop = loop
        self._room = Room(loop)
        self._producer: Any = None  # aiokafka has no types
        self._starting = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()
        self._lanes: dict[tuple[Stream, int], _Lane] = {}
        self._under_way: set[_Append] = set()
        self._timeout_s = settings.ms("delivery.timeout.ms") / 1_000

    def submit(self, entries: Sequence[Entry], bytes: int) -> "Future[list[int]]":
        """The port's submit, of entries that were checked. From any thread."""
        weight = bytes + ENTRY_OVERHEAD_BYTES * (len(entries) + 1)
        append = _Append(len(entries))
        if not entries:
            append.done.set_result([])
            return append.done
        self._room.take(weight)
        append.done.add_done_callback(lambda _: self._room.give_back(weight))
        try:
            self._loop.call_soon(self._put, entries, append)
        except LogError as error:
            append.failed(error)
            raise
        return append.done

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        await self.producer()

    async def close(self) -> None:
        """Wait a little for what is under way; fail what is left, which may still turn up; then disconnect."""
        waiting = [asyncio.wrap_future(append.done) for append in self._under_way]
        if waiting:
            await asyncio.wait(waiting, timeout=_CLOSE_S)
        for append in [*self._under_way]:
            append.failed(LogUnreachableError("the log was closed before the brokers had answered"))
        await asyncio.gather(*waiting, return_exceptions=True)
        if self._producer is not None:
            # What is left on its way has failed to its callers already, and is waited for no longer.
            await asyncio.wait([asyncio.ensure_future(self._producer.stop())], timeout=_STOP_S)

    async def producer(self) -> AIOKafkaProducer:
        """The one in use, started."""
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._settings.producer(),
                    enable_idempotence=True,
                    max_batch_size=BATCH_BYTES_MAX,
                    max_request_size=BATCH_BYTES_MAX,
                )
                self._producer = await cluster.started(producer)
            return self._producer

    def replace(self, refused: AIOKafkaProducer) -> None:
        """Go on with another one. What other partitions have under way ends on the old one."""
        if refused is self._producer:
            self._producer = None
            task = asyncio.ensure_future(refused.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def _put(self, entries: Sequence[Entry], append: _Append) -> None:
        self._under_way.add(append)
        append.done.add_done_callback(lambda _: self._under_way.discard(append))
        lanes = set()
        for place, (stream, partition, value) in enumerate(entries):
            lane = self._lanes.get((stream, partition))
            if lane is None:
                topic = TopicPartition(self._settings.topic(stream), partition)
                lane = self._lanes[stream, partition] = _Lane(self, self._settings, topic)
            lane.put(_Queued(value, append, place))
            lanes.add(lane)
        append.expiry = asyncio.get_running_loop().call_later(self._timeout_s, self._expire, append, lanes)

    def _expire(self, append: _Append, lanes: "Iterable[_Lane]") -> None:
        append.failed(as_log_error(self._settings, "appending", TimeoutError()))
        for lane in lanes:
            lane.let_go()


class _Lane:
    """The queue of one partition."""

    def __init__(self, appends: Appends, settings: KafkaSettings, partition: TopicPartition) -> None:
        self.task: asyncio.Task[None] | None = None
        """Sends what is queued, while there is any."""
        self._appends = appends
        self._settings = settings
        self._partition = partition
        self._name = f"{partition.topic}/{partition.partition}"
        self._queue: deque[_Queued] = deque()

    def put(self, queued: _Queued) -> None:
        self._queue.append(queued)
        if self.task is None:
            self.task = asyncio.ensure_future(self._send_all())

    def let_go(self) -> None:
        """Forget what has failed while it was queued. What was queued first fails first, so it is in front."""
        while self._queue and self._queue[0].append.done.done():
            self._queue.popleft()

    async def _send_all(self) -> None:
        # Everything that is submitted in this turn of the loop goes into the first batch.
        await asyncio.sleep(0)
        while self._queue:
            taken: list[_Queued] = []
            try:
                with errors_of(self._settings, f"appending to {self._name}"):
                    await self._send(taken)
            except LogError as error:
                _logger.warning("append_failed", reason=str(error), entries=len(taken) + len(self._queue))
                failed = [*taken, *self._queue]
                self._queue.clear()
                for queued in failed:
                    queued.append.failed(error)
        self.task = None

    async def _send(self, taken: list[_Queued]) -> None:
        """Send one batch, and tell whose it was. What is in it is put into `taken`."""
        producer = await self._appends.producer()
        batch = producer.create_batch()
        while self._queue and len(taken) < BATCH_RECORDS_MAX:
            queued = self._queue[0]
            if not queued.append.done.done():
                if batch.append(timestamp=None, key=None, value=queued.value) is None:
                    break
                taken.append(queued)
            self._queue.popleft()
        if not taken:
            return
        batch.close()
        try:
            sent = await producer.send_batch(batch, self._partition.topic, partition=self._partition.partition)
            first = (await sent).offset
        except Exception:
            self._appends.replace(producer)
            raise
        if first < 0:
            # It was there already, and so long ago that the broker has forgotten where.
            raise LogError(f"appending to {self._name} succeeded at an unknown position; it is appended again")
        for queued, position in zip(taken, itertools.count(first)):
            queued.append.appended(queued.place, position)
