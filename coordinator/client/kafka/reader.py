"""Reading `requests` and `progress` together, in the order of their append times.

The machine takes the two streams in any relation, but for one thing: an id that was forgotten may be submitted again,
and what was told of the one must not be taken for the other's. There are days between the two, so the clocks of
the brokers need not agree any better than that.
"""

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from coordinator.logs.kafka import KafkaSettings
from coordinator.logs.kafka.errors import errors_of
from coordinator.logs.port import LogUnreachableError, Stream


class Found(NamedTuple):
    """A record."""

    stream: Stream
    position: int
    at_us: int
    """When it was appended."""
    value: bytes


class Reader:
    """Some streams of one partition each, from given positions on. Raises LogError."""

    def __init__(
        self,
        settings: KafkaSettings,
        consumer: AIOKafkaConsumer,
        partitions: Mapping[Stream, TopicPartition],
        positions: Mapping[Stream, int],
        ends: Mapping[Stream, int],
    ) -> None:
        """The consumer is assigned and stands at `positions`; `ends` is where the streams end now."""
        self.positions: Final = dict(positions)
        """The next position of each stream that was not given out."""
        self.ends: Final = dict(ends)
        """Where the streams ended when it was opened."""
        self._settings = settings
        self._consumer = consumer
        self._partitions = partitions
        self._fetched: dict[Stream, deque[Any]] = {stream: deque() for stream in partitions}
        self._next = dict(positions)  # of the consumer
        self._known_ends = dict(ends)

    async def so_far(self) -> AsyncIterator[Sequence[Found]]:
        """All that was there when it was opened, in runs. Raises LogUnreachableError when it does not come."""
        silence_s = self._settings.ms("request.timeout.ms") / 1_000
        while not self._caught_up:
            before = dict(self._next)
            found = await self.run(silence_s)
            if found:
                yield found
            elif self._next == before:
                raise LogUnreachableError(
                    f"Kafka at {self._settings.bootstrap} has given nothing for {silence_s:g} s; look at the brokers"
                )

    @property
    def _caught_up(self) -> bool:
        return all(self.positions[stream] >= end for stream, end in self.ends.items())

    async def run(self, timeout_s: float) -> Sequence[Found]:
        """The next records that one fetch brings, as far as their order is known by then; none when the time is up."""
        behind = [stream for stream in self._partitions if self._is_behind(stream)]
        if behind or not any(self._fetched.values()):
            await self._fetch(behind, timeout_s)
        found: list[Found] = []
        while (stream := self._earliest()) is not None:
            record = self._fetched[stream].popleft()
            # Behind the last record there may be marks of transactions, which are none.
            self.positions[stream] = record.offset + 1 if self._fetched[stream] else self._next[stream]
            found.append(Found(stream, record.offset, record.timestamp * 1_000, record.value or b""))
        for stream, fetched in self._fetched.items():
            if not fetched:
                self.positions[stream] = self._next[stream]
        return found

    async def check(self) -> None:
        """Ask the brokers for something, to see that they are there."""
        with errors_of(self._settings, "reading"):
            await self._consumer.end_offsets(self._partitions.values())

    def _is_behind(self, stream: Stream) -> bool:
        """Whether there is more of it than was fetched, and that is used up."""
        return not self._fetched[stream] and self._next[stream] < self._known_ends[stream]

    def _earliest(self) -> Stream | None:
        """Whose turn it is; None when that is not known before more is fetched, or nothing is left."""
        if any(map(self._is_behind, self._partitions)):
            return None
        waiting = [stream for stream, fetched in self._fetched.items() if fetched]
        return min(waiting, key=lambda stream: self._fetched[stream][0].timestamp, default=None)

    async def _fetch(self, streams: Sequence[Stream], timeout_s: float) -> None:
        """Of these, or of all when it is none of them that something is missing of."""
        asked = [self._partitions[stream] for stream in streams or self._partitions]
        with errors_of(self._settings, "reading"):
            fetched = await self._consumer.getmany(*asked, timeout_ms=int(timeout_s * 1_000))
        for stream, partition in self._partitions.items():
            self._fetched[stream].extend(fetched.get(partition, ()))
            self._next[stream] = await self._consumer.position(partition)
            end = self._consumer.last_stable_offset(partition)
            self._known_ends[stream] = max(self._known_ends[stream], end or 0)
