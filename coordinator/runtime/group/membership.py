"""Being a member of the consumer group that shares the partitions out.

A consumer subscribes to `commands` and never reads from it: it is polled only to remain a member. What it is assigned
is to be owned here.

aiokafka rebalances eagerly: each time, all members give up all partitions and get new ones. The assignor is sticky, so
nearly all come back to where they were. Therefore nothing ends when partitions are revoked, but when the next
assignment does not have them: a rebalance is felt only by those partitions that move. In between two processes may
believe that they own one; that is harmless, since all that an owner appends is numbered.

Whatever ends the membership, an error among it, leaves the group, and others get the partitions. So what this process
owns is in doubt from then on, until it has joined again and is assigned something.

Positions are committed for those who look at the group's lag; nothing here ever reads them.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from coordinator.logs.kafka.settings import KafkaSettings
from coordinator.logs.port import Stream

COMMIT_EVERY_S: Final = 5.0
_POLL_MS: Final = 500
_PAUSE_S: Final = 1.0

OnAssigned = Callable[[frozenset[int]], None]


def group(settings: KafkaSettings) -> str:
    """The consumer group of the owners."""
    return f"{settings.prefix}partitions"


class Membership:
    """Everything in one event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        on_assigned: OnAssigned,
        on_left: Callable[[], None],
        positions: Callable[[], Mapping[int, int]],
    ) -> None:
        """`settings` name where this process answers; `positions` says up to where its partitions are applied."""
        self.rebalances = 0
        self.revoked = 0
        """Partitions that were given to another process."""
        self.joined = False
        """Whether it is a member to which the group has assigned something, be it nothing."""
        self._settings = settings
        self._on_assigned = on_assigned
        self._on_left = on_left
        self._positions = positions
        self._assigned: frozenset[int] = frozenset()
        self._topic = settings.topic(Stream.COMMANDS)
        self._task: asyncio.Task[None] | None = None
        self._logger = structlog.get_logger().bind(group=group(settings))

    def start(self) -> None:
        """Join, and remain a member until `close`."""
        self._task = asyncio.create_task(self._run())

    def lost(self, partitions: frozenset[int]) -> None:
        """The group has given these to others without this member's knowledge."""
        self.revoked += len(partitions)
        self._assigned -= partitions

    async def close(self) -> None:
        """Leave the group, unless the membership is static: then the place is kept for the session's time."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._be_member()
            except (KafkaError, OSError) as error:
                self._logger.warning("membership_failed", error=str(error) or type(error).__name__, after_s=_PAUSE_S)
            except Exception:
                self._logger.exception("membership_failed", after_s=_PAUSE_S)
            await asyncio.sleep(_PAUSE_S)

    async def _be_member(self) -> None:
        consumer = self._consumer()
        try:
            await consumer.start()
            consumer.subscribe([self._topic], listener=_Listener(consumer, self._topic, self._was_assigned))
            await self._remain(consumer)
        finally:
            self.joined = False
            self._on_left()
            try:
                await consumer.stop()
            except Exception:  # it must not take the place of a cancellation
                self._logger.exception("group_not_left")

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._settings.client(),
            **self._settings.member(),
            group_id=group(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="latest",  # of positions that are never used: all partitions are paused
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )

    async def _remain(self, consumer: AIOKafkaConsumer) -> None:
        commit_at = time.monotonic() + COMMIT_EVERY_S
        while True:
            await consumer.getmany(timeout_ms=_POLL_MS)
            if time.monotonic() >= commit_at:
                commit_at = time.monotonic() + COMMIT_EVERY_S
                await self._commit(consumer)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        assigned = consumer.assignment()
        offsets = {TopicPartition(self._topic, number): position + 1 for number, position in self._positions().items()}
        hints = {partition: offset for partition, offset in offsets.items() if partition in assigned}
        if hints:
            with contextlib.suppress(KafkaError):  # the next one will do as well
                await consumer.commit(hints)

    def _was_assigned(self, partitions: frozenset[int]) -> None:
        gained, lost = partitions - self._assigned, self._assigned - partitions
        self.rebalances += 1
        self.revoked += len(lost)
        self.joined = True
        self._assigned = partitions
        self._logger.info("rebalanced", owned=sorted(partitions), gained=sorted(gained), revoked=sorted(lost))
        self._on_assigned(partitions)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    def __init__(self, consumer: AIOKafkaConsumer, topic: str, on_assigned: OnAssigned) -> None:
        self._consumer = consumer
        self._topic = topic
        self._on_assigned = on_assigned

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Eager, and so no news: what is really lost shows in the next assignment."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._consumer.pause(*assigned)
        self._on_assigned(frozenset(one.partition for one in assigned if one.topic == self._topic))
