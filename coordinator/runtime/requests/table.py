"""The table `state` of the Faust application: rows of the changelog, each with its writer's claim.

What Faust's table does otherwise (0.15.3): it sends a row and forgets to say when it has arrived, so the futures are
kept here. Its recovery goes on from what is in memory, though what a replaced owner has there may never have become
valid; and a rebalance in the middle ends it with whatever was read by then. So it only says when it is time: the rows
are read here (`read`), from the beginning.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP, EventT, FutureMessage

from coordinator.logs.port import Record, Stream
from coordinator.model.errors import TransientError
from coordinator.runtime.requests import changelog
from coordinator.runtime.requests.changelog import Fence

_POLL_MS: Final = 250


class Folder(Protocol):
    """What the application does with what it reads."""

    async def taken_over(self, table: "Table") -> None:
        """The topics are this process's, and Faust holds the table to be recovered; possibly more than once."""

    def lost(self) -> None:
        """The topics may be another's from now on."""

    def given(self) -> None:
        """The topics are this process's, and Faust begins to recover the table."""

    def misled(self, error: Exception) -> None:
        """The application was given what it cannot work with, and has to be started anew."""

    async def fold(self, stream: Stream, run: Sequence[Record]) -> bool:
        """Whether all of the run is folded and stored, and may be acknowledged."""

    def folded(self, stream: Stream) -> int | None:
        """The next position to fold; None while that is not for this process to say."""


class Table(faust.Table[bytes, bytes]):
    """Rows by key, as bytes; valid ones only."""

    def __init__(self, app: faust.App, *, folder: Folder, topics: Collection[str], **options: Any) -> None:
        super().__init__(app, **options)
        self._topics = topics
        self.rebalances = 0
        """How often the topics were shared out: what was begun before is void."""
        self.fence = Fence()
        self._folder = folder
        self._claim = -1
        self._sent: list[FutureMessage] = []
        self._shared_out = asyncio.Event()
        """Set when the topics are shared out, for those who wait on what was written before."""

    async def claim(self, log: str, tenure: int) -> int:
        """Append a claim for whoever reads this log, and put it on every row from now on; its offset."""
        headers = {changelog.TENURE_HEADER: b"%d" % tenure}
        sent = await self.app.producer.send_and_wait(
            self.changelog_topic_name, changelog.OWNER, log.encode(), partition=0, timestamp=None, headers=headers
        )
        self._claim = sent.offset
        return self._claim

    async def read(self, kafka: Mapping[str, Any], end: int | None = None) -> None:
        """Read the changelog from its beginning to the offset `end`, or to where it ends now.

        `kafka` is what clients of aiokafka are made with. Raises KafkaError.
        """
        rebalances, fence, rows = self.rebalances, Fence(), dict[bytes, bytes]()
        partition = TopicPartition(self.changelog_topic_name, 0)
        consumer = AIOKafkaConsumer(auto_offset_reset="none", enable_auto_commit=False, **kafka)
        try:
            await consumer.start()
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            if end is None:
                end = (await consumer.end_offsets([partition]))[partition]
            while rebalances == self.rebalances and await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                    for record in records:
                        if record.offset >= end:
                            break
                        if not fence.admits(record.offset, record.key or b"", record.value, record.headers):
                            continue
                        if record.value is None:
                            rows.pop(record.key, None)
                        else:
                            rows[record.key] = record.value
        finally:
            await consumer.stop()
        if rebalances == self.rebalances:
            self.data.clear()
            self.data.update(rows)
            self.fence = fence

    async def stored(self) -> None:
        """Wait until all that was written is on the changelog, or the topics are shared out. Raises KafkaError."""
        sent, self._sent = self._sent, []
        if not sent:
            return
        arrived = asyncio.gather(*sent)
        shared_out = asyncio.ensure_future(self._shared_out.wait())
        await asyncio.wait((arrived, shared_out), return_when=asyncio.FIRST_COMPLETED)
        if arrived.done():
            shared_out.cancel()
            arrived.result()
        else:
            arrived.add_done_callback(lambda late: late.exception())  # which nobody wants to know any more

    # -- what Faust calls ------------------------------------------------------------------------------------

    def partition_for_key(self, key: Any) -> int:
        """The only one, also where no event is at hand: not all that is folded has come through Faust."""
        return 0

    def send_changelog(
        self,
        partition: int | None,
        key: Any,
        value: Any,
        key_serializer: Any = None,
        value_serializer: Any = None,
    ) -> FutureMessage:
        future = self.changelog_topic.send_soon(
            key=key,
            value=value,
            partition=partition,
            headers={changelog.OWNER_HEADER: b"%d" % self._claim},
            key_serializer="raw",
            value_serializer="raw",
            eager_partitioning=True,
        )
        self._sent.append(future)
        return future

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """What Faust recovers is of no use; see the top of this file."""

    def persisted_offset(self, tp: TP) -> int:
        return -1  # nothing is kept from one recovery to the next, so all is read

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        self.rebalances += 1
        self._shared_out.set()
        self._shared_out = asyncio.Event()
        self._folder.lost()
        self._sent.clear()
        self.data.clear()
        self.fence = Fence()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        given, needed = {tp.topic for tp in assigned}, {*self._topics, self.changelog_topic_name}
        if given:
            self._folder.given()
        if given and given != needed:
            # Whoever shared out did not know all the topics yet. Faust would go on with those that it got.
            self._folder.misled(TransientError(f"the group gave {sorted(given)}, and {sorted(needed)} belong together"))

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        await super().on_recovery_completed(active_tps, standby_tps)
        if active_tps:
            await self._folder.taken_over(self)
